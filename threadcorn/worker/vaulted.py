"""A worker's half of the vault: connections that mark in shared memory how far they are.

They differ from others in what they do besides: a store before bytes are read, one before bytes are sent, one
when a response is over. Without `--vault` nothing of this exists, and nothing on the way of a request asks.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from typing import Any

from threadcorn.policy.parcel import pack
from threadcorn.system.custody import ANSWERING, FREE, FRESH, IDLE, PLACES, SERIALS, STATES, TAKEN, Custody
from threadcorn.worker.connection import Connection, Phase
from threadcorn.worker.handover import parcel_of
from threadcorn.worker.reactor import Reactor

__all__ = ["Deposits", "VaultedConnection"]

_IDLE = Phase.IDLE
#: Copies that did not fit on the wire and are tried again, in one beat of the heart.
RETRIES = 256


class Deposits:
    """One per worker: makes its connections, and puts copies of them into the vault."""

    def __init__(self, custody: Custody, page: int, reactor: Reactor) -> None:
        self._custody = custody
        self._page = page
        self.marks = custody.marks(page)
        self._serial = 0
        self._again: deque[VaultedConnection] = deque()
        reactor.make = self.make

    def make(self, sock: socket.socket, peer: str, port: str, group: int, reactor: Reactor) -> Connection:
        """In place of `Connection(...)`."""
        if sock.fileno() >= PLACES:
            return Connection(sock, peer, port, group, reactor)
        # Two threads that lead at once may take the same: then it is two connections at two numbers.
        self._serial = (self._serial + 1) % SERIALS
        return VaultedConnection(self, self._serial << 3, sock, peer, port, group, reactor)

    def put(self, conn: VaultedConnection) -> bool:
        """False: there is no room just now."""
        return self._custody.put(self._page, conn.fd, conn.serial >> 3, pack(parcel_of(conn), b""))

    def put_soon(self, conn: VaultedConnection) -> None:
        if not self.put(conn):
            self._again.append(conn)

    def retry(self) -> None:
        """From time to time: what did not fit the last time."""
        for _ in range(min(RETRIES, len(self._again))):
            conn = self._again.popleft()
            if conn.kept:
                self.put_soon(conn)


class VaultedConnection(Connection):
    """Marks follow from what happens to it anyway: `recv`, `send`, its phase, its end."""

    __slots__ = ("_deposits", "_marks", "_phase", "_stale", "_was", "kept", "serial")

    def __init__(
        self,
        deposits: Deposits,
        serial: int,
        sock: socket.socket,
        peer: str,
        port: str,
        group: int,
        reactor: Reactor,
    ) -> None:
        self._deposits = deposits
        self._marks = deposits.marks
        self.serial = serial
        self.kept = False
        self._stale = reactor.limits.proxy_protocol is not None
        self.rest = b""
        self.fd = sock.fileno()
        super().__init__(sock, peer, port, group, reactor)
        marks, fd = self._marks, self.fd
        receive, transmit = sock.recv, sock.send
        taken, answering = serial | TAKEN, serial | ANSWERING

        def recv(size: int, flags: int = 0) -> bytes:
            if flags:
                return receive(size, flags)  # looks, and takes nothing
            before = marks[fd]
            if before & STATES < TAKEN:
                marks[fd] = taken  # first: what is read and not marked would be lost without a trace
            try:
                return receive(size)
            except (BlockingIOError, InterruptedError):
                marks[fd] = before
                raise

        def send(data: Any, flags: int = 0) -> int:
            marks[fd] = answering
            return transmit(data, flags)

        self.recv = recv
        self.send = send

    @property
    def phase(self) -> Phase:
        return self._phase

    @phase.setter
    def phase(self, value: Phase) -> None:
        self._phase = value
        if value is _IDLE:
            if self._stale and self.kept and not self._corrected():
                return
            # What was read behind the last request is in our memory only.
            self._marks[self.fd] = self.serial | (TAKEN if self.rest else IDLE)

    def _corrected(self) -> bool:
        """Put it once more, because a proxy has said whose it is. It is not IDLE before that has succeeded:
        with what is there now, its next worker would wait for the announcement."""
        self._stale = not self._deposits.put(self)
        return not self._stale

    def write_pieces(self, pieces: list[bytes]) -> None:
        self._marks[self.fd] = self.serial | ANSWERING
        super().write_pieces(pieces)

    def entered(self) -> None:
        """It is the reactor's now."""
        fresh = FRESH if not self.since else IDLE
        self._marks[self.fd] = self.serial | (TAKEN if self.rest else fresh)
        self.kept = True
        self._deposits.put_soon(self)

    def leave(self) -> None:
        """It is about to be given away. Marked first: a copy that is still good would be given twice."""
        self.kept = False
        self._was = self._marks[self.fd]
        self._marks[self.fd] = FREE

    def stay(self) -> None:
        """Nobody took it."""
        self._marks[self.fd] = self._was
        self.kept = True

    def release(self) -> None:
        kept, self.kept = self.kept, False
        self._marks[self.fd] = FREE
        if kept:
            self._say_goodbye()
        super().release()

    def _say_goodbye(self) -> None:
        """The copy in the vault would keep it open. Who has asked for a reset instead of an end gets it when
        the copy goes: an orderly end would say that a response is whole."""
        sock = self.sock
        try:
            on, _ = struct.unpack("ii", sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8))
            if not on:
                sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the peer has left
