"""What the view shows, as families of metrics: the rows of `metrics` filled in.

A scrape comes while the server is busiest. Everything is read once, and nothing is made twice.
"""

from __future__ import annotations

from collections.abc import Mapping

from threadcorn import __version__
from threadcorn.arbiter.view import Row, View
from threadcorn.arbiter.worker_handle import WorkerHandle
from threadcorn.metrics import ARBITER, COUNTERS, GAUGES, Family, Labels, Sample, histogram_family
from threadcorn.policy.cells import HISTOGRAMS, REASONS, STATUSES
from threadcorn.policy.incarnation import State
from threadcorn.system.probe import Machine, machine

__all__ = ["families"]

_HELPS = dict(HISTOGRAMS)


def families(view: View) -> list[Family]:
    """All metrics, as of now."""
    rows = view.rows()
    totals = sorted(view.totals(rows).items())
    found = [
        Family("threadcorn", "info", "the server", [Sample(1, (("version", __version__),))]),
        _gauge("threadcorn_workers_wanted", "workers that are to run", view.supervisor.wanted),
        _gauge("threadcorn_ready", "1 if /readyz says yes", int(view.readiness().ready)),
        _states(view),
    ]
    for metric in COUNTERS:
        samples = [Sample(values.get(metric.source, 0), _slot(slot)) for slot, values in totals]
        found.append(Family(metric.name, "counter", metric.help, samples, metric.unit))
    samples = [
        Sample(values[f"status_{code}"], (("code", code), *_slot(slot)))
        for slot, values in totals
        for code in STATUSES
        if values.get(f"status_{code}")
    ]
    found.append(Family("threadcorn_responses", "counter", "responses of applications by status", samples))
    samples = [
        Sample(values.get(f"shed_{reason}", 0), (("reason", reason), *_slot(slot)))
        for slot, values in totals
        for reason in REASONS
    ]
    text = "requests answered with 503 because of overload, by reason"
    found.append(Family("threadcorn_requests_shed", "counter", text, samples))
    samples = [
        Sample(values["cpu_seconds"], _slot(slot)) for slot, values in totals if "cpu_seconds" in values
    ]
    found.append(
        Family("threadcorn_worker_cpu_seconds", "counter", "CPU time of workers", samples, "seconds")
    )
    found += _of_workers(view, rows)
    for name, label, counts, text in (
        ("exits", "cause", view.exits, "workers that ended, by cause"),
        ("recycles", "reason", view.recycles, "workers replaced for their health, by reason"),
    ):
        samples = [Sample(count, ((label, key),)) for key, count in sorted(counts.items())]
        found.append(Family(f"threadcorn_worker_{name}", "counter", text, samples))
    depths = [Sample(q["depth"], (("address", q["address"]), *_slot(q["slot"]))) for q in view.depths()]
    found.append(
        Family("threadcorn_accept_queue_connections", "gauge", "connections not yet accepted", depths)
    )
    for histogram in view.histograms():
        name = f"threadcorn_{histogram.name}_seconds"
        found.append(histogram_family(name, _HELPS[histogram.name], histogram))
    found += _of_machine(machine())
    text = "time the arbiter spent on probing"
    found.append(Family("threadcorn_monitor_seconds", "counter", text, [Sample(view.cost)], "seconds"))
    return found


def _gauge(name: str, help: str, value: float) -> Family:
    return Family(name, "gauge", help, [Sample(value)])


def _states(view: View) -> Family:
    counts = dict.fromkeys(State, 0)
    for incarnation in view.supervisor.crew:
        counts[incarnation.state] += 1
    samples = [Sample(count, (("state", state.value),)) for state, count in counts.items()]
    return Family("threadcorn_workers", "gauge", "workers by state", samples)


def _of_workers(view: View, rows: list[Row]) -> list[Family]:
    who: list[tuple[Labels, Mapping[str, int], Mapping[str, float | None]]] = [
        (_who(handle), cells, view.worker(incarnation, handle, cells)) for incarnation, handle, cells in rows
    ]
    found = []
    for metric in GAUGES:
        # A cell in another unit is shown in ours: microseconds as seconds.
        scale = metric.scale
        samples = [
            Sample(cells[metric.source] if scale == 1 else cells[metric.source] * scale, labels)
            for labels, cells, _ in who
        ]
        found.append(Family(metric.name, "gauge", metric.help, samples, metric.unit))
    for metric in ARBITER:
        samples = [
            Sample(value, labels)
            for labels, _, facts in who
            if (value := facts.get(metric.source)) is not None
        ]
        found.append(Family(metric.name, "gauge", metric.help, samples, metric.unit))
    return found


def _slot(slot: int) -> Labels:
    return (("slot", str(slot)),)


def _who(handle: WorkerHandle) -> Labels:
    return (("slot", str(handle.slot)), ("pid", str(handle.pid)))


def _of_machine(reading: Machine) -> list[Family]:
    rows = (
        ("threadcorn_memory_limit_bytes", "gauge", "memory limit of the control group", reading.memory_limit),
        ("threadcorn_memory_used_bytes", "gauge", "memory used in the control group", reading.memory_used),
        ("threadcorn_cpu_limit", "gauge", "processors that the control group may use", reading.cpu_limit),
        ("threadcorn_oom_kills", "counter", "processes the kernel killed for memory", reading.oom_kills),
        ("threadcorn_throttled_seconds", "counter", "time held up by the CPU quota",
         reading.throttled_seconds),
    )  # fmt: skip
    found = [Family(n, kind, text, [Sample(value)]) for n, kind, text, value in rows if value is not None]
    pressure = {
        "cpu": reading.cpu_pressure,
        "memory": reading.memory_pressure,
        "io": reading.io_pressure,
    }
    samples = [Sample(value, (("kind", kind),)) for kind, value in pressure.items() if value is not None]
    found.append(
        Family("threadcorn_pressure_percent", "gauge", "time that somebody waited, last ten seconds", samples)
    )
    return found
