"""The application behind a catalogue of cases: it says what it saw, or misbehaves as `/_app/NAME` asks.

Any other path: 200, and the environ's text as JSON, the body under `wsgi.input`. The body is read whole.
"""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.validate import validator

Environ = dict[str, Any]
Start = Callable[..., Any]
TEXT = [("Content-Type", "text/plain")]
FILE = b"FILE" * 1000
#: How often an iterable was closed, by the connection that it was for.
closed: Counter[str] = Counter()

#: What is wrong with status or headers is wrong at `start_response`.
STARTS: dict[str, tuple[Any, Any]] = {
    "hdr-crlf": ("200 OK", [("X", "a\r\nX-Injected: 1")]),
    "hdr-cr": ("200 OK", [("X", "a\rX-Injected: 1")]),
    "hdr-lf": ("200 OK", [("X", "a\nX-Injected: 1")]),
    "hdr-nul": ("200 OK", [("X", "a\0b")]),
    "hdr-name": ("200 OK", [("X Bad", "1")]),
    "hdr-colon": ("200 OK", [("X: 1\r\nX-Injected", "1")]),
    "hdr-empty": ("200 OK", [("", "1")]),
    "hdr-unicode": ("200 OK", [("X", "\u20ac")]),
    "hdr-bytes": ("200 OK", [(b"X", b"1")]),
    "hdr-int": ("200 OK", [("X", 1)]),
    "hdr-none": ("200 OK", None),
    "st-short": ("200", TEXT),
    "st-bytes": (b"200 OK", TEXT),
    "st-int": (200, TEXT),
    "st-crlf": ("200 OK\r\nX-Injected: 1", TEXT),
    "st-99": ("99 X", TEXT),
    "st-100": ("100 Continue", TEXT),
    "st-101": ("101 Switching Protocols", TEXT),
    "st-600": ("600 X", TEXT),
    "st-999": ("999 X", TEXT),
    "te": ("200 OK", [("Transfer-Encoding", "chunked")]),
    "te-cl": ("200 OK", [("Transfer-Encoding", "chunked"), ("Content-Length", "5")]),
    "cl-two": ("200 OK", [("Content-Length", "5"), ("Content-Length", "5")]),
    "cl-minus": ("200 OK", [("Content-Length", "-1")]),
    "cl-plus": ("200 OK", [("Content-Length", "+5")]),
    "cl-list": ("200 OK", [("Content-Length", "5, 5")]),
    "cl-unicode": ("200 OK", [("Content-Length", "\u0665")]),
    "cl-long": ("200 OK", [("Content-Length", "10")]),
    "cl-short": ("200 OK", [("Content-Length", "3")]),
    "hop": ("200 OK", [("Keep-Alive", "timeout=5"), ("TE", "x"), ("Trailer", "X"), ("Upgrade", "x"),
                       ("Proxy-Authenticate", "x"), ("Connection", "X-Y")]),
    "server": ("200 OK", [("Server", "mine")]),
    "date": ("200 OK", [("Date", "Thu, 01 Jan 1970 00:00:00 GMT")]),
    "cookies": ("200 OK", [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]),
    "204": ("204 No Content", []),
    "205": ("205 Reset Content", []),
    "304": ("304 Not Modified", []),
}  # fmt: skip

RAISED = {
    "sysexit": SystemExit, "kbdint": KeyboardInterrupt, "genexit": GeneratorExit, "memerr": MemoryError,
    "stopiter": StopIteration, "valueerr": ValueError,
}  # fmt: skip

RESULTS: dict[str, Callable[[], Any]] = {
    "one": lambda: [b"one"],
    "many": lambda: [b"o", b"n", b"e"],
    "empty": list,
    "gen": lambda: iter([b"o", b"", b"ne"]),
    "block-str": lambda: ["one"],
    "block-none": lambda: None,
    "block-int": lambda: iter([1]),
}


class Counted:
    def __init__(self, start: Start, environ: Environ, blocks: Iterable[bytes]) -> None:
        start("200 OK", TEXT)
        self.port, self.blocks = environ["REMOTE_PORT"], blocks
        closed.pop(self.port, None)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.blocks)

    def close(self) -> None:
        closed[self.port] += 1


def deeper() -> int:
    return deeper() + 1


def late(error: type[BaseException]) -> Iterator[bytes]:
    yield b"first"
    raise error("late")


def endless() -> Iterator[bytes]:
    while True:
        yield b"x" * 65536


def file_at(offset: int) -> Any:
    file = tempfile.TemporaryFile()
    file.write(FILE)
    file.seek(offset)
    return file


def misdeed(name: str, environ: Environ, start: Start) -> Iterable[bytes]:
    if name in STARTS:
        start(*STARTS[name])
        return iter([b"hello"])
    if name in RAISED:
        raise RAISED[name]("on purpose")
    if name in RESULTS:
        start("200 OK", TEXT)
        result: Iterable[bytes] = RESULTS[name]()
        return result
    return OTHERS[name](environ, start)


