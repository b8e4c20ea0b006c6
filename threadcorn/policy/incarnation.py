"""One process in one slot, from fork to exit: a table and a ten-line engine.

Laws:

1. Started is not ready. Only READY ones own a shard.
2. What a worker says is legal in every state: a worker may be late, and must never stop the arbiter.
   What we ask of it is legal only where it makes sense; elsewhere it is a fault of ours and raises.
3. Whoever is DYING has a deadline, and so has everybody who boots or drains: nobody is waited for for ever.

    state       hello ready failed draining recycle | drain   quit    condemn | expired  exited
    BOOTING     .     READY (text) DRAINING .       | DRAIN.  DYING   DYING   | DYING    gone, unborn
    READY       .     .     (text) DRAINING (mark)  | DRAIN.  DYING   DYING   |          gone, crashed
    DRAINING    .     .     .      .        .       | sooner  DYING   DYING   | DYING    gone
    DYING       .     .     .      .        .       |         again   again   | again    gone
"""

from __future__ import annotations

from enum import Enum, unique

from threadcorn.errors import InternalError
from threadcorn.messages import Draining, Failed, Hello, Ready, RecycleMe

__all__ = ["LOST", "SAID", "TABLE", "Act", "Happening", "Incarnation", "State"]


@unique
class State(Enum):
    """Where an incarnation is in its life."""

    BOOTING = "booting"
    READY = "ready"
    DRAINING = "draining"
    DYING = "dying"


@unique
class Happening(Enum):
    """What can happen to it."""

    HELLO = "said hello"
    READY = "said it is ready"
    FAILED = "said it cannot boot"
    DRAINING = "said it drains"
    RECYCLE = "is to be replaced"
    DRAIN = "asked to drain"
    QUIT = "asked to leave at once"
    CONDEMN = "judged to be stuck"
    EXPIRED = "deadline passed"
    EXITED = "exited"


LOST = 3  # KILLs in vain

# Messages of a worker, and what they are.
SAID: dict[type, Happening] = {
    Hello: Happening.HELLO,
    Ready: Happening.READY,
    Failed: Happening.FAILED,
    Draining: Happening.DRAINING,
    RecycleMe: Happening.RECYCLE,
}


@unique
class Act(Enum):
    """What the supervisor then does."""

    NOTHING = "nothing"
    SERVE = "it serves: note it, no deadline any more"
    KEEP_TEXT = "keep what it said, it will leave soon"
    LET_DRAIN = "it drains on its own account: deadline"
    MARK = "to be replaced when its turn comes"
    DRAIN = "tell it to drain: deadline"
    STOP_BOOT = "the same, and end it if it is still loading"
    SOONER = "tell it again, with less time"
    QUIT = "tell it to leave: short deadline"
    ABORT = "ABRT, so that it shows where it is stuck: short deadline"
    KILL = "KILL: deadline for the next one"
    BURY_UNBORN = "it was never ready: back-off"
    BURY_CRASHED = "it was ready and left unasked: replace"
    BURY = "it left as it should"


_S, _H, _A = State, Happening, Act

