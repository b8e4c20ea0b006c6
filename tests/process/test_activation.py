"""Socket activation: somebody else opened the sockets, as systemd does with a socket unit."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit import connect, eventually
from tests.kit.server import environment
from tests.kit.tools import need
from tests.process.crowd import Crowd
from tests.process.line import APP, Line

#: What systemd does between fork and exec: the sockets are 3 and following, named, and for this process only.
ACTIVATE = """
import os, socket, sys
ready = os.dup(int(os.environ.pop("READY_FD")))
web = os.dup(int(os.environ.pop("BIND").removeprefix("fd://")))
side = socket.socket(socket.AF_UNIX)
side.bind(os.path.abspath("side"))
side.listen()
ready, web, extra = os.dup2(ready, 20), os.dup2(web, 21), os.dup2(side.fileno(), 22)
os.dup2(web, 3)
os.dup2(extra, 4)
os.set_inheritable(ready, True)
os.closerange(21, 23)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2", LISTEN_FDNAMES="web:side")
os.execv(sys.executable, [sys.executable, "-m", "threadcorn", "--ready-fd", str(ready), *sys.argv[1:]])
"""
SEEN = """
import os
def app(environ, start_response):
    body = repr(sorted(name for name in os.environ if name.startswith("LISTEN_"))).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


def activated(*options: str, **how: object) -> Line:
    """A server that was given a TCP socket named web and a unix socket named side."""
    how.setdefault("source", APP.format(version="one"))
    command = ["--pid", "pid", *options, "application:app"]
    script = ACTIVATE.replace("*sys.argv[1:]", ", ".join(map(repr, command)))
    line = Line(script=script, bind="fd", **how)  # type: ignore[arg-type]
    line.options = ()
    return line


def test_what_is_given_is_served_through_upgrade_reload_and_stop() -> None:
    """Nothing is lost at either socket; a successor is given the same ones; the sockets outlive the server,
    and a client that comes when it has gone is not refused."""
    with activated("--workers", "2") as server:
        side = f"unix:{server.directory}/side"
        assert server.addresses[1] == side
        with Crowd(server.address) as crowd, Crowd(side) as other:
            server.deploy(APP.format(version="the second"))
            new = server.upgrade()
            for one in (crowd, other):
                one.more(30)
            server.deploy(APP.format(version="and a third"))
            server.tell(signal.SIGHUP)
            server.logged("Reloaded: generation 2 serves")
            for one in (crowd, other):
                one.more(30)
        assert not crowd.lost, crowd.lost
        assert not other.lost, other.lost
        for address in (server.address, side):
            assert server.get(address=address).body == f"and a third {new}".encode()
        server.end()
        with connect(server.address):
            pass  # the test holds the socket, as systemd would: it waits for the next server
        assert (server.directory / "side").exists()


def test_the_application_does_not_see_the_words() -> None:
    """They were for us: what it starts would believe that it has to serve our descriptors."""
    with activated(source=SEEN) as server:
        assert server.get().body == b"[]"
        server.end()


def test_by_name_and_what_else_is_bound() -> None:
    """With fd://NAME it is `bind` that counts, and further addresses may stand beside."""
    with activated("--bind", "fd://side", "--bind", "127.0.0.1:0", "--bind", "fd://web") as server:
        assert server.addresses[0].startswith("unix:")
        for address in server.addresses:
            assert server.get(address=address).status == 200
        server.deploy(APP.format(version="the second"))
        server.upgrade()
        for address in server.addresses:
            assert server.get(address=address).body.startswith(b"the second")
        server.end()


def test_another_bind_gives_way_with_a_warning() -> None:
    with activated("--bind", "127.0.0.1:1") as server:
        assert server.get().status == 200
        assert "bind 127.0.0.1:1 is not used: the socket unit says where to listen" in server.log
        server.end()


def test_a_daemon_is_activated_as_well() -> None:
    """The process that systemd has started leaves; the one that stays has another number."""
    with activated("--daemon", "--error-logfile", "log", check_descriptors=False) as server:
        assert server.wait() == 0
        assert server.get().status == 200
        server.deploy(APP.format(version="the second"))
        server.upgrade()
        assert server.get().body.startswith(b"the second")
        server.end()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param(("--bind", "fd://web"), "gives side (descriptor 4), and no bind takes it", id="left"),
        pytest.param(("--bind", "fd://wbe"), "no socket of that name", id="unknown"),
    ],
)
def test_mistakes(options: tuple[str, ...], words: str) -> None:
    """Each ends the start with one sentence and exit code 2, which systemd is told not to try again."""
    server = activated(*options, exit_code=2)
    with pytest.raises(Exception, match="exit code 2 before it was ready") as raised, server:
        pass
    assert words in str(raised.value)
    assert "Traceback" not in str(raised.value)


def test_systemds_own_tool(tmp_path: Path) -> None:
    """systemd-socket-activate listens, and starts the server with the first connection, which is answered."""
    tool = need("systemd-socket-activate")
    (tmp_path / "application.py").write_text(APP.format(version="one"))
    env = environment()
    passed_on = [
        part for name in ("PATH", "PYTHONPATH") if name in env for part in ("-E", f"{name}={env[name]}")
    ]
    command = [tool, "--listen", str(tmp_path / "socket"), "--fdname", "web", *passed_on]
    command += [sys.executable, "-m", "threadcorn", "application:app"]
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=log, stderr=log)
    try:
        eventually(lambda: b"Listening on" in (tmp_path / "log").read_bytes())
        with connect(f"unix:{tmp_path}/socket", within=20) as client:
            assert client.get("/").body == f"one {process.pid}".encode()
        process.terminate()
        assert process.wait(20) == 0, (tmp_path / "log").read_text()
    finally:
        process.kill()
        process.wait()
