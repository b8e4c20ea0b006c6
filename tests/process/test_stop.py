"""TERM, INT and QUIT on real servers under load: who is inside is answered, who comes late can tell."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.kit import connect, eventually, need
from tests.kit.processes import freeze
from tests.kit.server import environment
from tests.process.crowd import Crowd
from tests.process.line import APP, RUNGS, Line, lives, reach

GATE = "tests.kit.apps:gate"


@pytest.mark.parametrize(("bind", "options"), RUNGS)
def test_a_stop_under_load_resets_nobody(bind: str, options: tuple[str, ...]) -> None:
    """Whoever was connected is answered or was between two requests; whoever comes late is refused."""
    with Line("--workers", "2", "--graceful-timeout", "10", *options, bind=bind) as server:
        with Crowd(reach(server), keep=4, fresh=6, within=3.0) as crowd:
            crowd.more(100)
            began = time.monotonic()
            server.end()
            took = time.monotonic() - began
            assert server.wait() == 0
        if bind == "fd":
            # The listener is not ours to shut: who comes late waits for the next server.
            crowd.lost.pop("TimeoutError", None)
        assert not crowd.lost, (crowd.lost, crowd.closed, crowd.answered)
        assert took < 5
        assert "Traceback" not in server.log


@pytest.mark.parametrize("successors", [0, 1])
def test_stop_after_stop(successors: int) -> None:
    """Many short lives, each ended in the middle of the load; an upgraded server ends like a new one."""
    lost = {}
    for number in range(3):
        with Line("--workers", "2") as server, Crowd(reach(server), keep=2, fresh=8) as crowd:
            for _ in range(successors):
                server.upgrade()
            crowd.more(50 + 20 * number)
            server.end()
            crowd.end()
            lost[number] = dict(crowd.lost)
    assert not any(lost.values()), lost


def test_the_request_that_runs_is_answered_and_says_that_it_is_the_last() -> None:
    """TERM comes while the application is at work."""
    with Line("--workers", "1", app=GATE) as server:
        client, idle = server.connect(), server.connect()
        assert idle.get("/").body == b"free"
        client.request("/hold/a")
        eventually((server.directory / "a.in").exists)
        server.tell(signal.SIGTERM)
        server.logged("Worker draining")
        assert idle.end() == "closed"
        (server.directory / "a.go").touch()
        reply = client.reply()
        assert reply.body == b"held"
        assert not reply.keeps
        assert client.end() == "closed"
        assert server.wait() == 0


def test_a_request_that_does_not_end_is_cut() -> None:
    """Nobody waits for a stuck thread: graceful_timeout is the bound, and the exit code is that of a stop."""
    with Line("--workers", "1", "--graceful-timeout", "0.5", app=GATE) as server:
        client = server.connect()
        client.request("/hold/a")
        eventually((server.directory / "a.in").exists)
        began = time.monotonic()
        server.end(within=5)
        assert time.monotonic() - began < 3
        assert server.wait() == 0
        assert "Traceback" not in server.log


def test_a_lame_duck_serves_while_balancers_look_away() -> None:
    """Readiness is false at once; new connections are served until the time is over."""
    with Line("--lame-duck", "1.5", "--admin-bind", "unix:admin") as server:
        admin = f"unix:{server.directory}/admin"
        assert server.get("/readyz", address=admin).status == 200
        began = time.monotonic()
        server.tell(signal.SIGTERM)
        eventually(lambda: server.get("/readyz", address=admin).status == 503)
        assert time.monotonic() - began < 1
        served = 0
        while time.monotonic() - began < 1:
            assert server.get().status == 200
            served += 1
        assert served
        assert server.wait() == 0
        assert time.monotonic() - began > 1.5


def test_a_term_to_everybody_is_the_arbiters_business() -> None:
    """supervisord (stopasgroup), timeout(1) and systemd's default send it to the workers as well: they serve
    until the lame-duck time is over, and nobody speaks of replacing them."""
    with Line("--workers", "2", "--lame-duck", "60", "--admin-bind", "unix:admin") as server:
        admin = f"unix:{server.directory}/admin"
        workers = server.workers()
        os.killpg(server.pid, signal.SIGTERM)
        eventually(lambda: server.get("/readyz", address=admin).status == 503)
        idle = server.connect()
        assert idle.get().status == 200
        assert idle.silent(0.5)
        assert idle.get().status == 200
        assert server.workers() == workers
        assert "to be replaced" not in server.log
        assert "draining" not in server.log
        server.end(signal.SIGINT, within=5)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_a_quick_stop_waits_for_nobody(number: int) -> None:
    """A running request, a lame-duck time and a graceful time-out are no reason to stay."""
    options = ("--workers", "2", "--lame-duck", "30", "--graceful-timeout", "30")
    with Line(*options, app=GATE) as server:
        client = server.connect()
        client.request("/hold/a")
        eventually((server.directory / "a.in").exists)
        began = time.monotonic()
        server.end(number, within=5)
        assert time.monotonic() - began < 2
        assert server.wait() == 0
        assert "Traceback" not in server.log
        assert "ERROR" not in server.log


def test_ctrl_c_reaches_everybody_and_nobody_shouts() -> None:
    """The terminal sends INT to the whole group: arbiter and workers alike."""
    with Line("--workers", "3") as server:
        os.killpg(server.pid, signal.SIGINT)
        assert server.wait(within=5) == 0
        assert "Traceback" not in server.log
        assert "ERROR" not in server.log
        assert server.log.count("Booting worker") == 3


def test_a_second_one_is_quicker() -> None:
    """TERM waits for the request, INT does not, and the second INT not even for a worker that is stopped."""
    options = ("--workers", "2", "--graceful-timeout", "30")
    with Line(*options, app=GATE) as server:
        client = server.connect()
        client.request("/hold/a")
        eventually((server.directory / "a.in").exists)
        worker = int(eventually((server.directory / "a.in").read_text))
        server.tell(signal.SIGTERM)
        server.logged("Worker draining")
        freeze(worker)
        began = time.monotonic()
        server.tell(signal.SIGINT)
        server.logged("Stopping at once")
        server.tell(signal.SIGINT)
        server.logged("Stopping at once", 2)
        assert server.wait(within=5) == 0
        assert time.monotonic() - began < 2
        assert not lives(worker)


def test_a_stop_while_the_first_workers_boot() -> None:
    """Connections that came early are refused in the end, and nothing hangs."""
    source = "import os, time\nopen('boots', 'w').close()\ntime.sleep(30)\napp = None\n"
    server = Line("--workers", "2", source=source, ready_within=1.0)
    try:
        with pytest.raises(AssertionError, match="not ready"):
            server.start()
        eventually((server.directory / "boots").exists)
        address = server.log.partition("http://")[2].split()[0]
        with connect(address) as early:
            began = time.monotonic()
            server.signal(signal.SIGTERM)
            assert server.wait(within=5) == 0
            assert time.monotonic() - began < 3
            assert early.end() in ("closed", "reset")
    finally:
        server._kill_session()


BOOTS_SLOWLY = """
import os, time
n = len([name for name in os.listdir(".") if name.startswith("boots")])
open(f"boots{os.getpid()}", "w").close()
until = time.monotonic() + 20
while not os.path.exists("go") and time.monotonic() < until:
    time.sleep(0.005)
