"""From the bytes of a head to an environ: what the parser itself costs, and what we add.

python perf/micro/parse.py
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent.parent)]

from httptools import HttpRequestParser  # noqa: E402 -- after the path
from scenarios import BROWSER  # noqa: E402
from timing import header, measure  # noqa: E402

from threadcorn.http1.memory import Memory  # noqa: E402
from threadcorn.http1.parser import HeadParser, Limits  # noqa: E402
from threadcorn.settings import Settings  # noqa: E402
from threadcorn.wsgi.environ import template  # noqa: E402


def _head(line: str, *fields: tuple[str, str]) -> bytes:
    return "\r\n".join([line, *(f"{name}: {value}" for name, value in fields), "", ""]).encode("latin-1")


HOST = ("Host", "127.0.0.1:8000")
HEADS = {
    "hello, 1 field": _head("GET / HTTP/1.1", HOST),
    "browser, 14 fields": _head("GET / HTTP/1.1", HOST, *BROWSER),
    "query and escapes": _head("GET /caf%C3%A9/%20x?q=a%20b&page=2 HTTP/1.1", HOST),
    "POST with a length": _head(
        "POST /form HTTP/1.1", HOST, ("Content-Length", "12"), ("Content-Type", "text/plain")
    ),
    "chunked (exact path)": _head("POST /form HTTP/1.1", HOST, ("Transfer-Encoding", "chunked")),
    "unknown field name (exact path)": _head("GET / HTTP/1.1", HOST, ("X-Q1w2e3r4", "1")),
}


def main() -> None:
    header("request heads")
    listener = SimpleNamespace(address=SimpleNamespace(host="127.0.0.1", port=8000))
    constants = template(Settings(), listener)
    measure("copy of the environ template", constants.copy)
    for name, head in HEADS.items():
        fields: dict[bytes, bytes] = {}

        def bare(head: bytes = head, fields: dict[bytes, bytes] = fields) -> None:
            """httptools with a new parser a head: the least that a server on it can pay."""
            fields.clear()
            HttpRequestParser(SimpleNamespace(on_header=fields.setdefault)).feed_data(head)

        parser = HeadParser(Limits(), Memory(constants))
        measure(f"httptools alone: {name}", bare)
        measure(f"HeadParser.parse: {name}", partial(parser.parse, head))


if __name__ == "__main__":
    main()
