"""Small WSGI applications for tests that serve something and do not care what: `tests.kit.apps:NAME`."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, Protocol
from urllib.parse import parse_qs

__all__ = ["big", "echo", "gate", "hello", "lines", "nap", "pid", "show"]

Environ = dict[str, Any]


class Start(Protocol):
    def __call__(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None, /) -> Any: ...


def _text(start: Start, body: bytes, status: str = "200 OK") -> list[bytes]:
    start(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def _query(environ: Environ, name: str, default: str) -> str:
    query: str = environ.get("QUERY_STRING", "")
    return parse_qs(query).get(name, [default])[0]


def hello(environ: Environ, start: Start) -> Iterable[bytes]:
    """Thirteen bytes."""
    return _text(start, b"Hello, World!")


def pid(environ: Environ, start: Start) -> Iterable[bytes]:
    """The number of the process that answers."""
    return _text(start, str(os.getpid()).encode())


def show(environ: Environ, start: Start) -> Iterable[bytes]:
    """What of the environ is text, as JSON; names of threads and process beside it."""
    seen = {key: value for key, value in environ.items() if isinstance(value, str)}
    seen["thread"] = threading.current_thread().name
    seen["pid"] = str(os.getpid())
    body = json.dumps(seen).encode()
    start("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def echo(environ: Environ, start: Start) -> Iterable[bytes]:
    """The request body back, whole."""
    return _text(start, environ["wsgi.input"].read())


def nap(environ: Environ, start: Start) -> Iterable[bytes]:
    """Blocks for ?s=SECONDS (default 0.01): an application that waits for something else."""
    time.sleep(float(_query(environ, "s", "0.01")))
    return _text(start, b"rested")


def big(environ: Environ, start: Start) -> Iterable[bytes]:
    """?size=BYTES (default ten million) with a known length, in pieces of 64 KiB."""
    size = int(_query(environ, "size", "10000000"))
    start("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(size))])
    piece = b"x" * 65536
    return (piece[: min(65536, size - at)] for at in range(0, size, 65536))


def lines(environ: Environ, start: Start) -> Iterator[bytes]:
    """?n=COUNT (default 3) pieces of unknown total length: chunked, or ended by a close for HTTP/1.0."""
    start("200 OK", [("Content-Type", "text/plain")])
    for number in range(int(_query(environ, "n", "3"))):
        yield f"line {number}\n".encode()


def gate(environ: Environ, start: Start) -> Iterable[bytes]:
    """Says where it is by files, waits by files: no clock is needed to hold a request inside.

    /hold/NAME makes `NAME.in` in the working directory and answers when `NAME.go` is there; any other
    path answers at once. The test writes `NAME.go` to let it go.
    """
    path = environ["PATH_INFO"]
    if not path.startswith("/hold/"):
        return _text(start, b"free")
    name = path[len("/hold/") :]
    with open(f"{name}.in", "w", encoding="ascii") as mark:
        mark.write(str(os.getpid()))
    until = time.monotonic() + 60
    while not os.path.exists(f"{name}.go"):
        if time.monotonic() > until:
            return _text(start, b"never let go", "500 Internal Server Error")
        time.sleep(0.005)
    return _text(start, b"held")
