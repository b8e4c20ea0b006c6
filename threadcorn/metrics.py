"""Metrics: the table, the ledger that keeps counters growing when workers die, and the text.

One row a metric. Counters and gauges of workers are made from the rows of policy/cells.py, so a cell that is
added there is exported; what the arbiter measures itself has its rows here. Pure: text made from numbers that
somebody else has collected.

Counters never fall: a worker's page is added to the `Ledger` when it is buried, and its successor begins at
zero. Two formats, because Prometheus' own checker reads the older one: OpenMetrics 1.0 where it is asked for,
the Prometheus text format 0.0.4 otherwise. They differ in where `_total` stands, and in the last line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import add, mul
from typing import NamedTuple

from threadcorn.policy.cells import BUCKETS, FIELDS, HISTOGRAMS, REASONS, STATUSES, Histogram, bounds

__all__ = ["ARBITER", "COUNTERS", "GAUGES", "OPENMETRICS", "TEXT", "Family", "Labels", "Ledger", "Metric",
           "Sample", "histogram_family", "render"]  # fmt: skip

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
TEXT = "text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Metric:
    """A row: where its value comes from, and what it is called outside."""

    source: str
    name: str
    kind: str  # counter, gauge, info
    help: str
    scale: float = 1.0
    unit: str = ""


# Cells that have a better form outside: state and mode are words, stamps and ids are told by age.
_CELL_NAMES: Mapping[str, tuple[str, float, str]] = {
    "lag_us": ("lag_seconds", 1e-6, "seconds"),
    "open": ("connections_open", 1.0, ""),
    "idle": ("connections_idle", 1.0, ""),
    "accepted": ("connections_accepted", 1.0, ""),
    "taken": ("connections_taken", 1.0, ""),
    "handed_over": ("connections_handed_over", 1.0, ""),
    "received": ("connections_received", 1.0, ""),
    "running": ("requests_running", 1.0, ""),
    "waiting": ("requests_waiting", 1.0, ""),
    "errors": ("request_errors", 1.0, ""),
    "refused": ("requests_refused", 1.0, ""),
    "abandoned": ("requests_abandoned", 1.0, ""),
    "timed_out": ("requests_timed_out", 1.0, ""),
    "slow": ("requests_slow", 1.0, ""),
    "interrupted": ("requests_interrupted", 1.0, ""),
    "rings": ("bells_rung", 1.0, ""),
}
# Told in another way: one family with the label `code`, and one with the label `reason`.
_LABELLED = {"shed", *(f"status_{code}" for code in STATUSES), *(f"shed_{reason}" for reason in REASONS)}


def _rows(kind: str, prefix: str) -> tuple[Metric, ...]:
    rows = []
    for cell in FIELDS:
        if cell.kind == kind and cell.name not in _LABELLED:
            name, scale, unit = _CELL_NAMES.get(cell.name, (cell.name, 1.0, ""))
            rows.append(Metric(cell.name, prefix + name, kind, cell.help, scale, unit))
    return tuple(rows)


COUNTERS = _rows("counter", "threadcorn_")
GAUGES = _rows("gauge", "threadcorn_worker_")

#: What the arbiter knows of a worker by probing, and of itself. `source` is the key of the fact.
ARBITER: tuple[Metric, ...] = (
    Metric("rss", "threadcorn_worker_rss_bytes", "gauge", "resident memory", unit="bytes"),
    Metric("pss", "threadcorn_worker_pss_bytes", "gauge", "memory, shared pages by share", unit="bytes"),
    Metric("uss", "threadcorn_worker_uss_bytes", "gauge", "memory of this process alone", unit="bytes"),
    Metric("growth", "threadcorn_worker_memory_growth", "gauge", "bytes a second, over the last minutes"),
    Metric("fds", "threadcorn_worker_descriptors", "gauge", "open descriptors"),
    Metric("os_threads", "threadcorn_worker_os_threads", "gauge", "threads of the process, ours and others"),
    Metric("cpu_share", "threadcorn_worker_cpu_ratio", "gauge", "processors in use, 1 is one", unit="ratio"),
    Metric("heartbeat_age", "threadcorn_worker_heartbeat_age_seconds", "gauge",
           "since the worker's caretaker last went round", unit="seconds"),
    Metric("oldest", "threadcorn_worker_oldest_request_seconds", "gauge",
           "age of the oldest running request, 0 without one", unit="seconds"),
    Metric("uptime", "threadcorn_worker_uptime_seconds", "gauge", "since the worker became ready",
           unit="seconds"),
)  # fmt: skip


class Sample(NamedTuple):
    """One line: suffix of the name, labels, value. A tuple: a scrape makes hundreds."""

    value: float
    labels: Labels = ()
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class Family:
    """A metric with all its samples."""

    name: str
    kind: str
    help: str
    samples: Sequence[Sample]
    unit: str = ""


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    whole = int(value)
    return str(whole) if whole == value else repr(round(value, 9))


#: Upper bounds of the histograms: the edges of the octaves, 64 microseconds to 67 seconds, as labels.
_EDGES: tuple[tuple[int, Labels], ...] = tuple(
    (index, (("le", _number(bounds(index)[1] / 1e6)),))
    for index in range(BUCKETS - 1)
    if bounds(index)[1] & (bounds(index)[1] - 1) == 0 and 64 <= bounds(index)[1] <= 1 << 26
)
#: Twice the middle of each bucket, in microseconds.
_MIDDLES: tuple[int, ...] = tuple(sum(bounds(index)) for index in range(BUCKETS))


def histogram_family(name: str, help: str, histogram: Histogram) -> Family:
    """The sum is made from the middles of the buckets: right to within a tenth, and it never falls."""
    counts = histogram.counts
    total = sum(counts)
    samples = []
    seen, position = 0, 0
    for index, labels in _EDGES:
        seen += sum(counts[position : index + 1])
        position = index + 1
        samples.append(Sample(seen, labels, "_bucket"))
    samples.append(Sample(total, (("le", "+Inf"),), "_bucket"))
    middles = sum(map(mul, counts, _MIDDLES)) / 2e6
    samples += [Sample(middles, (), "_sum"), Sample(total, (), "_count")]
    return Family(name, "histogram", help, samples, "seconds")


@dataclass(slots=True)
class Ledger:
    """What the dead have done, by slot: a slot's counter is this and what its living have counted."""

    counters: dict[int, dict[str, float]] = field(default_factory=dict)
    histograms: dict[str, list[int]] = field(default_factory=dict)

    def bury(self, slot: int, values: Mapping[str, float], histograms: Iterable[Histogram] = ()) -> None:
        """A worker of `slot` is gone."""
        kept = self.counters.setdefault(slot, {})
        for name, value in values.items():
            kept[name] = kept.get(name, 0) + value
        for histogram in histograms:
            known = self.histograms.setdefault(histogram.name, [0] * BUCKETS)
            for index, count in enumerate(histogram.counts):
                known[index] += count

    def totals(self, living: Iterable[tuple[int, Mapping[str, float]]]) -> dict[int, dict[str, float]]:
        """By slot, the living included."""
        totals = {slot: dict(values) for slot, values in self.counters.items()}
        for slot, values in living:
            into = totals.setdefault(slot, {})
            for name, value in values.items():
                into[name] = into.get(name, 0) + value
        return totals

    def merged(self, living: Iterable[Sequence[Histogram]]) -> tuple[Histogram, ...]:
        """The histograms of everybody, dead and alive."""
        sums = {name: list(self.histograms.get(name, [0] * BUCKETS)) for name, _ in HISTOGRAMS}
        for histograms in living:
            for histogram in histograms:
                into = sums[histogram.name]
                sums[histogram.name] = list(map(add, into, histogram.counts))
        return tuple(Histogram(name, tuple(counts)) for name, counts in sums.items())


