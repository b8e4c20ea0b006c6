"""The supervisor, told as stories. Every command in them is checked by the world as well."""

from __future__ import annotations

import pytest

from tests.stateful.supervisor_world import World
from threadcorn.errors import ExitCode, InternalError
from threadcorn.messages import Drain, Failed, Quit, Ready
from threadcorn.policy import events as e
from threadcorn.policy.crew import GRUDGE, LAST_WORDS
from threadcorn.policy.events import Force, Milestone, Phase, Rules, What
from threadcorn.policy.leaving import GATE_LEAST, GIVE_UP
from threadcorn.policy.restart import LIMIT
from threadcorn.policy.supervisor import Supervisor

# -- the first boot ------------------------------------------------------------------------------------


def test_all_workers_of_the_first_generation_boot_at_once():
    """As many as wanted, one a slot, and READY is announced when the last one is."""
    world = World(target=3).start()
    assert [(c.slot, c.generation) for c in world.of(e.Spawn)] == [(0, 1), (1, 1), (2, 1)]
    world.ready(1)
    world.ready(2)
    assert world.sup.phase is Phase.BOOT
    assert Milestone.READY not in world.announced()
    world.ready(3)
    assert world.sup.phase is Phase.SERVE
    assert world.announced() == [Milestone.READY]
    assert world.owners[:4] == (1, 2, 3, None)


def test_an_application_that_cannot_load_stops_the_server_at_once():
    """The first `Failed` is enough, and its exit code is the server's."""
    world = World(target=2).start()
    world.failed(1, code=ExitCode.APP_NOT_LOADABLE, text="no module named shop")
    assert What.FATAL in world.notes()
    assert [c.age for c in world.of(e.Kill)] == [2]
    world.exited(2, "killed by SIGKILL")
    assert world.exit_code == ExitCode.APP_NOT_LOADABLE


def test_too_many_silent_deaths_at_the_first_boot():
    """Without a word from the worker it is tried again, with back-off, LIMIT times."""
    world = World(target=1).start()
    for n in range(LIMIT):
        assert world.exit_code is None, f"gave up after {n}"
        assert world.booting()
        world.exited(world.booting()[0], "killed by SIGSEGV")
        world.pass_time(20.0)
    assert world.exit_code == ExitCode.TOO_MANY_DEATHS


def test_one_bad_day_at_the_first_boot_is_survived():
    """One death, then it works."""
    world = World(target=1).start()
    world.exited(1, "killed by SIGKILL")
    assert What.WORKER_NOT_READY in world.notes()
    assert world.spawned() == []
    world.pass_time(1.0)
    world.ready(2)
    assert world.sup.phase is Phase.SERVE


def test_a_fork_that_fails_is_tried_again():
    """EAGAIN at fork is a death before readiness, not the end."""
    world = World(target=1)
    world.fail_forks = 1
    world.start()
    assert not world.alive
    world.pass_time(1.0)
    assert world.booting() == [2]


def test_a_worker_that_hangs_at_import():
    """ABRT at boot_timeout, so that it shows where; KILL a moment later; counted as a failed boot."""
    world = World(target=1).start()
    world.pass_time(10.0)
    assert world.alive[1].forces == [Force.ABRT]
    world.pass_time(LAST_WORDS)
    assert world.alive[1].forces == [Force.ABRT, Force.KILL]
    world.exited(1, "killed by SIGKILL")
    note = next(c for c in world.last if isinstance(c, e.Note) and c.what is What.WORKER_NOT_READY)
    assert "boot_timeout" in note.fields["cause"]


def test_a_worker_that_says_it_fails_and_stays():
    """It is given GRUDGE seconds to leave by itself."""
    world = World(target=1).start()
    world.tell(e.Heard(1, Failed(3, "no")))
    world.pass_time(GRUDGE)
    assert world.alive[1].forces == [Force.ABRT]


# -- crash ---------------------------------------------------------------------------------------------


def test_a_crash_is_replaced_at_once():
    """In the same slot; the shard has no owner meanwhile."""
    world = World(target=2).serving()
    world.exited(1, "killed by SIGSEGV")
    assert [(c.slot, c.generation) for c in world.of(e.Spawn)] == [(0, 1)]
    assert world.owners[:2] == (None, 2)
    world.ready(3)
    assert world.owners[:2] == (3, 2)


