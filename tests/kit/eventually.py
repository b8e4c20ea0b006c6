"""Waiting on a condition, with a deadline: the only way a test waits for the world.

A fixed sleep is too short on a busy machine and too long on an idle one. Here the pause between two
looks is short, and the deadline is generous because it is only reached by a test that fails.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["Deadline", "NotInTime", "eventually"]

T = TypeVar("T")

_PAUSE = 0.005


class NotInTime(AssertionError):
    """What was waited for did not come true before the deadline."""


class Deadline:
    """A point on the monotonic clock, shared by all the waits of one operation.

    One per operation, not per system call: a peer that sends a byte now and then would otherwise
    push the end ahead of itself for ever.
    """

    __slots__ = ("at", "within")

    def __init__(self, within: float) -> None:
        self.within = within
        self.at = time.monotonic() + within

    def left(self) -> float:
        """Seconds until the deadline, zero when it has passed."""
        return max(0.0, self.at - time.monotonic())

    @property
    def passed(self) -> bool:
        return time.monotonic() >= self.at


def eventually(check: Callable[[], T], *, within: float = 10.0, what: str = "") -> T:
    """Call `check` until it answers something true, and return that answer.

    An AssertionError counts as "not yet", so `check` may be a function full of asserts: one that ends
    without a return value (None) and without an error is satisfied. False, 0 and empty are "not yet".
    """
    deadline = Deadline(within)
    while True:
        last = deadline.passed  # looked at before the check: a slow check gets its full last look
        trouble: AssertionError | None = None
        answer: T | None = None
        try:
            answer = check()
            if answer is None or answer:
                return answer  # type: ignore[return-value]  # None is T for a check made of asserts
        except NotInTime:
            raise
        except AssertionError as error:
            trouble = error
        if last:
            name = what or getattr(check, "__doc__", None) or getattr(check, "__name__", "the condition")
            seen = f"it raised: {trouble}" if trouble is not None else f"it answered: {answer!r}"
            raise NotInTime(f"not within {within:g} s: {name}; {seen}") from trouble
        time.sleep(_PAUSE)
