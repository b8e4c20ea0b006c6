"""The n-th call of the arbiter fails while it replaces a worker: it lives, and there is a worker again."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.kit import ServerProcess, eventually
from tests.kit.faultplan import Fault, FaultPlan
from threadcorn.policy.restart import SETTLED

QUICK = [("fork", "EAGAIN"), ("socketpair", "EMFILE")]
LONG = [
    ("fork", "ENOMEM"),
    ("socketpair", "ENOBUFS"),
    ("pidfd_open", "EMFILE"),
    ("open", "EMFILE"),
    ("open", "EIO"),
    ("sendmsg", "ENOBUFS"),
    ("recvmsg", "EAGAIN"),
    ("wait4", "EINTR"),
    ("poll", "EINTR"),
]


def settled(server: ServerProcess) -> int:
    """A worker whose death is a crash: one that dies sooner was never well, and waits longer each time."""
    (worker,) = eventually(server.workers)
    eventually(lambda: age(worker) > SETTLED + 0.5)
    return worker


def age(pid: int) -> float:
    """Seconds since the process was made, by the clock that the kernel says it in: proc(5), field 22."""
    ticks = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[19]
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(ticks) / os.sysconf("SC_CLK_TCK")


def replaced(server: ServerProcess, fault: Fault) -> None:
    victim = settled(server)
    with fault:
        os.kill(victim, signal.SIGKILL)

        def another() -> None:
            """there is another worker, and it serves"""
            assert server.workers() not in ([], [victim])
            assert server.get("/").status == 200

        eventually(another, within=20)
    assert server.running, f"{fault}: the arbiter is gone"
    assert "Traceback" not in server.log, fault


def every_call(call: str, error: str, most: int, *, only: str = "", options: tuple[str, ...] = ()) -> None:
    with ServerProcess(None, *options, check_descriptors=False) as server:
        before = len(os.listdir(f"/proc/{server.pid}/fd"))
        path = str(server.directory / only) if only else ""
        for fault in FaultPlan([server.pid], call, error, only=path, most=most):
            replaced(server, fault)

        def nothing_left() -> None:
            """the arbiter has as many descriptors as before"""
            assert len(os.listdir(f"/proc/{server.pid}/fd")) <= before

        eventually(nothing_left)


@pytest.mark.parametrize(("call", "error"), QUICK)
def test_the_nth_call_of_the_arbiter_fails(call: str, error: str) -> None:
    every_call(call, error, most=3)


@pytest.mark.long
@pytest.mark.limit(300)
@pytest.mark.parametrize(("call", "error"), LONG)
def test_the_nth_call_of_the_arbiter_fails_in_every_way(call: str, error: str) -> None:
    every_call(call, error, most=40)


@pytest.mark.long
@pytest.mark.limit(300)
@pytest.mark.parametrize("error", ["ENOSPC", "EIO", "EDQUOT"])
def test_the_nth_line_of_the_arbiters_log_cannot_be_written(error: str) -> None:
    """Its log alone: the pipe by which a signal wakes the loop has no disk that could be full."""
    every_call("write", error, most=40, only="error.log", options=("--error-logfile", "error.log"))
