"""The n-th call of the arbiter fails while it replaces a worker: it lives, and there is a worker again."""

from __future__ import annotations

import os
import signal

import pytest

from tests.kit import ServerProcess, eventually
from tests.kit.faultplan import Fault, FaultPlan

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
    ("write", "ENOSPC"),
]


def replaced(server: ServerProcess, fault: Fault) -> None:
    victim = eventually(server.workers)[0]
    with fault:
        os.kill(victim, signal.SIGKILL)

        def another() -> None:
            """there is another worker, and it serves"""
            assert server.workers() not in ([], [victim])
            assert server.get("/").status == 200

        eventually(another, within=20)
    assert server.running, f"{fault}: the arbiter is gone"
    assert "Traceback" not in server.log, fault


def every_call(call: str, error: str, most: int) -> None:
    with ServerProcess(check_descriptors=False) as server:
        before = len(os.listdir(f"/proc/{server.pid}/fd"))
        for fault in FaultPlan([server.pid], call, error, most=most):
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
