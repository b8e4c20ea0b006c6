"""What a process says about itself: the table of its cells, the buckets of its histograms, and what a reader
makes of them.

One row a cell, here and nowhere else. Metrics, `threadcornctl` and the status page are made from the rows;
`system/scoreboard.py` puts the cells into shared memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


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
# What it has done.
ACCEPTED = _cell("accepted", "counter", "connections", "connections accepted")
TAKEN = _cell("taken", "counter", "connections", "of these, taken from another worker's shard")
HANDED_OVER = _cell("handed_over", "counter", "connections", "connections given to a sibling")
RECEIVED = _cell("received", "counter", "connections", "connections received from a sibling")
REQUESTS = _cell("requests", "counter", "requests", "requests that the application has run for")
ERRORS = _cell("errors", "counter", "requests", "requests whose application raised")
REFUSED = _cell("refused", "counter", "requests", "refused by us: malformed, too large, too slow, too many")
SHED = _cell("shed", "counter", "requests", "requests answered with 503 because of overload")
TIMED_OUT = _cell("timed_out", "counter", "requests", "requests ended by the request time-out")
ACCEPT_ERRORS = _cell("accept_errors", "counter", "", "accept() failed for want of descriptors or memory")
RINGS = _cell("rings", "counter", "", "times this worker rang a sibling's bell")
MODE_CHANGES = _cell("mode_changes", "counter", "", "changes between hand-off and inline")
SLOW = _cell("slow", "counter", "requests", "requests that ran longer than slow_request")
INTERRUPTED = _cell("interrupted", "counter", "requests", "of the timed out, how many threads came back")
ABANDONED = _cell("abandoned", "counter", "requests", "not run, because the client left while they waited")
LINES_LOST = _cell("access_log_lines_lost", "counter", "lines", "access log lines that could not be written")

#: Why a request is refused because of overload (docs/overload.md). Their cells add up to SHED.
REASONS: tuple[str, ...] = ("queue_timeout", "standing_queue", "full_queue")
SHED_BY = len(FIELDS)  # the first of them
for _reason in REASONS:
    _cell(f"shed_{_reason}", "counter", "requests", f"requests answered with 503: {_reason}")

#: Status codes that are counted each by itself; the others are counted by class.
STATUSES: tuple[str, ...] = (
    *("200", "201", "202", "204", "206", "301", "302", "303", "304", "307", "308"),
    *("400", "401", "403", "404", "405", "409", "410", "413", "422", "429"),
    *("500", "501", "502", "503", "504"),
    *("1xx", "2xx", "3xx", "4xx", "5xx"),
)
STATUS = len(FIELDS)  # the first of their cells, in this order
for _code in STATUSES:
    _cell(f"status_{_code}", "counter", "responses", f"responses with status {_code}")
#: Status codes are below this.
CODES = 600


# Room to grow without moving anything behind it.
CELLS = 128

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
TABLED = 1 << 16
TABLE = b"".join(bytes((i,)) * (bounds(i)[1] - bounds(i)[0]) for i in range(BUCKETS) if bounds(i)[0] < TABLED)


# Cells of the arbiter's page, in front of its table of slots.
ARBITER_PID = 0
ARBITER_GENERATION = 1
ARBITER_HEARTBEAT = 2
ARBITER_WANTED = 3
ARBITER_STEERER = 4  # pid that holds the steering lease: of two arbiters during an upgrade one steers
ARBITER_DRAINING = 5
ARBITER_SUCCESSOR = 6  # pid of the arbiter whose workers read all inboxes now; ours give theirs away
ARBITER_CELLS = 8


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

    @property
    def request(self) -> str:
        """Method and target for a log: nothing in it can end the line or move the cursor."""
        text = "".join(char if " " <= char <= "~" else "?" for char in self.line)
        return text.rsplit(" HTTP/", 1)[0] or "(no request line)"


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
