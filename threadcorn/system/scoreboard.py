"""The scoreboard: what every process of the server says about itself, in memory that outlives it.

One anonymous shared mapping, made before the first fork. The arbiter has a page; each process cell has a
page, and each pool thread of it a block of its own. Every 8-byte cell has exactly one writer, so there is no
lock; readers may see one cell older than the next, never half a number.

    board = Scoreboard(cells=32, slots=16)
    page = board.claim(slot, generation)            arbiter, before the fork
    page.cells[HEARTBEAT] = clock.ns()              worker: one store
    page.thread(3).begin(now, b"GET / HTTP/1.1", b"10.0.0.7:40112")
    reading = board.read(page.index)                anybody, also after the worker was killed
"""

from __future__ import annotations

import mmap
import operator
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum

__all__ = ["FIELDS", "HISTOGRAMS", "ArbiterPage", "Field", "Histogram", "Mode", "Page", "Reading",
           "RequestRecord", "Scoreboard", "ThreadPage", "WorkerState", "bounds", "bucket"]  # fmt: skip


class WorkerState(IntEnum):
    """Cell STATE. Siblings give connections to READY ones only."""

    FREE = 0
    BOOTING = 1
    READY = 2
    DRAINING = 3
    DEAD = 4


class Mode(IntEnum):
    """Cell MODE."""

    HAND_OFF = 0
    INLINE = 1


# -- the field table ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Field:
    """One cell: metrics, `threadcornctl` and the status page are made from these rows."""

    index: int
    name: str
    kind: str  # counter, gauge, state, stamp (monotonic ns), id
    unit: str
    help: str


FIELDS: list[Field] = []


def _cell(name: str, kind: str, unit: str, help: str) -> int:
    FIELDS.append(Field(len(FIELDS), name, kind, unit, help))
    return len(FIELDS) - 1


# What siblings read at every accept stands in the first 64 bytes: one cache line.
STATE = _cell("state", "state", "", "0 free, 1 booting, 2 ready, 3 draining, 4 dead")
HEARTBEAT = _cell("heartbeat", "stamp", "ns", "monotonic clock when the worker's caretaker last went round")
LOAD = _cell("load", "gauge", "", "4 x running + 4 x waiting + open connections + lag: what siblings compare")
RUNNING = _cell("running", "gauge", "requests", "requests in the application")
WAITING = _cell("waiting", "gauge", "requests", "complete requests that wait for a thread")
OPEN = _cell("open", "gauge", "connections", "open client connections, idle ones included")
LAG = _cell("lag_us", "gauge", "us", "how late the worker's loop is, smoothed")
THREADS = _cell("threads", "gauge", "threads", "pool threads")
# Who it is. Written by the arbiter before the fork, by the worker after it.
SLOT = _cell("slot", "id", "", "slot of the process")
PID = _cell("pid", "id", "", "process id")
GENERATION = _cell("generation", "id", "", "generation of configuration and application")
STARTED = _cell("started", "stamp", "ns", "monotonic clock when the process was forked")
READY_AT = _cell("ready_at", "stamp", "ns", "monotonic clock when it became ready")
# What it is doing.
MODE = _cell("mode", "state", "", "0 hand-off, 1 inline")
IDLE = _cell("idle", "gauge", "connections", "keep-alive connections between two requests")
OLDEST_START = _cell(
    "oldest_start", "stamp", "ns", "monotonic clock when the oldest running request began; 0 none"
)
OLDEST_WAITING = _cell(
    "oldest_waiting", "stamp", "ns", "the same of the oldest request that waits for a thread"
)
BUSY = _cell("busy", "gauge", "threads", "pool threads in the application")
BLOCKED = _cell("blocked", "gauge", "threads", "pool threads that wait for a client (streamed bodies)")
# What it has done.
ACCEPTED = _cell("accepted", "counter", "connections", "connections accepted")
TAKEN = _cell("taken", "counter", "connections", "of these, taken from another worker's shard")
HANDED_OVER = _cell("handed_over", "counter", "connections", "connections given to a sibling")
RECEIVED = _cell("received", "counter", "connections", "connections received from a sibling")
REQUESTS = _cell("requests", "counter", "requests", "requests answered")
ERRORS = _cell("errors", "counter", "requests", "requests whose application raised")
REFUSED = _cell("refused", "counter", "requests", "requests refused by us: malformed, too large, too slow")
SHED = _cell("shed", "counter", "requests", "requests answered with 503 because of overload")
TIMED_OUT = _cell("timed_out", "counter", "requests", "requests ended by the request time-out")
BYTES_IN = _cell("bytes_in", "counter", "bytes", "bytes received")
BYTES_OUT = _cell("bytes_out", "counter", "bytes", "bytes sent")
ACCEPT_ERRORS = _cell("accept_errors", "counter", "", "accept() failed, for example for want of descriptors")
RINGS = _cell("rings", "counter", "", "times this worker rang a sibling's bell")
MODE_CHANGES = _cell("mode_changes", "counter", "", "changes between hand-off and inline")
STATUS_1XX = _cell("status_1xx", "counter", "responses", "final responses below 200")
STATUS_2XX = _cell("status_2xx", "counter", "responses", "responses 200 to 299")
STATUS_3XX = _cell("status_3xx", "counter", "responses", "responses 300 to 399")
STATUS_4XX = _cell("status_4xx", "counter", "responses", "responses 400 to 499")
STATUS_5XX = _cell("status_5xx", "counter", "responses", "responses 500 to 599")
APP_CPU_US = _cell("app_cpu_us", "counter", "us", "CPU time in the application, where it is measured")

