"""The monitor: measures every worker now and then, has it judged, and speaks. It never ends anybody itself.

Pace. Each worker is looked at every `probe_interval`; a worker near its memory limit every FAST seconds,
because a leak of a megabyte a request does not wait for the next second. PSS and USS cost what the process is
big (milliseconds), so they are read every FULL seconds, near the limit every CLOSE seconds. In between they
are taken to have grown by what the resident size has grown, which costs 20 microseconds to read.

Budget. Never more than BUDGET of our own time for what is dear: a reading of PSS that would break it waits.
`cost` is what was spent, and it is a metric.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from time import perf_counter

from threadcorn.arbiter.view import MEASURED, Facts, View
from threadcorn.arbiter.worker_handle import WorkerHandle
from threadcorn.policy import events as e
from threadcorn.policy.cells import HEARTBEAT, OLDEST_WAITING, OPEN, REQUESTS, RUNNING, THREADS, WAITING
from threadcorn.policy.health import FlapGuard, Health, Judgement, Limits, Sample, Verdict
from threadcorn.policy.incarnation import Incarnation, State
from threadcorn.settings import Settings
from threadcorn.system.probe import Probe, Usage, descriptor_limit

__all__ = ["Monitor"]

FAST = 0.1
#: The same for a worker that has a limit and is not near it.
WATCHFUL = 0.25
FULL = 10.0
CLOSE = 1.0
BUDGET = 0.02
#: Share of the memory limit from which on a worker is looked at fast.
WATCHED = 0.5
#: Having been away for so long, we skip a round (seconds).
AWAY = 3.0


#: What the supervisor is told. The others are for people: a worker that is stuck is ended by its timeout.
_ACTS = {Verdict.RECYCLE: e.Verdict.RECYCLE, Verdict.KILL: e.Verdict.KILL}


class Patient:
    """What is known of one worker."""

    __slots__ = ("asked", "blind", "cpu_share", "due", "fd_limit", "full_at", "full_due", "health", "jitter",
                 "looked", "memory", "probe", "pss", "rss", "rss_then", "usage", "uss")  # fmt: skip

    def __init__(self, pid: int, jitter: float) -> None:
        self.probe = Probe(pid)
        self.health = Health()
        self.usage = Usage()
        self.pss: int | None = None
        self.uss: int | None = None
        self.rss: int | None = None
        self.rss_then = 0  # when pss and uss were read
        self.memory: int | None = None  # by the measure that was asked for
        self.cpu_share: float | None = None
        self.fd_limit = descriptor_limit(pid)
        self.jitter = jitter
        self.due = 0.0
        self.full_due = 0.0
        self.full_at = 0.0
        self.looked: float | None = None
        self.asked = False  # to be replaced
        self.blind = ""  # what of its memory cannot be read

    def facts(self) -> Facts:
        judgement = self.health.last
        values = (
            *(self.rss, self.pss, self.uss, self.memory, round(self.health.growth, 1)),
            *(self.usage.fds, self.fd_limit, self.usage.threads, self.usage.cpu, self.cpu_share),
            *(self.usage.voluntary, self.usage.involuntary, self.usage.status),
            *(judgement.verdict.value, judgement.text),
        )
        return dict(zip(MEASURED, values, strict=True))


class Monitor:
    """`tick` looks at whoever is due."""

    def __init__(
        self,
        view: View,
        settings: Callable[[], Settings],
        tell: Callable[[e.Event], None],
        log: logging.Logger,
    ) -> None:
        self._view = view
        self._settings = settings
        self._tell = tell
        self._log = log
        self._patients: dict[int, Patient] = {}
        self._guard = FlapGuard()
        self._limits: tuple[Settings, Limits] | None = None
        self._last: float | None = None
        self._next = 0.0
        self._dear_until = 0.0
        self.cost = 0.0
        view.measured = self.measured

    def next(self) -> float | None:
        """When `tick` is due; None for never."""
        return self._next if self._settings().probe_interval > 0 else None

    def measured(self, age: int) -> Facts:
        """For the view."""
        patient = self._patients.get(age)
        return {} if patient is None else patient.facts()

    def reset(self) -> None:
        """New settings are in force: what was switched off gets another chance."""
        self._guard = FlapGuard()
        self._view.notes.clear()

    def forget(self, handle: WorkerHandle) -> None:
        self._patients.pop(handle.age, None)

    def tick(self, now: float) -> None:
        """Look at whoever is due; bounded by the budget."""
        settings = self._settings()
        period = settings.probe_interval
        if period <= 0 or now < self._next:
            return
        away = self._last is not None and now - self._last > period + AWAY
        self._last = now
        began = perf_counter()
        due = [now + period]
        for incarnation, handle in self._view.incarnations():
            if not isinstance(handle.pid, int) or incarnation.state is State.BOOTING:
                continue
            patient = self._patients.get(handle.age)
            if patient is None:
                jitter = random.random() * settings.max_worker_lifetime_jitter
                patient = self._patients[handle.age] = Patient(handle.pid, jitter)
            if now >= patient.due:
                self._look(patient, settings, now)
                patient.due = now + self._pace(patient, settings)
                if not away and incarnation.state is State.READY:
                    self._judge(patient, incarnation, handle, settings, now)
            due.append(patient.due)
        spent = perf_counter() - began
        self.cost += spent
        self._view.cost = self.cost
        self._next = max(min(due), now + FAST / 2)

    def _pace(self, patient: Patient, settings: Settings) -> float:
        if not (settings.max_worker_memory or settings.max_worker_memory_hard):
            return settings.probe_interval
        return min(settings.probe_interval, FAST if self._fast(patient, settings) else WATCHFUL)

    def _fast(self, patient: Patient, settings: Settings) -> bool:
        limit = settings.max_worker_memory or settings.max_worker_memory_hard
        return bool(limit) and (patient.rss or 0) > WATCHED * limit

    def _look(self, patient: Patient, settings: Settings, now: float) -> None:
        if patient.looked is None or now - patient.looked >= 0.9 * settings.probe_interval:
            before, since = patient.usage, patient.looked
            patient.usage, patient.looked = patient.probe.look(), now
            patient.rss = patient.usage.rss
            if since is not None and patient.usage.cpu is not None and before.cpu is not None:
                patient.cpu_share = round((patient.usage.cpu - before.cpu) / max(1e-3, now - since), 3)
        else:
            patient.rss = patient.probe.rss()
        rss = patient.rss or 0
        near = settings.memory_measure != "rss" and self._fast(patient, settings)
        if now >= max(self._dear_until, min(patient.full_due, patient.full_at + CLOSE if near else 1e18)):
            began = perf_counter()
            patient.pss, patient.uss = patient.probe.memory()
            patient.rss_then, patient.full_at, patient.full_due = rss, now, now + FULL
            self._dear_until = now + (perf_counter() - began) / BUDGET
        measured = {"rss": None, "pss": patient.pss, "uss": patient.uss}[settings.memory_measure]
        if patient.rss is None:
            patient.blind = "the memory of workers cannot be read: limits on it have no effect"
        elif measured is None and settings.memory_measure != "rss" and patient.full_at:
            patient.blind = f"{settings.memory_measure} cannot be read: limits on memory count rss"
        else:
            patient.blind = ""
        # Where the kernel does not tell the better number, the resident size is what we have.
        patient.memory = patient.rss if measured is None else measured + rss - patient.rss_then

    def _judge(
        self, patient: Patient, incarnation: Incarnation, handle: WorkerHandle, settings: Settings, now: float
    ) -> None:
        cells = handle.page.cells
        waiting_since = cells[OLDEST_WAITING]
        sample = Sample(
            now=now,
            ready_for=now - (incarnation.ready_at or now),
            requests=cells[REQUESTS],
            running=cells[RUNNING],
            threads=cells[THREADS],
            waiting=cells[WAITING],
            waited=max(0.0, now - waiting_since / 1e9) if waiting_since else 0.0,
            silent=max(0.0, now - max(cells[HEARTBEAT] / 1e9, incarnation.ready_at or 0.0)),
            status=patient.usage.status,
            memory=patient.memory,
            cpu=patient.usage.cpu,
            # Connections come with the clients: a successor would have as many. The others may be a leak.
            descriptors=None if patient.usage.fds is None else patient.usage.fds - cells[OPEN],
            descriptor_limit=patient.fd_limit,
        )
        if patient.blind and (settings.max_worker_memory or settings.max_worker_memory_hard):
            self._tell_blind(patient.blind)
        judgement = patient.health.judge(sample, self._limits_of(settings, patient))
        if judgement.verdict in _ACTS and not (patient.asked and judgement.verdict is Verdict.RECYCLE):
            self._act(patient, handle, judgement, sample)

    def _tell_blind(self, text: str) -> None:
        if text not in self._view.notes:
            self._view.notes.append(text)
            self._log.warning("A limit cannot be kept as it was meant: %s", text)

    def _limits_of(self, settings: Settings, patient: Patient) -> Limits:
        off = self._guard.off
        lifetime = settings.max_worker_lifetime
        return Limits(
            memory=0 if "memory" in off else settings.max_worker_memory,
            memory_hard=0 if "memory" in off else settings.max_worker_memory_hard,
            measure=settings.memory_measure,
            lifetime=lifetime + patient.jitter if lifetime else 0.0,
            cpu=0.0 if "cpu" in off else settings.max_worker_cpu,
            descriptors="descriptor" not in off,
        )

    def _act(self, patient: Patient, handle: WorkerHandle, judgement: Judgement, sample: Sample) -> None:
        patient.asked = True
        trouble = self._guard.recycled(judgement, sample.requests, sample.ready_for)
        if trouble:
            self._view.notes.append(trouble)
            self._log.critical("FLAPPING: %s", trouble)
            return
        self._view.recycles[judgement.reason] = self._view.recycles.get(judgement.reason, 0) + 1
        self._tell(e.Judged(handle.age, _ACTS[judgement.verdict], judgement.text))
