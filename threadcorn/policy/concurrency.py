"""How long a request may wait, and how many threads a worker runs: decisions without a clock or a thread.

The queue is bounded by time. While it empties now and then, and while it gets shorter, a request may wait
for `timeout`: a burst is served, only later. A queue that has been standing and grows does not get shorter by
itself; for those who come then the bound is `target`, so that those who are served are served soon, and
others know at once (CoDel's idea, for requests). One that stands and does not grow is made by clients that
wait for their answers before they ask again. Refused, they would only ask at once, so they have to wait for
much longer. A pool that makes no progress is another matter, and the first bound holds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

__all__ = [
    "Decision",
    "Flow",
    "Patience",
    "Reading",
    "State",
    "Tuning",
    "decide",
    "one_line",
    "processor_use",
    "rescue",
]

#: Seconds after which a queue that was never empty counts as standing.
STANDING = 0.3
#: Requests for each thread that must have ended meanwhile: one slow request in front is no overload.
ROUNDS = 2
#: Requests that take long are waited for longer: this many of them.
TIMES = 4
#: Arrivals over requests served, from which on a queue grows, and below which it gets shorter.
GROWS, SHRINKS = 1.2, 0.8
#: Standard deviations of what is served that an excess of arrivals may be and still mean nothing.
CHANCE = 2.0
#: How many times the target a request may wait in a queue that does neither.
STEADY = 5


@dataclass(frozen=True, slots=True)
class Flow:
    """What went into a standing queue and what was served out of it, in the latest span of time."""

    seconds: float
    arrived: int
    served: int


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a request may wait for a thread (seconds)."""

    timeout: float
    target: float

    def now(self, standing: float, flow: Flow | None, service: float) -> float:
        """The queue was last empty `standing` seconds ago; one request takes about `service` seconds. No
        flow: too little has been served to tell."""
        if flow is None or standing <= STANDING or flow.arrived < flow.served * SHRINKS:
            return self.timeout
        more = flow.arrived - flow.served
        # Of few requests a few more than served are chance, or clients that have just joined a closed circle.
        grows = more > flow.served * (GROWS - 1) and more > CHANCE * math.sqrt(flow.served)
        target = self.target if grows else self.target * STEADY
        return min(self.timeout, max(target, TIMES * service))


# -- how many threads ----------------------------------------------------------------------------------------

#: Share of the looks at the queue that must have found it waiting for a thread, before there are more.
PRESSED = 0.6
#: Processor use of the process, as a share of what it can use, above which more threads only wait for it.
SATURATED = 0.85
#: A growth that raised the throughput by less than this, and did not meet another load, is undone.
GAIN = 1.1
SAME = 0.9
#: Seconds between a growth and the judgement on it.
TRIAL = 1.0
#: Seconds without growth after one that was undone: first and longest.
HOLD_OFF = 5.0
HOLD_OFF_MAX = 80.0
#: Seconds that threads have not been needed for, before they are given up.
QUIET = 30.0


@dataclass(frozen=True, slots=True)
class Tuning:
    """The settings of `--threads auto`."""

    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Reading:
    """What one worker did in a span of time. Shares are 0 to 1."""

    now: float  # monotonic seconds, at the end of the span
    span: float
    threads: int
    busy: int  # most threads seen in the application at once
    pressed: float  # share of looks at which requests waited and no thread was free
    finished: int  # requests
    cpu: float  # processor seconds of the process over what it may use
    oldest: float  # age of the request that waited longest, at the end of the span (seconds)
    inline: bool
    scarce: float = (
        0.0  # the same over what others may have left of it: a guess, and too high rather than low
    )

    @property
    def rate(self) -> float:
        return self.finished / self.span if self.span > 0 else 0.0


@dataclass(frozen=True, slots=True)
class State:
    """What is remembered between two decisions."""

    before: int = 0  # threads before the growth on trial; 0: none is on trial
    rate_before: float = 0.0
    judge_at: float = 0.0
    hold_until: float = 0.0
    hold_off: float = HOLD_OFF
    needed: int = 0  # most threads seen busy since `needed_since`
    needed_since: float = 0.0
    rate: float = 0.0  # of the last whole span in which nothing changed
    probe_at: float = 0.0  # when inline mode is tried again although its last try failed
    probe_wait: float = 0.0


@dataclass(frozen=True, slots=True)
class Decision:
    """`threads` from now on, why, and what to remember. `probe`: try inline mode now."""

    threads: int
    reason: str
    state: State
    probe: bool = False
    wants_worker: bool = False  # the processor is used up: another worker would help, more threads would not


def processor_use(used: float, limit: float, idle: float, delayed: float) -> float:
    """Processor seconds `used` over those that could have been: `limit`, without what others took from us.

    Others took what was neither used by us nor `idle`, and no more than our threads were `delayed`: ready to
    run, all together. Without the first a worker whose threads wait for each other would think that it had
    used everything; without the second one whose threads all sleep would on a machine that is busy. No more
    than half is believed: beyond that a growth on trial tells more than this guess."""
    taken = max(0.0, min(delayed, limit - used - idle, 0.5 * limit))
    return used / max(used, limit - taken) if used > 0 else 0.0


