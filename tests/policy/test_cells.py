from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from threadcorn.policy.cells import BUCKETS, CELLS, FIELDS, Histogram, bounds, bucket


def test_every_cell_is_a_row_of_the_table() -> None:
    """Indexes are the positions in the table, names are unique, and each row says what it means."""
    assert [field.index for field in FIELDS] == list(range(len(FIELDS)))
    assert len({field.name for field in FIELDS}) == len(FIELDS) <= CELLS
    for field in FIELDS:
        assert field.kind in {"counter", "gauge", "state", "stamp", "id"}
        assert field.help
    named = {f.name for f in FIELDS}
    assert {
        "state", "slot", "pid", "generation", "heartbeat", "running", "waiting", "idle", "open", "load",
        "lag_us", "accepted", "taken", "requests", "errors", "oldest_start", "mode", "threads",
    } <= named  # fmt: skip


@given(st.integers(0, 1 << 40))
def test_a_bucket_holds_its_time(us: int) -> None:
    """Every microsecond is in the bucket whose bounds hold it, to within a fifth; the last takes the rest."""
    index = bucket(us)
    first, end = bounds(index)
    assert 0 <= index < BUCKETS
    assert first <= us
    assert us < end or index == BUCKETS - 1
    assert end - first <= max(1, first / 4)


def test_buckets_follow_each_other_without_a_gap() -> None:
    """Where one ends the next begins, so that a plot over them is a plot over time."""
    edges = [bounds(i) for i in range(BUCKETS)]
    assert edges[0][0] == 0
    assert all(a[1] == b[0] for a, b in itertools.pairwise(edges))


@given(st.lists(st.integers(0, 10**8), min_size=1), st.floats(0.01, 1))
def test_a_quantile_is_never_below_the_value(times: list[int], q: float) -> None:
    """It may say a fifth too much, never too little: a limit that is kept by it is kept."""
    counts = [0] * BUCKETS
    for us in times:
        counts[bucket(us)] += 1
    exact = sorted(times)[max(0, -int(-q * len(times) // 1) - 1)]
    said = Histogram("app", tuple(counts)).quantile(q) * 1e6
    assert exact <= said * 1.000001
    assert said <= max(exact * 1.26, exact + 1.000001)
