"""The workers that live: by age, by process id, by the descriptor of their channel. Forking and burying them.

The descriptors of the living are the arbiter's business only: a child closes them all, its own too. One that
was kept in a sibling would make a dead worker look alive, and the death of the arbiter go unnoticed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from threadcorn.arbiter.worker_handle import WorkerHandle
from threadcorn.errors import InternalError
from threadcorn.messages import Message
from threadcorn.system import spawn
from threadcorn.system.channel import Channel
from threadcorn.system.poller import Waiter
from threadcorn.system.signals import Sig

__all__ = ["Staff"]


class Staff:
    """`by_pid` is what hooks see as `server.workers`."""

    def __init__(self, waiter: Waiter, log: logging.Logger) -> None:
        self.by_pid: dict[int, WorkerHandle] = {}
        self._by_age: dict[int, WorkerHandle] = {}
        self._by_fd: dict[int, WorkerHandle] = {}
        self._waiter = waiter
        self._log = log

    def __iter__(self) -> Iterator[WorkerHandle]:
        return iter(list(self._by_age.values()))

    def get(self, age: int | None) -> WorkerHandle | None:
        return None if age is None else self._by_age.get(age)

    def listening_at(self, fd: int) -> WorkerHandle | None:
        return self._by_fd.get(fd)

    def fork(self, handle: WorkerHandle, theirs: Channel, live: Callable[[], int]) -> None:
        """Fork `live`; the handle is of the staff then. Raises OSError, and then nothing has happened."""
        try:
            process = spawn.fork(live)
        finally:
            theirs.close()  # in the parent: the child never comes back from there
        handle.forked(process)
        self._by_age[handle.age] = self.by_pid[process.pid] = handle
        self._by_fd[handle.channel.fileno()] = handle
        self._waiter.watch(handle.channel.fileno())

    def receive(self, handle: WorkerHandle) -> list[Message]:
        """What it has to say. Raises InternalError for what is not a message; it is not heard again then."""
        try:
            messages = handle.channel.receive()
        except InternalError:
            handle.channel.ended = True
            raise
        finally:
            if handle.channel.ended:
                # Else the end of the file would be news again and again, until it is reaped.
                self._unwatch(handle)
        return messages

    def flush(self) -> None:
        """Send what did not fit the last time."""
        for handle in self._by_age.values():
            if handle.channel.wants_write:
                handle.channel.flush()

    def kill(self, age: int, number: Sig) -> None:
        handle = self._by_age.get(age)
        if handle is not None and handle.child is not None:
            spawn.kill(handle.child, number)

    def bury(self, handle: WorkerHandle) -> None:
        """It has been reaped, and heard to the last word."""
        self._unwatch(handle)
        del self._by_age[handle.age]
        handle.alive = False
        handle.close()

    def abandon(self) -> None:
        """We leave, and something has gone wrong: nobody may serve on without us."""
        for handle in self:
            self.kill(handle.age, Sig.SIGKILL)
            self.bury(handle)

    def leave_to_parent(self, own: WorkerHandle) -> None:
        """In a child."""
        own.channel.close()
        for sibling in self._by_age.values():
            sibling.close()

    def _unwatch(self, handle: WorkerHandle) -> None:
        fd = handle.channel.fileno()
        if self._by_fd.pop(fd, None) is not None:
            self._waiter.forget(fd)