def test_a_worker_that_crashes_as_soon_as_it_is_ready_backs_off():
    """Ready for less than a second is as good as not ready."""
    world = World(target=1).serving()
    world.exited(1, "killed by SIGSEGV")
    waits = []
    for _ in range(4):
        age = world.booting()[0]
        world.ready(age)
        world.exited(age, "killed by SIGSEGV")
        assert world.spawned() == []
        due = world.sup.deadline()
        waits.append(due - world.now)
        world.pass_time(waits[-1])
    assert waits == sorted(waits)
    assert waits[-1] >= 7 * waits[0]
    assert world.sup.phase is Phase.SERVE


def test_the_server_goes_on_trying_after_the_first_boot():
    """Also when nobody is left: a database that comes back finds us alive."""
    world = World(target=2).serving()
    world.exited(1, "killed by SIGKILL")
    world.exited(2, "killed by SIGKILL")
    for _ in range(20):
        for age in world.booting():
            world.failed(age)
        world.pass_time(40.0)
    assert world.exit_code is None
    world.everybody_boots()
    assert world.in_state("ready")


def test_a_worker_that_drains_by_itself_is_replaced_at_once():
    """Somebody sent it a TERM by hand."""
    world = World(target=2).serving()
    world.draining(1)
    assert [c.slot for c in world.of(e.Spawn)] == [0]
    world.exited(1)
    assert What.WORKER_LEFT in world.notes()
    assert world.spawned() == []


def test_a_silent_heart():
    """ABRT, then KILL; the replacement boots at once, beside the dying one."""
    world = World(target=2).serving()
    world.judged(1)
    assert world.alive[1].forces == [Force.ABRT]
    assert [c.slot for c in world.of(e.Spawn)] == [0]
    assert world.owners[0] is None
    world.pass_time(LAST_WORDS)
    assert world.alive[1].forces == [Force.ABRT, Force.KILL]
    world.judged(1)
    assert world.alive[1].forces == [Force.ABRT, Force.KILL]


def test_a_process_that_does_not_die_does_not_hold_up_a_reload():
    """It hangs in the kernel. After three KILLs its place is not counted any more."""
    world = World(target=1).serving()
    world.judged(1)
    world.ready(2)
    world.pass_time(5.0)
    assert world.notes(ever=True).count(What.WORKER_UNKILLABLE) == 1
    world.reload()
    assert world.spawned() == [3]


# -- scaling -------------------------------------------------------------------------------------------


def test_the_last_one_that_serves_is_not_one_too_many():
    """One less is asked for while the slots that stay have nobody: who serves does so until they have."""
    world = World(target=3).start()
    world.ready(3)
    world.tell(e.ScaleAsked(-2))
    assert world.told_to_drain() == [2], "who boots serves nobody"
    world.ready(1)
    assert world.told_to_drain() == [3]


def test_more_and_fewer():
    """TTIN fills the lowest free slot, TTOU drains the highest."""
    world = World(target=2).serving()
    world.tell(e.ScaleAsked(1))
    assert [c.slot for c in world.of(e.Spawn)] == [2]
    world.ready(3)
    world.tell(e.ScaleAsked(-1))
    assert world.told_to_drain() == [3]
    assert world.owners[:3] == (1, 2, None)


def test_a_worker_that_boots_and_is_not_wanted_any_more():
    """It is told, and TERM ends it if it still loads."""
    world = World(target=1).serving()
    world.tell(e.ScaleAsked(1))
    world.tell(e.ScaleAsked(-1))
    assert world.told_to_drain() == [2]
    assert world.alive[2].forces == [Force.TERM]


def test_the_ends_of_the_scale():
    """Never less than one, never more than there are slots."""
    world = World(target=1, slots=2).serving()
    world.tell(e.ScaleAsked(-1))
    assert What.SCALE_REFUSED in world.notes()
    world.tell(e.ScaleAsked(1))
    world.tell(e.ScaleAsked(1))
    assert What.SCALE_REFUSED in world.notes()
    assert world.sup.wanted == 2


def test_winch_and_back():
    """All drain and nobody is replaced; one more is one."""
    world = World(target=3).serving()
    world.tell(e.RetireAsked())
    assert sorted(world.told_to_drain()) == [1, 2, 3]
    for age in (1, 2, 3):
        world.exited(age)
    assert not world.alive
    assert world.sup.phase is Phase.SERVE
    world.tell(e.ScaleAsked(1))
    assert len(world.alive) == 1


def test_a_reload_brings_the_retired_back():
    """As many as there were."""
    world = World(target=2).serving()
    world.tell(e.RetireAsked())
    world.everybody_boots()
    world.reload()
    world.everybody_boots()
    assert len(world.in_state("ready")) == 2


