"""--request-timeout, where the request ends by itself in the moment in which its time is up."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from threadcorn.settings import Config
from threadcorn.worker.connection import Connection
from threadcorn.worker.limits import WorkerLimits
from threadcorn.worker.reactor import Reactor
from threadcorn.worker.stuck import Guard, Stuck
from threadcorn.worker.telemetry import Telemetry

SECOND = 1_000_000_000


@pytest.fixture
def pair() -> Iterator[tuple[Connection, socket.socket]]:
    ours, theirs = socket.socketpair()
    reactor = Reactor(WorkerLimits.of(Config().freeze()))
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        yield Connection(ours, "127.0.0.1", "40000", 0, reactor), theirs


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
    stuck = Stuck(
        slow=0,
        limit=1.0,
        silence=0,
        log=logging.getLogger("threadcorn.tests.stuck"),
        telemetry=Telemetry(None),
        recycle=lambda reason: None,
    )
    guard = stuck.guard(conn, {"REQUEST_METHOD": "GET"})
    thread: Any = SimpleNamespace(ident=threading.get_ident(), native_id=0, in_app=3 * SECOND)
    stuck._judge(thread, 1 * SECOND, 3 * SECOND)
    assert not stuck.timed_out
    assert not stuck.done(guard)
    assert untouched(conn, client)