def answer(start: Start, text: bytes) -> list[bytes]:
    start("200 OK", TEXT)
    return [text]


def exc_info(environ: Environ, start: Start) -> list[bytes]:
    start("200 OK", [("X-First", "1")])
    try:
        raise ValueError("first")
    except ValueError:
        start("503 Service Unavailable", [("X-Second", "1")], sys.exc_info())
    return [b"second"]


def exc_info_late(environ: Environ, start: Start) -> Iterator[bytes]:
    start("200 OK", TEXT)
    yield b"first"
    try:
        raise ValueError("late")
    except ValueError:
        start("500 Oops", TEXT, sys.exc_info())
    yield b"never"


def twice(environ: Environ, start: Start) -> list[bytes]:
    start("200 OK", TEXT)
    return answer(start, b"x")


def early(environ: Environ, start: Start) -> list[bytes]:
    start("200 OK", TEXT)
    raise ValueError("early")


def late_with(start: Start, error: type[BaseException], headers: list[tuple[str, str]]) -> Iterator[bytes]:
    start("200 OK", headers)
    return late(error)


def mutate(environ: Environ, start: Start) -> list[bytes]:
    clean = type(environ) is dict and "mark" not in environ
    environ["mark"] = environ["wsgi.version"] = 1
    return answer(start, b"clean" if clean else b"dirty")


def types(environ: Environ, start: Start) -> list[bytes]:
    right = (
        environ["wsgi.version"] == (1, 0)
        and all(
            isinstance(environ["wsgi." + key], bool) for key in ("multithread", "multiprocess", "run_once")
        )
        and all(type(key) is str for key in environ)
        and all(type(value) is str for key, value in environ.items() if "." not in key)
    )
    return answer(start, b"ok" if right else repr(environ).encode())


def written(environ: Environ, start: Start) -> list[bytes]:
    write = start("200 OK", TEXT)
    write(b"a")
    write(b"b")
    return [b"c"]


def valid(environ: Environ, start: Start) -> list[bytes]:
    environ["wsgi.input"].read(1 << 16)
    return answer(start, b"valid")


def read_negative(environ: Environ, start: Start) -> list[bytes]:
    body = environ["wsgi.input"]
    return answer(start, body.read(-1) + b"|" + (body.read(None) or b""))


def file(environ: Environ, start: Start, offset: int = 0) -> Iterable[bytes]:
    start("200 OK", TEXT)
    wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](file_at(offset))
    return wrapped


def hints(environ: Environ, start: Start) -> list[bytes]:
    environ["wsgi.early_hints"]([("Link", "</a.css>; rel=preload")])
    return answer(start, b"hinted")


OTHERS: dict[str, Callable[[Environ, Start], Iterable[bytes]]] = {
    "noread": lambda environ, start: answer(start, b"not read"),
    "read1": lambda environ, start: answer(start, environ["wsgi.input"].read(1)),
    "read-neg": read_negative,
    "recurse": lambda environ, start: answer(start, b"%d" % deeper()),
    "exc-early": early,
    "exc-late": lambda environ, start: late_with(start, ValueError, TEXT),
    "exc-late-cl": lambda environ, start: late_with(start, ValueError, [("Content-Length", "10")]),
    "exit-late": lambda environ, start: late_with(start, SystemExit, TEXT),
    "exc-info": exc_info,
    "exc-info-late": exc_info_late,
    "sr-twice": twice,
    "sr-never": lambda environ, start: [b"x"],
    "write": written,
    "file": file,
    "file-seek": lambda environ, start: file(environ, start, 4),
    "file-like": lambda environ, start: (
        start("200 OK", TEXT), environ["wsgi.file_wrapper"](io.BytesIO(FILE)))[1],
    "close-a": lambda environ, start: Counted(start, environ, [b"a"]),
    "close-gone": lambda environ, start: Counted(start, environ, endless()),
    "close-late": lambda environ, start: Counted(start, environ, late(ValueError)),
    "close-count": lambda environ, start: answer(
        start, b"%d" % closed[environ["QUERY_STRING"] or environ["REMOTE_PORT"]]),
    "validate": validator(valid),
    "env-mutate": mutate,
    "env-types": types,
    "hints": hints,
    "pid": lambda environ, start: answer(start, b"%d" % os.getpid()),
}  # fmt: skip


def app(environ: Environ, start: Start) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    if path.startswith("/_app/"):
        return misdeed(path[6:], environ, start)
    seen = {key: value for key, value in environ.items() if isinstance(value, str)}
    seen["wsgi.input"] = environ["wsgi.input"].read().decode("latin-1")
    body = json.dumps(seen).encode()
    start("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
