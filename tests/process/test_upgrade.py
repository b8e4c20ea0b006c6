"""USR2 on real servers: a new arbiter takes over, or nothing has happened."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import zipapp
from pathlib import Path

import psutil
import pytest

from tests.kit import ROOT, ServerProcess, connect, eventually, need
from tests.process.crowd import Crowd
from tests.process.line import APP, RUNGS, Line, lives, reach

SECOND = APP.format(version="the second")
BROKEN = "raise RuntimeError('a deploy that went wrong')\n"
FORKS = """
import os, time
if os.fork() == 0:
    while not os.path.exists("go on"):
        time.sleep(0.01)
    os._exit(0)
"""
# Boots for as long as the test wants it to.
HANGS = """
import os, time
open("hangs", "w").close()
until = time.monotonic() + 30
while not os.path.exists("go on") and time.monotonic() < until:
    time.sleep(0.01)
""" + APP.format(version="late")


@pytest.mark.parametrize(("bind", "options"), RUNGS)
def test_a_successor_takes_over_under_load(bind: str, options: tuple[str, ...]) -> None:
    """New code serves, nothing was lost, the old arbiter and its workers are gone, and so a second time."""
    with Line("--workers", "2", *options, bind=bind) as server:
        with Crowd(reach(server)) as crowd:
            for version in ("the second", "a third one")[: 1 if options else 2]:
                server.deploy(APP.format(version=version))
                new = server.upgrade()
                crowd.more(50)
                assert server.get(address=reach(server)).body == f"{version} {new}".encode()
        assert not crowd.lost, crowd.lost
        assert not crowd.refused
        assert server.wait() == 0
        server.end()
        if bind != "fd":
            with pytest.raises(OSError, match=r"refused|No such file"):
                server.get(address=reach(server))


def test_idle_connections_go_to_the_successors_workers() -> None:
    """Connections between two requests, fresh ones and half a request see neither an end nor a delay."""
    with Line("--workers", "2", "--graceful-timeout", "20") as server:
        idle = [server.connect() for _ in range(20)]
        for client in idle:
            assert client.get("/").status == 200
        half, fresh = server.connect(), server.connect()
        half.send(b"GET / HTTP/1.1\r\nHost: t\r\nX-Half: ")
        server.deploy(SECOND)
        answer = f"the second {server.upgrade()}".encode()
        half.send(b"yes\r\n\r\n")
        assert half.reply().body == answer
        for client in [*idle, fresh]:
            assert client.get("/").body == answer
        server.end()


@pytest.mark.parametrize("bind", ["unix", "127.0.0.1:0"])
def test_idle_connections_go_to_a_smaller_successor(bind: str) -> None:
    """The old workers put them into as many inboxes as they are; somebody has to look into all of these."""
    with Line(config="workers = 4\nmax_workers = 4", bind=bind) as server:
        clients = [server.connect() for _ in range(16)]
        for client in clients:
            client.get("/")
        (server.directory / "threadcorn.conf.py").write_text("workers = 1\nmax_workers = 1")
        new = server.upgrade()
        for client in clients:
            assert client.get("/").body == f"one {new}".encode()
        server.end()


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        pytest.param("application.py", BROKEN, "a deploy that went wrong", id="application"),
        pytest.param("threadcorn.conf.py", "workers = 'many'\n", "workers", id="configuration"),
    ],
)
def test_a_successor_that_cannot_start_changes_nothing(file: str, text: str, said: str) -> None:
    """We serve on, say why, and the next attempt with the mistake repaired succeeds."""
    with Line("--workers", "2") as server, Crowd(reach(server)) as crowd:
        before = server.children()
        (server.directory / file).write_text(text)
        server.tell(signal.SIGUSR2)
        server.logged("Upgrade failed, we serve on")
        _, _, told = server.log.partition("Upgrade failed, we serve on")
        assert said in told, server.log  # by us: its own words may stand in another log
        crowd.more(30)
        assert server.children() == before
        assert server.named() == server.serving
        (server.directory / file).write_text(SECOND if file == "application.py" else "")
        server.upgrade()
        crowd.end()
        assert not crowd.lost, crowd.lost
        server.end()


def successor(server: Line) -> int:
    """The successor while it boots."""
    eventually((server.directory / "hangs").exists, within=20)
    for pid in server.children():
        if psutil.Process(pid).children():
            return pid
    raise AssertionError(f"none of {server.children()} has children")


def test_a_successor_that_is_killed_changes_nothing() -> None:
    """Its half-made workers end by themselves, and there is never more than one: a second USR2 is refused."""
    with Line("--workers", "2") as server, Crowd(reach(server)) as crowd:
        before = server.children()
        server.deploy(HANGS)
        server.tell(signal.SIGUSR2)
        pid = successor(server)
        theirs = psutil.Process(pid).children()
        server.tell(signal.SIGUSR2)
        server.logged("Upgrade refused: the server is upgrading")
        assert len(server.children()) == len(before) + 1
        os.kill(pid, signal.SIGKILL)
        server.logged("killed by SIGKILL")
        (server.directory / "go on").touch()
        eventually(lambda: not any(lives(child.pid) for child in theirs), within=20)
        crowd.more(30)
        assert server.children() == before
        crowd.end()
        assert not crowd.lost, crowd.lost
        server.end()


def test_whoever_holds_what_a_dead_successor_left_open_stops_nobody() -> None:
    """The application, loaded by the successor itself, has forked: the wire of "ready" never ends."""
    with Line("--workers", "2", "--preload") as server, Crowd(reach(server)) as crowd:
        server.deploy(FORKS + HANGS)
        server.tell(signal.SIGUSR2)
        pid = successor(server)
        child = psutil.Process(pid).children()[0]
        os.kill(pid, signal.SIGKILL)
        server.logged("killed by SIGKILL")
        assert lives(child.pid)
        crowd.more(30)
        server.tell(signal.SIGHUP)
        server.logged("Handling signal: hup")
        (server.directory / "go on").touch()
        eventually(lambda: not lives(child.pid), within=20)
        server.logged("Reloaded")
        crowd.end()
        assert not crowd.lost, crowd.lost
        server.end()


def test_an_address_that_is_given_up_is_nobodys() -> None:
    """A copy of its sockets in a worker would let clients in that nobody answers, and keep the port taken."""
    with Line(config="bind = ['127.0.0.1:0', '127.0.0.2:0', 'unix:going']", bind=[]) as server:
        kept, gone, _ = server.addresses
        (server.directory / "threadcorn.conf.py").write_text("bind = ['127.0.0.1:0']")
        server.upgrade()
        assert server.get(address=kept).status == 200
        with pytest.raises(ConnectionRefusedError):
            connect(gone)
        assert not (server.directory / "going").exists()
        server.end()


def test_the_lost_file_of_a_unix_socket_is_told_and_made_anew() -> None:
    """Nobody could connect any more, and no log said so. What waits at the old socket is answered."""
    with Line("--workers", "2", bind="unix") as server:
        kept, waits = server.connect(), server.connect()
        assert kept.get("/").status == 200
        (server.directory / "socket").unlink()
        server.logged("is gone or has been replaced")
        server.tell(signal.SIGHUP)
        server.logged("Reloaded: generation 2")
        server.logged("is gone or has been replaced", 2)
        assert not (server.directory / "socket").exists()
        new = server.upgrade()
        assert "No longer listening" not in server.log
        for client in (kept, waits, server.connect()):
            assert client.get("/").body == f"one {new}".encode()
        server.end()
        assert not (server.directory / "socket").exists()


def test_kept_connections_know_their_address_when_others_come_before_it() -> None:
    """They are handed over with a number of their address, which may be another one in the successor."""
    source = """