def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


@pytest.mark.parametrize("options", [(), ("--no-shard",)])
def test_whoever_connects_while_workers_boot_is_answered(options: tuple[str, ...]) -> None:
    """Also with shards for many more workers than there are: nobody waits in one that has no worker."""
    server = Line("--workers", "2", "--max-workers", "32", *options, source=BOOTS_SLOWLY)
    ready, write = os.pipe()
    try:
        server._spawn(write)
        os.close(write)
        eventually(lambda: "http://" in server.log, within=20)
        address = server.log.partition("http://")[2].split()[0]
        early = [connect(address) for _ in range(60)]
        for client in early:
            client.request("/")
        (server.directory / "go").touch()
        assert [client.reply().body for client in early] == [b"ok"] * 60
        for client in early:
            client.close()
        server.addresses = [address]
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 5
    finally:
        os.close(ready)
        server._kill_session()


def test_impatience_does_not_change_the_exit_code(tmp_path) -> None:
    """TERM and Ctrl-C, again and again until the process is gone, in its last moments too."""
    pidfile = tmp_path / "pid"
    with Line("--pid", str(pidfile)) as server:
        while server.running:
            for number in (signal.SIGTERM, signal.SIGINT):
                with contextlib.suppress(ProcessLookupError):
                    server.signal(number)
        assert server.wait() == 0
        assert "Traceback" not in server.log
        assert not pidfile.exists()


EARLY = """
import os, signal
if not os.path.exists("once"):
    open("once", "w").close()
    for number in (signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR1, signal.SIGUSR2):
        os.kill(os.getpid(), number)
""" + APP.format(version="one")


def test_what_comes_while_the_arbiter_boots_ends_nothing_and_is_obeyed_later() -> None:
    """The pid file is there, the application is being loaded; whoever rotates logs cannot know that."""
    with Line("--workers", "1", "--preload", source=EARLY) as server:
        for name in ("hup", "ttin", "ttou", "usr1", "usr2"):
            server.logged(f"Handling signal: {name}")
        server.logged("Reloaded: ")
        assert server.get().status == 200
        server.end()


