"""A worker's half of the vault: connections that mark in shared memory how far they are.

They differ from others in what they do besides: a store before bytes are read, one before bytes are sent, one
when a response is over. What was read and cannot run, because more of it has to come or no thread is free, is
sent to the vault. Without `--vault` nothing of this exists.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from typing import Any

from threadcorn.policy.parcel import pack
from threadcorn.system.custody import (
    ANSWERING,
    FREE,
    FRESH,
    HALF,
    IDLE,
    LAST,
    MOST_READ,
    PIECE,
    PLACES,
    SERIALS,
    STATES,
    TAKEN,
    WRAP,
    Custody,
)
from threadcorn.system.tcpinfo import written
from threadcorn.system.transport import Outbox
from threadcorn.worker.connection import Connection, Phase
from threadcorn.worker.handover import parcel_of
from threadcorn.worker.reactor import Reactor

__all__ = ["Deposits", "Nowhere", "VaultedConnection"]

_IDLE, _READING, _RUNNING = Phase.IDLE, Phase.READING, Phase.RUNNING
#: Copies that did not fit on the wire and are tried again, in one beat of the heart.
RETRIES = 256


class Deposits:
    """One per worker: makes its connections, and puts copies of them into the vault."""

    def __init__(self, custody: Custody, page: int, reactor: Reactor) -> None:
        self._custody = custody
        self._page = page
        self.marks = custody.marks(page)
        self.amounts = custody.amounts(page)
        self._serial = 0
        self._again: deque[VaultedConnection] = deque()
        self._unsaved: set[VaultedConnection] = set()
        self._reactor = reactor
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

    def add(self, conn: VaultedConnection, data: bytes) -> bool:
        """Put what was read of a request. False as above."""
        return self._custody.add(self._page, conn.fd, conn.serial >> 3, conn.saved, data)

    def put_soon(self, conn: VaultedConnection) -> None:
        if not self.put(conn):
            self._again.append(conn)

    def retry(self) -> None:
        """From time to time: what did not fit the last time."""
        for _ in range(min(RETRIES, len(self._again))):
            conn = self._again.popleft()
            if conn.kept:
                self.put_soon(conn)
        for _ in range(min(RETRIES, len(self._unsaved))):
            conn = self._unsaved.pop()
            if conn.kept and conn.phase is _READING and conn.unsaved:
                # Whoever looks finds nothing to read, and saves what there is.
                self._reactor.push(conn.fd)

    def save_soon(self, conn: VaultedConnection) -> None:
        """What was read of it did not fit. Its client may send nothing more for long."""
        self._unsaved.add(conn)


class Nowhere:
    """Marks that nobody sees."""

    def __getitem__(self, number: int) -> int:
        return FREE

    def __setitem__(self, number: int, mark: int) -> None:
        pass


class VaultedConnection(Connection):
    """Marks follow from what happens to it anyway: `recv`, `send`, its phase, its end."""

    __slots__ = (
        "_amounts", "_deposits", "_marks", "_phase", "_saves", "_stale", "_transmit", "_was", "_wrote",
        "kept", "saved", "serial", "unsaved",
    )  # fmt: skip

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
        self._marks: memoryview[int] | Nowhere = deposits.marks
        self._amounts: memoryview[int] | Nowhere = deposits.amounts
        self.serial = serial
        self.kept = False
        #: Bytes of the present request: how many are in the vault, and which have been read since.
        self.saved = 0
        self.unsaved = b""
        self._saves = True  # what is read now belongs to a request that has not been run
        self._stale = bool(reactor.limits.proxy_protocol)
        self.rest = b""
        self.fd = sock.fileno()
        super().__init__(sock, peer, port, group, reactor)
        marks, fd = self._marks, self.fd
        receive, transmit = sock.recv, sock.send
        self._transmit = transmit
        self._wrote = 0  # bytes that the kernel has taken to send; -1: it must be asked
        taken, answering = serial | TAKEN, serial | ANSWERING

        def recv(size: int, flags: int = 0) -> bytes:
            if flags:
                return receive(size, flags)  # looks, and takes nothing
            before = marks[fd]
            if before & STATES < TAKEN:
                marks[fd] = taken  # first: what is read and not marked would be lost without a trace
            try:
                data = receive(size)
            except (BlockingIOError, InterruptedError):
                marks[fd] = before
                if self.unsaved and self._saves:
                    self._save()  # all that has come, and it is not a whole request
                raise
            if self._saves:
                if not self.unsaved:
                    self.unsaved = data
                elif len(self.unsaved) + len(data) <= MOST_READ:
                    self.unsaved += data
                else:
                    self._give_up()
            return data

        def send(data: Any, flags: int = 0) -> int:
            marks[fd] = answering
            sent = transmit(data, flags)
            if self._wrote >= 0:
                self._wrote += sent
            return sent

        self.recv = recv
        self.send = send

    @property
    def phase(self) -> Phase:
        return self._phase

    @phase.setter
    def phase(self, value: Phase) -> None:
        self._phase = value
        if value is _IDLE:
            self.saved, self.unsaved, self._saves = 0, self.rest, True
            if self._stale and self.kept and not self._corrected():
                self._saves = False
                return
            # What was read behind the last request is in our memory only.
            self._marks[self.fd] = self.serial | (TAKEN if self.rest else IDLE)
        elif value is not _READING:
            # What is read from now on is of one that runs, or no request's. What was read stays until the
            # next one: it may have to wait for a thread.
            self._saves = False
            if value is _RUNNING:
                self._marks[self.fd] = self.serial | TAKEN  # nothing of it may have been read by us

    def _save(self) -> None:
        if self.saved + len(self.unsaved) > MOST_READ:
            self._give_up()
        else:
            # Marked first: to send wakes the arbiter, and a kill often comes just then.
            self._amounts[self.fd] = self.saved + len(self.unsaved)
            self._marks[self.fd] = self.serial | HALF
            while self.unsaved:
                piece = self.unsaved[:PIECE]
                if not self._deposits.add(self, piece):
                    self._marks[self.fd] = self.serial | TAKEN
                    self._deposits.save_soon(self)
                    break
                self.saved += len(piece)
                self.unsaved = self.unsaved[PIECE:]

    def _give_up(self) -> None:
        """It is too long to be kept."""
        self._saves = False
        self.saved, self.unsaved = 0, b""

    def waits(self) -> None:
        """Now, and not when its turn comes again: much may run before that."""
        if self.unsaved:
            self._save()
        elif self.saved:  # it has come with the connection
            self._marks[self.fd] = self.serial | HALF

    def runs(self) -> None:
        """A thread takes it. Marked first: what has begun to run must not be run again."""
        self._marks[self.fd] = self.serial | TAKEN
        self.unsaved = b""

    def _corrected(self) -> bool:
        """Put it once more, because a proxy has said whose it is. It is not IDLE before that has succeeded:
        with what is there now, its next worker would wait for the announcement."""
        self._stale = not self._deposits.put(self)
        return not self._stale

    def write_last(self, data: bytes) -> None:
        """The client may ask again before `send` returns: so the mark says what proves that it was sent."""
        if self.out is not None or self.intake is not None or self.rest or self._stale:
            self.write(data)  # not all of what another worker needs to know is outside of our memory
            return
        if self._wrote < 0:
            self._wrote = written(self.sock)
            if self._wrote < 0:
                self.write(data)
                return
        self._amounts[self.fd] = (self._wrote + len(data)) & WRAP
        self._marks[self.fd] = self.serial | LAST
        try:
            sent = self._transmit(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            raise self._gone(error) from None
        self._wrote += sent
        if sent != len(data):
            self._marks[self.fd] = self.serial | ANSWERING
            self._keep(memoryview(data)[sent:])

    def write_pieces(self, pieces: list[bytes]) -> None:
        self._marks[self.fd] = self.serial | ANSWERING
        self._wrote = -1
        super().write_pieces(pieces)

    def _outbox(self) -> Outbox:
        self._wrote = -1  # it sends by itself
        return super()._outbox()

    def entered(self) -> None:
        """It is the reactor's now."""
        fresh = FRESH if not self.since else IDLE
        self._marks[self.fd] = self.serial | (TAKEN if self.rest else fresh)
        self.kept = True
        self._deposits.put_soon(self)
        if self.since or self.rest:
            self._wrote = -1  # another worker had it before
        if self.rest:
            self.unsaved = self.rest
            self._save()

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
        self.recv, self.send = self.sock.recv, self.sock.send  # ours know us: a cycle, as above

    def leave_to_parent(self) -> None:
        super().leave_to_parent()
        # What happens to it here must not be marked where the worker marks what happens to it there.
        self._marks = self._amounts = Nowhere()
        self.recv, self.send = self.sock.recv, self.sock.send

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
