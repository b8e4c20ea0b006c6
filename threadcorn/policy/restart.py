"""When a dead worker is replaced, and when we give up.

Goals. A worker that served and then crashed is missed by somebody: it is replaced at once. One that dies
while it boots will most likely do so again: each try costs a fork and an import on a machine that serves
others, so tries get rarer. But never so rare that a person who has mended the cause waits for long.

    deaths in a row    1      2      3      4      ...    many
    wait, seconds      0.5    1      2      4             30      each plus up to a fifth, at random

At random, because eight workers that lost the same database would otherwise come back to it together.

In Erlang's words the workers are *permanent* children and the intensity is LIMIT unready deaths within a
window. What happens then is the supervisor's business: it stops loudly when nothing has served yet, and
lets the old generation serve on when something has.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

__all__ = ["CAP", "FIRST", "JITTER", "LIMIT", "SETTLED", "Restart", "Tally"]

SETTLED = 1.0  # seconds of readiness after which a death is a crash, not a failed boot
FIRST = 0.5  # seconds before the second try
CAP = 30.0  # seconds, the most that a mended cause goes unnoticed
JITTER = 0.2  # of the wait
LIMIT = 5  # unready deaths


class Restart:
    """How long to wait. The random source is given, so that a test can be told what to expect."""

    __slots__ = ("_random",)

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random

    def delay(self, deaths: int) -> float:
        """Seconds to wait after so many deaths in a row without having been ready for SETTLED seconds."""
        if deaths <= 0:
            return 0.0
        # The exponent is bounded first: 2.0 ** 1100 is an OverflowError, a year of back-off away.
        wait = min(CAP, FIRST * 2.0 ** min(deaths - 1, 16))
        return wait * (1.0 + JITTER * self._random())


class Tally:
    """Counts deaths within a sliding window."""

    __slots__ = ("_limit", "_times", "_window")

    def __init__(self, limit: int, window: float) -> None:
        self._limit = limit
        self._window = window
        self._times: deque[float] = deque(maxlen=limit)

    @classmethod
    def of_boots(cls, boot_timeout: float) -> Tally:
        """LIMIT unready deaths, also when they are all in one slot and each hangs until its time is up."""
        return cls(LIMIT, LIMIT * (boot_timeout + CAP))

    def add(self, now: float) -> bool:
        """Count one. True: this was the one too many."""
        self._times.append(now)
        return len(self._times) == self._limit and now - self._times[0] <= self._window
