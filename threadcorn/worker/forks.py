"""What an application forks is a process of its own, and nothing of ours."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from threadcorn.system import signals
from threadcorn.system.berths import Berth, leave_to_parent
from threadcorn.system.listeners import ShardGroup

if TYPE_CHECKING:
    from threadcorn.worker.pool import Pool
    from threadcorn.worker.reactor import Reactor

__all__ = ["leave_clients", "leave_service", "part_at_fork"]


def part_at_fork(berths: Sequence[Berth], groups: Sequence[ShardGroup]) -> None:
    """For all that this process forks from now on. Listeners that a child kept open would outlive the server.
    A TERM for a child that kept our handlers would be written into our descriptor, and be an order to us."""
    masks = threading.local()

    def hold() -> None:
        masks.before = signals.block_all()

    def let_go() -> None:
        signals.restore(masks.before)

    os.register_at_fork(after_in_child=partial(leave_to_parent, berths, groups))
    os.register_at_fork(before=hold, after_in_parent=let_go, after_in_child=signals.become_child)


def leave_clients(reactor: Reactor) -> None:
    """The same for connections: one that we end would not end for its client while a child has a copy, and
    what the client sends on it would be read by nobody."""

    def close() -> None:
        # Without the reactor's lock: whoever held it in this moment does not live in the child.
        for conn in list(reactor.connections.values()):
            conn.leave_to_parent()

    os.register_at_fork(after_in_child=close)


def leave_service(pool: Pool) -> None:
    """A child that comes back from the application, with an answer or by `sys.exit()`, must end instead of
    serving on: it shares the poller with us, and what it is told there we are not."""

    def leave() -> None:
        pool.service.forked = True
        pool.leader = None

    os.register_at_fork(after_in_child=leave)
