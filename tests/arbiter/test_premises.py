"""What slots own, and who gets new connections."""

from __future__ import annotations

import logging
import os
import time
from types import SimpleNamespace

import pytest

from threadcorn.arbiter.premises import GATE_LOOK, LAZY, SPARE_CELLS, Premises, slots_of
from threadcorn.errors import BootError
from threadcorn.policy.cells import ARBITER_DRAINING, ARBITER_PID, ARBITER_WANTED, HEARTBEAT
from threadcorn.settings import Config
from threadcorn.system.listeners import Rung

LOG = logging.getLogger("tests.premises")


def settings(**given):
    cfg = Config()
    cfg.set("bind", given.pop("bind", "127.0.0.1:0"))
    for name, value in given.items():
        cfg.set(name, value)
    return cfg.freeze()


@pytest.fixture
def place():
    made = []

    def make(**given):
        made.append(Premises(settings(**given), LOG, 4711))
        return made[-1]

    yield make
    for one in made:
        one.close(ours=True)


def handle(place, age, slot):
    page = place.claim(slot, 1)
    page.cells[HEARTBEAT] = time.monotonic_ns()
    return SimpleNamespace(age=age, page=page)


@pytest.mark.parametrize(
    ("given", "slots"),
    [
        ({"workers": 1}, 16),
        ({"workers": 20}, 40),
        ({"workers": 2, "max_workers": 3}, 3),
    ],
)
def test_how_many_slots(given, slots):
    """max_workers, else twice the workers and at least 16."""
    assert slots_of(settings(**given)) == slots


@pytest.mark.parametrize(
    ("given", "rung", "shards"),
    [({}, Rung.FILTER, 4), ({"steering": False}, Rung.REUSEPORT, 2), ({"shard": False}, Rung.SHARED, 1)],
)
def test_the_ladder_can_be_entered_at_each_rung(place, given, rung, shards):
    """The hash would choose a shard without a worker: on that rung there are as many as workers."""
    group = place(workers=2, max_workers=4, **given).groups[0]
    assert (group.rung, len(group.shards)) == (rung, shards)


def test_what_there_is(place):
    """A berth a slot, a page for each process that may live, a port that is known."""
    here = place(workers=2, max_workers=4)
    assert len(here.berths) == 4
    assert here.board.count == 8 + SPARE_CELLS
    assert not here.addresses()[0].endswith(":0")
    assert here.names().startswith("http://127.0.0.1:")
    assert here.board.arbiter.cells[ARBITER_PID] == 4711


def test_nothing_is_left_when_it_cannot_be(place):
    """The second address is taken: the first one is closed again."""
    here = place()
    taken = here.addresses()[0]
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(BootError, match="in use"):
        place(bind=["127.0.0.1:0", taken])
    assert set(os.listdir("/proc/self/fd")) == before


def test_owners_and_weights(place):
    """The scoreboard says who serves each slot; the others get no connection."""
    here = place(workers=2, max_workers=3)
    one, two = handle(here, 1, 0), handle(here, 2, 1)
    now = time.monotonic()
    here.steer([one, two, None], now, wanted=2)
    assert here.board.owner_of(0) is one.page
    assert here.board.owner_of(2) is None
    assert here.board.arbiter.cells[ARBITER_WANTED] == 2
    assert here.berths[0].hush()
    assert not here.berths[2].hush()
    if here.groups[0].rung is Rung.FILTER:
        weights = list(here.board.arbiter.weight)
        assert weights[0] == weights[1] > 0
        assert weights[2] == 0
    here.steer([one, None, None], now, wanted=1)
    assert here.board.owner_of(1) is None
    assert here.board.arbiter.weight[1] == 0


def test_a_sick_worker_is_avoided(place):
    """Its heart has not beaten for a while: at the next look its shard gets nothing."""
    here = place(workers=2, max_workers=2)
    if here.groups[0].rung is not Rung.FILTER:
        pytest.skip("the system does not steer")
    one, two = handle(here, 1, 0), handle(here, 2, 1)
    now = time.monotonic()
    here.steer([one, two], now, wanted=2)
    assert here.next_tick(now) is not None
    later = now + 5.0
    two.page.cells[HEARTBEAT] = int(later * 1e9)
    here.tick(later)
    assert here.board.arbiter.weight[0] == 0
    assert here.board.arbiter.weight[1] > 0
    one.page.cells[HEARTBEAT] = int((later + LAZY) * 1e9)
    two.page.cells[HEARTBEAT] = int((later + LAZY) * 1e9)
    here.tick(later + LAZY)
    assert here.board.arbiter.weight[0] > 0


def test_with_one_worker_there_is_nothing_to_look_at(place):
    """An idle server with one worker does not wake up for steering."""
    here = place(workers=1)
    here.steer([handle(here, 1, 0), *[None] * 15], time.monotonic(), wanted=1)
    assert here.next_tick(time.monotonic()) is None


def test_behind_the_gate_nothing_is_steered(place):
    """A program for the others would take the gate away."""
    here = place(workers=2, max_workers=2)
    one, two = handle(here, 1, 0), handle(here, 2, 1)
    now = time.monotonic()
    here.steer([one, two], now, wanted=2)
    here.gate()
    assert here.gated
    assert here.queues_empty()
    assert here.board.arbiter.cells[ARBITER_DRAINING] == 1
    weights = list(here.board.arbiter.weight)
    here.steer([one, None], now + 1, wanted=2)
    assert list(here.board.arbiter.weight) == weights
    now = time.monotonic()
    assert here.next_tick(now) == now + GATE_LOOK  # at the queues that are to be emptied


def test_pages_run_out(place):
    """Only if processes do not die; the supervisor is told that there is no place."""
    here = place(workers=1, max_workers=1)
    for _ in range(here.board.count):
        here.claim(0, 1)
    with pytest.raises(LookupError):
        here.claim(0, 1)


def test_closing_twice(place):
    """The second time there is nothing to close."""
    here = place()
    here.close(ours=False)
    here.close(ours=True)
