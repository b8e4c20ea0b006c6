"""What is left of a connection that has ended: nothing, and at once, without the garbage collector.

Its full collections are rare (`gc.freeze` makes them rarer), so a cycle would keep hundreds of connections.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from tests.kit import Connection, CutShort, ServerProcess, eventually

APP = """
import gc
from threadcorn.worker.connection import Connection

def app(environ, start):
    path = environ["PATH_INFO"]
    body = b"hello"
    if path == "/begin":
        gc.collect()
        gc.disable()
    elif path == "/kept":
        body = str(sum(isinstance(one, Connection) for one in gc.get_objects())).encode()
    elif path == "/garbage":
        body = str(gc.collect()).encode()
        gc.enable()
    elif path == "/raise":
        raise ValueError("on purpose")
    elif path == "/late":
        return late(start)
    elif path == "/short":
        start("200 OK", [("Content-Length", "100")])
        return [b"short"]
    elif path == "/big":
        body = b"x" * 10_000_000
    elif path == "/read":
        body = environ["wsgi.input"].read()
    start("200 OK", [("Content-Length", str(len(body)))])
    return [body]

def late(start):
    start("200 OK", [])
    yield b"one"
    raise ValueError("on purpose")
"""

TIMES = 20


def asks(path: str, times: int = 1) -> Callable[[Connection], None]:
    def behave(connection: Connection) -> None:
        for _ in range(times):
            with suppress(CutShort):
                connection.get(path)

    return behave


def says(wire: bytes, *, answered: bool = True, reset: bool = False) -> Callable[[Connection], None]:
    def behave(connection: Connection) -> None:
        connection.send(wire)
        if answered:
            connection.reply()
        if reset:
            connection.reset()

    return behave


HEAD = b"POST /read HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n"
KINDS: dict[str, Callable[[Connection], None]] = {
    "get": asks("/", 3),
    "raises": asks("/raise"),
    "raises late": asks("/late"),
    "short": asks("/short"),
    "posts": says(HEAD % 5 + b"abcde"),
    "uploads": says(HEAD % 500_000 + b"x" * 500_000),
    "refused": says(b"BAD\r\n\r\n"),
    "refused body": says(b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n+1\r\nx\r\n"),
    "half a head": says(b"GET / HTTP/1.1\r\nHo", answered=False),
    "half a body": says(HEAD % 9 + b"abc", answered=False),
    "reset": says(b"GET / HTTP/1.1\r\n", answered=False, reset=True),
    "does not read": says(b"GET /big HTTP/1.1\r\nHost: t\r\n\r\n", answered=False),
    "resets what it does not read": says(b"GET /big HTTP/1.1\r\nHost: t\r\n\r\n", answered=False, reset=True),
}


@pytest.fixture(
    scope="module",
    params=[(), ("--vault",), ("--stream-body",), ("--access-logfile", "access", "--request-timeout", "60")],
    ids=lambda flags: flags[0] if flags else "plain",
)
def server(request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    with ServerProcess(None, "--threads", "2", *request.param, source=APP) as running:
        for behave in KINDS.values():
            with running.connect() as connection:
                behave(connection)
        yield running


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_stays_of_a_connection_that_has_ended(server: ServerProcess, kind: str) -> None:
    server.get("/begin")
    for _ in range(TIMES):
        with server.connect() as connection:
            KINDS[kind](connection)

    def nobody() -> None:
        """the one that asks is the only connection"""
        assert int(server.get("/kept").body) <= 2  # the one before it may be about to end

    eventually(nobody)
    assert int(server.get("/garbage").body) < TIMES