def render(families: Iterable[Family], *, openmetrics: bool) -> bytes:
    """The exposition. A family without samples is left out: a type without a value says nothing."""
    lines: list[str] = []
    known = _KNOWN
    for family in families:
        if not family.samples:
            continue
        name, suffix = family.name, ""
        if family.kind == "counter":
            suffix = "_total"
        elif family.kind == "info":
            suffix = "_info"
        head = name if openmetrics else name + suffix
        kind = family.kind if openmetrics or family.kind != "info" else "gauge"
        lines.append(f"# HELP {head} {_escape(family.help, quotes=False)}")
        lines.append(f"# TYPE {head} {kind}")
        if openmetrics and family.unit and name.endswith("_" + family.unit):
            lines.append(f"# UNIT {head} {family.unit}")
        for value, labels, own in family.samples:
            where = known.get(labels)
            if where is None:
                where = _braces(labels)
            lines.append(f"{name}{own or suffix}{where} {_number(value)}")
    if openmetrics:
        lines.append("# EOF")
    return ("\n".join(lines) + "\n").encode()


# The text of labels: nearly all are the same at the next scrape. Emptied when it is full, because process
# ids come and go.
_KNOWN: dict[Labels, str] = {}
_MOST_KNOWN = 4096


def _braces(labels: Labels) -> str:
    if len(_KNOWN) >= _MOST_KNOWN:
        _KNOWN.clear()
    inside = ",".join(f'{key}="{_escape(value)}"' for key, value in labels)
    text = _KNOWN[labels] = f"{{{inside}}}" if inside else ""
    return text


def _escape(text: str, *, quotes: bool = True) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quotes else text
