"""The exposition is what Prometheus' own parsers take, and counters never fall."""

from __future__ import annotations

import subprocess

from prometheus_client import parser as plain
from prometheus_client.openmetrics import parser as openmetrics

from tests.kit.tools import need
from threadcorn.metrics import (
    ARBITER,
    COUNTERS,
    GAUGES,
    Family,
    Ledger,
    Sample,
    histogram_family,
    render,
)
from threadcorn.policy.cells import BUCKETS, Histogram, bucket

FAMILIES = [
    Family("threadcorn", "info", "the server", [Sample(1, (("version", "1"),))]),
    Family(
        "threadcorn_requests", "counter", 'a "quoted" \\ help\nin lines', [Sample(3, (("slot", 'a"b\\\n'),))]
    ),
    Family("threadcorn_rss_bytes", "gauge", "memory", [Sample(1.5)], "bytes"),
    Family("threadcorn_nothing", "gauge", "no samples", []),
]


def _histogram(*times: int) -> Histogram:
    counts = [0] * BUCKETS
    for us in times:
        counts[bucket(us)] += 1
    return Histogram("app", tuple(counts))


def test_both_formats_are_parsed() -> None:
    families = [
        *FAMILIES,
        histogram_family("threadcorn_app_seconds", "time", _histogram(5, 500, 10**7, 10**9)),
    ]
    new = {
        f.name: f
        for f in openmetrics.text_string_to_metric_families(render(families, openmetrics=True).decode())
    }
    old = {
        f.name: f for f in plain.text_string_to_metric_families(render(families, openmetrics=False).decode())
    }
    assert new["threadcorn_requests"].type == old["threadcorn_requests"].type == "counter"
    (sample,) = new["threadcorn_requests"].samples
    assert (sample.value, sample.labels) == (3.0, {"slot": 'a"b\\\n'})
    assert new["threadcorn_app_seconds"].type == "histogram"
    assert "threadcorn_nothing" not in new
    assert new["threadcorn_rss_bytes"].unit == "bytes"


def test_promtool_has_nothing_to_say() -> None:
    promtool = need("promtool")
    rows = [
        Family(m.name, m.kind, m.help, [Sample(1, (("slot", "0"),))], m.unit)
        for m in (*COUNTERS, *GAUGES, *ARBITER)
    ]
    rows.append(histogram_family("threadcorn_app_seconds", "time", _histogram(5, 500)))
    done = subprocess.run(
        [promtool, "check", "metrics"], input=render(rows, openmetrics=False), capture_output=True, timeout=30
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_names_are_used_once() -> None:
    names = [metric.name for metric in (*COUNTERS, *GAUGES, *ARBITER)]
    assert len(names) == len(set(names))
    assert all(name.startswith("threadcorn_") for name in names)


def test_buckets_add_up() -> None:
    family = histogram_family("x_seconds", "", _histogram(10, 100, 1000, 200_000_000))
    values = [s.value for s in family.samples if s.suffix == "_bucket"]
    assert values == sorted(values)
    assert values[-1] == 4 == family.samples[-1].value
    total = next(s.value for s in family.samples if s.suffix == "_sum")
    assert 117 < total < 250


def test_the_ledger_keeps_counters_growing() -> None:
    """A worker that dies and its successor that begins at zero never make a sum fall."""
    ledger = Ledger()
    assert ledger.totals([(0, {"requests": 5}), (1, {"requests": 2})]) == {
        0: {"requests": 5},
        1: {"requests": 2},
    }
    ledger.bury(0, {"requests": 7}, [_histogram(100)])
    assert ledger.totals([(0, {"requests": 0}), (1, {"requests": 2})]) == {
        0: {"requests": 7},
        1: {"requests": 2},
    }
    assert ledger.totals([(0, {"requests": 3}), (0, {"requests": 1})])[0] == {"requests": 11}
    merged = {h.name: h.total for h in ledger.merged([[_histogram(1, 2)]])}
    assert merged["app"] == 3
    assert ledger.counters[0] == {"requests": 7}
