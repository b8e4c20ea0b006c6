"""From what is measured of a worker to a verdict, with hysteresis. Pure: it measures nothing and ends nobody.

Goals, in this order:

1. Never cost a request that would have been answered. A worker is replaced ready-first; only a hard limit
   that somebody has set, or a heart that has stopped, ends one at once.
2. Never flap. One sample proves nothing: a verdict needs k of the last n. A worker that is above its limit
   before it has served anything would be replaced for ever; after three of these in a row the limit is wrong,
   not the workers, and it is not applied any more until somebody looks.
3. Say why, with the numbers.

A sample is a worker at one moment. If the arbiter itself was away (a suspend, a debugger), it skips a round:
everything looks stuck to somebody who has slept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, unique

__all__ = ["FINE", "SILENT", "FlapGuard", "Health", "Judgement", "Limits", "Readiness", "Sample", "Verdict",
           "growth", "readiness", "silence", "size"]  # fmt: skip

#: A limit is passed when so many of the last samples are above it.
AGREE, OF = 3, 5
#: Share of the limit on open descriptors from which on it is a leak.
DESCRIPTORS = 0.8
#: A worker all of whose threads are busy, and that finishes nothing for so long, is saturated (seconds).
NO_PROGRESS = 2.0
#: A heart that has not beaten for so long belongs to a worker that is stuck (seconds). It beats ten times a
#: second, also when every thread is in the application.
SILENT = 2.0
#: A request waits so long for a thread: saturated as well (seconds).
LONG_WAIT = 1.0
#: Growth is judged over at least so many samples, and only when the limit will be reached within AHEAD.
LEAST_FOR_GROWTH = 20
AHEAD = 60.0
#: And only in a worker that is this near to its limit: a small cache that fills is not a leak.
NEAR = 0.6
#: A worker that passed a limit having served fewer requests than this, and for fewer seconds, was beyond it
#: from the start: so many of these in a row prove the limit wrong.
FEW_REQUESTS = 50
FEW_SECONDS = 60.0
FLAPS = 3


@unique
class Verdict(Enum):
    """What the monitor does with it."""

    FINE = "fine"
    SATURATED = "saturated"  # not ready for more; nobody is replaced for it
    RECYCLE = "recycle"
    STUCK = "stuck"  # not even its caretaker runs; the heartbeat's limit (`timeout`) ends it
    KILL = "kill"


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict and the reason: a word for the metric, a sentence for the log."""

    verdict: Verdict
    reason: str = ""
    text: str = ""


