"""The scoreboard: what every process of the server says about itself, in memory that outlives it.

One anonymous shared mapping, made before the first fork. The arbiter has a page; each process cell has a
page, and each pool thread of it a block of its own. Every 8-byte cell has exactly one writer, so there is no
lock; readers may see one cell older than the next, never half a number.

    board = Scoreboard(cells=32, slots=16)
    page = board.claim(slot, generation)            arbiter, before the fork
    page.cells[HEARTBEAT] = monotonic_ns()          worker: one store
    page.thread(3).begin(b"GET / HTTP/1.1", b"10.0.0.7:40112", monotonic_ns())
    reading = board.read(page.index)                anybody, also after the worker was killed
"""

from __future__ import annotations

import mmap
import struct
import sys
from array import array
from collections.abc import Callable, Iterator
from itertools import cycle
from operator import add
from time import monotonic_ns
from typing import Literal

from threadcorn.policy.cells import (
    APP,
    ARBITER_CELLS,
    BUCKETS,
    CELLS,
    CODES,
    FIELDS,
    GENERATION,
    HISTOGRAMS,
    SLOT,
    STATE,
    STATUSES,
    TABLE,
    TABLED,
    Histogram,
    Reading,
    RequestRecord,
    WorkerState,
    bucket,
)

__all__ = ["ArbiterPage", "Page", "Scoreboard", "ThreadPage", "shared_memory"]

# -- records -----------------------------------------------------------------------------------------------

RECORDS = 8
LINE = 200
PEER = 48
# Native alignment, so that the two numbers are whole stores: start (ns), outcome, then line and peer.
# The outcome is -1 while it runs, then `microseconds * 1024 + status`: one store ends a request.
# CPython packs a `long` in half the time of a `long long`; only the first of a 32-bit system is too short.
_WORD: Literal["l", "q"] = "l" if struct.calcsize("l") == 8 else "q"
_RECORD = struct.Struct(f"@{_WORD}{_WORD}{LINE}s{PEER}s")
_pack_record = _RECORD.pack_into

_PAGE = mmap.PAGESIZE
_THREAD_BYTES = (8 * BUCKETS * len(HISTOGRAMS) + RECORDS * _RECORD.size + 63) // 64 * 64
_RECORDS_AT = 8 * BUCKETS * len(HISTOGRAMS)
_ALL_BITS = (1 << 8 * _RECORDS_AT) - 1
# Behind the cells, one mark for each thread block that was ever handed out: a reader that looked at the
# others would make the kernel find memory for them.
_MARKS_AT = 8 * CELLS
MOST_THREADS = 1024

# Status lines that a thread remembers. Bounded: an application may make up a reason each time.
_MOST_KINDS = 256


def _place(code: int) -> int:
    """0 for no answer, else one more than the index in STATUSES."""
    if not 100 <= code < CODES:
        return 0
    text = str(code)
    return 1 + STATUSES.index(text if text in STATUSES else f"{text[0]}xx")


def _code(status: str) -> int:
    digits = status[:3]
    code = int(digits) if len(digits) == 3 and digits.isascii() and digits.isdigit() else 0
    return code if code < CODES else 0


