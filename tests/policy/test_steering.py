from __future__ import annotations

import random
from collections import Counter
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.bpf import Packet, run, verify
from threadcorn.policy.steering import (
    ETHERTYPE_V6,
    FULL,
    LONGEST,
    SOURCE_PORT_V4,
    SOURCE_PORT_V6,
    SPACING_SECONDS,
    SUSPECT_SECONDS,
    SYN_GATE,
    WARM_UP_FIRST,
    WARM_UP_SECONDS,
    SlotView,
    Steering,
    only,
    quantise,
    random_by_weight,
    source_port_to,
    weight,
)

WEIGHTS = st.lists(st.integers(0, 1 << 20), min_size=1, max_size=64)
EDGES = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


@given(WEIGHTS, st.integers(0, 0xFFFFFFFF))
def test_a_program_returns_live_shards_only(weights: list[int], number: int) -> None:
    """Whatever the random number is, and at both ends of its range, a shard of weight 0 is never chosen."""
    program = random_by_weight(weights)
    if not any(weights):
        assert program == ()
        return
    verify(program)
    for drawn in (number, *EDGES):
        assert weights[run(program, Packet(random=drawn))] > 0


@given(WEIGHTS.filter(any))
def test_every_live_shard_gets_its_share_of_the_numbers(weights: list[int]) -> None:
    """The ladder of thresholds cuts the 32-bit numbers into pieces proportional to the weights, to one."""
    program = random_by_weight(weights)
    total = sum(weights)
    thresholds = [k for code, _, _, k in program if code == 0x35]
    assert thresholds == sorted(thresholds)
    edges = [0, *thresholds, 1 << 32]
    live = [i for i, w in enumerate(weights) if w]
    for index, low, high in zip(live, edges[:-1], edges[1:], strict=True):
        assert abs((high - low) - weights[index] * (1 << 32) / total) <= 1
        if high > low:
            assert run(program, Packet(random=low)) == run(program, Packet(random=high - 1)) == index


@given(st.lists(st.integers(0, 256), min_size=2, max_size=8).filter(any), st.randoms(use_true_random=False))
def test_frequencies_follow_the_weights(weights: list[int], source: random.Random) -> None:
    """Of 2000 connections each shard gets its share within 4.5 sigma."""
    n, total = 2000, sum(weights)
    program = random_by_weight(weights)
    drawn = random.Random(source.getrandbits(64))
    seen = Counter(run(program, Packet(random=drawn.getrandbits(32))) for _ in range(n))
    for index, w in enumerate(weights):
        p = w / total
        assert abs(seen[index] - n * p) <= 4.5 * sqrt(n * p * (1 - p)) + 1


def test_the_instructions_are_the_documented_ones() -> None:
    """Weights 1:3 make exactly load, compare, return, return."""
    assert random_by_weight([1, 0, 3]) == (
        (0x20, 0, 0, 0xFFFFF038),
        (0x35, 1, 0, 0x40000000),
        (0x06, 0, 0, 0),
        (0x06, 0, 0, 2),
    )
    assert random_by_weight([0, 0, 7]) == only(2) == ((0x06, 0, 0, 2),)


def test_two_thousand_slots_fit_into_a_program() -> None:
    """The longest group that a program can hold is longer than any that somebody would start."""
    program = random_by_weight([1] * 2000)
    assert len(program) <= LONGEST
    verify(program)


@given(
    port=st.integers(1, 65535),
    other=st.integers(1, 65535),
    v6=st.booleans(),
    weights=WEIGHTS.filter(any),
    number=st.integers(0, 0xFFFFFFFF),
)
def test_only_our_own_source_port_reaches_the_tombstone(
    port: int, other: int, v6: bool, weights: list[int], number: int
) -> None:
    """A stranger's SYN goes by the running program while the tombstone is filled, IPv4 and IPv6 alike."""
    running = random_by_weight(weights)
    tomb = len(weights)
    program = source_port_to(port, tomb, running)
    verify(program)

    def packet(source_port: int) -> Packet:
        # What stands at the other family's offset is another field; here the worst it could be.
        if v6:
            return Packet(number, ETHERTYPE_V6, {SOURCE_PORT_V6: source_port, SOURCE_PORT_V4: port})
        return Packet(number, 0x0800, {SOURCE_PORT_V4: source_port, SOURCE_PORT_V6: port})

    assert run(program, packet(port)) == tomb
    if other != port:
        assert run(program, packet(other)) == run(running, packet(other)) != tomb


