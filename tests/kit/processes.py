"""Things done to processes, finished when they are done."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from signal import SIGSTOP

from tests.kit.eventually import eventually

__all__ = ["at_rest", "freeze"]


def freeze(pid: int) -> None:
    """Stop a process by SIGSTOP and wait until every thread of it has stopped.

    kill() returns before that: a thread on another processor may still accept a connection or two.
    """
    os.kill(pid, SIGSTOP)

    def frozen() -> None:
        """every thread has stopped"""
        for task in Path(f"/proc/{pid}/task").iterdir():
            state = (task / "stat").read_text().rpartition(")")[2].split()[0]
            assert state in "Tt", f"thread {task.name} of {pid} is in state {state}"

    eventually(frozen)


def at_rest(pid: int) -> None:
    """Wait until no thread of a process has anything to do.

    A client has its answer before the server has come back from sending it: who is killed in that moment
    was still at work.
    """

    def resting() -> None:
        """every thread sleeps, at several looks"""
        for _ in range(5):
            for task in Path(f"/proc/{pid}/task").iterdir():
                with suppress(FileNotFoundError):
                    state = (task / "stat").read_text().rpartition(")")[2].split()[0]
                    assert state == "S", f"thread {task.name} of {pid} is in state {state}"

    eventually(resting)
