"""From start_response to the bytes of a whole answer, without a socket.

python perf/micro/respond.py
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]

from timing import header, measure  # noqa: E402 -- after the path

from threadcorn.wsgi.gateway import Response  # noqa: E402


class Nowhere:
    """Takes everything at no cost."""

    def write(self, data: bytes) -> None:
        pass

    def write_pieces(self, pieces: list[bytes]) -> None:
        pass

    def file_span(self, filelike: Any) -> tuple[int, int, int] | None:
        return None

    def write_file(self, head: bytes, descriptor: int, offset: int, count: int) -> None:
        pass

    def began(self) -> None:
        pass

    def write_last(self, data: bytes) -> None:
        pass

    def arrived(self) -> bool:
        return True


HELLO = [("Content-Type", "text/plain"), ("Content-Length", "13")]
# What a framework with its usual middleware sends.
FRAMEWORK = [
    ("Content-Type", "text/html; charset=utf-8"),
    ("X-Frame-Options", "DENY"),
    ("Vary", "Cookie"),
    ("Content-Length", "13"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
]
BODY = [b"Hello, World!"]


def main() -> None:
    header("responses")
    out = Nowhere()

    def answer(fields: list[tuple[str, str]], version11: bool = True, head_only: bool = False) -> None:
        response = Response(out, version11, head_only, True)
        response.start_response("200 OK", fields)
        response.deliver(BODY)

    changing = iter(range(10**9))

    def with_a_cookie() -> None:
        answer([*HELLO, ("Set-Cookie", f"session={next(changing)}; Path=/; HttpOnly")])

    def a_generator() -> None:
        response = Response(out, True, False, True)
        response.start_response("200 OK", HELLO[:1])
        response.deliver(iter((b"Hello, ", b"World!")))

    measure("2 fields", lambda: answer(HELLO))
    measure("7 fields", lambda: answer(FRAMEWORK))
    measure("2 fields and a cookie that is new each time", with_a_cookie)
    measure("2 fields, HTTP/1.0", lambda: answer(HELLO, version11=False))
    measure("2 fields, HEAD", lambda: answer(HELLO, head_only=True))
    measure("a generator of two blocks, chunked", a_generator)


if __name__ == "__main__":
    main()