# The state it is in, what happens: the state it is in then (None: gone), and what is to be done.
TABLE: dict[tuple[State, Happening], tuple[State | None, Act]] = {
    (_S.BOOTING, _H.HELLO): (_S.BOOTING, _A.NOTHING),
    (_S.BOOTING, _H.READY): (_S.READY, _A.SERVE),
    (_S.BOOTING, _H.FAILED): (_S.BOOTING, _A.KEEP_TEXT),
    (_S.BOOTING, _H.DRAINING): (_S.DRAINING, _A.LET_DRAIN),
    (_S.BOOTING, _H.RECYCLE): (_S.BOOTING, _A.NOTHING),
    (_S.BOOTING, _H.DRAIN): (_S.DRAINING, _A.STOP_BOOT),
    (_S.BOOTING, _H.QUIT): (_S.DYING, _A.KILL),  # it reads no messages yet, and has nothing to lose
    (_S.BOOTING, _H.CONDEMN): (_S.DYING, _A.ABORT),
    (_S.BOOTING, _H.EXPIRED): (_S.DYING, _A.ABORT),  # the stacks tell at which import it hangs
    (_S.BOOTING, _H.EXITED): (None, _A.BURY_UNBORN),
    (_S.READY, _H.HELLO): (_S.READY, _A.NOTHING),
    (_S.READY, _H.READY): (_S.READY, _A.NOTHING),
    (_S.READY, _H.FAILED): (_S.READY, _A.KEEP_TEXT),
    (_S.READY, _H.DRAINING): (_S.DRAINING, _A.LET_DRAIN),
    (_S.READY, _H.RECYCLE): (_S.READY, _A.MARK),
    (_S.READY, _H.DRAIN): (_S.DRAINING, _A.DRAIN),
    (_S.READY, _H.QUIT): (_S.DYING, _A.QUIT),
    (_S.READY, _H.CONDEMN): (_S.DYING, _A.ABORT),
    (_S.READY, _H.EXPIRED): (_S.DYING, _A.ABORT),  # only after FAILED: it said it would leave, and did not
    (_S.READY, _H.EXITED): (None, _A.BURY_CRASHED),
    (_S.DRAINING, _H.HELLO): (_S.DRAINING, _A.NOTHING),
    (_S.DRAINING, _H.READY): (_S.DRAINING, _A.NOTHING),
    (_S.DRAINING, _H.FAILED): (_S.DRAINING, _A.NOTHING),
    (_S.DRAINING, _H.DRAINING): (_S.DRAINING, _A.NOTHING),
    (_S.DRAINING, _H.RECYCLE): (_S.DRAINING, _A.NOTHING),
    (_S.DRAINING, _H.DRAIN): (_S.DRAINING, _A.SOONER),
    (_S.DRAINING, _H.QUIT): (_S.DYING, _A.QUIT),
    (_S.DRAINING, _H.CONDEMN): (_S.DYING, _A.ABORT),
    (_S.DRAINING, _H.EXPIRED): (_S.DYING, _A.KILL),
    (_S.DRAINING, _H.EXITED): (None, _A.BURY),
    (_S.DYING, _H.HELLO): (_S.DYING, _A.NOTHING),
    (_S.DYING, _H.READY): (_S.DYING, _A.NOTHING),
    (_S.DYING, _H.FAILED): (_S.DYING, _A.NOTHING),
    (_S.DYING, _H.DRAINING): (_S.DYING, _A.NOTHING),
    (_S.DYING, _H.RECYCLE): (_S.DYING, _A.NOTHING),
    (_S.DYING, _H.QUIT): (_S.DYING, _A.KILL),
    (_S.DYING, _H.CONDEMN): (_S.DYING, _A.NOTHING),
    (_S.DYING, _H.EXPIRED): (_S.DYING, _A.KILL),
    (_S.DYING, _H.EXITED): (None, _A.BURY),
}


class Incarnation:
    """The record: what it is, what is wanted of it, since when, and why it died."""

    __slots__ = ("age", "born", "deadline", "failed", "generation", "kills", "outlaw", "pid", "ready_at",
                 "reason", "recycle", "slot", "state", "unborn")  # fmt: skip

    def __init__(self, age: int, slot: int, generation: int, now: float, deadline: float) -> None:
        self.age = age
        self.slot = slot
        self.generation = generation
        self.state = State.BOOTING
        self.born = now
        self.deadline: float | None = deadline
        self.pid: int | None = None  # as it said itself
        self.ready_at: float | None = None  # kept when it drains or dies
        self.failed: Failed | None = None
        self.recycle: str | None = None  # why it is to be replaced
        self.reason = ""  # why it drains or dies
        self.unborn = False  # it was ended because it would not become ready
        self.outlaw = False  # it is ended for what it did, not for the time it took
        self.kills = 0

    def __repr__(self) -> str:
        return f"<Incarnation {self.age} slot={self.slot} gen={self.generation} {self.state.value}>"

    @property
    def alive(self) -> bool:
        """It serves, or is about to."""
        return self.state is State.BOOTING or self.state is State.READY

    @property
    def rank(self) -> tuple[int, int]:
        """Of two in one slot the higher one takes over. Not the age alone: while a canary boots, the place of
        a dead one is filled with the old generation, which is younger and must not win."""
        return self.generation, self.age

    @property
    def lost(self) -> bool:
        """It hangs in the kernel and nothing will end it: it counts as one who is not there."""
        return self.kills >= LOST

    @property
    def text(self) -> str:
        """What it said about why it cannot boot."""
        return "" if self.failed is None else self.failed.text

    def step(self, happening: Happening) -> tuple[Act, bool]:
        """Go one step in the table. What to do, and whether it still exists."""
        try:
            state, act = TABLE[self.state, happening]
        except KeyError:
            raise InternalError(f"a worker that is {self.state.value} was {happening.value}") from None
        if state is not None:
            self.state = state
        return act, state is not None
