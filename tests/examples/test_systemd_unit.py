from __future__ import annotations

import configparser
import socket
import subprocess
from contextlib import suppress
from signal import SIGHUP

from tests.examples.driving import EXAMPLES
from tests.kit.eventually import eventually
from tests.kit.server import ServerProcess, run_cli
from tests.kit.tools import need


def wait_for(listener: socket.socket, word: str) -> None:
    """Read what systemd is told until it is told this; there may be other news in between."""
    while word not in listener.recv(4096).decode().split("\n"):
        pass


def test_systemd_is_told_when_the_server_is_ready_and_when_it_stops(tmp_path):
    """Type=notify: READY comes after the first generation, not with the first line of the log."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(20)
        with ServerProcess(env={"NOTIFY_SOCKET": str(tmp_path / "notify")}) as server:
            wait_for(listener, "READY=1")
            assert server.get("/").status == 200
            server.stop()
        wait_for(listener, "STOPPING=1")


def test_what_a_busy_systemd_has_no_room_for_comes_later(tmp_path):
    """Without its READY a service is ended, and without RELOADING a reload is never over."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path)
        listener.settimeout(20)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as others, suppress(BlockingIOError):
            others.setblocking(False)
            while others.sendto(b"STATUS=of another service", path):
                pass
        with ServerProcess(env={"NOTIFY_SOCKET": path}) as server:
            server.signal(SIGHUP)
            eventually(lambda: "Reloaded: generation 2" in server.log)
            for word in ("READY=1", "RELOADING=1", "READY=1"):
                wait_for(listener, word)
            server.stop()


def test_the_units_command_line_is_valid(tmp_path):
    """ExecStart of the example, checked by the server itself against a site that is there."""
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read(EXAMPLES / "systemd" / "threadcorn.service")
    service = unit["Service"]
    program, *arguments = service["ExecStart"].split()
    assert program.endswith("/threadcorn")
    site = str(EXAMPLES / "django_site")
    done = run_cli("--check-config", *arguments, cwd=site, env={"NOTES_DATA": str(tmp_path)})
    assert done.code == 0, done.err
    assert service["ExecReload"].endswith("-HUP $MAINPID")
    assert int(service["TimeoutStopSec"]) > 30


def test_systemd_takes_the_units(tmp_path):
    """Both units, read by systemd itself; the socket unit gives what the command line can take."""
    for name in ("threadcorn.socket", "threadcorn.service"):
        text = (EXAMPLES / "systemd" / name).read_text()
        (tmp_path / name).write_text(text.replace("/srv/site/.venv/bin/threadcorn", "/bin/true"))
    done = subprocess.run(
        [need("systemd-analyze"), "verify", "--man=no", str(tmp_path / "threadcorn.socket")],
        capture_output=True, text=True, check=False, timeout=20,
    )  # fmt: skip
    assert "threadcorn" not in done.stderr, done.stderr
