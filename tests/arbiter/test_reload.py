"""HUP: a canary first, then slot by slot; whatever is wrong, the old generation serves on."""

from __future__ import annotations

import signal

import pytest

from tests.kit import eventually


def test_a_new_generation_takes_over(stage):
    """All are new, nobody who asked meanwhile was turned away, no more lived than the surge allows."""
    server = stage(settings={"workers": 3})
    old = set(server.workers())
    most = 0
    server.hup()

    def over() -> bool:
        nonlocal most
        assert server.ask("p")
        most = max(most, len(server.workers()))
        return "Reloaded" in server.log

    while not over():
        pass
    new = set(server.settled(3, generation=2))
    assert not old & new
    assert most <= 4


def test_the_old_ones_serve_until_the_canary_is_ready(stage):
    """With an application that takes long to load, the old generation answers meanwhile."""
    server = stage(settings={"workers": 2})
    old = server.workers()
    server.application("import time; time.sleep(0.5)")
    server.hup()
    server.logged("Reloading")
    eventually(lambda: len(server.workers()) == 3)
    assert {server.ask("p")[2] for _ in range(20)} == {1}
    assert set(old) <= set(server.workers())
    server.logged("Reloaded")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def (", "SyntaxError"),
        ("raise RuntimeError('no database')", "no database"),
        ("import nowhere_to_be_found", "nowhere_to_be_found"),
        ("raise SystemExit(3)", "SystemExit"),
        ("import os; os._exit(9)", "exited with code 9"),
        ("import os; os.abort()", "SIGABRT"),
    ],
)
def test_a_broken_application(stage, text, words):
    """The log says why, and the same processes serve on."""
    server = stage(settings={"workers": 2}, tolerate=["Fatal Python error"])
    old = server.workers()
    server.application(text)
    server.hup()
    server.logged("Reload failed")
    assert words in server.log
    server.settled(2)
    assert server.workers() == old
    assert server.ask("p")[2] == 1
    server.application("")
    server.hup()
    server.logged("Reloaded")
    assert not set(old) & set(server.settled(2))


def test_an_application_that_hangs(stage):
    """It is given boot_timeout, then it is ended, and nothing has changed."""
    server = stage(settings={"boot_timeout": 1})
    old = server.workers()
    server.application("import time; time.sleep(60)")
    server.hup()
    server.logged("Reload failed", "boot_timeout")
    server.settled(1)
    assert server.workers() == old


def test_a_broken_configuration(stage):
    """Nothing is forked; one line says what is wrong."""
    server = stage()
    old = server.workers()
    (server.directory / "settings.json").write_text('{"workers": "many"}')
    server.hup()
    server.logged("Reload refused", "workers")
    (server.directory / "settings.json").write_text("{")
    server.hup()
    server.logged("Reload refused", "settings.json")
    assert server.count("Booting worker") == 1
    assert server.workers() == old
    server.configure()
    server.hup()
    server.logged("Reloaded")


def test_what_only_a_restart_can_change(stage):
    """It is named, and nothing else is changed either."""
    server = stage()
    server.configure(backlog=100, workers=2)
    server.hup()
    server.logged("Reload refused", "backlog", "restart")
    assert server.count("Booting worker") == 1


def test_the_number_of_workers_may_change(stage):
    """With the new generation."""
    server = stage(settings={"workers": 1})
    server.configure(workers=3)
    server.hup()
    server.settled(3, generation=2)
    server.configure(workers=2)
    server.hup()
    server.settled(2, generation=3)


def test_what_ttin_said_survives(stage):
    """Unless the number in the configuration changes."""
    server = stage(settings={"workers": 1})
    server.signal(signal.SIGTTIN)
    server.settled(2)
    server.hup()
    server.logged("Reloaded")
    server.settled(2, generation=2)


def test_the_environment_of_a_generation(stage):
    """raw_env is read again."""
    server = stage(settings={"raw_env": ["STAGE=one"]})
    assert server.ask("e")[0] == "one"
    server.configure(raw_env=["STAGE=two"])
    server.hup()
    server.settled(1, generation=2)
    assert server.ask("e")[0] == "two"


def test_a_crash_after_a_failed_reload_is_filled_with_the_old_configuration(stage):
    """The new one was abandoned, its environment too."""
    server = stage(settings={"raw_env": ["STAGE=one"]})
    server.configure(raw_env=["STAGE=two"])
    server.application("import os\nif os.environ['STAGE'] == 'two': raise RuntimeError('no')")
    server.hup()
    server.logged("Reload failed")
    server.ask("x")
    server.settled(1)
    assert server.ask("e")[0] == "one"


def test_reloads_during_a_reload(stage):
    """One at a time, and the last one wins: its environment is what everybody has in the end."""
    server = stage(settings={"workers": 2})
    server.application("import time; time.sleep(0.3)")
    for number in range(4):
        server.configure(raw_env=[f"STAGE={number}"])
        server.hup()
        eventually(lambda n=number: server.count("Handling signal: hup") == n + 1)
    eventually(lambda: server.count("Reloaded") == 1 and server.ask("e")[0] == "3")
    server.settled(2)
    assert {server.ask("e")[0] for _ in range(10)} == {"3"}
    assert server.count("Reloading:") <= 3


def test_a_new_log_file(stage, tmp_path):
    """The arbiter and the new workers write to it."""
    server = stage()
    file = tmp_path / "new.log"
    server.configure(errorlog=str(file))
    server.hup()
    eventually(lambda: file.exists() and "Reloaded" in file.read_text())


def test_preload_says_what_a_reload_cannot_do(stage):
    """The workers are replaced, the code is not."""
    server = stage("print('loaded once')", settings={"preload_app": True, "workers": 2})
    server.hup()
    server.logged("preload_app", "restart")
    server.logged("Reloaded")


def test_a_surge(stage):
    """With reload_surge 2 two slots are replaced at a time."""
    server = stage(settings={"workers": 4, "reload_surge": 2})
    server.hup()
    server.logged("Reloaded")
    server.settled(4, generation=2)
