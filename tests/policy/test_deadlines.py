"""The wheel of deadlines: nothing is forgotten, nothing is looked at too early, moving one is free."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from threadcorn.policy.deadlines import GRAIN, Deadlines

times = st.floats(min_value=0, max_value=1000, allow_nan=False)


@given(st.lists(times, max_size=40), st.lists(times, max_size=40))
def test_each_thing_is_due_once_and_within_a_grain(deadlines: list[float], steps: list[float]) -> None:
    """Each thing comes out once, never early, at most a grain late."""
    wheel: Deadlines[int] = Deadlines()
    for number, when in enumerate(deadlines):
        wheel.watch(number, when)
    seen: dict[int, float] = {}
    before = 0.0
    for now in [*sorted(steps), 2000.0]:
        for number in wheel.due(now):
            assert number not in seen
            seen[number] = now
            assert deadlines[number] <= now
        for number, when in enumerate(deadlines):
            assert number in seen or when + 2 * GRAIN > now
        assert now >= before
        before = now
    assert len(seen) == len(deadlines)
    assert len(wheel) == 0


def test_a_thing_that_comes_late_is_due_at_the_next_look() -> None:
    """A deadline that has passed before the wheel was told of it is not lost."""
    wheel: Deadlines[str] = Deadlines()
    wheel.watch("far", 100.0)
    assert wheel.due(10.0) == []
    wheel.watch("late", 1.0)
    assert wheel.due(10.0) == ["late"]
    assert wheel.due(100.0 + 2 * GRAIN) == ["far"]


def test_a_nearer_deadline_is_met_though_a_farther_one_is_known() -> None:
    """The same thing may stand in the wheel twice; the nearer place counts."""
    wheel: Deadlines[str] = Deadlines()
    wheel.watch("connection", 75.0)
    wheel.watch("connection", 20.0)
    assert wheel.due(20.0 + 2 * GRAIN) == ["connection"]
    assert wheel.due(75.0 + 2 * GRAIN) == ["connection"]