# Room to grow without moving anything behind it.
CELLS = 64
# Behind the cells, one mark for each thread block that was ever handed out: a reader that looked at the
# others would make the kernel find memory for them.
_MARKS_AT = 8 * CELLS
MOST_THREADS = 256

# -- histograms --------------------------------------------------------------------------------------------

# Four buckets an octave: a value is known to within 19 %. The last bucket takes everything from 117 s up.
BUCKETS = 104
HISTOGRAMS: tuple[tuple[str, str], ...] = (
    ("accept_wait", "from the connection's readiness to accept()"),
    ("ready_wait", "from a complete request to a thread that runs it"),
    ("app", "time in the application"),
    ("cpu", "CPU time in the application"),
    ("write", "from the first byte sent to the last one"),
)
ACCEPT_WAIT, READY_WAIT, APP, CPU, WRITE = (i * BUCKETS for i in range(len(HISTOGRAMS)))


def bucket(us: int) -> int:
    """The bucket of a time in microseconds. `thread.histogram[APP + bucket(us)] += 1` counts it."""
    if us < 4:
        return max(0, us)
    n = us.bit_length()
    return (n - 2) * 4 + ((us >> (n - 3)) & 3) if n < 28 else BUCKETS - 1


def bounds(index: int) -> tuple[int, int]:
    """(first, last + 1) microsecond of a bucket."""
    if index < 4:
        return index, index + 1
    octave, quarter = divmod(index, 4)
    first = (4 + quarter) << (octave - 1)
    return first, first + (1 << (octave - 1))


# Nearly every time is shorter than this, and a look into a table is a third of the arithmetic.
_TABLED = 1 << 16
_TABLE = b"".join(
    bytes((i,)) * (bounds(i)[1] - bounds(i)[0]) for i in range(BUCKETS) if bounds(i)[0] < _TABLED
)

# -- records -----------------------------------------------------------------------------------------------

RECORDS = 8
LINE = 200
PEER = 48
# Native alignment, so that the two doubles are whole stores: start, duration, status, length of the line.
_RECORD = struct.Struct(f"@ddHH4x{LINE}s{PEER}s")
_END = struct.Struct("@dH")
_pack_record = _RECORD.pack_into
_pack_end = _END.pack_into

_PAGE = mmap.PAGESIZE
_THREAD_BYTES = (8 * BUCKETS * len(HISTOGRAMS) + RECORDS * _RECORD.size + 63) // 64 * 64
_RECORDS_AT = 8 * BUCKETS * len(HISTOGRAMS)
ARBITER_CELLS = 8  # before the table of slots on the arbiter's page


