"""A few stream connections that the arbiter answers between two turns of its loop.

Laws: nothing blocks; every turn is bounded; every session has a deadline and a bound on what it may send.
Whoever comes when all places are taken gets the place of the one that has been silent longest, so that a
monitor that hangs cannot lock the others out.

The desk has a poller of its own, and the arbiter's loop waits on that one descriptor.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from threadcorn.system.doorway import Doorway
from threadcorn.system.poller import IN, OUT, EdgePoller

__all__ = ["Answer", "Desk", "Service"]

PLACES = 64
#: Events and answers in one turn; the rest is still there at the next one.
EVENTS = 32
ACCEPTS = 16
#: Seconds that a session may take for a request, for reading an answer, and for the next request.
PATIENCE = 10.0
RECV = 16384
MOST_INPUT = 65536
#: Seconds in which nobody is accepted after the system had no descriptor left, and until that is told again.
PAUSE = 0.5
QUIET = 60.0

_EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


@dataclass(frozen=True, slots=True)
class Answer:
    """What a service makes of the bytes so far."""

    data: bytes
    used: int  # bytes of the input that it answers
    keep: bool  # another request may follow


class Service(Protocol):
    """HTTP, or the control protocol."""

    def admit(self, sock: socket.socket) -> bool: ...
    def answer(self, data: bytes) -> Answer | None:
        """None while the request is not complete."""


class Session:
    """One connection."""

    __slots__ = ("buffer", "deadline", "keep", "out", "service", "sock")

    def __init__(self, sock: socket.socket, service: Service, deadline: float) -> None:
        self.sock = sock
        self.service = service
        self.deadline = deadline
        self.buffer = bytearray()
        self.out = memoryview(b"")
        self.keep = True


class Desk:
    """Listeners and sessions."""

    def __init__(self, log: logging.Logger, now: Callable[[], float]) -> None:
        self._log = log
        self._now = now
        self._poller = EdgePoller()
        self._doors: dict[int, tuple[Doorway, Service]] = {}
        self._sessions: dict[int, Session] = {}  # in the order of their last word
        self._paused_until: float | None = None
        self._quiet_until = 0.0

    def fileno(self) -> int:
        return self._poller.fileno()

    def open(self, door: Doorway, service: Service) -> None:
        self._doors[door.sock.fileno()] = (door, service)
        self._poller.register(door.sock.fileno(), IN)

    def next(self) -> float | None:
        """When a deadline is due, or accepting goes on."""
        pause = () if self._paused_until is None else (self._paused_until,)
        return min((*pause, *(s.deadline for s in self._sessions.values())), default=None)

    def turn(self) -> None:
        """Answer whoever has asked. A fault in one session ends that session and nothing else."""
        now = self._now()
        if self._paused_until is not None and now >= self._paused_until:
            self._paused_until = None
            self._listen(IN)
        for fd, _ in self._poller.poll(0)[:EVENTS]:
            door = self._doors.get(fd)
            if door is not None:
                for _ in range(ACCEPTS):
                    if not self._accept(*door, now):
                        break
                continue
            session = self._sessions.get(fd)
            if session is not None:
                self._serve(fd, session, now)
        for fd, session in list(self._sessions.items()):
            if session.deadline <= now:
                self._end(fd)

    def close(self) -> None:
        for fd in list(self._sessions):
            self._end(fd)
        for door, _ in self._doors.values():
            door.close()
        self._doors.clear()
        self._poller.close()

    def yield_doors(self) -> None:
        """A successor answers there from now on; whoever is inside is served to the end."""
        for fd, (door, _) in self._doors.items():
            self._poller.unregister(fd)
            door.forget()
        self._doors.clear()

    def leave_to_parent(self) -> None:
        """In a child: let go of everything. The poller first: it is shared, and must not be changed."""
        self._poller.close()
        for door, _ in self._doors.values():
            door.forget()
        for session in self._sessions.values():
            session.sock.close()

    # -- sessions

    def _accept(self, door: Doorway, service: Service, now: float) -> bool:
        """False: nobody waits."""
        try:
            sock, _ = door.sock.accept()
        except OSError as error:
            if error.errno in _EXHAUSTED:
                self._pause(error, now)
            return False  # nobody, or gone again
        try:
            sock.setblocking(False)
            admitted = service.admit(sock)
        except OSError:
            admitted = False
        if not admitted:
            sock.close()
            return True
        if len(self._sessions) >= PLACES:
            self._end(next(iter(self._sessions)))
        self._sessions[sock.fileno()] = Session(sock, service, now + PATIENCE)
        self._poller.register(sock.fileno(), IN)
        return True

    def _pause(self, error: OSError, now: float) -> None:
        # Whoever waits at the door would end every wait of the loop at once.
        self._paused_until = now + PAUSE
        self._listen(0)
        if now >= self._quiet_until:
            self._log.error(
                "Cannot accept at the admin address or the control socket: %s; raise the limit on open files "
                "(LimitNOFILE=, ulimit -n)",
                error.strerror,
            )
        self._quiet_until = now + QUIET

    def _listen(self, events: int) -> None:
        for fd in self._doors:
            self._poller.modify(fd, events)

    def _serve(self, fd: int, session: Session, now: float) -> None:
        try:
            if session.out:
                self._send(fd, session)
                return
            data = session.sock.recv(RECV)
            if not data:
                self._end(fd)
                return
            session.buffer += data
            self._answer(fd, session, now)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._end(fd)
        except Exception:  # noqa: BLE001 - one session's fault is not the server's end
            self._log.exception("An answer at the admin address or the control socket failed")
            self._end(fd)

    def _answer(self, fd: int, session: Session, now: float) -> None:
        answer = session.service.answer(bytes(session.buffer))
        if answer is None:
            if len(session.buffer) > MOST_INPUT:
                self._end(fd)
            return
        del session.buffer[: answer.used]
        # Whoever sends the next request before the answer is left with one answer: a loop over what is in the
        # buffer would be a turn without a bound.
        session.keep = answer.keep and not session.buffer
        session.out = memoryview(answer.data)
        session.deadline = now + PATIENCE
        self._sessions[fd] = self._sessions.pop(fd)  # the youngest again
        self._send(fd, session)

    def _send(self, fd: int, session: Session) -> None:
        try:
            sent = session.sock.send(session.out)
        except BlockingIOError:
            sent = 0
        session.out = session.out[sent:]
        if session.out:
            self._poller.modify(fd, OUT)
        elif not session.keep:
            self._end(fd)
        else:
            self._poller.modify(fd, IN)

    def _end(self, fd: int) -> None:
        session = self._sessions.pop(fd, None)
        if session is not None:
            self._poller.unregister(fd)
            session.sock.close()
