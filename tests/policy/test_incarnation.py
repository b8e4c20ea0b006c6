"""The table of one worker's life."""

from __future__ import annotations

import pytest

from threadcorn import messages
from threadcorn.errors import InternalError
from threadcorn.policy.crew import Crew
from threadcorn.policy.incarnation import SAID, TABLE, Act, Happening, Incarnation, State

# What we ask of a worker only where it makes sense; everything else may happen in any state.
ASKED = {
    (State.DYING, Happening.DRAIN),
}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("happening", Happening)
def test_every_happening_in_every_state(state, happening):
    """A pair is in the table and leads to its state, or it raises and names both."""
    incarnation = Incarnation(1, 0, 1, 0.0, 10.0)
    incarnation.state = state
    if (state, happening) in ASKED:
        with pytest.raises(InternalError, match=f"{state.value}.*{happening.value}"):
            incarnation.step(happening)
        assert incarnation.state is state
        return
    after, act = TABLE[state, happening]
    assert incarnation.step(happening) == (act, after is not None)
    assert incarnation.state is (after or state)
    assert (after is None) == (happening is Happening.EXITED)


def test_nothing_a_worker_says_is_illegal():
    """Whatever message comes in whatever state, it has a row: a worker cannot stop the arbiter."""
    for happening in SAID.values():
        for state in State:
            assert (state, happening) in TABLE


def test_every_word_about_a_workers_life_has_a_happening():
    """A message class that is neither the arbiter's, nor an answer, nor in SAID would be heard by nobody."""
    from_arbiter = {"Drain", "Quit", "ReopenLogs", "Threads", "Report"}
    answers = {"Reported"}
    every = {name for name in messages.__all__ if hasattr(getattr(messages, name), "__dataclass_fields__")}
    assert every - from_arbiter - answers - {"WorkerBoot"} == {cls.__name__ for cls in SAID}


def test_nobody_comes_back():
    """States only ever go forward: no row leads from DYING or DRAINING to READY or BOOTING."""
    order = list(State)
    for (before, _), (after, _) in TABLE.items():
        if after is not None:
            assert order.index(after) >= order.index(before)


def test_every_act_is_performed():
    """An act without a method would be forgotten silently."""
    performed = set(Crew._PERFORM) | {Act.NOTHING, Act.BURY_UNBORN}
    assert performed == set(Act)
    assert {act for _, act in TABLE.values()} == set(Act)