# -- reload --------------------------------------------------------------------------------------------


def test_the_canary_first_then_slot_by_slot():
    """Each predecessor is told only when its successor is ready, and the next one begins when it has left."""
    world = World(target=3).serving()
    world.reload()
    assert [(c.slot, c.generation) for c in world.of(e.Spawn)] == [(0, 2)]
    assert world.owners[:3] == (1, 2, 3)
    world.hello(4)
    assert world.told_to_drain() == []
    world.ready(4)
    assert world.owners[:3] == (4, 2, 3)
    assert world.told_to_drain() == [1]
    assert world.spawned() == [], "one worker more than wanted lives already"
    world.exited(1)
    assert [(c.slot, c.generation) for c in world.of(e.Spawn)] == [(1, 2)]
    world.everybody_boots()
    assert world.sup.phase is Phase.SERVE
    assert world.announced() == [Milestone.READY, Milestone.RELOADING, Milestone.RELOADED]
    assert {p.generation for p in world.alive.values()} == {2}


def test_the_successor_is_steered_to_before_its_predecessor_drains():
    """In this order, or a new connection could go to a worker that accepts nothing any more."""
    world = World(target=1).serving()
    world.reload()
    world.ready(2)
    kinds = [type(c) for c in world.last]
    assert kinds.index(e.Steer) < kinds.index(e.Tell)


def test_surge():
    """Two more than wanted: two slots at a time."""
    world = World(target=4, rules=Rules(boot_timeout=10, surge=2)).serving()
    world.reload()
    assert len(world.spawned()) == 1, "the canary is alone"
    world.ready(5)
    assert [c.slot for c in world.of(e.Spawn)] == [1]
    world.exited(1)
    assert [c.slot for c in world.of(e.Spawn)] == [2]


@pytest.mark.parametrize("how", ["fails", "dies", "hangs", "is told to leave"])
def test_a_canary_that_does_not_get_ready_changes_nothing(how):
    """The old generation never noticed, and a crash is still filled with the old one."""
    world = World(target=2).serving()
    world.reload()
    before = world.owners
    if how == "fails":
        world.failed(3, text="SyntaxError")
    elif how == "dies":
        world.exited(3, "killed by SIGSEGV")
    elif how == "hangs":
        world.pass_time(10.0)
        world.pass_time(LAST_WORDS)
        world.exited(3, "killed by SIGKILL")
    else:
        world.draining(3)
    assert What.RELOAD_FAILED in world.notes()
    assert world.sup.phase is Phase.SERVE
    assert world.owners == before
    assert world.in_state("ready") == [1, 2]
    assert world.announced()[-1] is Milestone.RELOAD_FAILED
    world.exited(1, "killed by SIGSEGV")
    assert [(c.slot, c.generation) for c in world.of(e.Spawn)] == [(0, 1)]


def test_the_note_of_a_failed_reload_tells_why():
    """What the worker said, and how it ended."""
    world = World(target=1).serving()
    world.reload()
    world.failed(2, text="SyntaxError: invalid syntax")
    note = next(c for c in world.last if isinstance(c, e.Note) and c.what is What.RELOAD_FAILED)
    assert note.fields["text"] == "SyntaxError: invalid syntax"
    assert note.fields["cause"] == "exited with code 3"


def test_reloads_during_a_reload_wait_and_the_last_one_wins():
    """Two are asked for while the first canary boots; only the newer one is ever begun."""
    world = World(target=2).serving()
    world.reload()
    world.reload()
    world.reload()
    assert world.notes().count(What.RELOAD_WAITS) == 1
    world.ready(3)
    assert world.sup.candidate.generation == 4
    world.everybody_boots()
    assert {p.generation for p in world.alive.values()} == {4}
    assert not any(isinstance(c, e.Spawn) and c.generation == 3 for c in world.commands)


def test_a_reload_that_fails_in_the_middle_of_a_roll_lets_the_roll_go_on():
    """The second generation has proved itself; that the third one has not is no reason to keep the first."""
    world = World(target=3).serving()
    world.reload()
    world.ready(4)
    world.exited(1)
    world.reload()
    canary = [p.age for p in world.alive.values() if p.generation == 3]
    for age in world.booting():
        if age not in canary:
            world.ready(age)
            world.exited(2)
    canary = [p.age for p in world.alive.values() if p.generation == 3]
    world.failed(canary[0])
    world.everybody_boots()
    assert {p.generation for p in world.alive.values()} == {2}
    assert world.sup.phase is Phase.SERVE