def container() -> list[str]:
    """What a command is to begin with so that it is the first process of a container."""
    prefix = [need("unshare"), "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]
    possible = subprocess.run([*prefix, "true"], capture_output=True, text=True, check=False)
    if possible.returncode:
        assert not (os.environ.get("CI") and os.geteuid() == 0), possible.stderr
        pytest.skip(f"no namespaces here: {possible.stderr}")
    return prefix


def test_the_first_process_of_a_container_is_stopped_while_it_loads(tmp_path: Path) -> None:
    """What it has no handler for is not delivered to it: `docker stop` would wait in vain, and then kill."""
    prefix = container()
    (tmp_path / "application.py").write_text(
        "import time\nopen('loads', 'w').close()\nfor _ in range(3000):\n    time.sleep(0.01)\n"
    )
    server = [sys.executable, "-m", "threadcorn", "--preload", "--pid", "pid", "--bind", "127.0.0.1:0"]
    outer = subprocess.Popen([*prefix, *server, "application:app"], cwd=tmp_path, env=environment())
    try:
        eventually((tmp_path / "loads").exists)
        [arbiter] = psutil.Process(outer.pid).children()
        arbiter.terminate()
        assert outer.wait(10) == 0
        assert not (tmp_path / "pid").exists()
    finally:
        for process in (*psutil.Process(outer.pid).children(), outer) if outer.poll() is None else ():
            process.kill()
        outer.wait()


def test_the_first_process_of_a_container_is_not_upgraded(tmp_path: Path) -> None:
    """The kernel ends its successor with it: the log said that all went well, and nothing served any more."""
    prefix = container()
    options = ["--error-logfile", "log", "--bind", "unix:socket"]
    server = [sys.executable, "-m", "threadcorn", *options, "tests.kit.apps:hello"]
    outer = subprocess.Popen([*prefix, *server], cwd=tmp_path, env=environment())

    def logged(text: str) -> None:
        assert text in (tmp_path / "log").read_text()

    try:
        eventually((tmp_path / "socket").exists)
        eventually(lambda: logged("All workers are ready"))
        [arbiter] = psutil.Process(outer.pid).children()
        arbiter.send_signal(signal.SIGUSR2)
        eventually(lambda: logged("Upgrade failed, we serve on: it would end with us"))
        with connect(f"unix:{tmp_path}/socket") as client:
            assert client.get("/").status == 200
        arbiter.terminate()
        assert outer.wait(10) == 0
    finally:
        for process in (*psutil.Process(outer.pid).children(), outer) if outer.poll() is None else ():
            process.kill()
        outer.wait()


def test_no_pid_file_names_a_server_that_was_ended_while_it_loaded(tmp_path: Path) -> None:
    """TERM ends an import that hangs by its default action, which leaves nobody to remove a file."""
    (tmp_path / "application.py").write_text(
        "import time\nopen('loads', 'w').close()\nfor _ in range(3000):\n    time.sleep(0.01)\n"
    )
    options = ["--preload", "--pid", "pid", "--bind", "unix:socket", "--control-socket", "control"]
    command = [sys.executable, "-m", "threadcorn", *options, "application:app"]
    server = subprocess.Popen(command, cwd=tmp_path, env=environment())
    try:
        eventually((tmp_path / "loads").exists)
        server.terminate()
        assert server.wait(10) == -signal.SIGTERM
    finally:
        server.kill()
        server.wait()
    assert not {"pid", "socket", "control"} & set(os.listdir(tmp_path))


SELF_MADE = """
import os, signal
def pre_fork(server, worker):
    if os.path.exists("armed"):
        os.remove("armed")
        os.kill(os.getpid(), signal.SIGTERM)
"""


def test_nobody_is_replaced_once_the_stop_is_known() -> None:
    """TERM to all of a session, and the workers hear it first: the arbiter learns of the second one's end
    with its own TERM already there."""
    with Line("--workers", "2", config=SELF_MADE, check_descriptors=False) as server:
        freeze(server.serving)
        workers = server.children()

        def obeyed() -> None:
            """the workers, who get no successor, have been told again"""
            for pid in filter(lives, workers):
                os.kill(pid, signal.SIGTERM)
            assert not any(lives(pid) for pid in workers)

        eventually(obeyed)
        (server.directory / "armed").touch()
        os.kill(server.serving, signal.SIGCONT)
        assert server.wait(within=20) == 0
        assert server.log.count("Booting worker") == 3, server.log  # two, and the first one's successor
