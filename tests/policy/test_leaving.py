"""The stages of a stop."""

from __future__ import annotations

from threadcorn.policy.events import Rules
from threadcorn.policy.leaving import GATE_LEAST, GIVE_UP, Leaving, Stage

RULES = Rules(graceful_timeout=10.0, lame_duck=3.0)


def test_the_stages_of_a_graceful_stop():
    """Lame duck for its time, the gate for at least a round trip and until nobody waits, then leaving."""
    leaving = Leaving.stop(100.0, RULES, quick=False, serving=True)
    assert leaving.stage is Stage.LAME_DUCK
    assert not leaving.advance(102.9)
    assert leaving.advance(103.0)
    assert leaving.stage is Stage.GATED
    leaving.empty = True
    assert not leaving.advance(103.0 + GATE_LEAST / 2)
    assert leaving.advance(103.0 + GATE_LEAST)
    assert leaving.stage is Stage.LEAVING
    assert leaving.left(104.0) == 9.0


def test_a_queue_that_never_empties_is_left():
    """The gate does not hold us beyond graceful_timeout."""
    leaving = Leaving.stop(0.0, Rules(graceful_timeout=10.0), quick=False, serving=True)
    assert leaving.advance(0.0)
    assert not leaving.advance(9.9)
    assert leaving.next(9.9) == 10.0
    assert leaving.advance(10.0)
    assert leaving.stage is Stage.LEAVING


def test_without_anybody_who_serves_there_is_no_gate():
    """Nobody would empty the queues: no lame duck and no gate, the workers that boot are told at once."""
    leaving = Leaving.stop(0.0, RULES, quick=False, serving=False)
    assert leaving.advance(0.0)
    assert leaving.stage is Stage.LEAVING


def test_a_quick_stop_has_no_stages():
    """It is at its last stage at once and gives up a few seconds later."""
    leaving = Leaving.stop(0.0, RULES, quick=True, serving=True)
    assert leaving.stage is Stage.LEAVING
    assert not leaving.advance(0.0)
    assert leaving.give_up_at == GIVE_UP
    assert leaving.left(0.0) == 0.0


def test_hurry_ends_a_graceful_stop():
    """Asked to be quick, only a few seconds are left, whatever was granted before."""
    leaving = Leaving.stop(0.0, RULES, quick=False, serving=True)
    leaving.hurry(1.0)
    assert leaving.stage is Stage.LEAVING
    assert leaving.give_up_at == 1.0 + GIVE_UP
    assert leaving.left(1.0) == 0.0


def test_after_an_upgrade_the_listeners_are_somebody_elses():
    """Not gated and not ours: shutting them down would cut the successor off."""
    leaving = Leaving.upgraded(0.0, RULES)
    assert not leaving.ours
    assert leaving.advance(0.0)
    assert leaving.stage is Stage.LEAVING
    assert leaving.left(0.0) == 10.0


def test_the_clock_of_each_stage():
    """`next` names the moment at which `advance` will say yes, so that the loop need not look before."""
    leaving = Leaving.stop(0.0, RULES, quick=False, serving=True)
    assert leaving.next(0.0) == 3.0
    leaving.advance(3.0)
    assert leaving.next(3.0) == 3.0 + GATE_LEAST
    leaving.empty = True
    leaving.advance(4.0)
    assert leaving.next(4.0) == leaving.give_up_at


def test_what_is_empty_too_early_does_not_count():
    """A handshake that was under way when the gate closed is in no queue yet."""
    leaving = Leaving.stop(0.0, RULES, quick=False, serving=True)
    leaving.advance(3.0)
    leaving.seen_empty(3.0 + GATE_LEAST / 2)
    assert not leaving.advance(3.0 + GATE_LEAST)
    leaving.seen_empty(3.0 + GATE_LEAST)
    assert leaving.advance(3.0 + GATE_LEAST)
