"""Who accepts: the arithmetic."""

from __future__ import annotations

import random

from threadcorn.policy.accepting import UNFIT, deepest, figure, to_ring, worth
from threadcorn.policy.cells import WorkerState


def test_request_weighs_as_much_as_four_idle_connections():
    assert figure(1, 0, 0, 0) == figure(0, 1, 0, 0) == figure(0, 0, 4, 0) == 4


def test_late_loop_weighs_too():
    assert figure(0, 0, 1, 11_999) == 1
    assert figure(0, 0, 1, 20_000) == 6


def test_only_a_ready_worker_whose_heart_beats_is_worth_anything():
    for state in WorkerState:
        assert worth(state, 0, 7) == (7 if state is WorkerState.READY else UNFIT)
    assert worth(WorkerState.READY, 149_000_000, 7) == 7
    assert worth(WorkerState.READY, 151_000_000, 7) == UNFIT


def test_least_loaded_accepts_and_equals_do():
    assert to_ring(3, [3, 4], 5) == []
    assert to_ring(0, [], 5) == []
    assert to_ring(9, [UNFIT, UNFIT], 5) == []


def test_those_with_less_are_rung_least_first_and_not_more_than_wait():
    assert to_ring(5, [4, 1, 7, 3], 9) == [1, 3, 0]
    assert to_ring(5, [4, 1, 7, 3], 2) == [1, 3]
    assert to_ring(5, [4, 1, 7, 3], 0) == [1]
    assert to_ring(5, [UNFIT, 4], 9) == [1]


def test_among_many_connections_a_small_difference_is_none():
    assert to_ring(1001, [1000], 1) == []
    assert to_ring(1017, [1000], 1) == [0]


def test_deepest_queue_is_taken_from_and_of_equals_the_first():
    assert deepest([]) is None
    assert deepest([0, 0]) is None
    assert deepest([1, 3, 2]) == 1
    assert deepest([2, 2]) == 0


def test_rule_spreads_any_burst_evenly():
    """Whoever wakes up first: connections of a burst end up with a difference of one at most."""
    for seed in range(50):
        rand = random.Random(seed)
        workers = rand.randint(2, 8)
        depths = [rand.randint(0, 40) for _ in range(workers)]
        opened = [0] * workers
        while any(depths):
            me = rand.randrange(workers)
            others = [n for n in range(workers) if n != me]
            if to_ring(opened[me], [opened[n] for n in others], sum(depths)):
                continue
            queue = deepest([depths[me], *(depths[n] for n in others)])
            assert queue is not None
            depths[[me, *others][queue]] -= 1
            opened[me] += 1
        assert max(opened) - min(opened) <= 1
