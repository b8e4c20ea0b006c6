"""Who takes what a leader has read ahead, when the leader gets stuck."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.stateful.test_pool_machine import World
from threadcorn.worker.connection import Connection
from threadcorn.worker.pool import Pool
from threadcorn.worker.thread import PoolThread

#: A number that no descriptor has.
NOBODY = -7


@pytest.fixture
def pool() -> Iterator[Pool]:
    """With a leader that is in a request, and nobody else."""
    world = World()
    pool = world._pool
    pool.leader = PoolThread(pool)
    pool.leader.in_app = 5
    yield pool
    world._reactor.poller.close()
    for fd in (world._reactor._bell_reader(), world._attention_r, world._attention_w):
        os.close(fd)


@contextmanager
def client(pool: Pool) -> Iterator[tuple[Connection, socket.socket]]:
    """A connection that nobody watches yet, and its other end."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        yield Connection(ours, "127.0.0.1", "40000", 0, pool.reactor), theirs


def read_ahead(pool: Pool, count: int) -> list[Any]:
    works: list[Any] = [object() for _ in range(count)]
    pool.waiting.extend(works)
    return works


def park(pool: Pool, count: int) -> list[PoolThread]:
    pool.parked = [PoolThread(pool) for _ in range(count)]
    return list(pool.parked)


def test_it_goes_to_parked_threads_before_one_of_them_leads_to_newer_ones(pool: Pool) -> None:
    works, threads = read_ahead(pool, 2), park(pool, 3)
    assert pool.leader is not None
    pool.take_lead_from(pool.leader, 5)
    assert [thread.work for thread in reversed(threads)] == [*works, None]
    assert pool.leader is threads[0]
    assert not pool.waiting
    assert not pool.parked
    assert not any(thread.gate.locked() for thread in threads), "somebody was not woken"


def test_where_there_are_too_few_the_caretaker_leads_and_the_rest_waits(pool: Pool) -> None:
    works, threads = read_ahead(pool, 3), park(pool, 1)
    assert pool.leader is not None
    pool.take_lead_from(pool.leader, 5)
    assert threads[0].work is works[0]
    assert pool.leader is pool.caretaker
    assert list(pool.waiting) == works[1:]


def test_nothing_moves_when_the_leader_is_in_another_request_by_now(pool: Pool) -> None:
    works, threads = read_ahead(pool, 1), park(pool, 1)
    leader = pool.leader
    assert leader is not None
    pool.take_lead_from(leader, 4)
    assert pool.leader is leader
    assert list(pool.waiting) == works
    assert pool.parked == threads


def test_what_was_read_is_run_before_what_comes_later_also_by_a_leader_that_reads_nothing_ahead(
    pool: Pool,
) -> None:
    """A row ends early with requests that it has read, and is the last one: it has seen that they take long.
    Or a probe was read among those that were refused. While the queue stands, nobody else looks for them."""
    leader = pool.leader
    assert isinstance(leader, PoolThread)
    with client(pool) as (conn, theirs):
        theirs.sendall(b"GET /read HTTP/1.1\r\nHost: test\r\n\r\n")
        pool.reactor.add(conn, 1e9)
        pool.reactor.ready.append((conn.fd, 0))
        work = pool.take(leader)
        assert work is not None
        pool.waiting.append(work)
        looks = 0

        def again() -> None:
            nonlocal looks
            looks += 1
            pool.reactor.ready.append((NOBODY, 0))
            if looks > 100:
                pool.leader = None

        pool.reactor.special[NOBODY] = again
        pool.inline, leader.row = True, 0
        again()
        leader._lead()
        assert not pool.waiting, "it waits for an end of the queue"
        assert theirs.recv(1000).endswith(b"\r\n\r\nread")


def test_a_leader_that_has_lost_the_lead_keeps_no_answer(pool: Pool) -> None:
    """Its request may go on for long behind an answer that is complete."""
    leader = pool.leader
    assert isinstance(leader, PoolThread)
    with client(pool) as (conn, theirs):
        sink = leader.outgoing.sink(conn)
        pool.take_lead_from(leader, 5)
        sink.write_last(b"complete")
        assert theirs.recv(100) == b"complete"
        assert not leader.outgoing.over(True)


def test_who_was_refused_on_arrival_does_not_count_the_wait_for_accept_again(pool: Pool) -> None:
    """It would be refused once more, without having waited."""
    leader = pool.leader
    assert isinstance(leader, PoolThread)
    with client(pool) as (conn, theirs):
        conn.accept_wait = 5.0
        pool.reactor.add(conn, 1e9)
        theirs.sendall(b"GET /first HTTP/1.1\r\nHost: test\r\n\r\n")
        pool.reactor.ready.append((conn.fd, 0))
        pool._turn_back(leader, 1)
        assert theirs.recv(1000).startswith(b"HTTP/1.1 503 ")
        theirs.sendall(b"GET /second HTTP/1.1\r\nHost: test\r\n\r\n")
        pool.reactor.ready.append((conn.fd, 0))
        work = pool.take(leader)
        assert work is not None
        assert work[2] == pool.reactor.batch


def test_probes_that_have_waited_say_nothing_of_how_much_can_be_served(pool: Pool) -> None:
    """They are let in without bound, and quick: a row of them, and the next ones let in were far too many."""
    admission = pool.admission
    admission._probes = frozenset({"/alive"})
    leader = pool.leader
    assert isinstance(leader, PoolThread)
    with client(pool) as (conn, _):
        conn.token.acquire()
        finished = 0
        admission.look(1.0, 10, lambda: finished, 1)
        for path in ("/slow", *["/alive"] * 20, "/slow"):
            conn.rest = f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode()
            request = pool.intake.read(conn, leader.parsers)
            assert request is not None
            assert admission.turn(conn, request, 0, 0) is None
            finished += 1
        admission.look(2.0, 10, lambda: finished, 1)
    assert admission._flow is not None
    assert admission._flow.served == 2


def test_what_comes_while_a_pipelined_request_is_listed_is_read(pool: Pool) -> None:
    """Its event is dropped, because the connection is to be looked at anyhow; but that look reads nothing."""
    leader = pool.leader
    assert isinstance(leader, PoolThread)
    with client(pool) as (conn, theirs):
        pool.reactor.add(conn, 1e9)
        theirs.sendall(2 * b"GET /together HTTP/1.1\r\nHost: test\r\n\r\n")
        pool.poll(leader, 0)
        assert pool.take(leader) is not None
        conn.token.release()
        pool.reactor.ready.append((conn.fd, 0))  # for the second one, which has been read
        theirs.sendall(b"GET /later HTTP/1.1\r\nHost: test\r\n\r\n")
        pool.poll(leader, 0)
        lines = []
        while pool.reactor.ready:
            work = pool.take(leader)
            if work is None:
                continue
            lines.append(work[1].line)
            conn.token.release()
            if conn.again or conn.rest:
                pool.push(conn.fd)
                pool.poll(leader, 0)
        assert lines == [b"GET /together HTTP/1.1", b"GET /later HTTP/1.1"]
