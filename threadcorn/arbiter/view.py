"""What may be seen of the server, as plain data. Exporter, control socket and statsd show the same.

Everything is collected when somebody asks. A page is read only while its process has not been buried;
afterwards what it counted is in the ledger.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import sub
from typing import Any

from threadcorn import __version__
from threadcorn.arbiter.premises import Premises
from threadcorn.arbiter.staff import Staff
from threadcorn.arbiter.worker_handle import WorkerHandle
from threadcorn.metrics import Ledger
from threadcorn.policy.cells import FIELDS, HEARTBEAT, REASONS, Histogram, RequestRecord
from threadcorn.policy.health import SILENT, Readiness, Verdict, readiness
from threadcorn.policy.incarnation import Incarnation, State
from threadcorn.policy.supervisor import Phase, Supervisor
from threadcorn.settings import Settings
from threadcorn.system.probe import Machine, machine

__all__ = ["MEASURED", "Facts", "Row", "View"]

Facts = dict[str, Any]
#: A living worker and its cells by name.
Row = tuple[Incarnation, WorkerHandle, Mapping[str, int]]

_COUNTER_CELLS = tuple(field.name for field in FIELDS if field.kind == "counter")
_SHOWN = ("threads", "running", "waiting", "open", "idle", "requests", "errors", "timed_out", "slow", "shed",
          "abandoned", "accepted")  # fmt: skip
#: What the monitor measures of a worker: None until it has looked, or where there is nobody to look.
MEASURED = ("rss", "pss", "uss", "memory", "growth", "fds", "fd_limit", "os_threads", "cpu_seconds",
            "cpu_share", "voluntary", "involuntary", "status", "verdict", "reason")  # fmt: skip
#: Seconds between two memories, and how many are kept: the oldest is about a minute old.
REMEMBER, MEMORIES = 10.0, 6
_QUANTILES = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))


class View:
    """Reads; changes nothing but the ledger."""

    def __init__(
        self,
        supervisor: Supervisor,
        staff: Staff,
        premises: Callable[[], Premises | None],
        settings: Callable[[], Settings],
        now: Callable[[], float],
    ) -> None:
        self.supervisor = supervisor
        self.staff = staff
        self.settings = settings
        self.now = now
        self._premises = premises
        self._began = now()
        self.ledger = Ledger()
        self.exits: dict[str, int] = {}
        self.recycles: dict[str, int] = {}
        #: What the monitor has measured of each worker, by age; see `monitor.Patient.facts`.
        self.measured: Callable[[int], Facts] = lambda age: {}
        self.notes: list[str] = []
        self._memories: deque[tuple[float, tuple[Histogram, ...]]] = deque(maxlen=MEMORIES)
        self._next_memory = 0.0
        self.cost = 0.0

    # -- the dead

    def bury(self, handle: WorkerHandle, cause: str) -> None:
        """The process is gone; its page is read for the last time."""
        there = self._premises()
        if there is None:
            return
        counters = self._counters(handle, there.board.values(handle.page.index))
        self.ledger.bury(handle.slot, counters, there.board.histograms(handle.page.index))
        self.exits[cause] = self.exits.get(cause, 0) + 1

    # -- the living

    def incarnations(self) -> Iterator[tuple[Incarnation, WorkerHandle]]:
        for incarnation in self.supervisor.crew:
            handle = self.staff.get(incarnation.age)
            if handle is not None:
                yield incarnation, handle

    def records(self, handle: WorkerHandle) -> tuple[RequestRecord, ...]:
        """What its threads run and ran last, the newest first."""
        there = self._premises()
        return there.board.requests(handle.page.index) if there is not None else ()

    def rows(self) -> list[Row]:
        """The living with their cells, all read now."""
        there = self._premises()
        if there is None:
            return []
        now = self.now()
        found: list[Row] = []
        for incarnation, handle in self.incarnations():
            cells = there.board.values(handle.page.index)
            if (_age(cells["heartbeat"], now) or 0.0) > SILENT:
                # Its caretaker collects no more: what its threads run stands in their own records only.
                starts = [record.start for record in self.records(handle) if record.running]
                cells["running"] = cells["busy"] = len(starts)
                cells["oldest_start"] = int(min(starts, default=0.0) * 1e9)
            found.append((incarnation, handle, cells))
        return found

    def worker(self, incarnation: Incarnation, handle: WorkerHandle, cells: Mapping[str, int]) -> Facts:
        """One worker."""
        now = self.now()
        facts: Facts = {
            "slot": handle.slot,
            "pid": handle.pid,
            "age": handle.age,
            "generation": handle.generation,
            "state": incarnation.state.value,
            "uptime": None if incarnation.ready_at is None else round(now - incarnation.ready_at, 3),
            "mode": "inline" if cells["mode"] else "hand-off",
            "heartbeat_age": _age(cells["heartbeat"], now),
            "oldest": _age(cells["oldest_start"], now) or 0.0,
            "oldest_waiting": _age(cells["oldest_waiting"], now) or 0.0,
            "recycle": incarnation.recycle,
        }
        facts.update((name, cells[name]) for name in _SHOWN)
        facts.update(dict.fromkeys(MEASURED))
        facts.update(self.measured(handle.age))
        return facts

    def workers(self) -> list[Facts]:
        """By slot, then by age."""
        found = [self.worker(*row) for row in self.rows()]
        return sorted(found, key=lambda facts: (facts["slot"], facts["age"]))

    def requests(self) -> list[Facts]:
        """What runs now, the oldest first."""
        there = self._premises()
        if there is None:
            return []
        now = self.now()
        found = []
        for _, handle in self.incarnations():
            for record in there.board.requests(handle.page.index):
                if record.running:
                    found.append(_request(record, handle, now))  # noqa: PERF401 - two loops deep
        return sorted(found, key=lambda facts: -facts["age"])

    def finished(self, most: int = 50) -> list[Facts]:
        """What ended last, the newest first."""
        there = self._premises()
        if there is None:
            return []
        now = self.now()
        found = [
            _request(record, handle, now)
            for _, handle in self.incarnations()
            for record in there.board.requests(handle.page.index)
            if not record.running
        ]
        return sorted(found, key=lambda facts: facts["since"])[:most]

    def depths(self) -> list[Facts]:
        """The accept queues."""
        there = self._premises()
        if there is None or not there.groups:
            return []
        return [
            {"address": group.address.bind_text, "slot": slot, "depth": depth}
            for group in there.groups
            for slot, depth in enumerate(group.depths())
            if depth >= 0
        ]

    def totals(self, rows: Iterable[Row]) -> dict[int, dict[str, float]]:
        """Counters by slot, the dead included."""
        return self.ledger.totals((handle.slot, self._counters(handle, cells)) for _, handle, cells in rows)

    def _counters(self, handle: WorkerHandle, cells: Mapping[str, int]) -> Mapping[str, float]:
        counters: dict[str, float] = {name: cells[name] for name in _COUNTER_CELLS}
        cpu = self.measured(handle.age).get("cpu_seconds")
        if cpu is not None:
            counters["cpu_seconds"] = cpu
        return counters

    def latencies(self) -> Facts:
        """Quantiles in seconds, since the start."""
        return {histogram.name: _quantiles(histogram) for histogram in self.histograms()}

    def remember(self, now: float) -> None:
        """Keep what has been counted so far, now and then: what was a minute ago cannot be asked later."""
        if now >= self._next_memory:
            self._next_memory = now + REMEMBER
            self._memories.append((now, self.histograms()))

    def recent(self) -> Facts:
        """The last minute, or what there is of it: how many seconds, and the quantiles of these."""
        now = self.now()
        if not self._memories:
            return {"seconds": round(now - self._began, 1), **self.latencies()}
        then, before = self._memories[0]
        grown = [
            Histogram(new.name, tuple(map(sub, new.counts, old.counts)))
            for new, old in zip(self.histograms(), before, strict=True)
        ]
        return {"seconds": round(now - then, 1), **{one.name: _quantiles(one) for one in grown}}

    def histograms(self) -> tuple[Histogram, ...]:
        """Of everybody, dead and alive."""
        there = self._premises()
        if there is None:
            return self.ledger.merged(())
        living = (handle.page.index for _, handle in self.incarnations())
        return self.ledger.merged([there.board.histograms(*living)])

    # -- the whole

    def ready(self) -> list[Incarnation]:
        """Those that serve. One whose heart is silent does not, whatever it said when it began."""
        now = self.now()
        return [
            incarnation
            for incarnation, handle in self.incarnations()
            if incarnation.state is State.READY and (_age(handle.page.cells[HEARTBEAT], now) or 0.0) <= SILENT
        ]

    def readiness(self) -> Readiness:
        leaving = self.supervisor.leaving
        if leaving is not None and not leaving.ours:
            # A question that came to us a moment before the successor took the door: the server is ready.
            return Readiness(True, ())
        ready = self.ready()
        return readiness(
            ready=len(ready),
            saturated=sum(self.measured(i.age).get("verdict") == Verdict.SATURATED.value for i in ready),
            wanted=max(0, self.settings().min_ready),
            draining=self.supervisor.phase in (Phase.DRAIN, Phase.DONE),
        )

    def server(self) -> Facts:
        """The server as a whole."""
        supervisor = self.supervisor
        ready = self.readiness()
        there = self._premises()
        candidate = supervisor.candidate
        totals = self.totals(self.rows()).values()
        return {
            "version": __version__,
            "phase": supervisor.phase.value,
            "uptime": round(self.now() - self._began, 3),
            "generation": supervisor.generation,
            "candidate": None if candidate is None else candidate.generation,
            "workers_wanted": supervisor.wanted,
            "workers_ready": len(self.ready()),
            "ready": ready.ready,
            "reasons": list(ready.reasons),
            "addresses": there.addresses() if there is not None else [],
            "requests": int(sum(values.get("requests", 0) for values in totals)),
            "errors": int(sum(values.get("errors", 0) for values in totals)),
            "shed": {
                reason: int(sum(values.get(f"shed_{reason}", 0) for values in totals)) for reason in REASONS
            },
            "recent": self.recent(),
            "exits": dict(self.exits),
            "recycles": dict(self.recycles),
            "notes": list(self.notes),
            "monitor_cost": round(self.cost, 6),
        }

    def status(self) -> Facts:
        """Everything, for the page."""
        return {
            "server": self.server(),
            "workers": self.workers(),
            "requests": self.requests(),
            "finished": self.finished(),
            "latencies": self.latencies(),
            "queues": self.depths(),
            "machine": _present(machine()),
        }


def _quantiles(histogram: Histogram) -> Facts:
    return {name: histogram.quantile(q) for name, q in _QUANTILES} | {"count": histogram.total}


def _age(stamp: int, now: float) -> float | None:
    return round(max(0.0, now - stamp / 1e9), 6) if stamp else None


def _request(record: RequestRecord, handle: WorkerHandle, now: float) -> Facts:
    method, _, rest = record.line.partition(" ")
    age = now - record.start if record.running else record.duration
    return {
        "slot": handle.slot,
        "pid": handle.pid,
        "thread": record.thread,
        "method": method,
        "path": rest.rsplit(" HTTP/", 1)[0],
        "peer": record.peer,
        "age": round(max(0.0, age), 6),
        "since": round(now - record.start, 6),
        "status": record.status or None,
    }


def _present(reading: Machine) -> Facts:
    fields = {name: getattr(reading, name) for name in reading.__slots__}
    return {name: value for name, value in fields.items() if value is not None}
