"""How the arbiter leaves: why, with which code, in which stages, and by when at the latest.

    LAME_DUCK   everybody serves; only the probes of balancers see that we are going to leave
    GATED       nobody new gets in; what waits in the accept queues is still accepted
    LEAVING     the workers are told

A quick stop and a fatal error begin at LEAVING; an upgrade is not gated. No stage waits for a child.
"""

from __future__ import annotations

from enum import Enum, unique

from threadcorn.errors import ExitCode
from threadcorn.policy.events import Rules

__all__ = ["GATE_LEAST", "GIVE_UP", "Leaving", "Stage"]

# Seconds behind the gate at least: a handshake that was under way when it closed is completed by the
# client's next packet, and until then no queue shows it. About a round trip to the other side of the earth.
GATE_LEAST = 0.3

# Seconds after the last deadline of a worker in which KILL is sent again and again. A process that is
# still there then hangs in the kernel, and our waiting does not help it.
GIVE_UP = 5.0


@unique
class Stage(Enum):
    """How far we are."""

    LAME_DUCK = "lame duck"
    GATED = "gated"
    LEAVING = "leaving"


class Leaving:
    """The field that says why we drain, and the clock that says how far we are."""

    __slots__ = ("_end", "_gated", "_turn", "code", "empty", "give_up_at", "ours", "quick", "stage", "why")

    def __init__(
        self,
        why: str,
        now: float,
        *,
        quick: bool = False,
        gated: bool = False,
        ours: bool = True,
        code: int = ExitCode.OK,
        lame_duck: float = 0.0,
        graceful: float = 0.0,
    ) -> None:
        self.why = why
        self.code = code
        self.quick = quick
        self.ours = ours  # nobody else serves at our addresses when we are gone
        self.empty = False  # the accept queues, seen from behind the gate
        self.stage = Stage.LEAVING if quick else Stage.LAME_DUCK
        self._gated = gated
        self._turn = now + lame_duck  # the next stage begins then at the earliest
        self._end = self._turn + graceful  # running requests are cut then
        self.give_up_at = self._end + GIVE_UP

    @classmethod
    def stop(cls, now: float, rules: Rules, *, quick: bool, serving: bool) -> Leaving:
        """We were told to stop. Where nobody serves, nobody can empty a queue either."""
        why = "the server stops"
        if quick or not serving:
            return cls(why, now, quick=quick, graceful=0.0 if quick else rules.graceful_timeout)
        return cls(why, now, gated=True, lame_duck=rules.lame_duck, graceful=rules.graceful_timeout)

    @classmethod
    def fatal(cls, now: float, code: int) -> Leaving:
        """We cannot start."""
        return cls("the server cannot start", now, quick=True, code=code)

    @classmethod
    def upgraded(cls, now: float, rules: Rules) -> Leaving:
        """A successor serves at our addresses, at the same queues: nothing is gated, nothing shut."""
        return cls("upgraded", now, ours=False, graceful=rules.graceful_timeout)

    def advance(self, now: float) -> bool:
        """Enter the next stage if it is time; True if it was."""
        if self.stage is Stage.LAME_DUCK and now >= self._turn:
            self.stage = Stage.GATED if self._gated else Stage.LEAVING
            self._turn = now + GATE_LEAST
            return True
        if self.stage is Stage.GATED and ((self.empty and now >= self._turn) or now >= self._end):
            self.stage = Stage.LEAVING
            return True
        return False

    def seen_empty(self, now: float) -> None:
        """Nobody waits behind the gate. Before its least time that does not count: it says nothing of the
        handshakes that were under way."""
        if self.stage is Stage.GATED and now >= self._turn:
            self.empty = True

    def left(self, now: float) -> float:
        """Seconds that running requests have got."""
        return 0.0 if self.quick else max(0.0, self._end - now)

    def next(self, now: float) -> float:
        """When something is due at the latest."""
        if self.stage is Stage.LEAVING:
            return self.give_up_at
        return self._turn if now < self._turn else self._end

    def hurry(self, now: float) -> None:
        """Told again, to be quick."""
        self.quick = True
        self.stage = Stage.LEAVING
        self.give_up_at = min(self.give_up_at, now + GIVE_UP)
