"""The caretaker leaves while the leader works: what is between two lists must not be forgotten.

Real sockets and threads; the interpreter changes threads as often as it can, so that each interleaving comes.
"""

from __future__ import annotations

import logging
import socket
import sys
import threading
from collections.abc import Iterator
from time import monotonic_ns
from types import SimpleNamespace

import pytest

from threadcorn.policy.cells import HEARTBEAT, STATE, WorkerState
from threadcorn.settings import Config
from threadcorn.system.addresses import parse
from threadcorn.system.berths import close_all, open_berths
from threadcorn.system.listeners import ShardGroup
from threadcorn.system.scoreboard import Scoreboard
from threadcorn.worker.acceptor import Acceptor
from threadcorn.worker.connection import Connection, Phase
from threadcorn.worker.departure import Departure
from threadcorn.worker.handover import Handover
from threadcorn.worker.limits import WorkerLimits
from threadcorn.worker.neighbours import Neighbours, Sibling
from threadcorn.worker.reactor import Reactor

LOG = logging.getLogger("tests.leaving")


@pytest.fixture(autouse=True)
def restless() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def reactor() -> Reactor:
    return Reactor(WorkerLimits.of(Config().freeze()))


def test_a_connection_is_nobodys_until_it_is_whole() -> None:
    """Who drains goes through the connections and takes each that has no owner."""
    there = reactor()
    over = threading.Event()
    taken = 0

    def sweep() -> None:
        nonlocal taken
        while not over.is_set():
            for conn in there.snapshot():
                if conn.phase is Phase.IDLE and conn.token.acquire(False):
                    there.close(conn)
                    conn.token.release()
                    taken += 1

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    try:
        for _ in range(2000):
            ours, theirs = socket.socketpair()
            there.add(Connection(ours, "", "", 0, there), there.now + 60)
            theirs.close()
    finally:
        over.set()
        sweeper.join()
    for conn in there.snapshot():
        there.close(conn)
    assert taken


class Leader:
    """Polls and calls the handlers of listeners and inboxes, as a pool thread does."""

    def __init__(self, there: Reactor) -> None:
        self._reactor = there
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Leader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            for fd, _ in self._reactor.poller.poll(0.001):
                handler = self._reactor.special.get(fd)
                if handler is not None:
                    handler()


class Watched(Reactor):
    """Knows whether its responses were ever the last ones, if only for a moment."""

    said = False

    def __setattr__(self, name: str, value: object) -> None:
        if name == "close_each" and value:
            self.said = True
        super().__setattr__(name, value)


def test_no_response_is_the_last_one_while_a_sibling_takes_connections() -> None:
    """Other threads go on answering in the moment in which the worker begins to leave."""
    group = ShardGroup.create(parse("127.0.0.1:0"), 2)
    berths = open_berths([group], 2)
    board = Scoreboard(2, 2, 4)
    pages = [board.claim(slot, 1) for slot in (0, 1)]
    for page in pages:
        board.arbiter.owner[page.index] = page.index + 1
    pages[1].cells[STATE] = WorkerState.READY
    pages[1].cells[HEARTBEAT] = monotonic_ns()
    there = Watched(WorkerLimits.of(Config().freeze()))
    neighbours = Neighbours(pages[0], berths, 0)
    pool = SimpleNamespace(reactor=there, service=SimpleNamespace(watch_each=lambda: None))
    Departure(
        pool,  # type: ignore[arg-type]
        Handover(there, neighbours, LOG),
        neighbours,
        now=there.now,
        seconds=30,
        alone=False,
    )
    assert there.draining
    assert not there.said
    close_all(berths)
    group.close()


def drained(there: Reactor) -> None:
    for conn in there.snapshot():
        there.close(conn)


@pytest.mark.parametrize("turn", range(40))
def test_whoever_closes_knows_all_that_was_accepted(turn: int) -> None:
    """A connection between accept() and the reactor would be reset by the end of the process."""
    group = ShardGroup.create(parse("127.0.0.1:0"), 1)
    berths = open_berths([group], 1)
    there = reactor()
    acceptor = Acceptor(there, Neighbours(None, berths, 0), LOG, lambda: (0, 0, False))
    acceptor.open()
    where = group.shards[0].getsockname()
    with Leader(there):
        clients = [socket.create_connection(where) for _ in range(20 + turn)]
        acceptor.close()
        known = len(there.connections)
    # The leader has come to rest: nothing was added behind our back, and the others still wait.
    assert len(there.connections) == known == there.accepted
    assert known + group.depth(0) == len(clients)
    drained(there)
    for client in clients:
        client.close()
    close_all(berths)
    group.close()


@pytest.mark.parametrize("turn", range(40))
def test_whoever_closes_knows_all_that_was_handed_over(turn: int) -> None:
    """The same for what comes out of the inbox; what stays in it is the successor's."""
    group = ShardGroup.create(parse("127.0.0.1:0"), 1)
    berths = open_berths([group], 1)
    giving, taking = reactor(), reactor()
    neighbours = Neighbours(None, berths, 0)
    giver, taker = Handover(giving, neighbours, LOG), Handover(taking, neighbours, LOG)
    giver._takers = [Sibling(berths[0], (0,) * 99)]
    taker.open()
    peers = []
    with Leader(taking):
        for _ in range(20 + turn):
            ours, theirs = socket.socketpair()
            peers.append(theirs)
            conn = Connection(ours, "", "", 0, giving)
            giving.add(conn, giving.now + 60)
            assert giver.give(conn)
        taker.close()
        known = len(taking.connections)
    assert len(taking.connections) == known == taker.received
    rest = reactor()
    last = Handover(rest, neighbours, LOG)
    while last.take(berths[0]):
        pass
    assert known + last.received == len(peers)
    drained(rest)
    drained(taking)
    for peer in peers:
        peer.close()
    close_all(berths)
    group.close()