def app(environ, start):
    body = environ["SERVER_PORT"].encode()
    start("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
    binds = ["127.0.0.1:0", "127.0.0.2:0", "unix:file"]
    with Line(config=f"bind = {binds}", bind=[], source=source) as server:
        clients = [server.connect(address) for address in server.addresses[:2]]
        clients.append(server.connect(f"unix:{server.directory}/file"))
        before = [client.get("/").body for client in clients]
        assert len(set(before)) == 3
        (server.directory / "threadcorn.conf.py").write_text(f"bind = {binds[::-1]}")
        server.upgrade()
        assert [client.get("/").body for client in clients] == before
        server.end()


def test_the_pid_file_is_put_right_when_a_successor_that_had_it_fails() -> None:
    """It writes its name there before it says that it is ready, and may be ended, or given up, in between."""
    took_it_and_died = """
import os, pathlib
pathlib.Path("mine").write_text(str(os.getpid()))
os.rename("mine", "pid")
os._exit(3)
"""
    took_it_away = "import os\nos.remove('pid')\nos._exit(3)\n"
    with Line() as server:
        for count, text in enumerate((took_it_and_died, took_it_away), 1):
            (server.directory / "threadcorn.conf.py").write_text(text)
            server.tell(signal.SIGUSR2)
            server.logged("Upgrade failed", count)
            eventually(lambda: server.named() == server.serving)
        (server.directory / "threadcorn.conf.py").unlink()
        server.upgrade()
        server.end()
        assert not (server.directory / "pid").exists()


def test_no_pid_file_is_left_where_the_successor_has_another_one() -> None:
    with ServerProcess(config="pidfile = 'one'\n") as server:
        (server.directory / "threadcorn.conf.py").write_text("pidfile = 'another'\n")
        server.signal(signal.SIGUSR2)
        assert server.wait() == 0
        assert not (server.directory / "one").exists()
        successor = int((server.directory / "another").read_text())
        os.kill(successor, signal.SIGTERM)
        eventually(lambda: not lives(successor), within=20)
        assert not (server.directory / "another").exists()


def test_a_stop_during_an_upgrade_ends_both() -> None:
    """The successor that boots is of no use any more, and may not shut the sockets before the last answer."""
    with Line("--workers", "1") as server:
        server.deploy(HANGS)
        server.tell(signal.SIGUSR2)
        pid = successor(server)
        with Crowd(reach(server)) as crowd:
            server.end()
        assert not crowd.lost, crowd.lost
        assert server.wait() == 0
        eventually(lambda: not lives(pid), within=20)


def test_the_successor_takes_over_from_a_predecessor_that_died() -> None:
    """The old arbiter is killed half-way: the successor goes on booting, serves, and is upgraded itself."""
    with Line("--workers", "1", exit_code=-signal.SIGKILL) as server:
        server.deploy(HANGS)
        server.tell(signal.SIGUSR2)
        pid = successor(server)
        server.tell(signal.SIGKILL)
        (server.directory / "go on").touch()
        eventually(lambda: server.named() == pid, within=20)
        server.serving = pid
        assert server.get().body == f"late {pid}".encode()
        server.deploy(SECOND)
        new = server.upgrade()
        assert server.get().body == f"the second {new}".encode()
        server.end()


def test_a_daemon_is_upgraded() -> None:
    """It goes to the background once; its successor is there already, and the pid file names it."""
    script = """
import os, subprocess, sys
done = subprocess.run([sys.executable, "-m", "threadcorn", "--daemon", "--pid", "pid", "--bind", "unix:sock",
                       "--error-logfile", "log", "application:app"], check=False)
os.write(int(os.environ["READY_FD"]), b"ready unix:sock\\n")
sys.exit(done.returncode)
"""
    with ServerProcess(script=script, source=APP.format(version="one"), check_descriptors=False) as server:
        directory = server.directory
        assert server.wait() == 0
        first = int((directory / "pid").read_text())
        address = f"unix:{directory}/sock"
        with connect(address) as client:
            assert client.get("/").body == f"one {first}".encode()
        (directory / "application.py").write_text(SECOND)
        os.kill(first, signal.SIGUSR2)
        eventually(lambda: not lives(first), within=20)
        second = int((directory / "pid").read_text())
        with connect(address) as client:
            assert client.get("/").body == f"the second {second}".encode()
        (directory / "application.py").write_text(BROKEN)
        os.kill(second, signal.SIGUSR2)
        eventually(lambda: "a deploy that went wrong" in (directory / "log").read_text(), within=20)
        eventually(lambda: "Upgrade failed" in (directory / "log").read_text(), within=20)
        os.kill(second, signal.SIGTERM)
        eventually(lambda: not lives(second), within=20)
        assert not (directory / "pid").exists()


def test_systemd_is_told_who_the_main_process_is(tmp_path: Path) -> None:
    """MAINPID comes from the one it listens to; STOPPING does not follow, which would end the service, and a
    successor that fails, or is not ready yet, says nothing at all."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(tmp_path / "notify"))
        notify.settimeout(20)
        with Line(env={"NOTIFY_SOCKET": str(tmp_path / "notify")}) as server:
            server.deploy(BROKEN)
            server.tell(signal.SIGUSR2)
            server.logged("Upgrade failed")
            server.deploy(APP.format(version="another"))
            new = server.upgrade()
            server.end()
        notify.setblocking(False)
        said = []
        while True:
            try:
                said.append(notify.recv(4096).decode())
            except BlockingIOError:
                break
    assert [text for text in said if "READY=1" in text][1:] == [text for text in said if "MAINPID" in text]
    told = [text for text in said if "MAINPID" in text]
    assert len(told) == 1
    assert f"MAINPID={new}" in told[0]
    assert "READY=1" in told[0]
    stopping = [number for number, text in enumerate(said) if "STOPPING" in text]
    assert len(stopping) == 1
    assert stopping[0] > said.index(told[0])


EMBEDDED = """
import os
from pathlib import Path
from threadcorn.app.base import BaseApplication
class Mine(BaseApplication):
    def load_config(self):
        self.cfg.set("bind", os.environ["BIND"])
        self.cfg.set("ready_fd", os.environ["READY_FD"])
        self.cfg.set("pidfile", "pid")
        self.cfg.set("pre_exec", lambda server: Path("pre_exec").write_text(str(os.getpid())))
    def load(self):
        import application
        return application.app
Mine().run()
"""
CONSOLE = "import sys\nfrom threadcorn.cli import main\nsys.exit(main())\n"


@pytest.mark.parametrize("how", ["embedded", "console", "zip"])
def test_the_same_program_is_executed(how: str, tmp_path: Path) -> None:
    """A script that embeds us, the console script, an archive as PEX makes them: what sys.argv has lost is
    found; the configuration is read again in the directory of the start, also after a change of directory."""
    script = EMBEDDED
    if how != "embedded":
        options = ["--bind", "BIND", "--ready-fd", "READY_FD", "--pid", "DIR/pid", "--chdir", "elsewhere"]
        target = "DIR/run.pyz" if how == "zip" else "DIR/run"
        (tmp_path / "archive").mkdir()
        (tmp_path / "archive" / "__main__.py").write_text(CONSOLE)
        zipapp.create_archive(tmp_path / "archive", tmp_path / "run.pyz")
        (tmp_path / "run").write_text(CONSOLE)
        script = f"""
import os, sys
words = {json.dumps([target, *options, "application:app"])}
known = dict(BIND=os.environ["BIND"], READY_FD=os.environ["READY_FD"], DIR={str(tmp_path)!r})
def full(word):
    for name, value in known.items():
        word = word.replace(name, value)
    return word
os.symlink(os.path.join(known["DIR"], os.path.basename(words[0])), os.path.basename(words[0]))
words[0] = os.path.basename(words[0])
words = [full(word) for word in words]
os.makedirs("elsewhere")
os.rename("application.py", "elsewhere/application.py")
os.execv(sys.executable, [sys.executable, *words])
"""
    with Line(script=script) as server:
        if how != "embedded":
            server.serving = int((tmp_path / "pid").read_text())
            server.named = lambda: int((tmp_path / "pid").read_text())  # type: ignore[method-assign]
        place = server.directory if how == "embedded" else server.directory / "elsewhere"
        (place / "application.py").write_text(SECOND)
        new = server.upgrade()
        assert server.get().body == f"the second {new}".encode()
        if how == "embedded":
            assert int((server.directory / "pre_exec").read_text()) == new
        server.end()


@pytest.mark.long
@pytest.mark.limit(400)
@pytest.mark.parametrize("options", [(), ("--venv",)], ids=["zip", "venv"])
def test_a_new_pex_file_is_what_runs(options: tuple[str, ...], tmp_path: Path) -> None:
    """PEX runs what it has unpacked, under a name of its own. A new archive in the place of the old one is
    executed all the same, with its threadcorn and its application."""
    tool = need("pex")

    def build(version: str) -> None:
        site = tmp_path / "site"
        shutil.copytree(ROOT / "threadcorn", site / "threadcorn", dirs_exist_ok=True)
        (site / "application.py").write_text(APP.format(version=version))
        command = [tool, "httptools", "psutil", "-D", str(site), "-m", "threadcorn", *options]
        command += ["-o", str(tmp_path / "new")]
        subprocess.run(command, check=True, timeout=180, capture_output=True)
        os.rename(tmp_path / "new", tmp_path / "site.pex")

    script = f"""
import os, sys
command = ["{tmp_path}/site.pex", "--bind", os.environ["BIND"], "--ready-fd", os.environ["READY_FD"]]
os.remove("application.py")
os.execv(command[0], [*command, "--pid", "pid", "application:app"])
"""
    build("one")
    env = {"PEX_ROOT": str(tmp_path / "root"), "PATH": os.environ["PATH"]}
    with Line(script=script, env=env, ready_within=90, check_descriptors=False) as server:
        assert server.get().body == f"one {server.serving}".encode()
        for version in ("the second", "and a third"):
            build(version)
            before = server.serving
            server.tell(signal.SIGUSR2)
            eventually(lambda before=before: server.named() not in (0, before), within=60)
            eventually(lambda before=before: not lives(before), within=20)
            server.serving = server.named()
            assert server.get().body == f"{version} {server.serving}".encode()
        server.end()


def test_the_admin_doors_go_along() -> None:
    """Nobody who asks for readiness is refused or hears of the one that leaves; the control socket's file
    stays until the last one has left."""
    with Line("--admin-bind", "unix:admin", "--control-socket", "control") as server:
        admin = f"unix:{server.directory}/admin"
        inode = (server.directory / "control").stat().st_ino
        for version in ("the second", "and a third"):
            server.deploy(APP.format(version=version))
            server.tell(signal.SIGUSR2)
            before = server.serving
            while lives(before):
                assert server.get("/readyz", address=admin).status == 200
            server.serving = server.named()
            assert server.get("/readyz", address=admin).status == 200
            assert (server.directory / "control").stat().st_ino == inode
        server.end()
        assert not (server.directory / "control").exists()


def test_an_admin_door_that_is_given_up_leaves_no_file() -> None:
    with Line(config="admin_bind = 'unix:one'\ncontrol_socket = 'order'") as server:
        conf = server.directory / "threadcorn.conf.py"
        conf.write_text("admin_bind = 'unix:two'\nworkers = 'many'")
        server.tell(signal.SIGUSR2)
        server.logged("Upgrade failed")
        assert server.get("/livez", address=f"unix:{server.directory}/one").status == 200
        conf.write_text("admin_bind = 'unix:two'")
        server.upgrade()
        assert server.get("/livez", address=f"unix:{server.directory}/two").status == 200
        eventually(lambda: not (server.directory / "one").exists())
        assert not (server.directory / "order").exists()
        server.end()


def test_the_lost_file_of_a_door_is_made_anew() -> None:
    """threadcornctl would find no server there, until a restart."""
    with Line("--admin-bind", "unix:admin", "--control-socket", "control") as server:
        for name in ("admin", "control"):
            (server.directory / name).unlink()
        server.upgrade()
        assert server.get("/livez", address=f"unix:{server.directory}/admin").status == 200
        assert (server.directory / "control").is_socket()
        server.end()
        assert not (server.directory / "admin").exists()
        assert not (server.directory / "control").exists()


def test_a_successor_that_fails_leaves_no_door() -> None:
    """What it had opened to answer at some day would be a socket file that refuses, for ever."""
    with Line(config="admin_bind = 'unix:one'") as server:
        conf = server.directory / "threadcorn.conf.py"
        conf.write_text("admin_bind = 'unix:one'\ncontrol_socket = 'order'")
        server.deploy(BROKEN)
        server.tell(signal.SIGUSR2)
        server.logged("Upgrade failed")
        assert not (server.directory / "order").exists()
        assert server.get("/livez", address=f"unix:{server.directory}/one").status == 200
        server.end()
        assert not (server.directory / "one").exists()


def test_nothing_is_left_open_by_many_upgrades() -> None:
    """The tenth successor has as many descriptors as the first server had, and its workers as well."""

    def open_files(pid: int) -> int:
        def quiet() -> None:
            """the connection of the request before has been closed on this side, too"""
            states = {connection.status for connection in psutil.Process(pid).net_connections("tcp")}
            assert states <= {psutil.CONN_LISTEN}

        eventually(quiet)
        return len(os.listdir(f"/proc/{pid}/fd"))

    with Line("--workers", "1", "--max-workers", "4") as server:
        counts = []
        for _ in range(4):
            counts.append((open_files(server.serving), [open_files(pid) for pid in server.children()]))
            server.upgrade()
            eventually(lambda: len(server.children()) == 1)
            assert server.get().status == 200
        assert counts[1] == counts[-1], counts
        assert abs(counts[0][0] - counts[-1][0]) <= 1, counts  # the ready descriptor of the test
        server.end()
