"""What perf/chaos.py asks for: one byte, 64 kB, a stream, and the checksum of what was sent.

And a nap, or threads that take the interpreter away from others, for perf/waiting.py."""

from __future__ import annotations

import os
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

BLOCK = bytes(range(256)) * 256
STREAM = BLOCK[:1000] * 20
#: Seconds for a whole stream.
SECONDS = float(os.environ.get("CHAOS_STREAM", "2"))


def stream() -> Iterator[bytes]:
    for _ in range(20):
        yield BLOCK[:1000]
        time.sleep(SECONDS / 20)


def spin(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def app(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    fields = [("X-Pid", str(os.getpid()))]
    if environ["REQUEST_METHOD"] == "POST":
        body = str(zlib.crc32(environ["wsgi.input"].read())).encode()
    elif path == "/64k":
        body = BLOCK
    elif path == "/stream":
        start("200 OK", fields)
        return stream()
    elif path == "/nap":
        time.sleep(float(environ["QUERY_STRING"]))
        body = b"n"
    elif path == "/spin":
        for _ in range(3):
            threading.Thread(target=spin, args=(float(environ["QUERY_STRING"]),)).start()
        body = b"s"
    else:
        body = b"1"
    start("200 OK", [*fields, ("Content-Length", str(len(body)))])
    return [body]