FINE = Judgement(Verdict.FINE)
_RANK = {verdict: rank for rank, verdict in enumerate(Verdict)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of one worker; 0 means no limit. Bytes and seconds. `lifetime` has its jitter in it already."""

    memory: int = 0
    memory_hard: int = 0
    measure: str = "pss"
    lifetime: float = 0.0
    cpu: float = 0.0
    descriptors: bool = True  # a leak of descriptors is a reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A READY worker at one moment. What could not be read is None."""

    now: float
    ready_for: float
    requests: int
    running: int = 0
    threads: int = 1
    waiting: int = 0
    waited: float = 0.0  # the oldest of those that wait
    silent: float = 0.0  # since its heart beat
    status: str = ""  # of the process, as psutil has it
    memory: int | None = None
    cpu: float | None = None
    descriptors: int | None = None
    descriptor_limit: int | None = None


class Health:
    """The history of one worker."""

    __slots__ = ("_descriptors", "_growth", "_memory", "_points", "_progress", "last")

    def __init__(self) -> None:
        self._memory: deque[bool] = deque(maxlen=OF)
        self._descriptors: deque[bool] = deque(maxlen=OF)
        self._points: deque[tuple[float, float]] = deque(maxlen=60)
        self._growth: tuple[float, float] = (-1.0, 0.0)  # of which last point, and what it is
        self._progress: tuple[int, float] | None = None  # requests finished, and since when no more
        self.last = FINE

    def judge(self, sample: Sample, limits: Limits) -> Judgement:
        """One more sample. The worst that holds; of two equally bad ones the first named here."""
        looks = (self._by_memory, self._by_descriptors, self._by_use, self._by_heart, self._by_progress)
        self.last = max((look(sample, limits) for look in looks), key=lambda found: _RANK[found.verdict])
        return self.last

    @property
    def growth(self) -> float:
        """Bytes a second, over what is known. Hundreds of slopes: once for each new point, not each look."""
        last = self._points[-1][0] if self._points else -1.0
        if self._growth[0] != last:
            self._growth = (last, growth(self._points))
        return self._growth[1]

    def _by_memory(self, sample: Sample, limits: Limits) -> Judgement:
        memory = sample.memory
        if memory is None:
            return FINE
        if not self._points or sample.now - self._points[-1][0] >= 1.0:
            self._points.append((sample.now, float(memory)))
        if limits.memory_hard and memory > limits.memory_hard:
            hard = size(limits.memory_hard)
            text = f"{size(memory)} of memory ({limits.measure}), above the hard limit {hard}"
            return Judgement(Verdict.KILL, "memory_hard", text)
        if not limits.memory:
            return FINE
        self._memory.append(memory > limits.memory)
        if sum(self._memory) >= AGREE:
            text = f"{size(memory)} of memory ({limits.measure}), above the limit {size(limits.memory)}"
            return Judgement(Verdict.RECYCLE, "memory", text)
        if len(self._points) >= LEAST_FOR_GROWTH and memory > NEAR * limits.memory:
            rate = self.growth
            if rate > 0 and (limits.memory - memory) / rate < AHEAD:
                text = (
                    f"{size(memory)} of memory ({limits.measure}) growing by {size(int(rate * 60))} a minute "
                    f"towards the limit {size(limits.memory)}"
                )
                return Judgement(Verdict.RECYCLE, "growth", text)
        return FINE

    def _by_descriptors(self, sample: Sample, limits: Limits) -> Judgement:
        if sample.descriptors is None or not sample.descriptor_limit or not limits.descriptors:
            return FINE
        self._descriptors.append(sample.descriptors > DESCRIPTORS * sample.descriptor_limit)
        if sum(self._descriptors) < AGREE:
            return FINE
        text = f"{sample.descriptors} open descriptors of {sample.descriptor_limit}"
        return Judgement(Verdict.RECYCLE, "descriptors", text)

    def _by_use(self, sample: Sample, limits: Limits) -> Judgement:
        if limits.lifetime and sample.ready_for > limits.lifetime:
            return Judgement(Verdict.RECYCLE, "lifetime", f"served for {sample.ready_for:.0f} s")
        if limits.cpu and sample.cpu is not None and sample.cpu > limits.cpu:
            return Judgement(Verdict.RECYCLE, "cpu", f"used {sample.cpu:.0f} s of CPU time")
        return FINE

    def _by_heart(self, sample: Sample, limits: Limits) -> Judgement:
        if sample.silent <= SILENT:
            return FINE
        return Judgement(Verdict.STUCK, "silent", silence(sample.silent, sample.status))

    def _by_progress(self, sample: Sample, limits: Limits) -> Judgement:
        if sample.running < sample.threads or sample.threads <= 0:
            self._progress = None
            return FINE
        if sample.waiting and sample.waited > LONG_WAIT:
            text = f"{sample.waiting} requests wait for a thread, the oldest for {sample.waited:.1f} s"
            return Judgement(Verdict.SATURATED, "waiting", text)
        if self._progress is None or self._progress[0] != sample.requests:
            self._progress = (sample.requests, sample.now)
            return FINE
        stuck = sample.now - self._progress[1]
        if stuck < NO_PROGRESS:
            return FINE
        text = f"all {sample.threads} threads are busy, and none has finished for {stuck:.1f} s"
        return Judgement(Verdict.SATURATED, "busy", text)


class FlapGuard:
    """Whether replacing workers for what they use still makes sense. `off`: what it makes none for."""

    __slots__ = ("_row", "off")

    def __init__(self) -> None:
        self._row: dict[str, int] = {}
        self.off: set[str] = set()

    def recycled(self, judgement: Judgement, requests: int, ready_for: float) -> str:
        """A worker is to be replaced. Not empty: it must not be, nor any other for this, and why."""
        limit = _LIMIT_OF.get(judgement.reason)
        if limit is None:
            return ""  # whoever sets a short life wants it
        flaps = requests < FEW_REQUESTS and ready_for < FEW_SECONDS
        self._row[limit] = self._row.get(limit, 0) + 1 if flaps else 0
        if self._row[limit] < FLAPS:
            return ""
        self.off.add(limit)
        return (
            f"{limit} limit not applied any more: worker after worker passed it before it had served "
            f"anything worth mentioning ({judgement.text}); raise {_RAISE[limit]}, then reload"
        )


_LIMIT_OF = {
    "memory": "memory",
    "growth": "memory",
    "memory_hard": "memory",
    "cpu": "cpu",
    "descriptors": "descriptor",
}
_RAISE = {
    "memory": "--max-worker-memory",
    "cpu": "--max-worker-cpu",
    "descriptor": "the number of files that a process may open (LimitNOFILE=, ulimit -n)",
}


def growth(points: Sequence[tuple[float, float]]) -> float:
    """The Theil-Sen slope: the median of the slopes between pairs, which a peak cannot pull. 0: too few."""
    # Every pair of sixty points would be 1770 slopes; one in a second of a minute is known well enough by
    # half of the points.
    chosen = list(points)[:: 1 + len(points) // 30]
    slopes = sorted(
        (y2 - y1) / (x2 - x1)
        for i, (x1, y1) in enumerate(chosen)
        for x2, y2 in list(chosen)[i + 1 :]
        if x2 > x1
    )
    return slopes[len(slopes) // 2] if slopes else 0.0


@dataclass(frozen=True, slots=True)
class Readiness:
    """The answer of /readyz."""

    ready: bool
    reasons: tuple[str, ...]


def readiness(*, ready: int, saturated: int, wanted: int, draining: bool) -> Readiness:
    """`ready` workers serve, `saturated` of them are not ready for more; `wanted` must be left."""
    reasons = []
    if draining:
        reasons.append("the server is leaving")
    if ready < wanted:
        reasons.append(f"{ready} workers are ready, {wanted} are wanted")
    elif ready - saturated < min(wanted, 1):
        reasons.append(f"all {ready} workers are saturated")
    return Readiness(not reasons, tuple(reasons))


def silence(seconds: float, status: str) -> str:
    """No heartbeat, in words. The state of the process says where to look."""
    where = _WHERE.get(status)
    return f"no heartbeat for {seconds:.1f} s" + (f", {where}" if where else "")


_WHERE = {
    "stopped": "it is stopped by a signal",
    "tracing-stop": "a debugger holds it",
    "disk-sleep": "it hangs in the kernel, most likely for a disk",
    "running": "it runs code that does not let go of the interpreter",
    "sleeping": "it waits in code that does not let go of the interpreter",
}


def size(number: int) -> str:
    """Bytes as people read them."""
    if abs(number) < 1 << 20:
        return f"{number / 1024:.0f} KiB"
    if abs(number) < 10 << 30:
        return f"{number / (1 << 20):.0f} MiB"
    return f"{number / (1 << 30):.1f} GiB"
