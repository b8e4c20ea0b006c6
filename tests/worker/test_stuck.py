"""--request-timeout, where the request ends by itself in the moment in which its time is up."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest

from threadcorn.http1.memory import Memory
from threadcorn.http1.parser import HeadParser, Limits, Request
from threadcorn.settings import Config
from threadcorn.worker.connection import Connection
from threadcorn.worker.intake import Intake
from threadcorn.worker.limits import WorkerLimits
from threadcorn.worker.reactor import Reactor
from threadcorn.worker.serve import Hooks, Service
from threadcorn.worker.stuck import Guard, Interrupted, Stuck
from threadcorn.worker.telemetry import Telemetry
from threadcorn.wsgi.environ import template

SECOND = 1_000_000_000
LOG = logging.getLogger("threadcorn.tests.stuck")
LOG.propagate = False
LOG.addHandler(logging.NullHandler())


def a_limit() -> Stuck:
    return Stuck(
        slow=0, limit=1.0, silence=0, log=LOG, telemetry=Telemetry(None), recycle=lambda reason: None
    )


@pytest.fixture
def pair() -> Iterator[tuple[Connection, socket.socket]]:
    ours, theirs = socket.socketpair()
    reactor = Reactor(WorkerLimits.of(Config().freeze()))
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        yield Connection(ours, "127.0.0.1", "40000", 0, reactor), theirs


def a_request(conn: Connection, client: socket.socket) -> Request:
    limits = Limits()
    listener = SimpleNamespace(address=SimpleNamespace(host="127.0.0.1", port=8000))
    memory = Memory(template(Config().freeze(), listener), conn.reactor.limits.forwarding.keys)
    client.sendall(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    request = Intake(conn.reactor, limits, LOG).read(conn, [HeadParser(limits, memory)])
    assert request is not None
    return request


def untouched(conn: Connection, client: socket.socket) -> bool:
    """Whether nothing was sent on the connection, and something can be."""
    conn.write(b"next")
    return client.recv(100) == b"next"


def test_a_request_that_has_ended_leaves_its_connection_to_the_next_one(
    pair: tuple[Connection, socket.socket],
) -> None:
    conn, client = pair
    guard = Guard(conn, True)
    guard.write(b"answer")
    assert client.recv(100) == b"answer"
    assert not guard.leave()
    assert guard.expire(5) is None
    assert untouched(conn, client)


def test_what_ran_for_too_long_is_not_who_runs_now(pair: tuple[Connection, socket.socket]) -> None:
    """The caretaker has looked when the one request began, and finds the guard of the next."""
    conn, client = pair
    stuck = a_limit()
    guard = stuck.guard(conn, {"REQUEST_METHOD": "GET"})
    thread: Any = SimpleNamespace(ident=threading.get_ident(), native_id=0, in_app=3 * SECOND)
    stuck._judge(thread, 1 * SECOND, 3 * SECOND)
    assert not stuck.timed_out
    assert not stuck.done(guard)
    assert untouched(conn, client)


def test_an_application_that_has_raised_is_not_interrupted_in_the_log_nor_answered_twice(
    pair: tuple[Connection, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another time-out of the same length makes it raise as its time is up. Interrupted while it holds the
    lock of the log, this thread would stop every other one that has something to say, the caretaker too."""
    conn, client = pair
    stuck = a_limit()
    guards: list[Guard] = []
    expired: list[bool | None] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        guards.extend(stuck._guards.values())
        raise TimeoutError("of the database")

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            expired.append(guards[0].expire(5))

    monkeypatch.setattr(LOG, "handlers", [Handler()])
    access = SimpleNamespace(enabled=False)
    hooks = Hooks(None, None, None)
    service = Service(app, conn.reactor, access=access, log=LOG, hooks=hooks, stuck=stuck)
    outcome = service.run(conn, a_request(conn, client))
    assert expired == [None]
    assert outcome == "500 Internal Server Error"
    assert client.recv(10_000).count(b"HTTP/1.1") == 1


def test_a_thread_that_sends_is_interrupted_behind_it(
    pair: tuple[Connection, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of it a file would stay, and a lock that whoever ends the connection waits for."""
    conn, _ = pair
    guard = Guard(conn, True)
    whole: list[bytes] = []

    def write(self: Connection, data: bytes) -> None:
        guard.expire(5)
        for _ in range(100):
            pass
        whole.append(data)

    monkeypatch.setattr(Connection, "write", write)
    with pytest.raises(Interrupted):
        guard.write(b"data")
    assert whole == [b"data"]
    assert guard.leave()
    raised: list[bool] = []

    def elsewhere() -> None:
        guard = Guard(conn, True)
        try:
            guard.expire(5)
            until = monotonic() + 5
            while monotonic() < until:
                pass
        except Interrupted:
            raised.append(True)
        finally:
            guard.leave()

    # In a thread of its own: a thread that could not start one, as other tests have this one do, leaves a
    # record with its number behind (CPython 3.11), and what is set for it is set there.
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join(20)
    assert raised == [True]
