"""Whatever happens in whatever order: the invariants of the supervisor hold, and it comes to an end."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.stateful.supervisor_world import World
from threadcorn.policy import events as e
from threadcorn.policy.events import Rules, What
from threadcorn.policy.supervisor import LIVING, Phase

PICK = st.integers(0, 1_000)
SECONDS = st.sampled_from([0.0, 0.01, 0.3, 0.9, 1.0, 1.1, 3.0, 6.0, 11.0, 40.0])


class SupervisorMachine(RuleBasedStateMachine):
    """Rules are events; `World` checks each command."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    @initialize(workers=st.integers(1, 4), surge=st.integers(1, 3), lame=st.sampled_from([0.0, 2.0]))
    def begin(self, workers: int, surge: int, lame: float) -> None:
        rules = Rules(boot_timeout=10.0, graceful_timeout=5.0, surge=surge, lame_duck=lame)
        self.world = World(slots=5, target=workers, rules=rules)
        self.world.tick()

    def pick(self, pick: int, state: str | None = None) -> int | None:
        ages = sorted(a for a, p in self.world.alive.items() if state is None or p.state == state)
        return ages[pick % len(ages)] if ages else None

    @precondition(lambda self: self.world.exit_code is None)
    @rule(seconds=SECONDS)
    def time_passes(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @rule(seconds=SECONDS)
    def arbiter_sleeps(self, seconds: float) -> None:
        """One late tick: a machine that was suspended."""
        self.world.tick(seconds)

    @rule(pick=PICK)
    def worker_says_hello(self, pick: int) -> None:
        if (age := self.pick(pick)) is not None:
            self.world.hello(age)

    @rule(pick=PICK)
    def worker_is_ready(self, pick: int) -> None:
        if (age := self.pick(pick, "booting")) is not None:
            self.world.ready(age)

    @rule()
    def all_are_ready(self) -> None:
        for age in self.world.booting():
            if age in self.world.alive:
                self.world.ready(age)

    @rule(pick=PICK)
    def worker_fails(self, pick: int) -> None:
        if (age := self.pick(pick, "booting")) is not None:
            self.world.failed(age)

    @rule(pick=PICK)
    def worker_dies(self, pick: int) -> None:
        if (age := self.pick(pick)) is not None:
            self.world.exited(age, "killed by SIGSEGV")

    @rule()
    def all_die(self) -> None:
        for age in sorted(self.world.alive):
            if age in self.world.alive:
                self.world.exited(age, "killed by SIGKILL")

    @rule()
    def those_who_were_told_leave(self) -> None:
        for age, process in sorted(self.world.alive.items()):
            if (process.drain or process.quit or process.forces) and age in self.world.alive:
                self.world.exited(age)

    @rule(pick=PICK)
    def worker_drains_by_itself(self, pick: int) -> None:
        if (age := self.pick(pick)) is not None:
            self.world.draining(age)

    @rule(pick=PICK)
    def worker_asks_to_be_replaced(self, pick: int) -> None:
        if (age := self.pick(pick)) is not None:
            self.world.recycle(age)

    @rule(pick=PICK)
    def worker_is_judged(self, pick: int) -> None:
        if (age := self.pick(pick)) is not None:
            self.world.judged(age)

    @rule(count=st.integers(1, 3))
    def forks_fail(self, count: int) -> None:
        self.world.fail_forks = count

    @rule(by=st.sampled_from([-1, 1]))
    def scale(self, by: int) -> None:
        self.world.tell(e.ScaleAsked(by))

    @rule(workers=st.one_of(st.none(), st.integers(1, 5)))
    def reload(self, workers: int | None) -> None:
        self.world.reload(workers)

    @rule()
    def retire(self) -> None:
        self.world.tell(e.RetireAsked())

    @rule()
    def upgrade(self) -> None:
        self.world.tell(e.UpgradeAsked())

    @precondition(lambda self: self.world.successor)
    @rule(well=st.booleans())
    def successor_speaks(self, well: bool) -> None:
        self.world.successor = False
        self.world.tell(e.SuccessorReady() if well else e.SuccessorFailed("it died"))

    @rule(quick=st.booleans())
    def stop(self, quick: bool) -> None:
        self.world.tell(e.StopAsked(quick))

    @precondition(lambda self: self.world.gated)
    @rule()
    def queues_are_empty(self) -> None:
        self.world.tell(e.QueuesEmpty())

    @invariant()
    def invariants(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        world = self.world
        if world.sup.phase in LIVING:
            self.settles()
        # And whatever the children do, which here is nothing at all:
        world.tell(e.StopAsked(quick=True))
        for _ in range(20):
            if world.exit_code is not None:
                break
            due = world.sup.deadline()
            assert due is not None
            world.now = max(world.now, due)
            world.tick()
        assert world.exit_code is not None, "asked to be quick, and did not leave in 20 ticks"

    def settles(self) -> None:
        """With workers that do as they are told, all is as wanted after a while."""
        world = self.world
        world.fail_forks = 0
        if world.successor:
            world.successor = False
            world.tell(e.SuccessorFailed("it died"))
        for _ in range(40):
            world.everybody_boots()
            if world.sup.phase is Phase.SERVE and world.sup.waiting is None:
                break
            if world.sup.phase not in LIVING:
                # It never came up, and says so.
                assert What.FATAL in world.notes(ever=True)
                return
            world.pass_time(5.0)
        assert world.sup.phase is Phase.SERVE, f"still {world.sup.phase}"
        world.pass_time(200.0)
        world.everybody_boots()
        assert len(world.alive) == world.sup.wanted
        assert all(p.state == "ready" for p in world.alive.values())
        assert sorted(p.slot for p in world.alive.values()) == list(range(world.sup.wanted))
        if What.RELOAD_STUCK not in world.notes(ever=True):
            assert {p.generation for p in world.alive.values()} <= {world.generation}


SupervisorMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestSupervisor = SupervisorMachine.TestCase
