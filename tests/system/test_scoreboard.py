from __future__ import annotations

import os
import random
import struct
import threading
from time import monotonic_ns

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.eventually import eventually
from threadcorn.policy.cells import (
    APP,
    BUCKETS,
    HEARTBEAT,
    LOAD,
    PID,
    REQUESTS,
    STATE,
    WorkerState,
    bucket,
)
from threadcorn.system import scoreboard as sb
from threadcorn.system.scoreboard import LINE, PEER, RECORDS, Scoreboard


def test_the_table_and_the_arithmetic_agree() -> None:
    """The hot path looks buckets up; what it finds is what bucket() computes, also at the table's end."""
    page = Scoreboard(1, 1, threads=1).claim(0)
    thread = page.thread(0)
    times = [
        0,
        1,
        3,
        4,
        5,
        1000,
        65535,
        65536,
        65537,
        10**7,
        10**12,
        *random.Random(1).sample(range(1 << 17), 500),
    ]
    for us in times:
        thread.count(APP, us)
    expected = [0] * BUCKETS
    for us in times:
        expected[bucket(us)] += 1
    assert thread.counts[APP : APP + BUCKETS] == expected
    thread.count(APP, -5)  # a clock that is read by two processors; it must not end up in another histogram
    assert thread.counts[APP] == expected[0] + 1


def test_quantiles_are_upper_bounds_in_seconds() -> None:
    board = Scoreboard(1, 1, threads=2)
    page = board.claim(0)
    threads = [page.thread(0), page.thread(1)]
    for us in range(1, 1001):
        threads[us % 2].count(APP, us)
    for thread in threads:
        thread.publish()
    histogram = next(h for h in board.histograms(0) if h.name == "app")
    assert histogram.total == 1000
    assert 0.0005 <= histogram.quantile(0.5) <= 0.000641
    assert histogram.quantile(1.0) == pytest.approx(0.001024)
    assert board.histograms(0)[0].quantile(0.5) == 0


def test_what_a_killed_worker_wrote_is_still_there() -> None:
    """The page outlives its writer: heartbeat, counters and the request that was running."""
    board = Scoreboard(4, 2)
    page = board.claim(1, generation=7)
    pid = os.fork()
    if pid == 0:
        try:
            page.cells[PID] = os.getpid()
            page.cells[STATE] = WorkerState.READY
            page.cells[HEARTBEAT] = 123456789
            page.cells[REQUESTS] += 41
            thread = page.thread(5, iter((10_250_000_000,)).__next__)
            thread.begin(b"GET /before HTTP/1.1", b"10.0.0.1:1", 10_000_000_000)
            thread.end("200 OK")
            thread.begin(b"POST /export HTTP/1.1", b"10.0.0.1:2", 11_000_000_000)
        finally:
            os.kill(os.getpid(), 9)
    os.waitpid(pid, 0)
    reading = board.read(page.index)
    assert reading.state is WorkerState.READY
    assert reading.values["pid"] == pid
    assert reading.values["slot"] == 1
    assert reading.values["generation"] == 7
    assert reading.values["heartbeat"] == 123456789
    assert reading.values["requests"] == 41
    now, before = reading.requests
    assert (now.thread, now.line, now.peer, now.running) == (5, "POST /export HTTP/1.1", "10.0.0.1:2", True)
    assert (before.line, before.status, before.duration, before.running) == (
        "GET /before HTTP/1.1",
        200,
        0.25,
        False,
    )
    assert reading.running == (now,)


def test_the_last_eight_requests_of_a_thread_are_kept() -> None:
    board = Scoreboard(1, 1)
    thread = board.claim(0).thread(0)
    for n in range(20):
        thread.begin(b"GET /%d HTTP/1.1" % n, b"peer", monotonic_ns())
        thread.end(f"{200 + n} Made Up")
    found = board.requests(0)
    assert [r.line for r in found] == [f"GET /{n} HTTP/1.1" for n in range(19, 11, -1)]
    assert len(found) == RECORDS
    assert [r.status for r in found] == list(range(219, 211, -1))


@given(st.binary(max_size=70000), st.binary(max_size=100))
def test_any_request_line_fits_its_record(line: bytes, peer: bytes) -> None:
    """Long lines are cut, and never touch the record beside them."""
    board = Scoreboard(1, 1, threads=1)
    thread = board.claim(0).thread(0)
    thread.begin(b"first", b"a", monotonic_ns())
    thread.end("201 Created")
    thread.begin(line, peer, monotonic_ns())
    thread.begin(b"third", b"c", monotonic_ns())
    third, second, first = board.requests(0)
    assert (first.line, first.status, third.line) == ("first", 201, "third")
    assert second.line == line[:LINE].rstrip(b"\0").decode("latin-1")
    assert second.peer == peer[:PEER].rstrip(b"\0").decode("latin-1")


@given(st.data())
def test_a_page_full_of_nonsense_can_be_read(data: st.DataObject) -> None:
    """A worker that wrote over its own memory before it died must not take the arbiter with it."""
    board = Scoreboard(1, 1, threads=2)
    page = board.claim(0)
    page.thread(0)
    page.thread(1)
    noise = random.Random(data.draw(st.integers(0, 2**32)))
    start = board._first
    board._memory[start : start + board._each] = noise.randbytes(board._each)
    reading = board.read(0)
    assert isinstance(reading.state, WorkerState)
    assert all(r.start > 0 for r in reading.requests)
    assert all(isinstance(h.quantile(0.99), float) for h in reading.histograms)