def test_a_roll_in_which_too_many_die_stops_half_way():
    """The canary was ready, the others are not: what is left of the old generation serves on."""
    world = World(target=3).serving()
    world.reload()
    world.ready(4)
    world.exited(1)
    for _ in range(LIMIT):
        assert world.sup.phase is Phase.RELOAD
        world.failed(world.booting()[0])
        world.pass_time(40.0)
    assert What.RELOAD_STUCK in world.notes(ever=True)
    assert world.sup.phase is Phase.SERVE
    assert world.in_state("ready") == [2, 3, 4]
    world.pass_time(1000.0)
    assert world.in_state("ready") == [2, 3, 4]
    world.reload()
    world.everybody_boots()
    assert {p.generation for p in world.alive.values()} == {3}


def test_a_crash_while_a_canary_boots_is_filled_with_the_old_generation():
    """And when the canary wins, it wins over that one too, although that one is younger."""
    world = World(target=1).serving()
    world.reload()
    world.exited(1, "killed by SIGSEGV")
    assert [(c.slot, c.generation) for c in world.of(e.Spawn)] == [(0, 1)]
    world.ready(2)
    assert world.told_to_drain() == [3]
    world.ready(3)
    assert world.owners[0] == 2


def test_scaling_survives_a_reload():
    """TTIN, then HUP with the same number in the settings: what TTIN said holds."""
    world = World(target=2).serving()
    world.tell(e.ScaleAsked(1))
    world.everybody_boots()
    world.reload()
    world.everybody_boots()
    assert len(world.alive) == 3


def test_a_changed_number_of_workers_takes_effect_with_the_reload():
    """When the canary is ready, not before, and not if it never is."""
    world = World(target=2).serving()
    world.reload(workers=4)
    assert world.sup.wanted == 2
    world.ready(3)
    assert world.sup.wanted == 4
    world.everybody_boots()
    assert len(world.in_state("ready")) == 4
    world.reload(workers=1)
    world.failed(world.booting()[0])
    assert world.sup.wanted == 4


def test_a_reload_asked_for_while_booting_waits():
    """It begins as soon as all are ready."""
    world = World(target=1).start()
    world.reload()
    assert What.RELOAD_WAITS in world.notes()
    world.ready(1)
    assert world.sup.phase is Phase.RELOAD


def test_the_new_boot_timeout_holds_for_the_canary():
    """It may be what the reload is about."""
    world = World(target=1).serving()
    world.reload(rules=Rules(boot_timeout=100.0))
    world.pass_time(50.0)
    assert world.alive[2].forces == []


def test_generations_that_nobody_needs_are_forgotten():
    """After a roll only the newest is left."""
    world = World(target=2).serving()
    for _ in range(3):
        world.reload()
        world.everybody_boots()
    assert world.sup.generations() == {4}
    world.reload()
    assert set(world.sup.crew.rules) == {4, 5}


# -- recycling -----------------------------------------------------------------------------------------


def test_recycling_is_a_reload_of_one_slot_one_at_a_time():
    """Both ask; the second one's successor begins when the first one has left."""
    world = World(target=2).serving()
    world.recycle(2)
    assert [(c.slot, c.generation) for c in world.of(e.Spawn)] == [(1, 1)]
    world.recycle(1)
    assert world.spawned() == []
    world.ready(3)
    assert world.told_to_drain() == [2]
    assert world.spawned() == []
    world.exited(2)
    assert [c.slot for c in world.of(e.Spawn)] == [0]
    world.everybody_boots()
    assert world.in_state("ready") == [3, 4]


def test_a_successor_that_fails_costs_nothing():
    """Whoever asked to be replaced serves on until it can be, and the tries get rarer."""
    world = World(target=1).serving()
    world.recycle(1)
    for _ in range(3):
        world.failed(world.booting()[0])
        assert world.in_state("ready") == [1]
        assert world.spawned() == []
        world.pass_time(world.sup.deadline() - world.now)
        assert world.booting()
    world.ready(world.booting()[0])
    assert world.told_to_drain() == [1]


def test_recycling_twice_is_recycling_once():
    """The wish is noted once."""
    world = World(target=1).serving()
    world.recycle(1)
    world.recycle(1)
    assert world.notes(ever=True).count(What.RECYCLE_ASKED) == 1
    world.everybody_boots()
    assert len([c for c in world.commands if isinstance(c, e.Spawn)]) == 2


# -- stopping ------------------------------------------------------------------------------------------


