"""The supervisor: events in, commands out. It decides everything about workers and performs nothing.

Theory of operation. An event changes facts: an incarnation takes a step in its table (incarnation.py), or
the arbiter's phase changes. Then `_settle` compares what is with what is wanted and orders the difference.
There is no plan that is followed step by step and could get stuck when a worker dies in the middle of it: a
roll is nothing but slots whose worker is of an older generation than wanted, seen one event at a time.

Laws:

1. Ready first. Nobody is asked to drain before the one who takes over is READY; nor is the last one that
   serves, when fewer are wanted.
2. A generation serves the world only after its canary, one worker in the first slot, was READY. Until then
   it counts for nothing: it owns no shard, fills no slot, and if it fails, nobody ever noticed.
3. At most `surge` processes more than wanted live at once, those that drain included: the machine may have
   no memory for more. Only the place of one who died or left unasked is filled without looking at that.
4. One replacement of the whole at a time. A reload asked for during another waits, and the last one wins.
5. Nothing is started any more once we leave, and leaving has a bound that no child can move.

The phases are the keys of `_ANSWERS`, at the end. BOOT becomes SERVE when all are ready; RELOAD does when all
are of the new generation, or when it has failed; DRAIN becomes DONE when nobody is left. Why we drain is a
field of its own (leaving.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from threadcorn.errors import ExitCode, InternalError
from threadcorn.messages import Failed
from threadcorn.policy import events as e
from threadcorn.policy.crew import Crew, Slot
from threadcorn.policy.events import Milestone, Phase, What
from threadcorn.policy.incarnation import SAID, Act, Happening, Incarnation, State
from threadcorn.policy.leaving import Leaving, Stage
from threadcorn.policy.restart import Restart, Tally

__all__ = ["Phase", "Supervisor"]

UPGRADE_SLACK = 10.0  # seconds that a successor gets beyond the boot of its workers


_Answers = dict[type, Callable[["Supervisor", Any], None] | None]
LIVING = frozenset({Phase.BOOT, Phase.SERVE, Phase.RELOAD, Phase.UPGRADE})


class Supervisor:
    """The phase, the generations and the crew. `handle` is the only way in; time is a parameter."""

    def __init__(
        self, *, slots: int, target: int, rules: e.Rules, restart: Restart, generation: int = 1
    ) -> None:
        self.phase = Phase.BOOT
        self.target = min(target, slots)
        self.retired = False
        self.generation = generation  # what serves, and what is spawned in place of the dead
        self.candidate: e.ReloadAsked | None = None  # what wants to serve; its canary decides
        self.waiting: e.ReloadAsked | None = None  # asked for meanwhile, the last one
        self.crew = Crew(slots, restart, self._say)
        self.crew.rules[generation] = rules
        self._canary: Incarnation | None = None
        self._tally = Tally.of_boots(rules.boot_timeout)
        self._stuck = False  # the roll of the generation that serves was given up half-way
        self._upgrade_until = 0.0
        self._owners: tuple[int | None, ...] = (None,) * slots
        self._now = 0.0
        self._out: list[e.Command] = []

    # -- in and out --------------------------------------------------------------------------------------

    def handle(self, event: e.Event, now: float) -> list[e.Command]:
        """Tell what has happened; carry out what comes back, in order."""
        self._now = self.crew.now = now
        self._out = []
        try:
            handler = {**self._FACTS, **self._ANSWERS[self.phase]}[type(event)]
        except KeyError:
            raise InternalError(f"the supervisor was told {event} while {self.phase.value}") from None
        if handler is not None:
            handler(self, event)
        self._settle()
        return self._out

    def deadline(self) -> float | None:
        """When a `Tick` is due at the latest."""
        times = [i.deadline for i in self.crew if i.deadline is not None]
        if self.phase in LIVING:
            times += [s.not_before for s in self.crew.slots[: self.wanted] if s.not_before > self._now]
        if self.phase is Phase.UPGRADE:
            times.append(self._upgrade_until)
        if self.phase is Phase.DRAIN and self.leaving is not None:
            times.append(self.leaving.next(self._now))
        return min(times, default=None)

    # -- looking -----------------------------------------------------------------------------------------

    @property
    def wanted(self) -> int:
        """How many slots are to have a worker."""
        return 0 if self.retired else self.target

    @property
    def leaving(self) -> Leaving | None:
        """Why and how we leave, once we do."""
        return self.crew.leaving

    @property
    def canary(self) -> Incarnation | None:
        """The one worker of the candidate, until it is ready or dead."""
        return self._canary

    def generations(self) -> set[int]:
        """Those that are still needed: somebody lives of it, or will."""
        asked = {r.generation for r in (self.candidate, self.waiting) if r is not None}
        return {i.generation for i in self.crew} | {self.generation} | asked

    # -- events: facts -----------------------------------------------------------------------------------

    def _ticked(self, _: e.Tick) -> None:
        for incarnation in self.crew:
            if incarnation.deadline is not None and incarnation.deadline <= self._now:
                self._step(incarnation, Happening.EXPIRED)
        if self.phase is Phase.UPGRADE and self._now >= self._upgrade_until:
            self._say(e.AbandonSuccessor())
            self._successor_failed(e.SuccessorFailed("it was not ready in time"))

    def _heard(self, event: e.Heard) -> None:
        happening = SAID.get(type(event.message))
        if happening is None:
            raise InternalError(f"a worker sent {type(event.message).__name__}, which is the arbiter's word")
        if isinstance(event.message, Failed):
            self.crew[event.age].failed = event.message
        self._step(self.crew[event.age], happening, getattr(event.message, "reason", ""))

    def _exited(self, event: e.Exited) -> None:
        self._step(self.crew[event.age], Happening.EXITED, event.cause)

    def _judged(self, event: e.Judged) -> None:
        incarnation, recycle = self.crew[event.age], event.verdict is e.Verdict.RECYCLE
        incarnation.outlaw = event.verdict is e.Verdict.KILL
        self._step(incarnation, Happening.RECYCLE if recycle else Happening.CONDEMN, event.reason)

    def _queues_empty(self, _: e.QueuesEmpty) -> None:
        if self.leaving is not None:
            self.leaving.seen_empty(self._now)

    def _step(self, incarnation: Incarnation, happening: Happening, reason: str = "") -> None:
        act = self.crew.step(incarnation, happening, reason)
        if act is Act.SERVE and incarnation is self._canary:
            self._promote()
        elif act is Act.BURY_UNBORN:
            cause = f"{incarnation.reason}; {reason}" if incarnation.unborn else reason
            self._bury_unborn(incarnation, cause)
        elif incarnation is self._canary and incarnation.state is State.DRAINING:
            # Somebody has sent it a TERM: it will never be ready.
            self._reload_failed(incarnation, f"it was told to leave ({incarnation.reason})")

    def _bury_unborn(self, incarnation: Incarnation, cause: str) -> None:
        text = incarnation.text
        if incarnation is self._canary:
            self._reload_failed(incarnation, cause)
        elif self.phase is Phase.BOOT and incarnation.failed is not None:
            # The application said that it cannot: trying again would only make it say so again.
            self._fatal(incarnation, incarnation.failed.exit_code, cause)
        elif self.phase is Phase.BOOT and self._tally.add(self._now):
            self._fatal(incarnation, ExitCode.TOO_MANY_DEATHS, cause)
        elif self.phase in LIVING:
            wait = self.crew.back_off(incarnation)
            self._note(What.WORKER_NOT_READY, incarnation, cause=cause, text=text, wait=wait)
            if self.phase is Phase.RELOAD and self.candidate is None and self._tally.add(self._now):
                self._stuck = True
                self._note(What.RELOAD_STUCK, generation=self.generation, older=self._older())
                self._end_reload(Milestone.RELOAD_FAILED)

    # -- events: what is asked of the arbiter ------------------------------------------------------------

    def _refuse(self, event: e.Event) -> None:
        self._note(What.REFUSED, event=type(event).__name__, phase=self.phase.value)

    def _scale(self, event: e.ScaleAsked) -> None:
        # After WINCH there are none: one more is one, as with gunicorn.
        wanted = max(1, min(len(self.crew.slots), self.wanted + event.by))
        if wanted == self.wanted:
            self._note(What.SCALE_REFUSED, wanted=wanted, most=len(self.crew.slots))
            return
        self.retired = False
        self._set_target(wanted)

    def _set_target(self, workers: int) -> None:
        workers = min(workers, len(self.crew.slots))
        self._note(What.SCALED, before=self.target, wanted=workers)
        self.target = workers

    def _retire(self, _: e.RetireAsked) -> None:
        self.retired = True
        self._note(What.RETIRED)

    def _wait(self, event: e.ReloadAsked) -> None:
        self.waiting = event
        self._note(What.RELOAD_WAITS, phase=self.phase.value)

    def _begin_reload(self, event: e.ReloadAsked) -> None:
        self.phase = Phase.RELOAD
        self.candidate = event
        for generation in self.crew.rules.keys() - self.generations():
            del self.crew.rules[generation]
        self.crew.rules[event.generation] = event.rules
        self._tally = Tally.of_boots(event.rules.boot_timeout)
        self._note(What.RELOAD_BEGINS, generation=event.generation)
        self._say(e.Announce(Milestone.RELOADING))

    def _promote(self) -> None:
        """The canary is ready: from now on its generation is the one that serves."""
        asked, self.candidate, self._canary = self.candidate, None, None
        if asked is None:
            raise InternalError("a canary sings, but nobody wants to serve")
        self.generation = asked.generation
        self.retired = self._stuck = False
        self._say(e.Promote(self.generation))
        if asked.workers is not None and asked.workers != self.target:
            self._set_target(asked.workers)
        for slot in self.crew.slots:
            slot.forgive()  # what they have against the old generation does not hold for the new one

    def _reload_failed(self, canary: Incarnation, cause: str) -> None:
        about = {"generation": self.generation, "failed": canary.generation}
        self._note(What.RELOAD_FAILED, canary, cause=cause, text=canary.text, **about)
        self.candidate = self._canary = None
        self._end_reload(Milestone.RELOAD_FAILED)
        if self._older() and not self._stuck:
            self.phase = Phase.RELOAD  # it came in the middle of a roll: that one goes on

    def _end_reload(self, milestone: Milestone) -> None:
        self.phase = Phase.SERVE
        self._say(e.Announce(milestone))

    def _older(self) -> int:
        return sum(i.alive and i.generation < self.generation for i in self.crew)

    def _begin_upgrade(self, _: e.UpgradeAsked) -> None:
        self.phase = Phase.UPGRADE
        self._upgrade_until = self._now + self._rules.boot_timeout + UPGRADE_SLACK
        self._note(What.UPGRADE_BEGINS)
        self._say(e.StartSuccessor())

    def _successor_failed(self, event: e.SuccessorFailed) -> None:
        self.phase = Phase.SERVE
        self._note(What.UPGRADE_FAILED, cause=event.cause)

    def _hand_over(self, _: e.SuccessorReady) -> None:
        self._note(What.UPGRADE_DONE)
        self._leave(Leaving.upgraded(self._now, self._rules))

    # -- leaving -----------------------------------------------------------------------------------------

    def _stop(self, event: e.StopAsked) -> None:
        if self.phase is Phase.UPGRADE:
            self._say(e.AbandonSuccessor())
        self._note(What.STOP_BEGINS, quick=event.quick)
        serving = any(i.state is State.READY for i in self.crew)
        self._leave(Leaving.stop(self._now, self._rules, quick=event.quick, serving=serving))

    def _stop_harder(self, event: e.StopAsked) -> None:
        if not event.quick or self.leaving is None:
            return  # the same again
        self._note(What.STOP_QUICKER, last=self.leaving.quick)
        self.leaving.hurry(self._now)
        self._quit_all(self.leaving.why)

    def _fatal(self, incarnation: Incarnation, code: int, cause: str) -> None:
        self._note(What.FATAL, incarnation, code=code, cause=cause, text=incarnation.text)
        self._leave(Leaving.fatal(self._now, code))

    def _leave(self, leaving: Leaving) -> None:
        self.phase = Phase.DRAIN
        self.crew.leaving = leaving
        self.candidate = self.waiting = self._canary = None
        self._say(e.Announce(Milestone.STOPPING if leaving.ours else Milestone.UPGRADED))
        if leaving.quick:
            self._quit_all(leaving.why)
            return
        for incarnation in self.crew:
            if incarnation.state is State.BOOTING:
                self._step(incarnation, Happening.DRAIN, leaving.why)

    def _quit_all(self, why: str) -> None:
        for incarnation in self.crew:
            self._step(incarnation, Happening.QUIT, why)

    def _go_on_leaving(self, leaving: Leaving) -> None:
        while leaving.advance(self._now):
            if leaving.stage is Stage.GATED:
                self._say(e.Gate())
                self._note(What.GATED)  # after it: who reads it may rely on it
                continue
            for incarnation in self.crew:
                if incarnation.state is not State.DYING:
                    self._step(incarnation, Happening.DRAIN, leaving.why)
        left = [i.age for i in self.crew]
        if left and self._now < leaving.give_up_at:
            return
        if left:
            self._note(What.LEFT_BEHIND, ages=left)
        self._say(e.CloseListeners(ours=leaving.ours))
        self._say(e.Exit(int(leaving.code)))
        self.phase = Phase.DONE

    # -- what is, and what is wanted -----------------------------------------------------------------------

    def _settle(self) -> None:
        self._steer()  # to the successor, before its predecessor is told to drain
        if self.phase in LIVING:
            self._conclude()
            for slot in self.crew.slots:
                self._fill(slot)
            self._replace()
        elif self.phase is Phase.DRAIN and self.leaving is not None:
            self._go_on_leaving(self.leaving)
        if self.phase is not Phase.DONE:
            self._steer()

    def _steer(self) -> None:
        owners = self.crew.owners()
        if owners != self._owners:
            self._owners = owners
            self._say(e.Steer(owners))

    def _conclude(self) -> None:
        """Leave a phase whose aim is reached, and begin what waited for that."""
        if self.phase is Phase.BOOT and self._all_of(self.generation):
            self.phase = Phase.SERVE
            self._note(What.ALL_READY, workers=self.wanted)
            self._say(e.Announce(Milestone.READY))
        elif self.phase is Phase.RELOAD and self.candidate is None and self._all_of(self.generation):
            self._note(What.RELOAD_DONE, generation=self.generation, workers=self.wanted)
            self._end_reload(Milestone.RELOADED)
        if self.waiting is not None and self.candidate is None and self.phase in (Phase.SERVE, Phase.RELOAD):
            # Half-way through a roll as well: what is left of it would be replaced again at once.
            event, self.waiting = self.waiting, None
            self._begin_reload(event)

    def _all_of(self, generation: int) -> bool:
        """Every wanted slot is served by a worker of that generation, and nobody older serves."""
        for slot in self.crew.slots[: self.wanted]:
            owner = slot.owner()
            if owner is None or owner.generation != generation:
                return False
        return True

    def _filling(self, slot: Slot) -> list[Incarnation]:
        """Who fills the slot: alive, and not the canary of a generation that must prove itself first."""
        return [i for i in slot.incarnations if i.alive and i is not self._canary]

    def _fill(self, slot: Slot) -> None:
        """A wanted slot has one worker; nobody is left behind a successor that is READY."""
        filling = self._filling(slot)
        owner = slot.owner()
        for incarnation in filling:
            if slot.index >= self.wanted:
                # The last one that serves stays until one of those that are wanted does.
                if incarnation is not owner or not self.wanted or any(self.crew.owners()[: self.wanted]):
                    self._step(incarnation, Happening.DRAIN, "fewer workers are wanted")
            elif owner is not None and incarnation.rank < owner.rank:
                self._step(incarnation, Happening.DRAIN, "its successor is ready")
        if slot.index < self.wanted and not filling and self._now >= slot.not_before:
            self.crew.spawn(slot, self.generation)

    def _replace(self) -> None:
        """Start successors, as far as there is room: a canary, the rest of a generation, or the recycled."""
        room = self.target + self._rules.surge - sum(not i.lost for i in self.crew)
        if self.phase is Phase.RELOAD and self.candidate is not None:
            room += self.candidate.rules.surge - self._rules.surge
            if room > 0 and self._canary is None:
                self._canary = self.crew.spawn(self.crew.slots[0], self.candidate.generation)
        elif self.phase is Phase.RELOAD:
            old = [
                slot for slot in self._replaceable() if self._filling(slot)[0].generation < self.generation
            ]
            for slot in old[: max(0, room)]:
                self.crew.spawn(slot, self.generation)
        elif self.phase is Phase.SERVE and room > 0:
            if any(sum(not i.lost for i in slot.incarnations) > 1 for slot in self.crew.slots):
                return  # one at a time, and the last one is not over yet
            marked = [slot for slot in self._replaceable() if self._filling(slot)[0].recycle is not None]
            if marked:
                self.crew.spawn(min(marked, key=lambda slot: self._filling(slot)[0].age), self.generation)

    def _replaceable(self) -> list[Slot]:
        """Slots whose only worker serves, so that a successor may be put beside it."""
        return [
            slot
            for slot in self.crew.slots[: self.wanted]
            if self._now >= slot.not_before and [i.state for i in self._filling(slot)] == [State.READY]
        ]

    # -- small things --------------------------------------------------------------------------------------

    @property
    def _rules(self) -> e.Rules:
        return self.crew.rules[self.generation]

    def _say(self, command: e.Command) -> None:
        self._out.append(command)

    def _note(self, what: What, incarnation: Incarnation | None = None, **fields: Any) -> None:
        self.crew.note(what, incarnation, **fields)

    # -- the tables ----------------------------------------------------------------------------------------

    _FACTS: ClassVar[_Answers] = {
        e.Tick: _ticked,
        e.Heard: _heard,
        e.Exited: _exited,
        e.NotForked: _exited,
        e.Judged: _judged,
        e.QueuesEmpty: _queues_empty,
    }

    # What is asked in which phase, and who answers. None: it came too late to matter.
    _REFUSED: ClassVar[_Answers] = dict.fromkeys(
        (e.ReloadAsked, e.ScaleAsked, e.RetireAsked, e.UpgradeAsked), _refuse
    )
    _OLD_NEWS: ClassVar[_Answers] = {e.SuccessorReady: None, e.SuccessorFailed: None}
    _ANSWERS: ClassVar[dict[Phase, _Answers]] = {
        Phase.BOOT: {**_REFUSED, e.ReloadAsked: _wait, e.ScaleAsked: _scale, e.StopAsked: _stop},
        Phase.SERVE: {
            **_OLD_NEWS,
            e.ReloadAsked: _begin_reload,
            e.ScaleAsked: _scale,
            e.RetireAsked: _retire,
            e.UpgradeAsked: _begin_upgrade,
            e.StopAsked: _stop,
        },
        Phase.RELOAD: {
            **_REFUSED,
            **_OLD_NEWS,
            e.ReloadAsked: _wait,
            e.ScaleAsked: _scale,
            e.StopAsked: _stop,
        },
        Phase.UPGRADE: {
            **_REFUSED,
            e.SuccessorReady: _hand_over,
            e.SuccessorFailed: _successor_failed,
            e.StopAsked: _stop,
        },
        Phase.DRAIN: {**_REFUSED, **_OLD_NEWS, e.StopAsked: _stop_harder},
        Phase.DONE: {**dict.fromkeys(_REFUSED), **_OLD_NEWS, e.StopAsked: None},
    }