@pytest.mark.parametrize(
    ("flags", "passes"),
    [(0x02, False), (0xC2, False), (0x10, True), (0x12, True), (0x18, True), (0x04, True)],
)
def test_the_syn_gate_drops_a_pure_syn_and_nothing_else(flags: int, passes: bool) -> None:
    """SYN, also with ECN bits, is dropped; the ACK of a handshake under way passes."""
    verify(SYN_GATE)
    assert bool(run(SYN_GATE, Packet(data={13: flags}))) is passes


@given(st.floats(min_value=-10, max_value=1e6, allow_nan=False))
def test_quantised_weights_are_powers_of_two_in_range(value: float) -> None:
    """So few different weights exist that a flutter of lag does not rewrite the program."""
    q = quantise(value)
    assert q in {2, 4, 8, 16, 32, 64, 128, 256}
    assert q <= max(2, value)


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        (SlotView(), 0),
        (SlotView(ready=True), FULL),
        (SlotView(ready=True, heartbeat_age=SUSPECT_SECONDS * 1.01), 0),
        (SlotView(ready=True, share=0.0), 0),
        (SlotView(ready=True, share=0.05), 8),
        (SlotView(ready=True, lag=0.002), 64),
        (SlotView(ready=True, lag=0.020), 2),
        (SlotView(ready=True, lag=5.0), 2),
        (SlotView(ready=True, ready_for=0.0), WARM_UP_FIRST),
        (SlotView(ready=True, ready_for=WARM_UP_SECONDS * 0.3), WARM_UP_FIRST * 2),
        (SlotView(ready=True, ready_for=WARM_UP_SECONDS * 0.99), FULL),
    ],
)
def test_a_weight_tells_the_health_of_a_worker(view: SlotView, expected: int) -> None:
    """Unready, suspect: nothing. Late: less. Fresh: an eighth, doubling. Never less than the floor."""
    assert weight(view) == expected


@given(st.floats(0, 10), st.floats(0, 10))
def test_more_lag_never_gives_more_weight(a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert weight(SlotView(ready=True, lag=high)) <= weight(SlotView(ready=True, lag=low))


def test_a_tick_without_news_asks_for_nothing() -> None:
    """The same views twice give one program; small news soon after it waits; a change of state does not."""
    steering = Steering()
    fit = SlotView(ready=True)
    late = SlotView(ready=True, lag=0.02)
    assert steering.decide([fit, fit], 10.0) == (FULL, FULL)
    assert steering.decide([fit, fit], 11.0) is None
    assert steering.decide([fit, late], 11.02) == (FULL, 2)
    soon = 11.02 + SPACING_SECONDS / 2
    assert steering.decide([fit, fit], soon) is None
    assert steering.decide([fit, SlotView()], soon, at_once=True) == (FULL, 0)


def test_when_nobody_is_fit_the_last_program_stays() -> None:
    """All weights 0 would be no program at all; the queues hold what comes."""
    steering = Steering()
    assert steering.decide([SlotView(ready=True), SlotView()], 1.0) == (FULL, 0)
    assert steering.decide([SlotView(), SlotView()], 2.0) is None
    assert steering.weights == (FULL, 0)


def test_workers_that_warm_up_together_need_one_program() -> None:
    """Only the difference between workers matters: four fresh ones are as good as four old ones."""
    steering = Steering()
    asked = [steering.decide([SlotView(ready=True, ready_for=t)] * 4, t) for t in (0.0, 0.6, 1.2, 1.8, 2.4)]
    assert asked == [(FULL,) * 4, None, None, None, None]
    fresh = SlotView(ready=True, ready_for=0.1)
    assert steering.decide([SlotView(ready=True)] * 3 + [fresh], 3.0) == (FULL, FULL, FULL, WARM_UP_FIRST)