class ThreadPage:
    """The block of one pool thread. Only that thread writes here, so that no count is ever lost.

    `begin(start, line, peer)`   a request starts running in this thread; `start` is monotonic seconds
    `end(duration, status)`      it is over; status 0 stands for a client that left without an answer
    `count(HISTOGRAM, us)`       put a time into a histogram (APP, CPU, ...)
    """

    __slots__ = ("begin", "count", "end", "histogram")

    # Closures, not methods: begin and end run once a request, and looking up `self._memory` and its like
    # costs as much as the store itself.
    begin: Callable[[float, bytes, bytes], None]
    end: Callable[[float, int], None]
    count: Callable[[int, int], None]

    def __init__(self, memory: memoryview, base: int) -> None:
        self.histogram = histogram = memory[base : base + _RECORDS_AT].cast("Q")
        places = [base + _RECORDS_AT + n * _RECORD.size for n in range(RECORDS)]
        after = dict(zip(places, places[1:] + places[:1], strict=True))
        at = places[-1]

        def begin(start: float, line: bytes, peer: bytes) -> None:
            nonlocal at
            at = after[at]
            _pack_record(memory, at, start, -1.0, 0, len(line) & 0xFFFF, line, peer)

        def end(duration: float, status: int) -> None:
            _pack_end(memory, at + 8, duration, status)

        def count(which: int, us: int) -> None:
            histogram[which + (_TABLE[us] if 0 <= us < _TABLED else bucket(us))] += 1

        self.begin = begin
        self.end = end
        self.count = count


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
        return [first + n * _THREAD_BYTES if mark else -1 for n, mark in enumerate(self._marks)]

    def thread(self, number: int) -> ThreadPage:
        """The block of pool thread `number`. Numbers beyond the last block share it, and lose counts."""
        number = min(number, self._threads - 1)
        self._marks[number] = 1
        return ThreadPage(self._memory, self._base + _PAGE + number * _THREAD_BYTES)


class ArbiterPage:
    """What only the arbiter writes: `owner[slot]` is the cell of the process that serves a slot, plus one;
    `weight[slot]` what steering gives its shard."""

    __slots__ = ("cells", "owner", "weight")

    def __init__(self, memory: memoryview, slots: int) -> None:
        words = memory[: 8 * (ARBITER_CELLS + 2 * slots)].cast("Q")
        self.cells = words[:ARBITER_CELLS]
        self.owner = words[ARBITER_CELLS : ARBITER_CELLS + slots]
        self.weight = words[ARBITER_CELLS + slots :]


# Cells of the arbiter's page.
ARBITER_PID, ARBITER_GENERATION, ARBITER_HEARTBEAT, ARBITER_WANTED, ARBITER_STEERER, ARBITER_DRAINING = range(
    6
)


# -- what a reader gets ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request of one thread. `duration` is negative while it runs."""

    thread: int
    start: float
    duration: float
    status: int
    line: str
    peer: str

    @property
    def running(self) -> bool:
        return self.duration < 0


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts by bucket, summed over threads."""

    name: str
    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        return sum(self.counts)

    def quantile(self, q: float) -> float:
        """Seconds below which a share q of the values lies: the upper bound of a bucket; 0 without values."""
        rank = q * self.total
        below = 0
        for index, count in enumerate(self.counts):
            below += count
            if count and below >= rank:
                return bounds(index)[1] / 1e6
        return 0.0


@dataclass(frozen=True, slots=True)
class Reading:
    """One process as it was a moment ago, dead or alive."""

    index: int
    values: dict[str, int]
    histograms: tuple[Histogram, ...]
    requests: tuple[RequestRecord, ...]  # newest first

    @property
    def state(self) -> WorkerState:
        try:
            return WorkerState(self.values["state"])
        except ValueError:
            return WorkerState.DEAD  # a cell that says nonsense is not one to give work to

    @property
    def running(self) -> tuple[RequestRecord, ...]:
        return tuple(r for r in self.requests if r.running)


class Scoreboard:
    """The mapping. Make it before the first fork; children inherit it."""

    def __init__(self, cells: int, slots: int, threads: int = 64) -> None:
        self.count = cells
        self.slots = slots
        self.threads = threads = max(1, min(threads, MOST_THREADS))
        arbiter = _round(8 * (ARBITER_CELLS + 2 * slots))
        self._each = _PAGE + _round(threads * _THREAD_BYTES)
        self._first = arbiter
        # Pages that nobody touches cost nothing; the reader takes care not to touch them.
        flags = mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
        self._map = mmap.mmap(-1, arbiter + cells * self._each, flags=flags)
        self._memory = memoryview(self._map)
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

    def histograms(self, index: int) -> tuple[Histogram, ...]:
        sums = [0] * (BUCKETS * len(HISTOGRAMS))
        for block in self.pages[index].blocks():
            if block >= 0:
                counts = self._memory[block : block + _RECORDS_AT].cast("Q").tolist()
                sums = list(map(operator.add, sums, counts))
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
        start, duration, status, length, line, peer = _RECORD.unpack(raw)
        if not start > 0 or start == float("inf"):
            return None  # never used, or not a number
        return RequestRecord(
            thread,
            start,
            duration if duration == duration else -1.0,  # noqa: PLR0124 - not a number is not equal to itself
            status,
            line[: min(length, LINE)].decode("latin-1"),
            peer.rstrip(b"\0").decode("latin-1"),
        )


def _round(size: int) -> int:
    return -(-size // _PAGE) * _PAGE
