"""A worker as the arbiter sees it, and as server hooks know it (the argument `worker`)."""

from __future__ import annotations

import logging
from typing import Any

from threadcorn.arbiter.generations import Generation
from threadcorn.policy.events import Spawn
from threadcorn.system.channel import Channel
from threadcorn.system.scoreboard import Page
from threadcorn.system.spawn import Child

__all__ = ["WorkerHandle"]


class WorkerHandle:
    """One process. The names in the first paragraph are those that hooks written for gunicorn read."""

    def __init__(
        self, order: Spawn, generation: Generation, server: Any, channel: Channel, page: Page
    ) -> None:
        self.age = order.age  # counts forks, from 1
        self.pid: int | str = "[booting]"  # as gunicorn has it in pre_fork, when there is no process yet
        self.ppid: int = server.pid
        self.cfg = generation.cfg
        self.log: logging.Logger = server.log
        self.app = server.app
        self.timeout = generation.settings.timeout
        self.nr = 0
        self.alive = True
        self.booted = False
        self.aborted = False

        self.slot = order.slot
        self.generation = order.generation
        self.channel = channel
        self.page = page
        self.child: Child | None = None

    def __str__(self) -> str:
        return f"<Worker {self.pid}>"

    def forked(self, child: Child) -> None:
        self.child = child
        self.pid = child.pid

    def close(self) -> None:
        """It is gone, or this is not the arbiter any more: let go of what was held for it."""
        self.channel.close()
        if self.child is not None:
            self.child.close()