def decide(state: State, reading: Reading, tuning: Tuning) -> Decision:
    """Once a second."""
    now, threads = reading.now, reading.threads
    if threads < tuning.least or threads > tuning.most:
        return _set(state, reading, max(tuning.least, min(threads, tuning.most)), "limits")
    saturated = reading.cpu >= SATURATED
    if state.before and now >= state.judge_at:
        judged = _judge(state, reading)
        if judged.threads != threads or reading.pressed < PRESSED or saturated or threads >= tuning.most:
            return judged
        state = judged.state  # it helped, and is not enough
    if reading.pressed >= PRESSED and saturated:
        return _saturated(state, reading)
    if state.probe_wait:
        state = replace(state, probe_at=0.0, probe_wait=0.0)
    if reading.pressed >= PRESSED and threads < tuning.most and now >= state.hold_until:
        return _grow(state, reading, tuning, "requests wait", max(1, threads // 2))
    state = _seen(state, reading)
    if now - state.needed_since >= QUIET and not state.before:
        wanted = max(tuning.least, math.ceil(state.needed * 1.25) + 1)
        state = replace(state, needed=reading.busy, needed_since=now)
        if wanted < threads:
            return Decision(wanted, "not needed", replace(state, hold_off=HOLD_OFF))
    return Decision(threads, "right", replace(state, rate=reading.rate))


def rescue(state: State, reading: Reading, tuning: Tuning) -> Decision | None:
    """Ten times a second, for the pool whose threads all wait for something: nobody waits a second for that.

    None: nothing to do until the next decision.
    """
    if reading.threads >= tuning.most or reading.pressed < 1.0:
        return None
    if max(reading.cpu, reading.scarce) >= SATURATED * 0.9:
        return None  # where the processor is only scarce, `decide` tries it, once a second and with judgement
    if reading.finished and reading.now < state.hold_until:
        return None
    reason = "requests wait" if reading.finished else "all threads are blocked"
    return _grow(state, reading, tuning, reason, reading.threads)


def _saturated(state: State, reading: Reading) -> Decision:
    """More threads would only wait for the interpreter. One that runs everything inline may be better, if the
    load is another than the one that inline mode failed with."""
    probe = not reading.inline and reading.now >= state.probe_at
    state = _seen(state, reading)
    if probe:
        wait = min(max(1.0, state.probe_wait * 2), HOLD_OFF_MAX)
        state = replace(state, probe_at=reading.now + wait, probe_wait=wait)
    return Decision(reading.threads, "saturated", state, probe=probe, wants_worker=True)


def _grow(state: State, reading: Reading, tuning: Tuning, reason: str, more: int) -> Decision:
    wanted = min(tuning.most, reading.threads + more)
    if reading.cpu > 0.2:
        # What is still free of the processor bounds what more threads can use; a quarter in reserve, because
        # the processor time of one thread is a guess.
        wanted = min(wanted, max(reading.threads + 1, math.ceil(reading.threads / reading.cpu * 1.25)))
    state = _seen(state, reading)
    if not state.before:
        state = replace(state, before=reading.threads, rate_before=state.rate or reading.rate)
    return Decision(wanted, reason, replace(state, judge_at=reading.now + TRIAL))


def _judge(state: State, reading: Reading) -> Decision:
    """Was the growth worth it? A rate that fell by much is another load, not the growth's doing."""
    after, before = reading.rate, state.rate_before
    trial = state
    state = replace(_seen(state, reading), before=0, rate=after)
    useless = before > 0 and reading.pressed >= PRESSED and before * SAME <= after < before * GAIN
    if not useless:
        return Decision(reading.threads, "growth kept", replace(state, hold_off=HOLD_OFF))
    state = replace(
        state,
        hold_until=reading.now + trial.hold_off,
        hold_off=min(trial.hold_off * 2, HOLD_OFF_MAX),
        rate=0.0,
    )
    return Decision(trial.before, "growth brought nothing", state)


def _seen(state: State, reading: Reading) -> State:
    needed = max(state.needed, reading.busy + (1 if reading.pressed > 0 else 0))
    since = state.needed_since or reading.now
    if reading.busy * 2 > reading.threads:  # still needed: the quiet time begins anew
        return replace(state, needed=reading.busy, needed_since=reading.now)
    return replace(state, needed=needed, needed_since=since)


def _set(state: State, reading: Reading, threads: int, reason: str) -> Decision:
    return Decision(threads, reason, _seen(state, reading))


def one_line(reading: Reading, decision: Decision) -> str:
    """A decision with its numbers, for a person."""
    return (
        f"threads {reading.threads} -> {decision.threads}: {decision.reason}; busy {reading.busy}, "
        f"pressed {reading.pressed:.0%}, cpu {reading.cpu:.0%}, {reading.rate:.0f} requests/s, "
        f"oldest waited {reading.oldest * 1000:.0f} ms{', inline' if reading.inline else ''}"
    )
