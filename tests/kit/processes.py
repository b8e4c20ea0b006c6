"""Things done to processes, finished when they are done."""

from __future__ import annotations

import os
from pathlib import Path
from signal import SIGSTOP

from tests.kit.eventually import eventually

__all__ = ["freeze"]


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
