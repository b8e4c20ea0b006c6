"""Going to the background: what the person at the terminal sees."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit import environment, eventually

PROGRAM = """
import os, sys
from threadcorn.system.daemon import daemonise

wire = daemonise(float(sys.argv[1]))
with open("session", "w") as file:
    # In a session of its own, not its leader, and nothing of the terminal is left.
    print(os.getsid(0) != os.getpid(), os.readlink("/proc/self/fd/2"), file=file)
"""


def run(tmp_path: Path, then: str, patience: float = 20.0) -> subprocess.CompletedProcess[str]:
    (tmp_path / "program.py").write_text(PROGRAM + then)
    return subprocess.run(
        [sys.executable, "program.py", str(patience)],
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_ready_ends_the_command_with_success(tmp_path: Path) -> None:
    done = run(tmp_path, "os.write(wire.ready_fd, b'ready 127.0.0.1:1\\n'); os.close(wire.ready_fd)")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "session").read_text() == "True /dev/null\n"


def test_failure_is_told_with_its_exit_code(tmp_path: Path) -> None:
    done = run(tmp_path, "wire.failed(3, 'the port is taken\\nstop the other one')")
    assert (done.returncode, done.stderr) == (3, "threadcorn: the port is taken\nstop the other one\n")


def test_a_death_without_a_word_is_noticed(tmp_path: Path) -> None:
    done = run(tmp_path, "os._exit(0)")
    assert (done.returncode, done.stderr) == (
        3,
        "threadcorn: the server died before it was ready; see its error log\n",
    )


def test_patience_ends(tmp_path: Path) -> None:
    # It lives until the test has seen the command end, by a pipe that only a file of ours ends.
    done = run(
        tmp_path,
        "import time\nend = time.monotonic() + 20\n"
        "while not os.path.exists('leave') and time.monotonic() < end: time.sleep(0.01)\n"
        "open('left', 'w').close()\n",
        patience=0.2,
    )
    assert (done.returncode, done.stderr) == (
        3,
        "threadcorn: the server was not ready within 0.2 s; it goes on trying\n",
    )
    (tmp_path / "leave").write_text("")
    eventually((tmp_path / "left").exists, what="the daemon's end")


def test_failing_after_the_terminal_has_gone_is_no_error(tmp_path: Path) -> None:
    run(
        tmp_path,
        "os.write(wire.ready_fd, b'ready\\n')\nimport time\nend = time.monotonic() + 20\n"
        "while os.getppid() == 0 and time.monotonic() < end: pass\n"
        "wire.failed(1, 'x')\nopen('done', 'w').close()\n",
    )
    eventually((tmp_path / "done").exists, what="the daemon's end")


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
