"""Readiness: the only door to select(2)'s family.

`EdgePoller` is the worker's: thousands of connections, registered once, edge-triggered (epoll(7)).
`Waiter` is for a few descriptors, level-triggered: the arbiter's loop and the caretaker's.
`wait_for` is one descriptor, once, with a deadline.
"""

from __future__ import annotations

import select
from contextlib import suppress

IN = select.EPOLLIN
OUT = select.EPOLLOUT
EDGE = select.EPOLLET
EXCLUSIVE = getattr(select, "EPOLLEXCLUSIVE", 0)
#: The peer closed its end or all of it, or the socket failed. Edge-triggered, so it is said once.
HANG_UP = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR


class EdgePoller:
    """epoll(7). `poll` belongs to one thread at a time, the others may be called by any."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        #: Wait up to `timeout` seconds; (descriptor, events) pairs. Bound once: it is called for each batch.
        self.poll = self._epoll.poll

    def register(self, fd: int, events: int) -> None:
        self._epoll.register(fd, events)

    def modify(self, fd: int, events: int) -> None:
        self._epoll.modify(fd, events)

    def unregister(self, fd: int) -> None:
        """Forget `fd`, known or not."""
        with suppress(OSError):  # ENOENT: never registered; EBADF: closed by somebody who may
            self._epoll.unregister(fd)

    def fileno(self) -> int:
        return self._epoll.fileno()

    def close(self) -> None:
        self._epoll.close()


class Waiter:
    """A few descriptors, level-triggered."""

    def __init__(self) -> None:
        self._poll = select.poll()

    def watch(self, fd: int, *, write: bool = False) -> None:
        """Wait for `fd` to be readable, and with `write` for room as well. May be said again to change it."""
        self._poll.register(fd, select.POLLIN | (select.POLLOUT if write else 0))

    def forget(self, fd: int) -> None:
        """Stop waiting for `fd`, known or not."""
        with suppress(KeyError):
            self._poll.unregister(fd)

    def wait(self, seconds: float | None) -> list[int]:
        """The descriptors that are ready, or have failed, within `seconds` (None: for ever)."""
        milliseconds = None if seconds is None else max(0, int(seconds * 1000 + 0.999))
        return [fd for fd, _ in self._poll.poll(milliseconds)]


def wait_for(fd: int, events: int, seconds: float) -> bool:
    """Wait for one descriptor to be readable (IN) or to have room (OUT)."""
    poll = select.poll()
    poll.register(fd, events & (select.POLLIN | select.POLLOUT))
    return bool(poll.poll(max(0, int(seconds * 1000 + 0.999))))


def cut_off(fd: int) -> bool:
    """Whether nothing that we send to the peer of `fd` would reach it: it has reset the connection, or both
    sides are closed."""
    poll = select.poll()
    poll.register(fd, 0)  # what is asked for here is always told
    return bool(poll.poll(0))


def hung_up(fd: int) -> bool:
    """Whether the peer of `fd` has closed its end, or all of it, now."""
    poll = select.poll()
    poll.register(fd, select.POLLRDHUP)
    return bool(poll.poll(0))
