"""A world for the supervisor: processes that are only records. Each command is checked against the laws."""

from __future__ import annotations

from dataclasses import dataclass, field

from threadcorn.messages import Drain, Draining, Failed, Hello, Quit, Ready, RecycleMe
from threadcorn.policy import events as e
from threadcorn.policy.events import Force, Milestone, Rules, What
from threadcorn.policy.incarnation import State
from threadcorn.policy.restart import Restart
from threadcorn.policy.supervisor import LIVING, Phase, Supervisor

__all__ = ["Process", "World"]


@dataclass
class Process:
    """What the world knows of one."""

    age: int
    slot: int
    generation: int
    state: str = "booting"  # booting, ready, draining
    drain: bool = False  # was told
    quit: bool = False
    forces: list[Force] = field(default_factory=list)
    judged: bool = False
    began_itself: bool = False
    born: float = 0.0
    drain_until: float = float("inf")


class World:
    """Carries out commands by taking note of them. `tell` is the only way to the supervisor."""

    def __init__(self, *, slots: int = 8, target: int = 3, rules: Rules | None = None) -> None:
        self.now = 1000.0
        self.rules = {1: rules or Rules(boot_timeout=10.0, graceful_timeout=5.0)}
        self.sup = Supervisor(slots=slots, target=target, rules=self.rules[1], restart=Restart(lambda: 0.5))
        self.alive: dict[int, Process] = {}
        self.dead: set[int] = set()
        self.commands: list[e.Command] = []  # all there ever were
        self.last: list[e.Command] = []  # of the last event
        self.owners: tuple[int | None, ...] = (None,) * slots
        self.generation = 1
        self.asked = 1  # the newest generation asked for
        self.fail_forks = 0
        self.exit_code: int | None = None
        self.listeners_closed: bool | None = None
        self.gated = False
        self.successor = False

    # -- telling -------------------------------------------------------------------------------------------

    def tell(self, event: e.Event) -> list[e.Command]:
        assert self.exit_code is None or self.sup.phase is Phase.DONE
        self.last = self.sup.handle(event, self.now)
        self.commands += self.last
        refused = []
        for command in self.last:
            getattr(self, "do_" + type(command).__name__.lower())(command)
            if isinstance(command, e.Spawn) and self.fail_forks:
                self.fail_forks -= 1
                refused.append(command.age)
        self.check()
        told = list(self.last)
        for age in refused:
            del self.alive[age]
            self.dead.add(age)
            told += self.tell(e.NotForked(age, "could not be forked: no memory"))
        self.last = told
        return told

    def tick(self, seconds: float = 0.0) -> list[e.Command]:
        self.now += seconds
        return self.tell(e.Tick())

    def start(self) -> World:
        self.tick()
        return self

    def pass_time(self, seconds: float) -> None:
        """As the arbiter does: a tick at each deadline, and at the end. `last` is what came of all."""
        end = self.now + seconds
        came: list[e.Command] = []
        for _ in range(10_000):
            due = self.sup.deadline()
            if due is None or due > end:
                break
            self.now = max(self.now, due)
            came += self.tell(e.Tick())
        else:
            raise AssertionError("the supervisor wants to be woken again and again")
        self.now = end
        came += self.tell(e.Tick())
        self.last = came

    def hello(self, age: int) -> None:
        self.tell(e.Heard(age, Hello(10_000 + age)))

    def ready(self, age: int) -> list[e.Command]:
        process = self.alive[age]
        if process.state == "booting":
            process.state = "ready"
        return self.tell(e.Heard(age, Ready()))

    def failed(self, age: int, code: int = 3, text: str = "ImportError: no module") -> list[e.Command]:
        self.tell(e.Heard(age, Failed(code, text)))
        return self.exited(age, f"exited with code {code}")

    def draining(self, age: int) -> list[e.Command]:
        process = self.alive[age]
        process.state = "draining"
        process.began_itself = not process.drain
        process.drain_until = min(
            process.drain_until, self.now + self.rules[process.generation].graceful_timeout
        )
        return self.tell(e.Heard(age, Draining("TERM")))

    def recycle(self, age: int) -> list[e.Command]:
        return self.tell(e.Heard(age, RecycleMe("max_requests")))

    def exited(self, age: int, cause: str = "exited with code 0") -> list[e.Command]:
        del self.alive[age]
        self.dead.add(age)
        return self.tell(e.Exited(age, cause))

    def judged(self, age: int, verdict: e.Verdict = e.Verdict.SILENT) -> list[e.Command]:
        self.alive[age].judged = True
        return self.tell(e.Judged(age, verdict, "no heartbeat for 31 s"))

    def reload(self, workers: int | None = None, rules: Rules | None = None) -> list[e.Command]:
        self.asked += 1
        self.rules[self.asked] = rules or self.rules[1]
        return self.tell(e.ReloadAsked(self.asked, self.rules[self.asked], workers))

    # -- looking -------------------------------------------------------------------------------------------

    def in_state(self, state: str) -> list[int]:
        return [p.age for p in self.alive.values() if p.state == state]

    def booting(self) -> list[int]:
        return self.in_state("booting")

    def of(self, kind: type) -> list[e.Command]:
        return [command for command in self.last if isinstance(command, kind)]

    def spawned(self) -> list[int]:
        return [command.age for command in self.last if isinstance(command, e.Spawn)]

    def told_to_drain(self) -> list[int]:
        return [c.age for c in self.last if isinstance(c, e.Tell) and isinstance(c.message, Drain)]

    def notes(self, *, ever: bool = False) -> list[What]:
        return [c.what for c in (self.commands if ever else self.last) if isinstance(c, e.Note)]

    def announced(self) -> list[Milestone]:
        return [c.milestone for c in self.commands if isinstance(c, e.Announce)]

    # -- being good --------------------------------------------------------------------------------------

    def everybody_boots(self) -> None:
        """Until nobody boots any more and nobody drains: what a good application does."""
        for _ in range(200):
            busy = False
            for process in list(self.alive.values()):
                if process.age not in self.alive:
                    continue
                if process.quit or process.forces or process.drain or process.state == "draining":
                    self.exited(process.age)
                    busy = True
                elif process.state == "booting":
                    self.ready(process.age)
                    busy = True
            if not busy:
                return
        raise AssertionError("no end of booting and draining")

    def serving(self) -> World:
        """Started, all ready, and for long enough that a death is a crash."""
        self.start()
        self.everybody_boots()
        assert self.sup.phase is Phase.SERVE
        self.pass_time(2.0)
        return self

    # -- commands, each with what must be true of it -------------------------------------------------------

    def do_spawn(self, command: e.Spawn) -> None:
        assert self.sup.phase not in (Phase.DRAIN, Phase.DONE), "a worker is started while we leave"
        assert command.age not in self.alive
        assert command.age not in self.dead
        assert 0 <= command.slot < len(self.sup.crew.slots)
        assert command.generation in (self.generation, self.asked_candidate())
        self.alive[command.age] = Process(command.age, command.slot, command.generation, born=self.now)
        limit = self.sup.target + max(rules.surge for rules in self.rules.values())
        living = [p for p in self.alive.values() if self.lives(p) and p.generation == command.generation]
        assert len(living) <= limit, f"{len(living)} workers of generation {command.generation} live"
        canary = -1 if self.sup.canary is None else self.sup.canary.age
        others = [p for p in self.alive.values() if p.slot == command.slot and self.lives(p)]
        others = [p for p in others if p.age not in (command.age, canary)]
        if others or command.age == canary:
            everybody = [p for p in self.alive.values() if p.forces.count(Force.KILL) < 3]
            assert len(everybody) <= limit, f"{len(everybody)} processes live when a successor is started"

    def lives(self, process: Process) -> bool:
        state = self.sup.crew[process.age].state if process.age in self.sup.crew else None
        return state in (State.BOOTING, State.READY)

    def asked_candidate(self) -> int | None:
        return None if self.sup.candidate is None else self.sup.candidate.generation

    def do_tell(self, command: e.Tell) -> None:
        process = self.alive[command.age]  # KeyError: an order to the dead
        if isinstance(command.message, Quit):
            process.quit = True
            assert self.sup.phase in (Phase.DRAIN, Phase.DONE)
        if isinstance(command.message, Drain):
            until = self.now + command.message.seconds
            process.drain_until = min(process.drain_until, until)
            if self.sup.phase in LIVING and process.state == "ready" and not process.drain:
                self.may_be_drained(process)
            process.drain = True

    def may_be_drained(self, process: Process) -> None:
        """Only if it is not wanted and others serve, or somebody newer is READY in its place."""
        if process.slot >= self.sup.wanted:
            assert not self.sup.wanted or self.somebody_serves(), "the last one that serves is drained"
            return
        successors = [
            p
            for p in self.alive.values()
            if p.slot == process.slot
            and p.state == "ready"
            and not p.drain
            and (p.generation, p.age) > (process.generation, process.age)
        ]
        assert successors, f"worker {process.age} is drained, and nobody has taken over slot {process.slot}"
        assert all(p.generation <= self.generation for p in successors), "its canary has not proved itself"

    def do_kill(self, command: e.Kill) -> None:
        process = self.alive[command.age]  # KeyError: a signal to the dead
        process.forces.append(command.force)
        if self.sup.phase not in LIVING:
            return
        late_boot = self.now >= process.born + self.rules[process.generation].boot_timeout
        late_drain = self.now >= process.drain_until
        said_so = self.sup.crew[command.age].failed is not None
        assert process.judged or process.drain or late_boot or late_drain or said_so, "killed for no reason"

    def do_steer(self, command: e.Steer) -> None:
        assert self.listeners_closed is None, "steered, and there is nothing left to steer"
        self.owners = command.owners

    def do_promote(self, command: e.Promote) -> None:
        ready = [p for p in self.alive.values() if p.generation == command.generation and p.state == "ready"]
        assert ready, "promoted, and nobody is ready"
        self.generation = command.generation

    def do_gate(self, _: e.Gate) -> None:
        assert not self.gated
        self.gated = True

    def do_closelisteners(self, command: e.CloseListeners) -> None:
        assert self.listeners_closed is None
        self.listeners_closed = command.ours

    def do_startsuccessor(self, _: e.StartSuccessor) -> None:
        assert not self.successor, "two successors"
        self.successor = True

    def do_abandonsuccessor(self, _: e.AbandonSuccessor) -> None:
        assert self.successor
        self.successor = False

    def do_announce(self, _: e.Announce) -> None:
        pass

    def do_note(self, _: e.Note) -> None:
        pass

    def do_exit(self, command: e.Exit) -> None:
        assert self.exit_code is None, "left twice"
        assert self.listeners_closed is not None
        self.exit_code = command.code

    # -- always true ---------------------------------------------------------------------------------------

    def check(self) -> None:
        assert {i.age for i in self.sup.crew} == set(self.alive), "supervisor and world disagree on who lives"
        for slot, owner in enumerate(self.owners):
            if owner is not None:
                assert owner in self.alive, f"slot {slot} is steered to a dead worker"
                assert self.alive[owner].state == "ready" or not self.lives(self.alive[owner])
                assert self.sup.crew[owner].state is State.READY
                assert self.sup.crew[owner].generation <= self.generation, "steered to a canary"
        for slot in self.sup.crew.slots:
            ready = [(i.generation, i.age) for i in slot.incarnations if i.state is State.READY]
            if ready:
                assert self.owners[slot.index] == max(ready)[1], (
                    "a shard with an owner that nobody was told of"
                )
        for incarnation in self.sup.crew:
            if incarnation.state is not State.READY:
                assert incarnation.deadline is not None, f"{incarnation} is waited for without a deadline"
        if self.sup.phase in LIVING:
            self.check_living()
        if self.sup.phase is Phase.DONE:
            assert self.exit_code is not None

    def check_living(self) -> None:
        for slot in self.sup.crew.slots[: self.sup.wanted]:
            filling = [i for i in slot.incarnations if i.alive and i is not self.sup.canary]
            assert filling or slot.not_before > self.now, f"slot {slot.index} is empty and nobody is started"
            assert len(filling) <= 2
        for slot in self.sup.crew.slots[self.sup.wanted :]:
            filling = [i for i in slot.incarnations if i.alive and i is not self.sup.canary]
            stays = self.sup.wanted and not self.somebody_serves()
            assert not filling or (stays and all(i.state is State.READY for i in filling)), (
                f"slot {slot.index} is not wanted and has a worker that is not told to drain"
            )

    def somebody_serves(self) -> bool:
        """In a slot that is wanted."""
        return any(owner is not None for owner in self.sup.crew.owners()[: self.sup.wanted])
