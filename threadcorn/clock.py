"""Time comes from here. Deadlines use `now()`, which no one can set back; log lines use `wall()`."""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["Clock", "MonotonicClock"]


class Clock(Protocol):
    """What a component needs to know of time. Tests pass their own and move it by hand."""

    def now(self) -> float:
        """Seconds on a clock that only goes forward; comparable across the processes of one machine."""
        ...

    def wall(self) -> float:
        """Seconds since the epoch, for people. It may jump: never compute a deadline from it."""
        ...


class MonotonicClock:
    """The system's clocks."""

    # The C functions themselves: a Python frame around them would cost more than the call.
    now = staticmethod(time.monotonic)
    wall = staticmethod(time.time)
