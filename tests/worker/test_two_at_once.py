"""Two threads at the same thing in the same instant, as it happens where the lead changes.

With the interpreter lock some of these instants are too short to be met; without it they are not.
"""

from __future__ import annotations

import os
import socket
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest

from tests.stateful.test_pool_machine import World
from threadcorn.system.transport import Budget, Outbox
from threadcorn.worker.connection import Connection
from threadcorn.worker.pool import Pool
from threadcorn.worker.stuck import Stuck
from threadcorn.worker.thread import PoolThread


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world._reactor.poller.close()
    for fd in (world._reactor._bell_reader(), world._attention_r, world._attention_w):
        os.close(fd)


@pytest.fixture
def pool(world: World) -> Pool:
    return world._pool


class Raced(deque[Any]):
    """Somebody else takes what is in it just before we do."""

    def popleft(self) -> Any:
        self.clear()
        return super().popleft()

    def __getitem__(self, at: Any) -> Any:
        self.clear()
        return super().__getitem__(at)


@pytest.mark.parametrize("standing", [False, True])
def test_two_poll_and_one_finds_that_the_other_has_taken_it(pool: Pool, standing: bool) -> None:
    thread = PoolThread(pool)
    pool.leader = thread
    pool.reactor.later = Raced([(-5, 0)])
    if standing:
        pool.reactor.ready.append((-6, 0))
    pool.poll(thread, 0)
    assert (-5, 0) not in pool.reactor.ready


def test_the_caretaker_counts_what_waits_and_a_thread_takes_it(pool: Pool) -> None:
    pool.waiting = Raced([(None, None, 5)])
    stuck = Stuck(slow=0, limit=0, silence=0, log=None, telemetry=pool.telemetry, recycle=print)  # type: ignore[arg-type]
    pool.telemetry.publish(pool, 0, 0, stuck)
    assert not pool.waiting


def test_two_look_at_deadlines_and_the_wheel_belongs_to_one(pool: Pool) -> None:
    reactor = pool.reactor
    looks = 0

    def due(now: float) -> list[int]:
        nonlocal looks
        looks += 1
        if looks == 1:
            other = threading.Thread(target=reactor.look_at_deadlines, args=(now,))
            other.start()
            other.join(10)
            assert not other.is_alive()
        return []

    reactor.deadlines.due = due  # type: ignore[method-assign]
    reactor.look_at_deadlines(1.0)
    assert looks == 1
    reactor.look_at_deadlines(2.0)
    assert looks == 2


class Ending(Connection):
    """Its owner, in another thread, has sent everything, and forgets the outbox as soon as somebody has seen
    that there is one."""

    __slots__ = ("_out",)

    @property
    def out(self) -> Outbox | None:  # type: ignore[override]
        out, self._out = self._out, None
        return out

    @out.setter
    def out(self, out: Outbox | None) -> None:
        self._out = out


@pytest.mark.parametrize("lead", [False, True])
def test_the_owner_ends_a_response_that_the_leader_was_about_to_flush(pool: Pool, lead: bool) -> None:
    thread = PoolThread(pool)
    pool.leader = thread
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        conn = Ending(ours, "127.0.0.1", "40000", 0, pool.reactor)
        pool.reactor.add(conn, 1e9)
        assert conn.token.acquire(False)
        conn.out = Outbox(1000, None, Budget(1000))
        pool.reactor.ready.append((conn.fd, 0))
        if lead:
            pool.stopping = True  # when nothing is ready
            thread._lead()
        else:
            assert pool.take(thread) is None
        assert conn.again


def test_the_last_thread_gives_the_lead_up_as_the_caretaker_falls_asleep(world: World) -> None:
    """It is woken, and does not find out a tenth of a second later that nobody leads."""
    pool = world._pool
    pool.leader = PoolThread(pool)

    class Last:
        """What the caretaker asks after it has looked who leads."""

        @property
        def eager(self) -> bool:
            if pool.leader is not None:
                pool.promote(pool.leader)
            return False

        def tick(self, now: float) -> None:
            pass

    world._tuner = Last()  # type: ignore[assignment]
    woken: list[bool] = []
    attention = pool.attention
    pool.attention = lambda: (woken.append(True), attention())[1]
    world._tick()
    assert pool.leader is None
    assert woken