def test_cells_are_not_shared_by_an_old_and_a_new_worker_of_one_slot() -> None:
    """Two processes of one slot have two pages, and a page comes back clean."""
    board = Scoreboard(2, 1)
    old = board.claim(0, 1)
    new = board.claim(0, 2)
    assert old.index != new.index
    with pytest.raises(LookupError, match="all 2 cells"):
        board.claim(0, 3)
    old.cells[REQUESTS] = 5
    old.thread(3).begin(b"x", b"y", monotonic_ns())
    board.release(old.index)
    assert board.read(old.index).values["requests"] == 5, "still readable after the release"
    assert [page.index for page in board.live()] == [new.index]
    again = board.claim(0, 3)
    assert again.index == old.index
    assert again.cells[REQUESTS] == 0
    assert board.requests(again.index) == ()
    assert again.cells[STATE] == WorkerState.BOOTING


def test_a_slot_knows_who_serves_it() -> None:
    board = Scoreboard(4, 3)
    page = board.claim(2)
    assert board.owner_of(2) is None
    board.arbiter.owner[2] = page.index + 1
    assert board.owner_of(2) is page
    board.release(page.index)
    assert board.owner_of(2) is None
    board.arbiter.weight[2] = 256
    assert board.arbiter.weight.tolist() == [0, 0, 256]


def test_siblings_see_a_store_at_once() -> None:
    """A load that one process writes is what another reads, without a system call in between."""
    board = Scoreboard(2, 2)
    mine, theirs = board.claim(0), board.claim(1)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            theirs.cells[LOAD] = 17
            os.read(reader, 1)
        finally:
            os._exit(0)
    eventually(lambda: theirs.cells[LOAD] == 17)
    assert mine.cells[LOAD] == 0
    os.write(writer, b"x")
    os.waitpid(pid, 0)
    os.close(reader)
    os.close(writer)


def test_threads_do_not_lose_each_others_counts() -> None:
    """Each thread counts in its own block; the sum is exact whatever the interleaving."""
    board = Scoreboard(1, 1, threads=8)
    page = board.claim(0)

    def work(number: int) -> None:
        thread = page.thread(number)
        for us in range(2000):
            thread.count(APP, us)
        thread.publish()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert next(h for h in board.histograms(0) if h.name == "app").total == 16000


CODES = [f"{100 + n} Text" for n in range(500)]


def test_records_read_while_they_are_written_are_whole() -> None:
    """A record seen twice alike is one request: line and start belong together."""
    board = Scoreboard(1, 1, threads=1)
    page = board.claim(0)
    stop = threading.Event()

    def write() -> None:
        n = 0

        def tick() -> int:
            return n * 10**9

        thread = page.thread(0, tick)
        while not stop.is_set():
            n = n % 50000 + 1
            thread.begin(b"GET /%d " % n * 10, b"%d" % n, n * 10**9)
            thread.end(CODES[n % 500])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(300):
            for record in board.requests(0):
                n = round(record.start)
                assert record.line == f"GET /{n} " * 10
                assert record.peer == str(n)
                assert record.status in (0, 100 + n % 500)
    finally:
        stop.set()
        writer.join()


def test_more_threads_than_blocks_spoil_nobody() -> None:
    """A pool that is larger than planned is not seen whole; its neighbours' records and counts stay."""
    board = Scoreboard(2, 1, threads=2)
    first, second = board.claim(0), board.claim(0)
    last, beyond = first.thread(1), first.thread(2)
    last.begin(b"last", b"p", monotonic_ns())
    beyond.begin(b"beyond", b"p", monotonic_ns())
    beyond.end("200 OK")
    last.end("200 OK")
    last.publish()
    beyond.publish()
    assert [(r.thread, r.line) for r in board.requests(first.index)] == [(1, "last")]
    assert next(h for h in board.histograms(first.index) if h.name == "app").total == 1
    assert beyond.finished == 1
    assert board.requests(second.index) == ()


def test_memory_that_nobody_uses_is_not_taken() -> None:
    """A board for 512 processes costs what its writers touch; reading does not make it grow."""
    board = Scoreboard(512, 256, threads=64)
    page = board.claim(0)
    page.thread(0).begin(b"x", b"y", monotonic_ns())
    board.read(page.index)
    with open("/proc/self/smaps", encoding="ascii") as smaps:
        sizes = [
            tuple(map(int, (size, rss)))
            for size, rss in _mappings(smaps.read())
            if int(size) * 1024 == len(board._memory)
        ]
    assert len(sizes) == 1
    assert sizes[0][1] < 4096, f"{sizes[0][1]} kB in memory"


def _mappings(text: str) -> list[tuple[str, str]]:
    sizes = [line.split()[1] for line in text.splitlines() if line.startswith("Size:")]
    resident = [line.split()[1] for line in text.splitlines() if line.startswith("Rss:")]
    return list(zip(sizes, resident, strict=True))


def test_numbers_are_whole_stores() -> None:
    """Cells and records are aligned, so that a reader never sees half a number."""
    assert sb._RECORD.size % 8 == 0
    assert sb._THREAD_BYTES % 64 == 0
    assert struct.calcsize("@qq") == 16
