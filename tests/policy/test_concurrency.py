"""How long a request may wait, and how many threads there are: decisions from readings."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from threadcorn.policy.concurrency import (
    Flow,
    Patience,
    Reading,
    State,
    Tuning,
    decide,
    one_line,
    processor_use,
    rescue,
)

TUNING = Tuning(least=2, most=32)
CALM = Reading(
    now=100.0, span=1.0, threads=2, busy=1, pressed=0.0, finished=50, cpu=0.1, oldest=0.0, inline=False
)


def reading(**changes: object) -> Reading:
    return dataclasses.replace(CALM, **changes)  # type: ignore[arg-type]


class TestPatience:
    bound = Patience(timeout=10.0, target=1.0)
    growing = Flow(seconds=0.5, arrived=500, served=100)

    def test_queue_that_empties_lets_a_request_wait_for_the_timeout(self) -> None:
        assert self.bound.now(standing=0.1, flow=self.growing, service=0.01) == 10.0

    def test_queue_that_stands_and_grows_has_the_target(self) -> None:
        assert self.bound.now(standing=0.6, flow=self.growing, service=0.01) == 1.0

    def test_burst_is_served_because_its_queue_gets_shorter(self) -> None:
        assert self.bound.now(standing=3.0, flow=Flow(0.5, 50, 100), service=0.01) == 10.0

    def test_clients_that_wait_for_each_other_may_wait_for_longer(self) -> None:
        assert self.bound.now(standing=3.0, flow=Flow(0.5, 100, 100), service=0.01) == 5.0

    def test_a_few_more_than_few_are_no_growth(self) -> None:
        assert self.bound.now(standing=0.7, flow=Flow(0.4, 12, 8), service=0.01) == 5.0
        assert self.bound.now(standing=0.7, flow=Flow(0.4, 20, 8), service=0.01) == 1.0
        assert self.bound.now(standing=0.7, flow=Flow(0.4, 130, 100), service=0.01) == 1.0

    def test_one_slow_request_in_front_is_no_overload(self) -> None:
        assert self.bound.now(standing=5.0, flow=None, service=0.01) == 10.0

    def test_slow_requests_are_waited_for_longer(self) -> None:
        assert self.bound.now(standing=5.0, flow=self.growing, service=0.9) == pytest.approx(3.6)
        assert self.bound.now(standing=5.0, flow=self.growing, service=30.0) == 10.0

    def test_target_above_the_timeout_is_the_timeout(self) -> None:
        assert Patience(2.0, 5.0).now(standing=5.0, flow=self.growing, service=0.0) == 2.0


class TestProcessorUse:
    @pytest.mark.parametrize(
        ("used", "limit", "idle", "delayed", "share"),
        [
            (0.4, 1.0, 0.6, 0.0, 0.4),  # alone on a processor
            (0.4, 1.0, 0.6, 9.0, 0.4),  # our threads wait for each other
            (0.6, 1.0, 0.0, 9.0, 1.0),  # others use the rest of it
            (0.3, 1.0, 0.0, 9.0, 0.6),  # they use most of it
            (0.4, 1.0, 0.0, 0.2, 0.5),  # they do, and we wanted less than that
            (0.01, 1.0, 0.0, 0.0, 0.01),  # they do, and all our threads sleep
            (0.4, 1.0, 60.0, 9.0, 0.4),  # one of many processors, and one thread at a time runs
            (0.4, 0.5, 7.0, 9.0, 0.8),  # a quota
            (1.3, 1.0, 0.0, 9.0, 1.0),  # system calls run beside each other
            (0.0, 1.0, 1.0, 0.0, 0.0),
        ],
    )
    def test_is_a_share_of_what_others_leave(
        self, used: float, limit: float, idle: float, delayed: float, share: float
    ) -> None:
        assert processor_use(used, limit, idle, delayed) == pytest.approx(share)


class TestDecide:
    def test_nothing_waits_nothing_changes(self) -> None:
        assert decide(State(), reading(), TUNING).threads == 2

    def test_requests_that_wait_get_threads(self) -> None:
        decision = decide(State(), reading(pressed=1.0, busy=2), TUNING)
        assert decision.threads == 3
        assert decision.reason == "requests wait"

    def test_a_saturated_interpreter_gets_no_threads_but_asks_for_a_worker(self) -> None:
        decision = decide(State(), reading(pressed=1.0, busy=2, cpu=0.97), TUNING)
        assert decision.threads == 2
        assert decision.wants_worker
        assert decision.probe

    def test_beside_busy_neighbours_growth_is_tried_but_not_rushed(self) -> None:
        beside = reading(pressed=1.0, busy=2, cpu=0.4, scarce=1.0)
        assert decide(State(), beside, TUNING).threads == 3
        assert rescue(State(), dataclasses.replace(beside, span=0.1), TUNING) is None

    def test_inline_mode_is_tried_less_and_less_while_it_fails(self) -> None:
        state, probes = State(), []
        for second in range(60):
            decision = decide(
                state, reading(now=100.0 + second, pressed=1.0, busy=2, cpu=0.97, inline=False), TUNING
            )
            state = decision.state
            if decision.probe:
                probes.append(second)
        gaps = [b - a for a, b in itertools.pairwise(probes)]
        assert probes[0] == 0
        assert gaps == sorted(gaps)
        assert len(probes) <= 7

    def test_limits_that_changed_are_kept(self) -> None:
        assert decide(State(), reading(threads=40), TUNING).threads == 32
        assert decide(State(), reading(threads=1), TUNING).threads == 2

    def test_growth_that_brought_nothing_is_undone_and_held_off(self) -> None:
        before = reading(pressed=1.0, busy=4, threads=4, finished=400)
        grown = decide(State(rate=400.0), before, TUNING)
        assert grown.threads == 6
        after = decide(grown.state, dataclasses.replace(before, now=101.1, threads=6, finished=404), TUNING)
        assert after.threads == 4
        assert after.reason == "growth brought nothing"
        held = decide(after.state, dataclasses.replace(before, now=102.1), TUNING)
        assert held.threads == 4
        later = decide(held.state, dataclasses.replace(before, now=107.2), TUNING)
        assert later.threads == 6

    def test_growth_that_helped_is_kept(self) -> None:
        before = reading(pressed=1.0, busy=4, threads=4, finished=400)
        grown = decide(State(rate=400.0), before, TUNING)
        later = dataclasses.replace(before, now=101.1, threads=6, finished=600)
        assert decide(grown.state, dataclasses.replace(later, pressed=0.3), TUNING).threads == 6
        assert decide(grown.state, later, TUNING).threads == 9  # and goes on while requests wait

    def test_another_load_is_not_blamed_on_the_growth(self) -> None:
        before = reading(pressed=1.0, busy=4, threads=4, finished=4000)
        grown = decide(State(rate=4000.0), before, TUNING)
        after = decide(grown.state, dataclasses.replace(before, now=101.1, threads=6, finished=60), TUNING)
        assert after.threads == 9  # kept, and requests wait still

    def test_threads_that_nobody_needs_are_given_up_after_a_while(self) -> None:
        state, threads = State(), 20
        for second in range(100):
            decision = decide(state, reading(now=100.0 + second, threads=threads, busy=3), TUNING)
            state, threads = decision.state, decision.threads
            if second < 29:
                assert threads == 20
        assert 3 <= threads <= 6

    def test_says_its_numbers(self) -> None:
        seen = reading(pressed=1.0, busy=2, oldest=0.25)
        assert one_line(seen, decide(State(), seen, TUNING)) == (
            "threads 2 -> 3: requests wait; busy 2, pressed 100%, cpu 10%, 50 requests/s, "
            "oldest waited 250 ms"
        )


class TestRescue:
    def test_blocked_pool_grows_at_once(self) -> None:
        decision = rescue(State(), reading(span=0.1, pressed=1.0, busy=2, finished=0, cpu=0.01), TUNING)
        assert decision is not None
        assert decision.threads == 4
        assert decision.reason == "all threads are blocked"

    def test_blocked_pool_is_rescued_in_spite_of_a_hold_off(self) -> None:
        state = State(hold_until=1000.0)
        stuck = reading(span=0.1, pressed=1.0, busy=2, finished=0, cpu=0.01)
        assert rescue(state, stuck, TUNING) is not None
        assert rescue(state, dataclasses.replace(stuck, finished=3), TUNING) is None

    @pytest.mark.parametrize("changes", [{"pressed": 0.9}, {"cpu": 0.9}, {"threads": 32}])
    def test_others_wait_for_the_second(self, changes: dict[str, float]) -> None:
        assert rescue(State(), reading(**{"pressed": 1.0, "busy": 2, **changes}), TUNING) is None

    def test_ramp_to_the_most_takes_less_than_half_a_second(self) -> None:
        threads, state = 2, State()
        for tick in range(4):
            decision = rescue(
                state,
                reading(
                    now=100 + tick / 10,
                    span=0.1,
                    pressed=1.0,
                    threads=threads,
                    busy=threads,
                    cpu=0.05,
                    finished=0,
                ),
                TUNING,
            )
            if decision is not None:
                threads, state = decision.threads, decision.state
        assert threads == 32


READINGS = st.builds(
    Reading,
    now=st.floats(0, 1000),
    span=st.floats(0.1, 2),
    threads=st.integers(1, 64),
    busy=st.integers(0, 64),
    pressed=st.floats(0, 1),
    finished=st.integers(0, 100_000),
    cpu=st.floats(0, 1),
    oldest=st.floats(0, 100),
    inline=st.booleans(),
)


@given(st.lists(READINGS, min_size=1, max_size=30))
def test_the_number_is_always_within_the_limits(readings: list[Reading]) -> None:
    state = State()
    for one in sorted(readings, key=lambda r: r.now):
        decision = decide(state, one, TUNING)
        if one.threads < TUNING.least or one.threads > TUNING.most:
            assert decision.threads in (TUNING.least, TUNING.most)
        assert TUNING.least <= decision.threads <= TUNING.most or decision.reason == "growth brought nothing"
        state = decision.state


def simulate(rate_of: Callable[[int], float], seconds: int, cpu_of: Callable[[int], float]) -> list[int]:
    """A pool under more load than it can serve: `rate_of` and `cpu_of` tell what n threads do with it."""
    state, threads, seen = State(), 2, []
    for second in range(seconds):
        one = reading(
            now=100.0 + second,
            threads=threads,
            busy=threads,
            pressed=1.0,
            finished=int(rate_of(threads)),
            cpu=min(1.0, cpu_of(threads)),
        )
        decision = decide(state, one, TUNING)
        state, threads = decision.state, decision.threads
        seen.append(threads)
    return seen


def test_sleeping_application_gets_all_threads() -> None:
    assert simulate(lambda n: n * 100.0, 20, lambda n: n * 0.003)[-1] == 32


def test_busy_application_keeps_few() -> None:
    assert max(simulate(lambda n: 1000.0, 60, lambda n: 1.0)) == 2


def test_application_behind_a_pool_of_five_does_not_grow_for_ever() -> None:
    """Five connections to a database: the sixth thread brings nothing. It settles, and seldom tries again."""
    seen = simulate(lambda n: min(n, 5) * 100.0, 300, lambda n: 0.05)
    settled = seen[60:]
    assert max(settled) <= 9
    changes = sum(a != b for a, b in itertools.pairwise(settled))
    assert changes <= 10
