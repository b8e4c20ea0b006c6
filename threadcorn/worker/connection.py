"""A connection in the worker: its socket, its phase, who owns it, what it still has to send.

Law: whoever holds `token` owns the connection: reads it, runs its request, ends it. The leader marks
`again` *before* it tries the token, the owner looks at `again` *after* it has given the token back, so
one of the two always sees the other, with a GIL or without.

The exceptions are the outbox, which has a token of its own so that the leader can flush while the
application still runs, and `cut`, which only shuts the socket down so that the owner finds out.
"""

from __future__ import annotations

import math
import os
import socket
import threading
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from threadcorn.system.poller import cut_off, hung_up
from threadcorn.system.tcpinfo import ended_after, unconfirmed
from threadcorn.system.transport import GONE, FileSpan, Outbox, Truncated, regular_file
from threadcorn.wsgi.gateway import ClientGone, Unsendable

if TYPE_CHECKING:
    from threadcorn.worker.reactor import Reactor

FOREVER = math.inf
#: Seconds after its last byte in which a client that ends its side has closed that half only. Time enough for
#: a lost segment to be sent again.
GIVES_UP = 1.0


def _long_gone() -> bool:
    """`threadcorn.client_gone` when there is no connection any more."""
    return True


class Phase(IntEnum):
    """What the connection waits for (design: the table of phases in docs/architecture.md)."""

    IDLE = 0  # the next request; deadline: keepalive, or header_timeout before the first one
    READING = 1  # the rest of a head or of a buffered body
    RUNNING = 2  # the application
    FLUSHING = 3  # room in the socket for a finished response
    LINGERING = 4  # the peer's end, after we said close
    CLOSED = 5


# By name: looking a member up through its class costs more than the rest of the comparison.
IDLE, READING, RUNNING, FLUSHING, LINGERING, CLOSED = Phase


