"""The caretaker leaves while the leader works: what is between two lists must not be forgotten.

Real sockets and threads; the interpreter changes threads as often as it can, so that each interleaving comes.
"""

from __future__ import annotations

import logging
import socket
import sys
import threading
from collections.abc import Iterator

import pytest

from threadcorn.settings import Config
from threadcorn.system.addresses import parse
from threadcorn.system.berths import close_all, open_berths
from threadcorn.system.listeners import ShardGroup
from threadcorn.worker.acceptor import Acceptor
from threadcorn.worker.connection import Connection, Phase
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
