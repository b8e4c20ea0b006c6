"""Answers that leave together: what is kept, who sends it, and whose the connection is meanwhile."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.kit import ServerProcess, eventually
from threadcorn.settings import Config
from threadcorn.worker.connection import Connection, Phase
from threadcorn.worker.limits import WorkerLimits
from threadcorn.worker.outgoing import KEEP, MOST, Outgoing
from threadcorn.worker.reactor import Reactor

Made = tuple[Connection, socket.socket]


@pytest.fixture
def reactor() -> Reactor:
    return Reactor(WorkerLimits.of(Config().freeze()))


@pytest.fixture
def make(reactor: Reactor) -> Iterator[Callable[[], Made]]:
    """Connections that run a request, and their clients."""
    with ExitStack() as stack:

        def pair() -> Made:
            ours, theirs = socket.socketpair()
            stack.callback(theirs.close)
            stack.callback(ours.close)
            ours.setblocking(False)
            theirs.setblocking(False)
            conn = Connection(ours, "127.0.0.1", "40000", 0, reactor)
            reactor.add(conn, 1e9)
            assert conn.token.acquire(False)
            conn.phase = Phase.RUNNING
            return conn, theirs

        yield pair


def got(client: socket.socket) -> bytes:
    try:
        return client.recv(1 << 20)
    except BlockingIOError:
        return b""


def test_what_is_kept_leaves_in_its_order_and_gives_the_connection_back(
    reactor: Reactor, make: Callable[[], Made]
) -> None:
    outgoing = Outgoing(reactor)
    made = [make() for _ in range(3)]
    for number, (conn, _) in enumerate(made):
        outgoing.sink(conn).write_last(b"answer %d" % number)
        assert outgoing.over(True)
        assert outgoing.left
        outgoing.left = False
    for conn, client in made:
        assert got(client) == b""
        assert conn.token.locked()
    outgoing.send()
    for number, (conn, client) in enumerate(made):
        assert got(client) == b"answer %d" % number
        assert not conn.token.locked()
        assert conn.phase is Phase.IDLE
    assert not outgoing


def test_the_caretaker_sends_what_a_running_request_has_completed(
    reactor: Reactor, make: Callable[[], Made]
) -> None:
    """The application has given everything and does not return: its client has the answer, its thread the
    connection."""
    outgoing = Outgoing(reactor)
    before, first = make()
    running, second = make()
    outgoing.sink(before).write_last(b"one")
    assert outgoing.over(True)
    outgoing.left = False
    outgoing.sink(running).write_last(b"two")
    outgoing.send()
    assert (got(first), got(second)) == (b"one", b"two")
    assert not before.token.locked()
    assert running.token.locked()
    assert not outgoing.over(True)
    assert not outgoing.left
    assert running.token.locked()


def test_a_connection_that_ends_gets_its_answer_before(reactor: Reactor, make: Callable[[], Made]) -> None:
    outgoing = Outgoing(reactor)
    conn, client = make()
    outgoing.sink(conn).write_last(b"the last")
    assert not outgoing.over(False)
    assert got(client) == b"the last"
    assert conn.token.locked()  # its thread ends it


def test_a_client_that_has_gone_costs_the_others_nothing(reactor: Reactor, make: Callable[[], Made]) -> None:
    outgoing = Outgoing(reactor)
    made = [make() for _ in range(3)]
    for conn, _ in made:
        outgoing.sink(conn).write_last(b"answer")
        assert outgoing.over(True)
    made[1][1].close()
    outgoing.send()
    assert got(made[0][1]) == got(made[2][1]) == b"answer"
    assert made[1][0].phase is Phase.CLOSED
    assert not made[1][0].token.locked()
    assert len(reactor.connections) == 2


def test_a_client_without_room_gets_the_rest_later(reactor: Reactor, make: Callable[[], Made]) -> None:
    outgoing = Outgoing(reactor)
    conn, client = make()
    try:
        while True:
            conn.sock.send(b"x" * 4096)
    except BlockingIOError:
        pass
    outgoing.sink(conn).write_last(b"the end")
    assert outgoing.over(True)
    outgoing.send()
    assert conn.phase is Phase.FLUSHING
    assert not conn.token.locked()
    while data := got(client):
        last = data[-1:]
    assert last == b"x"
    assert conn.out is not None
    assert reactor.flush(conn, conn.out)
    assert got(client) == b"the end"


def test_what_is_not_the_last_leaves_at_once(reactor: Reactor, make: Callable[[], Made]) -> None:
    outgoing = Outgoing(reactor)
    conn, client = make()
    sink = outgoing.sink(conn)
    sink.write(b"a block, ")
    assert got(client) == b"a block, "
    sink.write_pieces([b"two ", b"pieces"])
    assert got(client) == b"two pieces"
    assert not outgoing
    assert not outgoing.over(True)


def test_there_is_an_end_to_keeping(reactor: Reactor, make: Callable[[], Made]) -> None:
    outgoing = Outgoing(reactor)
    now = 0
    for number in range(MOST):
        conn, _ = make()
        outgoing.sink(conn).write_last(b"answer")
        assert outgoing.over(True)
        now = now or outgoing.since
        assert outgoing.late(now) is (number == MOST - 1)
        assert outgoing.late(now + KEEP)
    outgoing.send()


APP = """
import time

