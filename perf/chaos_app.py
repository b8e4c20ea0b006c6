"""What perf/chaos.py asks for: one byte, 64 kB, a stream, and the checksum of what was sent."""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

BLOCK = bytes(range(256)) * 256


def stream(pieces: int, pause: float) -> Iterator[bytes]:
    for _ in range(pieces):
        yield BLOCK[:1000]
        time.sleep(pause)


def app(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    fields = [("X-Pid", str(os.getpid()))]
    if environ["REQUEST_METHOD"] == "POST":
        body = str(zlib.crc32(environ["wsgi.input"].read())).encode()
    elif path == "/64k":
        body = BLOCK
    elif path == "/stream":
        start("200 OK", fields)
        return stream(20, float(environ["QUERY_STRING"] or 2) / 20)
    elif path == "/nap":
        time.sleep(float(environ["QUERY_STRING"]))
        body = b"n"
    else:
        body = b"1"
    start("200 OK", [*fields, ("Content-Length", str(len(body)))])
    return [body]
