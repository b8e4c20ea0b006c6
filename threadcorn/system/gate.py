"""The gate of the last stop: nobody new comes in, and what waits can be accepted to the last one.

Closing a listener resets what waits in its queue; accepting until nothing waits never ends under load. So
SYNs are dropped before the queues are emptied: a client whose SYN is dropped tries again a second later, and
by then either a successor listens or the connection is refused, both of which it can tell from a failure.

The tombstone needs no privilege: one more member of the group, full with a connection of our own, and a
program that steers every SYN to it.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from enum import IntEnum

from threadcorn.policy.steering import Program, only, source_port_to
from threadcorn.system.binding import Resolved, bind_tcp
from threadcorn.system.depths import depth

__all__ = ["Gate", "bury"]


class Gate(IntEnum):
    """What keeps new connections out, best first."""

    OPEN = 0
    TOMBSTONE = 1  # a full member takes every SYN, and drops it
    SYN_FILTER = 2  # each listener drops SYNs
    UNLINKED = 3  # the socket file is gone
    BACKLOG = 4  # the queue holds one: best effort
    NOT_OURS = 5  # somebody else keeps the listener for whoever comes after us: it stays as it is


_Where = tuple[str, int] | tuple[str, int, int, int]


def bury(
    first: socket.socket, index: int, v6only: bool, running: Program, attach: Callable[[Program], None]
) -> list[socket.socket]:
    """Make the tombstone of a group: member `index`, the next one. Empty when it cannot be done.

    `running` is the program that chooses among the others meanwhile; it is attached already. The caller
    keeps what it gets open to the end, and undoes the program when it gets nothing.
    """
    where: _Where = first.getsockname()
    kept: list[socket.socket] = []
    try:
        tomb = bind_tcp(Resolved(first.family, where, v6only), 0, joins=True)  # full with one
        kept.append(tomb)
        client = socket.socket(first.family, socket.SOCK_STREAM)
        kept.append(client)
        inside = _reachable(where)
        client.settimeout(0.5)
        client.bind((inside[0], 0, *inside[2:]))
        # Our own source port first: were everybody steered there at once, a stranger could be the one who
        # fills the queue, and would wait in it until the end.
        attach(source_port_to(client.getsockname()[1], index, running))
        client.connect(inside)
        if depth(tomb) == 1:
            attach(only(index))
            return kept
    except OSError:
        pass  # whatever the system does not have, the next gate is tried
    for sock in kept:
        sock.close()
    return []


def _reachable(where: _Where) -> _Where:
    """Where a client inside this machine finds a listener that is bound to `where`."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(where[0], where[0])
    return (host, *where[1:])
