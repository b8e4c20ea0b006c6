"""ServerProcess notices what it is there to notice. Its servers here are scripts that misbehave on order."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import textwrap
from pathlib import Path

import pytest

from tests.kit import NotInTime, ServerProcess, StartFailed, eventually, run_cli

# Says ready, answers each connection with 200, ends with 0 on SIGTERM. The parts in %s are the faults.
SCRIPT = """
import os, signal, socket, subprocess, sys

def leave(number, frame):
    AT_THE_END
    os._exit(EXIT_CODE)

signal.signal(signal.SIGTERM, leave)
listener = socket.create_server(("127.0.0.1", 0))
host, port = listener.getsockname()
AT_THE_START
ready = int(os.environ["READY_FD"])
os.write(ready, f"ready {host}:{port}\\n".encode())
os.close(ready)
kept = []
while True:
    client, _ = listener.accept()
    client.recv(65536)
    IN_A_REQUEST
    client.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
    client.close()
"""


def script(start: str = "pass", request: str = "pass", end: str = "pass", code: int = 0) -> str:
    text = SCRIPT.replace("AT_THE_START", start).replace("IN_A_REQUEST", request)
    return text.replace("AT_THE_END", end).replace("EXIT_CODE", str(code))


@pytest.fixture(autouse=True)
def _directories_that_are_kept_go_here(monkeypatch, tmp_path):
    """Most of these tests fail on purpose, and a failed server keeps its directory."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_a_server_in_order_passes(capfd):
    """Start, one request, an end by SIGTERM: no complaint, and the directory is gone."""
    with ServerProcess(script=script()) as server:
        assert server.get("/").text == "ok"
        directory = server.directory
    assert not directory.exists()
    assert "server log" not in capfd.readouterr().err


def test_death_before_ready_is_told_with_the_log(capfd):
    """The log of a server that could not start is in the error."""
    with (
        pytest.raises(StartFailed, match="exit code 3") as caught,
        ServerProcess(script="import sys\nprint('no such thing', file=sys.stderr)\nsys.exit(3)"),
    ):
        pass
    assert "no such thing" in str(caught.value)


def test_silence_before_ready_has_a_deadline():
    """A server that neither serves nor ends is given up, and ended."""
    server = ServerProcess(script="import signal\nsignal.pause()", ready_within=0.3)
    with pytest.raises(StartFailed, match="not ready"), server:
        pass
    assert server.process.poll() is not None


@pytest.mark.parametrize(
    ("faulty", "message"),
    [
        (script(code=7), "exit code 7, expected 0"),
        (script(end="subprocess.Popen(['sleep', '60'])"), "still there after the arbiter ended"),
        (script(request="kept.append(os.pipe())"), "gained descriptors"),
        (script(request="kept.append(socket.socket())"), "gained descriptors"),
        (script(request="print('Exception ignored in: x', file=sys.stderr)"), "the log shows"),
        (script(request="s = socket.socket(); del s"), "ResourceWarning"),
    ],
)
def test_a_fault_at_the_end_is_noticed(faulty, message):
    """Wrong exit code, a process or a descriptor left, a leak in the log: each fails the test."""
    with (
        pytest.raises(AssertionError, match=message),
        ServerProcess(script=faulty, clear_within=0.2) as server,
    ):
        assert server.get("/").text == "ok"
    eventually(lambda: not server._session())


def test_a_server_that_will_not_end_is_ended_and_its_stacks_shown(capfd):
    """SIGTERM ignored: the deadline passes, SIGABRT makes faulthandler print where it hangs."""
    with (
        pytest.raises(NotInTime),
        ServerProcess(
            script=script(start="signal.signal(signal.SIGTERM, signal.SIG_IGN)"), stop_within=0.3
        ) as server,
    ):
        pass
    said = capfd.readouterr().err
    assert "stacks" in said
    assert "script.py" in said
    assert server.process.poll() is not None


def test_a_failed_test_shows_the_log_and_keeps_the_directory(capfd):
    """What the test raises comes through, with the log beside it."""
    with (
        pytest.raises(ZeroDivisionError),
        ServerProcess(script=script(start="print('here I am', file=sys.stderr)")) as server,
    ):
        raise ZeroDivisionError
    assert "here I am" in capfd.readouterr().err
    assert server.directory.exists()


def test_children_are_seen_and_killed_ones_are_not():
    """workers() lists live children only."""
    with ServerProcess(
        script=script(start="child = subprocess.Popen(['sleep', '60'])", end="child.wait()"),
        check_descriptors=False,
    ) as server:
        (child,) = server.workers()
        os.kill(child, signal.SIGKILL)
        eventually(lambda: server.workers() == [])


def test_a_command_that_ends_is_run_to_its_end():
    """run_cli returns exit code and both outputs."""
    done = run_cli("-c", "nonsense", module="compileall")
    assert done.code != 0
    assert isinstance(done.out + done.err, str)


def test_the_hard_limit_stops_a_hanging_test_and_says_where(tmp_path):
    """A test that hangs is failed at its limit, with a dump of the stacks, and the next one runs."""
    root = Path(__file__).resolve().parents[2]
    (tmp_path / "conftest.py").write_text((root / "tests" / "conftest.py").read_text())
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = limit(seconds): x\n")
    (tmp_path / "test_hang.py").write_text(
        textwrap.dedent(
            """
            import threading
            import pytest

            @pytest.mark.limit(0.2)
            def test_hangs():
                try:
                    threading.Event().wait()
                except Exception:
                    pass

            def test_after():
                pass
            """
        )
    )
    command = [os.sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=50)
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert "did not end within 0.2 s" in said
    assert "most recent call first" in said
    assert "1 failed, 1 passed" in said