def app(environ, start):
    path = environ["PATH_INFO"]
    if path == "/block":
        time.sleep(float(environ["QUERY_STRING"]))
    until = time.perf_counter() + 60e-6
    while time.perf_counter() < until:
        pass
    body = environ["RAW_URI"].encode()
    start("200 OK", [("Content-Length", str(len(body)))])
    return iter([body]) if path.startswith("/iter") else [body]
"""

#: Seconds.
BLOCKS = 4
#: Requests that a client sends in one go.
TIMES = 4
CONFIG = """
from threadcorn.worker.outgoing import Outgoing

send = Outgoing.send
most = 0

def counted(self):
    global most
    if len(self._kept) > most:
        most = len(self._kept)
        with open("most", "w") as file:
            file.write(str(most))
    send(self)

Outgoing.send = counted
"""


class Crowd:
    """Clients that ask several times in one go, all at once."""

    def __init__(self, server: ServerProcess, stack: ExitStack) -> None:
        self.clients = [(stack.enter_context(server.connect()), path) for path in (b"/iter", b"/list") * 8]

    def ask(self) -> None:
        for client, path in self.clients:
            client.send(b"".join(b"GET %s/%d HTTP/1.1\r\nHost: t\r\n\r\n" % (path, n) for n in range(TIMES)))

    def answered(self) -> None:
        """Each has its own answers, in order."""
        for client, path in self.clients:
            for number in range(TIMES):
                assert client.reply().body == b"%s/%d" % (path, number)


def most(server: ServerProcess) -> int:
    """Answers that have left together until now."""
    file = server.directory / "most"
    return int(file.read_text() or 0) if file.exists() else 0


@pytest.mark.parametrize("flags", [(), ("--access-logfile", "access")], ids=["plain", "watched"])
def test_answers_leave_together_and_are_right(flags: tuple[str, ...]) -> None:
    """Under a queue of short requests answers are kept; and what is kept does not wait for a request that
    blocks."""
    with (
        ServerProcess(None, "--threads", "2", *flags, source=APP, config=CONFIG) as server,
        ExitStack() as stack,
    ):
        crowd = Crowd(server, stack)

        def together() -> None:
            """several answers have left together"""
            crowd.ask()
            crowd.answered()
            assert most(server) > 1

        eventually(together, within=20)
        crowd.ask()
        blocked = stack.enter_context(server.connect())
        blocked.send(b"GET /block?%d HTTP/1.1\r\nHost: t\r\n\r\n" % BLOCKS)
        began = time.monotonic()
        crowd.answered()
        assert time.monotonic() - began < BLOCKS / 2
        assert blocked.reply().body == b"/block?%d" % BLOCKS


def test_with_a_vault_each_answer_leaves_by_itself() -> None:
    """A worker that is killed must cost what it runs, and no answer that is ready."""
    with (
        ServerProcess(None, "--threads", "2", "--vault", source=APP, config=CONFIG) as server,
        ExitStack() as stack,
    ):
        crowd = Crowd(server, stack)
        for _ in range(50):
            crowd.ask()
            crowd.answered()
        assert most(server) == 0
