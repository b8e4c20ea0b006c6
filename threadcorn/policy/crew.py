"""The slots and everybody in them: carries out the table of incarnation.py, keeps deadlines and causes.

Knows nothing of generations that come and go or of why somebody is wanted: that is the supervisor's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from threadcorn.errors import InternalError
from threadcorn.messages import Drain, Quit
from threadcorn.policy import events as e
from threadcorn.policy.events import Force, What
from threadcorn.policy.incarnation import LOST, Act, Happening, Incarnation, State
from threadcorn.policy.leaving import Leaving
from threadcorn.policy.restart import SETTLED, Restart

__all__ = ["GRUDGE", "KILL_AGAIN", "LAST_WORDS", "SLACK", "Crew", "Slot"]

LAST_WORDS = 1.0  # seconds from QUIT or ABRT to KILL: stacks are written in a fraction of that
SLACK = 1.0  # seconds that a worker may be late with a deadline that it keeps by itself
GRUDGE = 2.0  # seconds from "I cannot boot" to the exit
KILL_AGAIN = 1.0  # seconds between two KILLs: the first one only fails against a process inside the kernel


class Slot:
    """A place for a worker. For a moment it may hold several: who serves, its successor, who is leaving."""

    __slots__ = ("deaths", "incarnations", "index", "not_before")

    def __init__(self, index: int) -> None:
        self.index = index
        self.incarnations: list[Incarnation] = []  # oldest first
        self.deaths = 0  # in a row, without having been ready for a while
        self.not_before = float("-inf")  # no new one before that: back-off

    def owner(self) -> Incarnation | None:
        """Who serves: of those that are READY the one of the newest generation, and of these the youngest."""
        ready = [i for i in self.incarnations if i.state is State.READY]
        return max(ready, key=lambda i: i.rank, default=None)

    def forgive(self) -> None:
        self.deaths = 0
        self.not_before = float("-inf")


class Crew:
    """All slots. `now` is set by the supervisor at every event; `say` takes the commands."""

    def __init__(self, slots: int, restart: Restart, say: Callable[[e.Command], None]) -> None:
        self.slots = [Slot(index) for index in range(slots)]
        self.rules: dict[int, e.Rules] = {}  # by generation
        self.leaving: Leaving | None = None
        self.now = 0.0
        self._restart = restart
        self._say = say
        self._age = 0
        self._live: dict[int, Incarnation] = {}

    # -- looking -----------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._live)

    def __iter__(self) -> Iterator[Incarnation]:
        """Everybody, oldest first. A copy: whoever is told something may be gone afterwards."""
        return iter(list(self._live.values()))

    def __contains__(self, age: object) -> bool:
        return age in self._live

    def __getitem__(self, age: int) -> Incarnation:
        try:
            return self._live[age]
        except KeyError:
            raise InternalError(f"news of worker {age}, which does not live") from None

    def owners(self) -> tuple[int | None, ...]:
        """Who serves each slot's shard."""
        owners = (slot.owner() for slot in self.slots)
        return tuple(None if owner is None else owner.age for owner in owners)

    # -- changing ----------------------------------------------------------------------------------------

    def spawn(self, slot: Slot, generation: int) -> Incarnation:
        self._age += 1
        until = self.now + self.rules[generation].boot_timeout
        incarnation = Incarnation(self._age, slot.index, generation, self.now, until)
        slot.incarnations.append(incarnation)
        self._live[self._age] = incarnation
        self._say(e.Spawn(slot.index, generation, self._age))
        return incarnation

    def step(self, incarnation: Incarnation, happening: Happening, reason: str = "") -> Act:
        """Something happens to a worker. What was done; BURY_UNBORN is left to the caller to judge."""
        act, exists = incarnation.step(happening)
        if not exists:
            del self._live[incarnation.age]
            self.slots[incarnation.slot].incarnations.remove(incarnation)
            if incarnation.unborn:
                return Act.BURY_UNBORN
        perform = self._PERFORM.get(act)
        if perform is not None:
            perform(self, incarnation, reason)
        return act

    def back_off(self, incarnation: Incarnation) -> float:
        """It died without having served. Seconds until the next try in its slot."""
        slot = self.slots[incarnation.slot]
        slot.deaths += 1
        wait = self._restart.delay(slot.deaths)
        slot.not_before = self.now + wait
        return wait

    def note(self, what: What, incarnation: Incarnation | None = None, **fields: Any) -> None:
        if incarnation is not None:
            fields["slot"] = incarnation.slot
        self._say(e.Note(what, None if incarnation is None else incarnation.age, fields))

    # -- the acts ----------------------------------------------------------------------------------------

    def _serve(self, incarnation: Incarnation, _: str) -> None:
        incarnation.deadline = None
        incarnation.ready_at = self.now
        self.note(What.WORKER_READY, incarnation, seconds=self.now - incarnation.born)

    def _keep_text(self, incarnation: Incarnation, _: str) -> None:
        incarnation.deadline = self.now + GRUDGE

    def _mark(self, incarnation: Incarnation, reason: str) -> None:
        if incarnation.recycle is None and self.leaving is None:
            incarnation.recycle = reason
            self.note(What.RECYCLE_ASKED, incarnation, reason=reason)

    def _let_drain(self, incarnation: Incarnation, reason: str) -> None:
        self._drains(incarnation, reason, self.rules[incarnation.generation].graceful_timeout)

    def _drain(self, incarnation: Incarnation, reason: str) -> None:
        seconds = self.rules[incarnation.generation].graceful_timeout
        if self.leaving is not None:
            seconds = min(seconds, self.leaving.left(self.now))
        self._say(e.Tell(incarnation.age, Drain(seconds, reason)))
        self._drains(incarnation, reason, seconds)

    def _stop_boot(self, incarnation: Incarnation, reason: str) -> None:
        # While it loads, the message is not read, and TERM ends it by default. Should it have become ready
        # just now, it may have a connection already: then both mean the same to it, and it drains.
        self._drain(incarnation, reason)
        self._say(e.Kill(incarnation.age, Force.TERM))

    def _drains(self, incarnation: Incarnation, reason: str, seconds: float) -> None:
        incarnation.reason = reason
        incarnation.deadline = self.now + seconds + SLACK
        self.note(What.WORKER_DRAINS, incarnation, reason=reason, seconds=seconds)

    def _sooner(self, incarnation: Incarnation, reason: str) -> None:
        seconds = self.leaving.left(self.now) if self.leaving is not None else 0.0
        deadline = self.now + seconds + SLACK
        if incarnation.deadline is None or deadline < incarnation.deadline:
            incarnation.deadline = deadline
            self._say(e.Tell(incarnation.age, Drain(seconds, reason)))

    def _quit(self, incarnation: Incarnation, reason: str) -> None:
        incarnation.reason = incarnation.reason or reason
        incarnation.deadline = self.now + LAST_WORDS
        self._say(e.Tell(incarnation.age, Quit()))

    def _abort(self, incarnation: Incarnation, reason: str) -> None:
        if incarnation.ready_at is None:
            incarnation.unborn = True
            seconds = self.now - incarnation.born
            reason = reason or f"not ready within {seconds:.3g} seconds (boot_timeout)"
        incarnation.reason = reason or incarnation.reason or "it did not leave"
        incarnation.deadline = self.now + LAST_WORDS
        what = What.WORKER_OUTLAWED if incarnation.outlaw else What.WORKER_CONDEMNED
        self.note(what, incarnation, reason=incarnation.reason)
        self._say(e.Kill(incarnation.age, Force.ABRT))

    def _kill(self, incarnation: Incarnation, reason: str) -> None:
        incarnation.kills += 1
        if incarnation.kills == 1 and self.leaving is None:
            self.note(What.WORKER_KILLED, incarnation, reason=incarnation.reason)
        elif incarnation.kills == LOST:
            self.note(What.WORKER_UNKILLABLE, incarnation)
        incarnation.reason = incarnation.reason or reason
        incarnation.deadline = self.now + KILL_AGAIN
        self._say(e.Kill(incarnation.age, Force.KILL))

    def _bury_crashed(self, incarnation: Incarnation, cause: str) -> None:
        slot = self.slots[incarnation.slot]
        ready_for = 0.0 if incarnation.ready_at is None else self.now - incarnation.ready_at
        wait: float | None = 0.0
        if self.leaving is not None:
            wait = None  # nobody comes after it
        elif ready_for >= SETTLED:
            slot.forgive()
        else:
            wait = self.back_off(incarnation)
        self.note(What.WORKER_CRASHED, incarnation, cause=cause, text=incarnation.text, wait=wait)

    def _bury(self, incarnation: Incarnation, cause: str) -> None:
        self.note(What.WORKER_LEFT, incarnation, cause=cause, reason=incarnation.reason)

    _PERFORM: ClassVar[dict[Act, Callable[[Crew, Incarnation, str], None]]] = {
        Act.SERVE: _serve,
        Act.KEEP_TEXT: _keep_text,
        Act.MARK: _mark,
        Act.LET_DRAIN: _let_drain,
        Act.DRAIN: _drain,
        Act.STOP_BOOT: _stop_boot,
        Act.SOONER: _sooner,
        Act.QUIT: _quit,
        Act.ABORT: _abort,
        Act.KILL: _kill,
        Act.BURY_CRASHED: _bury_crashed,
        Act.BURY: _bury,
    }