class ThreadPage:
    """The block of one pool thread. Only that thread writes records and counts.

    `begin(line, peer, ns)`   a request starts running in this thread (monotonic nanoseconds)
    `end(status)`             it is over ("200 OK"); "" stands for a client that left without an answer.
                              Answers when that was: the next one may begin there
    `count(WHICH, us)`        put a time into a histogram (CPU, READY_WAIT, ...); `end` has counted APP

    Records are in shared memory at once: they are what is left after a crash. Counts are made in plain lists,
    which costs a third, and `publish` (any one thread) copies them.
    """

    __slots__ = ("_block", "_counts", "_published", "_rows", "begin", "count", "end")

    # Closures, not methods: begin and end run once a request, and looking up `self._memory` and its like
    # costs as much as the store itself.
    begin: Callable[[bytes, bytes, int], None]
    end: Callable[[str], int]
    count: Callable[[int, int], None]

    def __init__(self, memory: memoryview, base: int, now_ns: Callable[[], int] = monotonic_ns) -> None:
        self._block = memory[base : base + _RECORDS_AT].cast("Q")
        self._published = 0
        self._counts = counts = [0] * (BUCKETS * len(HISTOGRAMS))
        # A histogram of APP for each status, by its place in STATUSES: one store counts both.
        self._rows: dict[int, list[int]] = {}
        kinds: dict[str, tuple[int, list[int]]] = {}
        words = memory[base + _RECORDS_AT : base + _RECORDS_AT + RECORDS * _RECORD.size].cast(_WORD)
        first = base + _RECORDS_AT
        places = [(first + n * _RECORD.size, n * _RECORD.size // 8 + 1) for n in range(RECORDS)]
        next_place = cycle(places).__next__
        start = outcome = 0

        def begin(line: bytes, peer: bytes, now: int) -> None:
            nonlocal start, outcome
            start = now
            at, outcome = next_place()
            _pack_record(memory, at, now, -1, line, peer)

        def end(status: str) -> int:
            now = now_ns()
            us = (now - start) // 1000
            try:
                code, row = kinds[status]
            except KeyError:
                code = _code(status)
                row = self._rows.setdefault(_place(code), [0] * BUCKETS)
                if len(kinds) < _MOST_KINDS:
                    kinds[status] = code, row
            words[outcome] = us * 1024 + code  # half the cost of `<<` and `|`
            row[TABLE[us] if us < TABLED else bucket(us)] += 1
            return now

        def count(which: int, us: int) -> None:
            counts[which + (TABLE[us] if 0 <= us < TABLED else bucket(us))] += 1

        self.begin = begin
        self.end = end
        self.count = count

    @property
    def statuses(self) -> list[int]:
        """Requests that have ended by what they got: 0 for no answer, then as STATUSES has them."""
        rows = self._rows.copy()  # its thread may add one just now
        return [sum(rows.get(place, ())) for place in range(1 + len(STATUSES))]

    @property
    def finished(self) -> int:
        """Requests that have ended in this block."""
        return sum(map(sum, self._rows.copy().values()))

    @property
    def counts(self) -> list[int]:
        """All histograms, one after the other."""
        counts = self._counts.copy()
        for row in self._rows.copy().values():
            counts[APP : APP + BUCKETS] = map(add, counts[APP : APP + BUCKETS], row)
        return counts

    def publish(self) -> None:
        """Show the counts to other processes. Costs little where nothing was counted."""
        total = sum(self._counts) + self.finished
        if total != self._published:
            self._published = total
            self._block[:] = array("Q", self.counts)


class Page:
    """The page of one process. `cells[HEARTBEAT] = ns` is one store into shared memory."""

    __slots__ = ("_base", "_marks", "_memory", "_threads", "board", "cells", "index")

    def __init__(self, board: Scoreboard, index: int, memory: memoryview, base: int, threads: int) -> None:
        self.board = board
        self.index = index
        self._memory = memory
        self._base = base
        self._threads = threads
        self.cells = memory[base : base + 8 * CELLS].cast("Q")
        self._marks = memory[base + _MARKS_AT : base + _MARKS_AT + threads]

    def blocks(self) -> list[int]:
        """Where the thread blocks that were ever used begin, by thread number; -1 for the others."""
        first = self._base + _PAGE
        marks = bytes(self._marks)
        marks = marks[: marks.rfind(1) + 1]
        return [first + n * _THREAD_BYTES if mark else -1 for n, mark in enumerate(marks)]

    def thread(self, number: int, now_ns: Callable[[], int] = monotonic_ns) -> ThreadPage:
        """The block of pool thread `number`. Beyond the last one it is in memory of our own: what that thread
        runs and its times are not seen from outside. To share a block would spoil its neighbour's, and make
        counters fall."""
        if number >= self._threads:
            return ThreadPage(memoryview(bytearray(_THREAD_BYTES)), 0, now_ns)
        self._marks[number] = 1
        return ThreadPage(self._memory, self._base + _PAGE + number * _THREAD_BYTES, now_ns)


class ArbiterPage:
    """What only the arbiter writes: `owner[slot]` is the cell of the process that serves a slot, plus one;
    `weight[slot]` what steering gives its shard."""

    __slots__ = ("cells", "owner", "weight")

    def __init__(self, memory: memoryview, slots: int) -> None:
        words = memory[: 8 * (ARBITER_CELLS + 2 * slots)].cast("Q")
        self.cells = words[:ARBITER_CELLS]
        self.owner = words[ARBITER_CELLS : ARBITER_CELLS + slots]
        self.weight = words[ARBITER_CELLS + slots :]


class Scoreboard:
    """The mapping. Make it before the first fork; children inherit it."""

    def __init__(self, cells: int, slots: int, threads: int = 128) -> None:
        self.count = cells
        self.slots = slots
        self.threads = threads = max(1, min(threads, MOST_THREADS))
        arbiter = _round(8 * (ARBITER_CELLS + 2 * slots))
        self._each = _PAGE + _round(threads * _THREAD_BYTES)
        self._first = arbiter
        self._memory = shared_memory(arbiter + cells * self._each)
        self.arbiter = ArbiterPage(self._memory, slots)
        self.pages = [self._page(i) for i in range(cells)]

    def _page(self, index: int) -> Page:
        return Page(self, index, self._memory, self._first + index * self._each, self.threads)

    # -- the arbiter's side ----------------------------------------------------------------------------

    def claim(self, slot: int, generation: int = 0) -> Page:
        """A clean page for a process that is about to be forked. One per process, not per slot: an old and a
        new worker of one slot live side by side for a while, and would spoil each other's load."""
        for page in self.pages:
            if page.cells[STATE] == WorkerState.FREE:
                self._wipe(page)
                page.cells[SLOT] = slot
                page.cells[GENERATION] = generation
                page.cells[STATE] = WorkerState.BOOTING
                return page
        raise LookupError(f"all {self.count} cells of the scoreboard are in use")

    def release(self, index: int) -> None:
        """The process is gone and its page was read. The page keeps its words until it is claimed again."""
        page = self.pages[index]
        page.cells[STATE] = WorkerState.FREE
        for slot in range(self.slots):
            if self.arbiter.owner[slot] == index + 1:
                self.arbiter.owner[slot] = 0

    def _wipe(self, page: Page) -> None:
        for block in page.blocks():
            if block >= 0:
                self._memory[block : block + _THREAD_BYTES] = bytes(_THREAD_BYTES)
        base = self._first + page.index * self._each
        self._memory[base : base + _PAGE] = bytes(_PAGE)

    # -- everybody's side ------------------------------------------------------------------------------

    def live(self) -> Iterator[Page]:
        """Pages of processes, in cell order."""
        for page in self.pages:
            if page.cells[STATE] != WorkerState.FREE:
                yield page

    def owner_of(self, slot: int) -> Page | None:
        """The page of the process that serves a slot, or None while nobody does."""
        index = self.arbiter.owner[slot]
        return self.pages[index - 1] if index else None

    def read(self, index: int) -> Reading:
        """One process, dead or alive. Never raises for what a page holds: a killed process may have left
        half a record, and a running one may be writing just now."""
        return Reading(index, self.values(index), self.histograms(index), self.requests(index))

    def values(self, index: int) -> dict[str, int]:
        """The cells by name: the cheap part, for every tick."""
        cells = self.pages[index].cells.tolist()
        return {field.name: cells[field.index] for field in FIELDS}

    def histograms(self, *indices: int) -> tuple[Histogram, ...]:
        """Summed over the threads of these processes."""
        # A block is added as one number: no bucket will ever carry into its neighbour, and a sum of lists
        # takes ten times as long.
        memory = self._memory
        total = 0
        for index in indices:
            for block in self.pages[index].blocks():
                if block >= 0:
                    total += int.from_bytes(memory[block : block + _RECORDS_AT], sys.byteorder)
        total &= _ALL_BITS  # a process that wrote over its own memory may have left anything
        sums = memoryview(total.to_bytes(_RECORDS_AT, sys.byteorder)).cast("Q").tolist()
        return tuple(
            Histogram(name, tuple(sums[i * BUCKETS : (i + 1) * BUCKETS]))
            for i, (name, _) in enumerate(HISTOGRAMS)
        )

    def requests(self, index: int) -> tuple[RequestRecord, ...]:
        """What the threads run and ran last, newest first."""
        found: list[RequestRecord] = []
        for number, block in enumerate(self.pages[index].blocks()):
            if block < 0:
                continue
            first = block + _RECORDS_AT
            for at in range(first, first + RECORDS * _RECORD.size, _RECORD.size):
                record = self._record(number, at)
                if record is not None:
                    found.append(record)
        return tuple(sorted(found, key=lambda r: r.start, reverse=True))

    def _record(self, thread: int, at: int) -> RequestRecord | None:
        # Twice the same is one request whole. A thread that writes all the time may spoil every try: then the
        # last look is taken, clipped to what can be true.
        raw = bytes(self._memory[at : at + _RECORD.size])
        for _ in range(3):
            again = bytes(self._memory[at : at + _RECORD.size])
            if again == raw:
                break
            raw = again
        start, outcome, line, peer = _RECORD.unpack(raw)
        if start <= 0:
            return None  # never used, or overwritten
        running = outcome < 0
        return RequestRecord(
            thread,
            start / 1e9,
            -1.0 if running else (outcome >> 10) / 1e6,
            0 if running else outcome & 1023,
            line.rstrip(b"\0").decode("latin-1"),
            peer.rstrip(b"\0").decode("latin-1"),
        )


def shared_memory(size: int) -> memoryview:
    """Zeros that this process and its children have in common. Pages that nobody touches cost nothing, so
    readers take care not to touch them."""
    flags = mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
    return memoryview(mmap.mmap(-1, size, flags=flags))


def _round(size: int) -> int:
    return -(-size // _PAGE) * _PAGE
