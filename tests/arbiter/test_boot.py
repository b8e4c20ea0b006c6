"""What can be wrong at the start: one clear message, the right exit code, nothing left behind."""

from __future__ import annotations

import json
import os
import socket
import stat

import pytest

from tests.arbiter.conftest import Stage
from tests.kit import StartFailed

HOST = "127.0.0.1"


def fails(app="", *, settings=None, **how):
    """Start a stage that must not come up; its exit code and its log."""
    server = Stage(app, settings=settings, **how)
    log = ""
    try:
        server.start()
    except StartFailed:
        log = server.log
        return server.process.returncode, log
    finally:
        server.kill()
    raise AssertionError("it started")


@pytest.mark.parametrize(
    ("app", "code", "words"),
    [
        ("def (", 4, "SyntaxError"),
        ("raise RuntimeError('no database')", 3, "no database"),
        ("raise SystemExit(5)", 3, "SystemExit"),
    ],
)
def test_an_application_that_does_not_load(app, code, words):
    """The server stops at once, says so once, and its exit code is the worker's."""
    found, log = fails(app, settings={"workers": 3})
    assert found == code, log
    assert log.count("The server cannot start") == 1
    assert words in log


def test_an_application_that_does_not_load_with_preload():
    """It is the arbiter's own start that fails."""
    code, log = fails("raise RuntimeError('no database')", settings={"preload_app": True})
    assert code == 3
    assert "no database" in log
    assert "Booting" not in log


def test_workers_that_die_without_a_word():
    """They are tried again, then the server stops with its own code."""
    code, log = fails("import os; os._exit(9)", settings={"workers": 5})
    assert code == 5, log
    assert "exited with code 9" in log


def test_an_address_in_use():
    """Named, before any worker is forked."""
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        code, log = fails(bind=f"{HOST}:{port}")
    assert code == 3, log
    assert str(port) in log
    assert "in use" in log
    assert "Booting" not in log


def test_a_second_server_on_the_same_address(stage):
    """SO_REUSEPORT does not let it steal half of the connections."""
    first = stage()
    code, log = fails(bind=first.address)
    assert code == 3, log
    assert "in use" in log
    assert first.ask("p")


def test_a_pid_file(stage, tmp_path):
    """The arbiter's number while it lives; a second server is refused; gone at the end."""
    path = tmp_path / "pid"
    first = stage(settings={"pidfile": str(path)})
    assert path.read_text() == f"{first.pid}\n"
    code, log = fails(settings={"pidfile": str(path)})
    assert code == 3, log
    assert str(first.pid) in log
    assert path.read_text() == f"{first.pid}\n"
    first.stop()
    assert not path.exists()


def test_a_pid_file_after_a_kill(stage, tmp_path):
    """What a killed arbiter left behind does not keep the next one from starting."""
    path = tmp_path / "pid"
    first = stage(settings={"pidfile": str(path)}, exit_code=-9)
    first.signal(9)
    first.wait()
    second = stage(settings={"pidfile": str(path)})
    assert path.read_text() == f"{second.pid}\n"


def test_a_door_that_cannot_be_opened_leaves_no_other(tmp_path):
    """The admin socket's file would stay, where nobody answers."""
    (tmp_path / "file").write_text("")
    admin = tmp_path / "admin"
    code, log = fails(settings={"admin_bind": f"unix:{admin}", "control_socket": str(tmp_path / "file")})
    assert code == 3, log
    assert "no socket" in log
    assert not admin.exists()


def test_what_a_worker_holds(stage):
    """Its channel and signal pair, everybody's shards, bells, inboxes: nothing of siblings or parent."""
    server = stage(settings={"workers": 3, "max_workers": 4, "pidfile": "pid"})
    counts = set()
    for _ in range(30):
        held = server.ask("f")
        sockets = [name for name in held if name.startswith("socket:")]
        bells = [name for name in held if "eventfd" in name]
        pipes = [name for name in held if name.startswith("pipe:")]
        assert not [name for name in held if "pidfd" in name or name.endswith("/pid")]
        assert not pipes, "the ready descriptor"
        counts.add((len(sockets), len(bells)))
    # 4 shards, 4 inboxes of 2 ends, a channel, a signal pair of 2, the connection that asks.
    assert counts == {(4 + 8 + 1 + 2 + 1, 4)}


def test_the_mask_of_files(stage):
    """--umask is the workers'; without it they have ours."""
    mask = os.umask(0)
    os.umask(mask)
    assert stage().ask("e")[1] == mask
    assert stage(settings={"umask": 0o027}).ask("e")[1] == 0o027


def test_a_unix_socket(stage):
    """Has the mode that --umask says, and is gone at the end."""
    server = stage(settings={"umask": 0o177}, bind="unix")
    path = server.directory / "socket"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(b"p")
        assert json.loads(client.recv(1000))[1] == 0
    server.stop()
    assert not path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_workers_of_another_user(stage):
    """The workers are; the arbiter stays what it is, and can still scale and reload."""
    server = stage(settings={"user": 65534, "group": 65534})
    assert server.ask("e")[2:] == [65534, 65534, [65534]]
    server.hup()
    server.settled(1, generation=2)
    assert server.ask("e")[2] == 65534


def test_several_addresses(stage):
    """All are in the ready line and all are served."""
    server = stage(bind=["127.0.0.1:0", "unix", "127.0.0.1:0"])
    assert len(server.addresses) == 3
    for address in (server.addresses[0], server.addresses[2]):
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=5) as client:
            client.sendall(b"p")
            assert client.recv(100)
