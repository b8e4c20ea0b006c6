"""`--threads auto`: the readings for `policy.concurrency`, and what is done with its decisions.

The caretaker calls `tick` whenever it goes round, and looks at the queue. A decision is made
once a second, and ten times a second while every look finds requests waiting for a thread.
"""

from __future__ import annotations

import logging
import os
import sys
from collections import deque
from collections.abc import Callable
from time import monotonic_ns, process_time, time
from typing import TYPE_CHECKING

from threadcorn.policy.concurrency import (
    Decision,
    Reading,
    State,
    Tuning,
    decide,
    one_line,
    processor_use,
    rescue,
)
from threadcorn.system.cpus import idle_time

if TYPE_CHECKING:
    from threadcorn.worker.pool import Pool

__all__ = ["Tuner"]

#: Seconds between two decisions, and between two looks whether the pool must be rescued.
PERIOD = 1.0
QUICK = 0.1
#: Decisions that are kept for whoever asks why.
KEPT = 64
#: Weight of the newest estimate of a request's time.
NEWEST = 0.5


class Span:
    """Sums since the beginning of a span of time."""

    def __init__(self, now: float, finished: int, read: bool) -> None:
        self.began = now
        self.finished = finished
        self.cpu = process_time()
        self.read = read  # False: nobody will ask what the processors did, and that costs some calls
        self.idle, self.delayed = (idle_time(), run_delay()) if read else (0.0, 0.0)
        self.looks = self.pressed = self.busy = self.most_busy = 0

    def look(self, busy: int, pressed: bool) -> None:
        self.looks += 1
        self.pressed += pressed
        self.busy += busy
        self.most_busy = max(self.most_busy, busy)


class Tuner:
    """One per worker; the main thread's. With a fixed number of threads it only measures."""

    def __init__(
        self,
        pool: Pool,
        log: logging.Logger,
        tuning: Tuning | None,
        cpus: float = 1.0,
        clock: Callable[[], float] = time,
    ) -> None:
        self._pool = pool
        self._log = log
        self._tuning = tuning
        self._clock = clock
        self._cpus = min(cpus, 1.0) if gil() else cpus
        self._state = State()
        now = pool.reactor.clock()
        self._whole = Span(now, pool.telemetry.finished(), True)
        self._quick = Span(now, pool.telemetry.finished(), False)
        self.eager = False  # requests wait: the caretaker should look more often
        self.wants_worker = False
        #: (wall time, line): what was decided and why, newest last.
        self.decisions: deque[tuple[float, str]] = deque(maxlen=KEPT)
        self._last = ""

    def fix(self) -> None:
        """Somebody has set the number by hand."""
        self._tuning = None

    def tick(self, now: float) -> None:
        """Look; decide when it is time."""
        pool = self._pool
        reactor = pool.reactor
        busy = pool.running
        leader = pool.leader
        pressed = (
            bool(pool.waiting or reactor.ready)
            and not pool.parked
            and (leader is None or leader is pool.caretaker or leader.in_app != 0)
        )
        self.eager = pressed and self._tuning is not None
        self._whole.look(busy, pressed)
        self._quick.look(busy, pressed)
        if now - self._whole.began >= PERIOD:
            reading = self._read(self._whole, now)
            self._whole = Span(now, pool.telemetry.finished(), True)
            self._estimate(reading)
            if self._tuning is not None:
                self._obey(reading, decide(self._state, reading, self._tuning))
        elif now - self._quick.began >= QUICK:
            quick = self._quick
            if quick.looks < 2:
                return  # one look is none
            tuning = self._tuning if quick.pressed == quick.looks else None
            if tuning is not None and quick.read:
                reading = self._read(quick, now)
                decision = rescue(self._state, reading, tuning)
                if decision is not None:
                    self._obey(reading, decision)
            self._quick = Span(now, pool.telemetry.finished(), tuning is not None)

    def _read(self, span: Span, now: float) -> Reading:
        pool = self._pool
        seconds = now - span.began
        used = process_time() - span.cpu
        idle, delayed = idle_time() - span.idle, run_delay() - span.delayed
        limit = seconds * self._cpus
        self._mean_busy = span.busy / max(1, span.looks)
        return Reading(
            now=now,
            span=seconds,
            threads=len(pool.threads),
            busy=span.most_busy,
            pressed=span.pressed / max(1, span.looks),
            finished=pool.telemetry.finished() - span.finished,
            cpu=processor_use(used, limit, 0.0, 0.0),
            scarce=processor_use(used, limit, idle, delayed),
            oldest=self._oldest(),
            inline=pool.inline,
        )

    def _oldest(self) -> float:
        pool = self._pool
        now = monotonic_ns()
        try:
            return (now - pool.waiting[0][2]) / 1e9
        except IndexError:
            return (now - pool.reactor.batch) / 1e9 if pool.reactor.ready else 0.0

    def _estimate(self, reading: Reading) -> None:
        """Little's law: requests in the application over requests a second is the time that one takes."""
        if reading.finished:
            admission = self._pool.admission
            service = self._mean_busy / reading.rate
            admission.service += (service - admission.service) * NEWEST

    def _obey(self, reading: Reading, decision: Decision) -> None:
        self._state = decision.state
        self.wants_worker = decision.wants_worker
        pool = self._pool
        if decision.probe:
            pool.next_probe = 0.0
        if decision.threads != reading.threads:
            pool.resize(decision.threads)
            if self.eager:
                # What waits has to be looked at by those that are new.
                pool.reactor.ring()
        if decision.threads != reading.threads or decision.reason not in ("right", self._last):
            line = one_line(reading, decision)
            self.decisions.append((self._clock(), line))
            self._log.debug("%s", line)
        self._last = decision.reason


def gil() -> bool:
    """Whether one thread at a time runs Python code."""
    asked = getattr(sys, "_is_gil_enabled", None)
    return True if asked is None else bool(asked())


def run_delay() -> float:
    """Seconds that our threads were ready to run and did not; 0.0 where the kernel does not tell."""
    total = 0
    try:
        for task in os.listdir("/proc/self/task"):
            try:
                with open(f"/proc/self/task/{task}/schedstat", "rb", buffering=0) as file:
                    total += int(file.read().split()[1])
            except (OSError, IndexError):
                continue  # the thread has ended
    except OSError:
        return 0.0
    return total / 1e9
