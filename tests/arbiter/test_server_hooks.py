"""Server hooks: gunicorn's order and arguments; what they raise stops nothing."""

from __future__ import annotations

import signal

import pytest

from tests.kit import eventually

ARBITERS = ["on_starting", "when_ready", "pre_fork", "child_exit", "nworkers_changed", "on_reload", "on_exit"]


def names(server, *, of="arbiter"):
    return [line.split()[0] for line in server.hooks() if line.split()[1] == of]


def test_the_order(stage):
    """nworkers_changed, on_starting, when_ready, then a fork; on_exit last of all."""
    server = stage(settings={"hooks": True})
    assert names(server) == ["nworkers_changed", "on_starting", "when_ready", "pre_fork"]
    assert names(server, of="worker") == ["post_fork", "post_worker_init"]
    server.stop()
    assert names(server)[4:] == ["child_exit", "on_exit"]
    assert "worker_exit worker True 1" in server.hooks()


def test_the_number_of_workers(stage):
    """At the start from None, then at each change."""
    server = stage(settings={"hooks": True, "workers": 2})
    server.signal(signal.SIGTTIN)
    eventually(lambda: "nworkers_changed arbiter 3 2" in server.hooks())
    changes = [line for line in server.hooks() if line.startswith("nworkers_changed")]
    assert changes == ["nworkers_changed arbiter 2 None", "nworkers_changed arbiter 3 2"]
    server.settled(3)
    # Before the fork: hooks number workers by it, and the third could have no number yet.
    assert [name for name in names(server) if name != "when_ready"][-2:] == ["nworkers_changed", "pre_fork"]


def test_a_reload(stage):
    """on_reload before the first worker of the new generation is forked."""
    server = stage(settings={"hooks": True})
    server.hup()
    server.logged("Reloaded")
    after = names(server)[names(server).index("on_reload") :]
    assert after[:2] == ["on_reload", "pre_fork"]


def test_a_worker_that_was_killed_has_no_last_word(stage):
    """child_exit is called in the arbiter with its number; worker_exit is not."""
    server = stage(settings={"hooks": True})
    server.ask("k")
    server.settled(1)
    eventually(lambda: "child_exit arbiter False 1" in server.hooks())
    assert not [line for line in server.hooks() if line.startswith("worker_exit")]


@pytest.mark.parametrize("bad", ARBITERS)
def test_a_wrong_hook_does_not_kill_the_arbiter(stage, bad):
    """It is logged by name, and everything goes on."""
    server = stage(settings={"hooks": True, "bad_hook": bad})
    server.hup()
    server.logged("Reloaded")
    server.ask("k")
    server.settled(1)
    server.stop()
    assert f"The server hook {bad} raised" in server.log
    assert f"{bad} is wrong" in server.log


def test_a_wrong_worker_exit(stage):
    """It is the last thing a worker does, and changes nothing."""
    server = stage(settings={"hooks": True, "bad_hook": "worker_exit"})
    assert server.stop() == 0
    assert "worker_exit is wrong" in server.log


@pytest.mark.parametrize("bad", ["post_fork", "post_worker_init"])
def test_a_hook_without_which_a_worker_cannot_be(stage, bad):
    """Raised in a worker that boots it is a failed boot: of a canary here, so the old generation stays."""
    server = stage(settings={"hooks": True})
    server.configure(bad_hook=bad)
    server.hup()
    server.logged("Reload failed")
    assert f"{bad} is wrong" in server.log
    assert server.ask("p")[2] == 1