def test_a_graceful_stop():
    """Gate; when the queues are empty the workers are told, with the time that is left; then the end."""
    world = World(target=2).serving()
    world.tell(e.StopAsked(quick=False))
    assert world.gated
    assert world.told_to_drain() == []
    world.pass_time(GATE_LEAST)
    world.tell(e.QueuesEmpty())
    assert world.told_to_drain() == [1, 2]
    seconds = next(c.message.seconds for c in world.last if isinstance(c, e.Tell))
    assert seconds == pytest.approx(5.0 - GATE_LEAST)
    world.exited(1)
    assert world.exit_code is None
    world.exited(2)
    assert world.exit_code == 0
    assert world.listeners_closed is True


def test_a_stop_cuts_what_does_not_end():
    """A worker that is still there after graceful_timeout is killed."""
    world = World(target=1).serving()
    world.tell(e.StopAsked(quick=False))
    world.tell(e.QueuesEmpty())
    world.pass_time(7.0)
    assert world.alive[1].forces[0] is Force.KILL
    world.exited(1, "killed by SIGKILL")
    assert world.exit_code == 0


def test_the_lame_duck_serves_on():
    """For its time nobody is told and nothing is gated, and a crash is not replaced any more."""
    world = World(target=2, rules=Rules(lame_duck=4.0, graceful_timeout=5.0)).serving()
    world.tell(e.StopAsked(quick=False))
    assert world.announced()[-1] is Milestone.STOPPING
    world.pass_time(3.9)
    assert not world.gated
    assert world.owners[:2] == (1, 2)
    world.exited(1, "killed by SIGSEGV")
    assert world.spawned() == []
    world.pass_time(0.2)
    assert world.gated


def test_a_stop_during_a_reload():
    """Everybody leaves, and the canary is not waited for."""
    world = World(target=1).serving()
    world.reload()
    world.tell(e.StopAsked(quick=False))
    assert world.alive[2].forces == [Force.TERM]
    world.exited(2, "killed by SIGTERM")
    assert What.RELOAD_FAILED not in world.notes(ever=True)
    world.pass_time(GATE_LEAST)
    world.tell(e.QueuesEmpty())
    world.exited(1)
    assert world.exit_code == 0


def test_a_stop_before_anybody_is_ready():
    """No gate, no wait."""
    world = World(target=2).start()
    world.tell(e.StopAsked(quick=False))
    assert not world.gated
    assert [world.alive[age].forces for age in (1, 2)] == [[Force.TERM], [Force.TERM]]


def test_a_quick_stop():
    """QUIT to those who serve, KILL to those who boot, KILL a moment later to whoever is still there."""
    world = World(target=2).serving()
    world.tell(e.ScaleAsked(1))
    world.tell(e.StopAsked(quick=True))
    told = [c.age for c in world.last if isinstance(c, e.Tell) and c.message == Quit()]
    assert told == [1, 2]
    assert world.alive[3].forces == [Force.KILL]
    world.pass_time(LAST_WORDS)
    assert world.alive[1].forces == [Force.KILL]


def test_the_last_one_may_die_behind_the_gate():
    """Nobody is left to be told; the listeners are closed once, and nothing is steered after that."""
    world = World(target=1).serving()
    world.tell(e.StopAsked(quick=False))
    assert world.gated
    world.exited(1, "killed by SIGKILL")
    assert world.exit_code == 0
    note = next(c for c in world.last if isinstance(c, e.Note))
    assert (note.what, note.fields["wait"]) == (What.WORKER_CRASHED, None)


def test_a_second_quick_stop_kills_at_once():
    """Ctrl-C twice."""
    world = World(target=1).serving()
    world.tell(e.StopAsked(quick=True))
    assert world.alive[1].forces == []
    world.tell(e.StopAsked(quick=True))
    assert world.alive[1].forces == [Force.KILL]


def test_a_graceful_stop_may_be_hurried():
    """TERM, then INT."""
    world = World(target=1).serving()
    world.tell(e.StopAsked(quick=False))
    world.pass_time(GATE_LEAST)
    world.tell(e.QueuesEmpty())
    assert world.told_to_drain() == [1]
    world.tell(e.StopAsked(quick=True))
    assert [c.message for c in world.of(e.Tell)] == [Quit()]
    world.tell(e.StopAsked(quick=False))
    assert world.of(e.Tell) == [], "a TERM does not make it slower again"


