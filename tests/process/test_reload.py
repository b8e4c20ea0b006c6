"""HUP, TTIN and TTOU under load, on every way of listening."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.kit import Finished, ServerProcess, eventually, run_cli
from tests.process.crowd import Crowd
from tests.process.line import APP, RUNGS, Line, reach


@pytest.mark.parametrize(("bind", "options"), RUNGS)
def test_workers_are_replaced_under_load(bind: str, options: tuple[str, ...]) -> None:
    """No request is lost and no kept connection ends; afterwards every answer is the new code's."""
    with Line("--workers", "2", *options, bind=bind) as server, Crowd(reach(server)) as crowd:
        for number, version in enumerate(("the second", "and a third"), start=1):
            server.deploy(APP.format(version=version))
            server.tell(signal.SIGHUP)
            server.logged("Reloaded: generation", number)
            crowd.more(30)
            assert server.get(address=reach(server)).body.decode().startswith(version)
        for number, (signum, workers) in enumerate(
            ((signal.SIGTTIN, 3), (signal.SIGTTIN, 4), (signal.SIGTTOU, 3), (signal.SIGTTOU, 2))
        ):
            server.tell(signum)
            server.logged("Number of workers", number + 1)
            eventually(lambda wanted=workers: len(server.children()) == wanted, within=20)
            crowd.more(20)
        crowd.end()
        assert not crowd.lost, crowd.lost
        assert not crowd.closed
        assert not crowd.refused


def test_a_broken_deploy_under_load_is_not_noticed() -> None:
    """The canary dies; nobody outside sees it, and the log says why."""
    with Line("--workers", "2") as server, Crowd(reach(server)) as crowd:
        before = server.children()
        server.deploy("raise RuntimeError('a deploy that went wrong')\n")
        server.tell(signal.SIGHUP)
        server.logged("Reload failed, generation 1 serves on")
        assert "a deploy that went wrong" in server.log
        crowd.more(30)
        crowd.end()
        assert server.children() == before
        assert not crowd.lost, crowd.lost
        assert not crowd.closed


def test_the_file_of_a_unix_socket_is_found_after_a_change_of_directory() -> None:
    """A deploy moves the link that `chdir` leads over. Where the path is relative, the file was looked for in
    the new place at the end, and stayed."""
    files = {f"{place}/application.py": APP.format(version=place) for place in ("first", "the_second")}
    options = {"bind": "unix:socket", "files": files, "config": "chdir = 'first'"}
    with ServerProcess("application:app", **options) as server:
        place = f"unix:{server.directory}/first/socket"
        (server.directory / "threadcorn.conf.py").write_text("chdir = 'the_second'")
        server.signal(signal.SIGHUP)
        # The old worker may still take one while it is being told to leave.
        second = f"the_second {server.pid}".encode()
        eventually(lambda: server.get(address=place).body == second)
        assert server.stop() == 0
        assert not (server.directory / "first" / "socket").exists()


CONTROL = ("--control-socket", "control")


def reload(server: Line, *options: str) -> Finished:
    """threadcornctl reload --wait."""
    command = ("-s", str(server.directory / "control"), "reload", "--wait", *options)
    return run_cli(*command, module="threadcorn.ctl", within=60)


FAILURES = [
    pytest.param("threadcorn.conf.py", "workers = 'many'\n", "got 'many'", id="value in the configuration"),
    pytest.param("threadcorn.conf.py", "workers = 2 +\n", "invalid syntax", id="syntax of the configuration"),
    pytest.param("threadcorn.conf.py", "backlog = 5\n", "can only change by a restart", id="needs a restart"),
    pytest.param("application.py", "def app(:\n", "SyntaxError", id="syntax of the application"),
    pytest.param("application.py", "import nowhere\n", "No module named 'nowhere'", id="import"),
    pytest.param("application.py", "x = 1\n", "has no attribute 'app'", id="no application"),
    pytest.param("application.py", "import time\ntime.sleep(99)\n", "boot_timeout", id="hangs"),
    pytest.param("application.py", "import sys\nsys.exit(0)\n", "ended the program", id="exits"),
    pytest.param("application.py", "import os\nos._exit(7)\n", "exited with code 7", id="exits at once"),
    pytest.param("application.py", "import os\nos.kill(os.getpid(), 9)\n", "killed by SIGKILL", id="dies"),
]