class Connection:
    """One accepted connection. A `Sink` for the gateway."""

    __slots__ = (
        "accept_wait",
        "again",
        "broken",
        "closing",
        "counted",
        "deadline",
        "fd",
        "first_wait",
        "group",
        "half_closed",
        "intake",
        "is_gone",
        "look",
        "mark",
        "out",
        "peer",
        "phase",
        "port",
        "reactor",
        "recv",
        "rest",
        "send",
        "since",
        "sock",
        "token",
        "trusted",
        "who",
        "wrote_at",
    )

    def __init__(self, sock: socket.socket, peer: str, port: str, group: int, reactor: Reactor) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.recv = sock.recv
        self.send = sock.send
        self.peer = peer
        self.port = port
        self.who = f"{peer}:{port}".encode("ascii", "replace") if peer else b"unix"  # for the scoreboard
        self.counted = ""  # the address that it counts for, where there is a limit for them
        self.group = group  # index of the bind address it came in by
        self.reactor = reactor
        self.token = threading.Lock()
        self.trusted = False  # whether the peer may speak for others, judged by its own address
        self.again = False
        self.phase = Phase.IDLE
        self.deadline = FOREVER
        self.look = FOREVER  # when the reactor will look at the deadline; its business alone
        self.accept_wait = 0.0  # seconds it waited for accept(), until the first request has been judged
        self.first_wait = 0.0  # the same, until the first request has been logged
        self.since = 0  # (monotonic ns) when the present request was ready to be read
        self.is_gone = self.gone  # bound once: every environ gets it
        self.intake: Any = None  # what takes the next bytes when they are not the start of a head
        self.rest = b""  # bytes that came behind the last request
        self.out: Outbox | None = None
        self.mark = (0.0, 0)  # when the minimum rate was last judged, and bytes `taken` by then
        self.half_closed = False  # the peer's end was seen in an event, not yet by recv
        self.broken = False
        self.closing = False  # close once the outbox is empty

    def speaks_for(self, peer: str, port: str) -> None:
        """The peer is a proxy and has said whose connection this is."""
        self.peer = peer
        self.port = port
        self.who = f"{peer}:{port}".encode("ascii", "replace") if peer else b"unix"

    # -- from and to others: what is to be done besides, where a copy lies in a vault (vaulted.py)

    def entered(self) -> None:
        """The reactor has it from now on."""

    def leave(self) -> None:
        """It is about to be given to another worker."""

    def stay(self) -> None:
        """Nobody took it."""

    def waits(self) -> None:
        """What was read of its request cannot run yet: more has to come, or no thread is free."""

    def runs(self) -> None:
        """A thread takes its request, which may have waited."""

    def release(self) -> None:
        """It has ended, or is somebody else's: close our descriptor."""
        self.sock.close()
        # A method bound to what owns it is a cycle: the collector, which seldom looks at what has lived for a
        # while, would keep hundreds of connections that have ended.
        self.is_gone = _long_gone

    def leave_to_parent(self) -> None:
        """In a process that the application has forked: it is the worker's."""
        self.sock.close()
        self.half_closed = True  # a response that had left already has no next request behind it

    # -- the sink: called by the owner

    def write(self, data: bytes) -> None:
        """Send now what the kernel takes, keep the rest. Raises ClientGone."""
        if self.out is None:
            try:
                sent = self.send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as error:
                raise self._gone(error) from None
            if sent != len(data):
                self._keep(memoryview(data)[sent:])
            return
        self._keep(data)

    write_last = write

    def write_pieces(self, pieces: list[bytes]) -> None:
        """The same for several pieces, without copying them together."""
        sent = 0
        if self.out is None:
            try:
                sent = self.sock.sendmsg(pieces)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as error:
                raise self._gone(error) from None
        for piece in pieces:
            if sent >= len(piece):
                sent -= len(piece)
            else:
                self._keep(memoryview(piece)[sent:])
                sent = 0

    def file_span(self, filelike: Any) -> tuple[int, int, int] | None:
        """What `write_file` needs, or None when the file has to be read and written."""
        return regular_file(filelike) if self.reactor.limits.sendfile else None

    def write_file(self, head: bytes, descriptor: int, offset: int, count: int) -> None:
        """Send a head and then part of a file by sendfile(2), when that is allowed."""
        self.write(head)
        if not count:
            return
        try:
            span = FileSpan(os.dup(descriptor), offset, count)
        except OSError:  # EMFILE: the application's own descriptor is all there is
            self._write_read_file(descriptor, offset, count)
            return
        out = self._outbox()
        self._began_to_wait(out)
        out.append_file(span)
        self._want_room()
        self._flush()

    def _write_read_file(self, descriptor: int, offset: int, count: int) -> None:
        while count:
            data = os.pread(descriptor, min(count, 1 << 18), offset)
            if not data:
                self.broken = True
                raise Unsendable("the file became shorter while it was sent")
            self.write(data)
            offset += len(data)
            count -= len(data)

    def has_all(self) -> bool:
        """Whether everything was sent, and nothing came that nobody has read: then closing at once resets
        nothing (RFC 9112 section 9.6), and need not wait for the peer's end."""
        if self.out is not None or self.rest:
            return False
        try:
            return not self.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False

    def _gone(self, error: OSError) -> ClientGone:
        # Whatever it is, this connection cannot go on, and no other one need notice.
        self.broken = True
        return (ClientGone if error.errno in GONE else Unsendable)(str(error))

    def _outbox(self) -> Outbox:
        out = self.out
        if out is None:
            reactor = self.reactor
            out = self.out = Outbox(reactor.limits.response_memory, reactor.limits.spool_dir, reactor.budget)
            self.wrote_at = reactor.clock()
        return out

    def _want_room(self) -> None:
        try:
            self.reactor.want_write(self)
        except OSError as error:
            raise self._gone(error) from None

    def _began_to_wait(self, out: Outbox) -> None:
        """Judge the client's rate from now on: while nothing waited for it, it had nothing to take."""
        if not out.size:
            reactor = self.reactor
            self.mark = (reactor.clock(), self.taken(out))
            reactor.look_at(self, self.mark[0] + reactor.limits.write_timeout)

    def taken(self, out: Outbox) -> int:
        """What the client has taken, for its rate: only differences mean something. Not what the kernel has
        taken for it: that is a hundred kilobytes at once, and in between a slow client would seem to stand
        still."""
        while True:
            sent = out.sent
            waits = unconfirmed(self.sock)
            if sent == out.sent:  # else some was sent between the two looks
                return sent - waits

    def _keep(self, data: bytes | memoryview) -> None:
        first = self.out is None
        out = self._outbox()
        self._began_to_wait(out)
        try:
            out.append(data)
        except OSError as error:
            # The disk that takes what does not fit into memory is full: the response is lost, nothing else.
            self.broken = True
            raise Unsendable(f"the rest of it cannot be kept: {error}") from error
        if first:
            self._want_room()
        self._flush()
        limits = self.reactor.limits
        if out.size > limits.response_memory + limits.response_spool:
            self.reactor.wait_for_room(self, out)

    def _flush(self) -> None:
        out = self._outbox()
        if self.broken:
            raise ClientGone("the connection was cut")
        try:
            out.flush(self.sock)
        except OSError as error:
            raise self._gone(error) from None
        except Truncated as error:
            self.broken = True
            raise Unsendable(str(error)) from None
        if out.more:
            self.reactor.push(self.fd)

    def began(self) -> None:
        """The final response begins: a body that still arrives is no longer asked for."""
        if self.intake is not None:
            self.intake.began()

    def arrived(self) -> bool:
        """Whether the whole body of the request is here."""
        return self.intake is None or self.intake.arrived()

    # -- asked by the application, from any thread

    def gone(self) -> bool:
        """Whether the client has closed the connection, or its half of it: `threadcorn.client_gone`."""
        if self.half_closed or self.broken or self.phase is CLOSED:
            return True
        try:
            return not self.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            return True

    def asks(self) -> bool:
        """Whether bytes have come that nobody has read: the next request, or the beginning of one."""
        try:
            return bool(self.rest or self.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def gave_up(self) -> bool:
        """Whether nobody waits for the answer to the request that has come. A client that ends its side right
        behind its request has closed that half only, and is answered (RFC 9112 section 9.6). By the bytes
        alone it looks like one that closed everything because it had waited for too long, but that one did
        so later."""
        if self.broken or self.phase is CLOSED or cut_off(self.fd):
            return True
        return hung_up(self.fd) and ended_after(self.sock) > GIVES_UP

    # -- called by the leader, whoever owns the connection

    def hear_hang_up(self) -> None:
        """An event said that the peer has closed its end.

        Asked again, because the event may be of an earlier connection that had the same descriptor.
        """
        if hung_up(self.fd):
            self.half_closed = True

    def cut(self) -> None:
        """End it from outside: the owner's next call on the socket fails."""
        self.broken = True
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # already gone, which is what we want