def test_those_who_drain_for_a_reload_are_given_no_more_time_by_a_stop():
    """The deadline that comes first holds."""
    world = World(target=1, rules=Rules(graceful_timeout=30.0)).serving()
    world.reload()
    world.ready(2)
    world.pass_time(28.0)
    world.tell(e.StopAsked(quick=False))
    world.pass_time(GATE_LEAST)
    world.tell(e.QueuesEmpty())
    assert world.told_to_drain() == [2]
    world.pass_time(3.5)
    assert world.alive[1].forces == [Force.KILL]


def test_children_that_never_die_are_left_behind():
    """The end comes GIVE_UP seconds after a quick stop, whatever they do."""
    world = World(target=2).serving()
    world.tell(e.StopAsked(quick=True))
    world.pass_time(GIVE_UP)
    assert world.exit_code == 0
    assert What.LEFT_BEHIND in world.notes()


def test_after_the_end_nothing_matters():
    """Late signals are not answered and do not raise."""
    world = World(target=1).serving()
    world.tell(e.StopAsked(quick=True))
    world.exited(1)
    assert world.exit_code == 0
    for event in (e.StopAsked(quick=True), e.ScaleAsked(1), e.UpgradeAsked(), e.RetireAsked(), e.Tick()):
        assert world.tell(event) == []


# -- upgrade -------------------------------------------------------------------------------------------


def test_an_upgrade_hands_over():
    """The successor is ready: we drain without a gate, and do not shut the listeners down."""
    world = World(target=2).serving()
    world.tell(e.UpgradeAsked())
    assert world.successor
    world.tell(e.SuccessorReady())
    assert sorted(world.told_to_drain()) == [1, 2]
    assert not world.gated
    world.exited(1)
    world.exited(2)
    assert world.exit_code == 0
    assert world.listeners_closed is False


@pytest.mark.parametrize("how", ["dies", "hangs"])
def test_an_upgrade_that_fails_changes_nothing(how):
    """We serve on, and may try again."""
    world = World(target=1).serving()
    world.tell(e.UpgradeAsked())
    if how == "dies":
        world.successor = False
        world.tell(e.SuccessorFailed("exited with code 3"))
    else:
        world.pass_time(30.0)
        assert not world.successor
    assert What.UPGRADE_FAILED in world.notes(ever=True)
    assert world.sup.phase is Phase.SERVE
    assert world.in_state("ready") == [1]
    world.tell(e.UpgradeAsked())
    assert world.successor


def test_during_an_upgrade_the_dead_are_replaced_and_nothing_else_begins():
    """Reload, scaling and a second upgrade are refused."""
    world = World(target=1).serving()
    world.tell(e.UpgradeAsked())
    for ask in (e.ScaleAsked(1), e.UpgradeAsked(), e.RetireAsked()):
        world.tell(ask)
        assert world.notes() == [What.REFUSED]
    world.reload()
    assert world.notes() == [What.REFUSED]
    world.exited(1, "killed by SIGSEGV")
    assert len(world.spawned()) == 1


def test_a_stop_ends_an_upgrade():
    """The successor is abandoned."""
    world = World(target=1).serving()
    world.tell(e.UpgradeAsked())
    world.tell(e.StopAsked(quick=False))
    assert not world.successor
    assert world.sup.phase is Phase.DRAIN


# -- what must not be ----------------------------------------------------------------------------------


def test_news_of_the_unknown_is_our_fault():
    """It raises, with the age in the text."""
    world = World(target=1).serving()
    with pytest.raises(InternalError, match="worker 99"):
        world.tell(e.Heard(99, Ready()))


def test_a_worker_may_not_speak_for_the_arbiter():
    """Drain is not a worker's word."""
    world = World(target=1).serving()
    with pytest.raises(InternalError, match="Drain"):
        world.tell(e.Heard(1, Drain(1.0, "me")))


def test_every_order_has_an_answer_in_every_phase():
    """No signal at a bad moment may raise. News of a successor is only possible once there was one."""
    orders = {e.ReloadAsked, e.ScaleAsked, e.RetireAsked, e.UpgradeAsked, e.StopAsked}
    for phase in Phase:
        assert orders <= set(Supervisor._ANSWERS[phase]), phase
        if phase is not Phase.BOOT:
            assert {e.SuccessorReady, e.SuccessorFailed} <= set(Supervisor._ANSWERS[phase]), phase


def test_an_order_that_has_no_answer_raises():
    """With phase and event in the text."""
    world = World(target=1).start()
    with pytest.raises(InternalError, match=r"SuccessorReady.*booting"):
        world.tell(e.SuccessorReady())