def test_every_way_to_fail_is_told_and_changes_nothing() -> None:
    """Exit code 1 and the reason, in the log as well; the old workers serve on, and the next reload works."""
    with Line("--workers", "2", "--boot-timeout", "2", *CONTROL, tolerate=["Fatal Python error"]) as server:
        before = server.children()
        good = (server.directory / "application.py").read_text()
        for case in FAILURES:
            file, text, said = (str(value) for value in case.values)
            (server.directory / file).write_text(text)
            done = reload(server)
            assert done.code == 1, (case.id, done)
            assert said in done.out + done.err, (case.id, done)
            assert said in server.log, case.id
            assert server.get().body == f"one {server.pid}".encode()
            assert server.children() == before, case.id
            (server.directory / "threadcorn.conf.py").write_text("")
            server.deploy(good)
        server.deploy(APP.format(version="the second"))
        assert reload(server).code == 0
        assert server.get().body == f"the second {server.pid}".encode()


# Each version boots when its file is there.
WAITS = """
import os, time
open(VERSION + ".in", "w").close()
while not os.path.exists(VERSION + ".go"):
    time.sleep(0.005)
"""


def test_the_last_of_several_wins() -> None:
    """Two more orders while a reload is under way: the second is not even tried, the third serves in the end,
    and everybody who waits is told so."""
    with Line("--workers", "2", *CONTROL) as server, ThreadPoolExecutor(3) as pool:
        waiting = []
        for number, version in enumerate(("a 2nd", "3rd", "the fourth"), start=2):
            server.deploy(APP.format(version=version) + WAITS)
            waiting.append(pool.submit(reload, server))
            if number == 2:
                eventually((server.directory / "a 2nd.in").exists)
            else:
                server.logged("Reload waits", number - 2)
        (server.directory / "a 2nd.go").touch()
        (server.directory / "the fourth.go").touch()
        for one in waiting:
            done = one.result()
            assert (done.code, done.out.strip()) == (0, "generation 4 serves"), done
        assert server.get().body == f"the fourth {server.pid}".encode()
        assert not (server.directory / "3rd.in").exists()
        assert "Reloaded: generation 3" not in server.log


def test_a_failure_that_overtakes_does_not_stop_the_roll() -> None:
    """A good reload is half-way when a broken one comes: that one fails, the good one goes on to its end."""
    with Line("--workers", "3", *CONTROL) as server, ThreadPoolExecutor(2) as pool:
        server.deploy(APP.format(version="a 2nd") + WAITS)
        good = pool.submit(reload, server)
        eventually((server.directory / "a 2nd.in").exists)
        server.deploy("raise RuntimeError('broken')\n")
        bad = pool.submit(reload, server)
        server.logged("Reload waits")
        (server.directory / "a 2nd.go").touch()
        assert bad.result().code == 1
        assert "broken" in bad.result().out
        server.deploy(APP.format(version="a 2nd"))
        done = good.result()
        assert (done.code, done.out.strip()) == (0, "generation 2 serves"), done
        for _ in range(10):
            assert server.get().body == f"a 2nd {server.pid}".encode()


def test_what_was_scaled_stays_scaled() -> None:
    """TTIN and TTOU survive a reload, unless the configured number was changed; then that counts."""
    config = "workers = 2\n"
    with Line(*CONTROL, config=config) as server:
        for number, wanted in ((signal.SIGTTIN, 3), (signal.SIGTTIN, 4), (signal.SIGTTOU, 3)):
            server.tell(number)
            eventually(lambda wanted=wanted: len(server.children()) == wanted)
        assert reload(server).code == 0
        eventually(lambda: len(server.children()) == 3)
        server.tell(signal.SIGTTIN)  # during a reload as well
        assert reload(server).code == 0
        eventually(lambda: len(server.children()) == 4)
        (server.directory / "threadcorn.conf.py").write_text("workers = 1\n")
        assert reload(server).code == 0
        eventually(lambda: len(server.children()) == 1)


# The first one boots when it may, the others when they may.
IN_TURN = """
import os, time
name = "rest" if os.path.exists("first.in") else "first"
open(name + ".in", "w").close()
while not os.path.exists(name + ".go"):
    time.sleep(0.005)
"""


@pytest.mark.parametrize("surge", [1, 3])
def test_how_many_more_may_live(surge: int) -> None:
    """--reload-surge: the first one alone, then so many at a time boot beside those that serve."""
    with Line("--workers", "4", "--reload-surge", str(surge)) as server:
        server.deploy(APP.format(version="a 2nd") + IN_TURN)
        before = set(server.children())
        server.tell(signal.SIGHUP)
        eventually((server.directory / "first.in").exists)
        assert len(server.children()) == 5
        (server.directory / "first.go").touch()
        eventually((server.directory / "rest.in").exists)

        def surging() -> None:
            """one of the old has left, and as many as may live are there"""
            children = set(server.children())
            assert (len(children), len(before & children)) == (4 + surge, 3)

        eventually(surging)
        (server.directory / "rest.go").touch()
        server.logged("Reloaded: generation 2")
        eventually(lambda: len(server.children()) == 4)
