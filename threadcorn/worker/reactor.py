"""The reactor: the poller, the table of connections, their deadlines, and how they end.

Who may call what: `events`, `look_at_deadlines` and the special handlers belong to the leader. `add` belongs
to whoever accepted or was given a connection. `want_write`, `finish`, `shut`, `close` belong to the owner of
the connection, `cut` and `push` to anybody.

Descriptors are registered once, edge-triggered; nothing is re-armed between two requests. Writability is
added once to a connection that ever had to wait for room.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from time import monotonic, time

from threadcorn.errors import ProtocolViolation
from threadcorn.http1.response import STAMP, error_response
from threadcorn.policy.cells import WRITE
from threadcorn.policy.deadlines import GRAIN, Deadlines
from threadcorn.system.poller import EDGE, EXCLUSIVE, HANG_UP, IN, OUT, EdgePoller, wait_for
from threadcorn.system.transport import Budget, Outbox, Truncated, linger
from threadcorn.worker.connection import FOREVER, Connection, Phase
from threadcorn.worker.limits import WorkerLimits
from threadcorn.worker.peers import Peers, one_too_many
from threadcorn.wsgi.gateway import ClientGone

#: How long after its deadline was last checked a connection without a deadline is looked at again.
LOOK_AGAIN = 10.0
#: Bytes of a peer that goes on sending after we said close, before we stop reading it politely.
LINGER_BYTES = 1 << 20
#: The answer to a peer that began a head and did not finish it in time is made by the intake.
Expired = Callable[[Connection], None]


class Reactor:
    """One per worker."""

    def __init__(self, limits: WorkerLimits) -> None:
        self.limits = limits
        self.clock = monotonic
        self.now = monotonic()
        STAMP.refresh(time())
        self.poller = EdgePoller()
        self.connections: dict[int, Connection] = {}
        self.special: dict[int, Callable[[], None]] = {}
        #: Descriptors, not connections: one that has ended must not stay in memory until its turn comes.
        self.deadlines: Deadlines[int] = Deadlines()
        self.ready: deque[tuple[int, int]] = deque()
        #: What comes after everything that is ready now: see Pool.push.
        self.later: deque[tuple[int, int]] = deque()
        #: When the events at the head of `ready` were polled, and of those behind each mark in it (ns).
        self.batch = int(self.now * 1e9)
        self.polls: deque[int] = deque()
        #: The leader looks up from its work at this time: to poll, or because the next request is late (ns).
        self.alarm = self.next_poll = 0
        self.crowded = False  # too many wait: nothing is accepted
        self.refusing = False  # what comes now would be late, and is told so at once
        self.budget = Budget(limits.buffer_limit)
        #: Have the leader look at a connection (again). The pool puts its own here, which also wakes.
        self.push: Callable[[int], None] = self._push
        self.next_look = 0.0
        #: A connection is looked at this often at least, so that no deadline can be set which is nearer
        #: than its place in the wheel.
        self.look_every = min(LOOK_AGAIN, max(GRAIN, limits.keepalive), max(GRAIN, limits.header_timeout))
        #: Connections that are between two requests are given to `on_idle`.
        self.draining = False
        #: Every response is the last one of its connection.
        self.close_each = limits.keepalive <= 0
        self.accepted = 0
        self.timed_out = 0
        self.peers = Peers(limits.connections_per_client)
        self._looking = threading.Lock()  # the wheel belongs to one thread at a time
        self._lock = threading.Lock()  # guards changes of `connections`; the leader reads without it
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) if hasattr(os, "eventfd") else -1
        self._bell_pipe = (-1, -1)
        if self._bell < 0:
            self._bell_pipe = os.pipe()
            for end in self._bell_pipe:
                os.set_blocking(end, False)
        self.watch(self._bell_reader(), self._silence)
        self.make: Callable[..., Connection] = Connection
        self.on_late_head: Expired = self.close
        #: A connection was one too many for its address.
        self.on_one_too_many: Callable[[Connection, ProtocolViolation], None] = lambda *_: None
        self.on_room: Callable[[], None] = nothing
        self.on_crowd: Callable[[], None] = nothing
        #: Puts a time (microseconds) into a histogram. Used by who leads: a count may be lost when the lead
        #: changes at the same instant.
        self.count: Callable[[int, int], None] = nowhere
        self.on_tick: Callable[[], None] = nothing
        self.crew = False  # there are siblings: before each poll somebody wants to be asked
        self.on_poll: Callable[[float], float] = same
        #: A connection of a draining worker is between two requests; its owner says so.
        self.on_idle: Callable[[Connection], None] = not_wanted

    def _push(self, fd: int) -> None:
        self.later.append((fd, 0))

    # -- waking the leader

    def _bell_reader(self) -> int:
        return self._bell if self._bell >= 0 else self._bell_pipe[0]

    def ring(self) -> None:
        """Make a leader that polls return. Any thread."""
        try:
            if self._bell >= 0:
                os.eventfd_write(self._bell, 1)
            else:
                os.write(self._bell_pipe[1], b"!")
        except BlockingIOError:
            pass  # it rings already

    def _silence(self) -> None:
        try:
            os.read(self._bell_reader(), 4096)
        except BlockingIOError:
            pass

    # -- descriptors

    def watch(self, fd: int, handler: Callable[[], None], shared: bool = False) -> None:
        """Call `handler` on the leader whenever `fd` is readable (level-triggered). What several workers
        watch, `shared`, does not wake all of them. Raises OSError."""
        self.special[fd] = handler
        try:
            self.poller.register(fd, IN | EXCLUSIVE if shared else IN)
        except OSError:
            del self.special[fd]
            raise

    def unwatch(self, fd: int) -> None:
        if self.special.pop(fd, None) is not None:
            self.poller.unregister(fd)

    def special_or_gone(self, fd: int) -> None:
        """An event of a descriptor that is no connection: a listener, the bell; or no more."""
        handler = self.special.get(fd)
        if handler is not None:
            handler()

    def add(self, conn: Connection, deadline: float) -> None:
        """Take a new connection in. Bytes that are there already raise an event. Raises OSError when the
        system has no room for one more to be watched; then the connection is closed."""
        conn.deadline = deadline
        if conn.intake is None:  # else a proxy is about to say whose it is
            self.peers.enter(conn)
        # Ours until it is whole: a caretaker that drains gives away what it finds without an owner, and the
        # poller would be shown a descriptor that is closed, or somebody else's by now.
        conn.token.acquire()
        with self._lock:
            self.connections[conn.fd] = conn
        self.look_at(conn, min(deadline, self.now + self.look_every))
        conn.entered()
        try:
            self.poller.register(conn.fd, EDGE | IN | HANG_UP)
        except OSError:
            self.close(conn)
            conn.token.release()
            raise
        conn.token.release()
        if conn.again:
            self.push(conn.fd)

    def turn_away(self, conn: Connection) -> None:
        """A connection that was just accepted is one too many for its address. The client is told so, as far
        as that costs nothing."""
        violation = one_too_many()
        with suppress(OSError):
            conn.send(error_response(violation.status, violation.reason))
        self.on_one_too_many(conn, violation)
        conn.phase = Phase.CLOSED
        conn.release()

    def snapshot(self) -> list[Connection]:
        """The connections of this moment. Any thread."""
        with self._lock:
            return list(self.connections.values())

    def want_write(self, conn: Connection) -> None:
        """From now on room in the socket is an event too; room that is there already raises one now."""
        self.poller.modify(conn.fd, EDGE | IN | OUT | HANG_UP)

    # -- the end of a response, and of a connection

    def finish(self, conn: Connection, keep: bool) -> None:
        """The owner has written the whole response: what comes next on this connection?"""
        out = conn.out
        if out is not None:
            if conn.broken:
                self.close(conn)
                return
            if out.size:
                conn.closing = not keep
                conn.phase = Phase.FLUSHING
                return
            out.close()
            conn.out = None
            self.count(WRITE, int((self.clock() - conn.wrote_at) * 1e6))
        if not keep:
            self.shut(conn)
            return
        conn.phase = Phase.IDLE
        conn.deadline = self.now + self.limits.keepalive
        if conn.rest or conn.half_closed:
            conn.again = True
        if self.draining:
            self.on_idle(conn)

    def shut(self, conn: Connection) -> None:
        """Stop sending, let the peer read what we sent, then close."""
        if conn.out is not None and conn.out.size and not conn.broken:
            conn.closing = True
            conn.phase = Phase.FLUSHING
            return
        if conn.broken:
            self.close(conn)
            return
        try:
            linger(conn.sock)
        except OSError:
            self.close(conn)
            return
        conn.phase = Phase.LINGERING
        conn.rest = b""
        conn.intake = Lingering()
        conn.deadline = self.now + self.limits.linger_timeout
        self.look_at(conn, conn.deadline)
        conn.again = True  # bytes may be waiting whose edge has been seen already

    def retire(self, conn: Connection) -> None:
        """End a connection between two requests. Does nothing to one that is not."""
        if conn.phase is Phase.IDLE and not conn.rest:
            self.shut(conn)

    def close(self, conn: Connection) -> None:
        """Forget the connection and close its socket."""
        if conn.phase is Phase.CLOSED:
            return
        conn.phase = Phase.CLOSED
        with self._lock:
            if self.connections.get(conn.fd) is conn:
                del self.connections[conn.fd]
        self.peers.leave(conn)
        if conn.out is not None:
            conn.out.close()
        intake, conn.intake = conn.intake, None
        if intake is not None:
            intake.close()
        # A child that the application forked may hold a copy of the socket; closing ours would then
        # leave it in the poller for ever.
        self.poller.unregister(conn.fd)
        conn.release()
        self.on_room()

    # -- the leader's share

    def flush(self, conn: Connection, out: Outbox) -> bool:
        """Send what waits. True: nothing waits any more (or never will)."""
        try:
            drained = out.flush(conn.sock)
        except (OSError, Truncated):
            conn.cut()
            return True
        if out.more:
            self.push(conn.fd)
        return drained

    def flush_for_owner(self, conn: Connection, out: Outbox) -> None:
        """The same by somebody else than the owner. He may have tried meanwhile, found us at it, and gone:
        then nobody has noticed that the response has left."""
        if self.flush(conn, out) and conn.phase is Phase.FLUSHING:
            self.push(conn.fd)

    def unusual(self, conn: Connection, mask: int) -> bool:
        """Room to write, or the peer's end. True: nothing more to do for this event. The caller owns."""
        if mask & HANG_UP:
            conn.hear_hang_up()
        out = conn.out
        if out is not None:
            drained = self.flush(conn, out)
            if conn.phase is Phase.FLUSHING:
                if drained:
                    self.finish(conn, not conn.closing)
                    conn.again = True  # what came while the response waited has raised its edge already
                return True
        return conn.phase is Phase.CLOSED

    def look_at(self, conn: Connection, when: float) -> None:
        """Look at the deadline of `conn` at `when`, or before. The deadline itself must be set already."""
        with self._lock:
            if when < conn.look:
                conn.look = when
                self.deadlines.watch(conn.fd, when)

    def look_at_deadlines(self, now: float) -> None:
        """End what is late. Costs nothing for what is not."""
        if not self._looking.acquire(blocking=False):
            return  # when the lead changes two threads may poll at once
        try:
            self.on_tick()
            due = self.deadlines.due(now)
        finally:
            self._looking.release()
        for fd in due:
            conn = self.connections.get(fd)
            with self._lock:
                # Later than now: this place in the wheel was an older connection's, or it was given up for
                # a nearer one. Without the test every slow request would add one for good.
                if conn is None or conn.look > now:
                    continue
                conn.look = FOREVER
            again = self._look(conn, now)
            if again is not None:
                self.look_at(conn, again)

    def _look(self, conn: Connection, now: float) -> float | None:
        """When to look again; None when the connection has ended."""
        out = conn.out
        if out is not None and out.size:
            since, sent = conn.mark
            if now - since >= self.limits.write_timeout:
                if conn.broken:
                    return now + self.look_every
                so_far = conn.taken(out)
                if so_far - sent < max(1, self.limits.write_min_rate * (now - since)):
                    self.timed_out += 1
                    conn.cut()
                    self.ready.append((conn.fd, 0))
                    return now + self.look_every
                conn.mark = (now, so_far)
            return conn.mark[0] + self.limits.write_timeout
        if conn.phase is Phase.RUNNING or conn.phase is Phase.FLUSHING:
            return now + self.look_every
        if conn.deadline > now:
            return conn.deadline
        if not conn.token.acquire(blocking=False):
            return now + GRAIN
        try:
            return self._late(conn, now)
        finally:
            conn.token.release()
            if conn.again:
                self.ready.append((conn.fd, 0))

    def _late(self, conn: Connection, now: float) -> float | None:
        phase = conn.phase
        if conn.deadline > now or phase is Phase.RUNNING or phase is Phase.FLUSHING:
            return now + GRAIN  # it moved on while we took the token
        if phase is Phase.READING:
            renewed: float | None = conn.intake.renew(now)
            if renewed is not None:
                conn.deadline = renewed
                return renewed
            self.timed_out += 1
            self.on_late_head(conn)
            return now + GRAIN
        if phase is Phase.IDLE and conn.intake is None and conn.asks():
            return now + GRAIN  # its request waits in the queue for its turn
        self.close(conn)
        return None

    def wait_for_room(self, conn: Connection, out: Outbox) -> None:
        """Hold the calling thread until the client has read some; the application asked for it by
        giving more than memory and spool may hold. Raises ClientGone."""
        limit = (self.limits.response_memory + self.limits.response_spool) // 2
        while out.size > limit:
            if conn.broken:
                raise ClientGone("the client was too slow")
            wait_for(conn.fd, OUT, 1.0)
            self.flush(conn, out)


def taken(queue: deque[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """What is in a queue, taken out of it, whoever else takes at the same time."""
    try:
        while True:
            yield queue.popleft()
    except IndexError:
        return


def nowhere(which: int, us: int) -> None:
    """The histogram that nobody reads."""


def nothing() -> None:
    """The hook that nobody has set."""


def same(timeout: float) -> float:
    return timeout


def not_wanted(conn: Connection) -> None:
    """The hook that nobody has set."""


class Lingering:
    """Drops what a peer still sends after we said close, up to a bound."""

    __slots__ = ("dropped",)

    def __init__(self) -> None:
        self.dropped = 0

    def drop(self, data: bytes) -> bool:
        """False: enough."""
        self.dropped += len(data)
        return self.dropped <= LINGER_BYTES

    def renew(self, now: float) -> None:
        return None

    def close(self) -> None:
        pass


__all__ = ["FOREVER", "Lingering", "Reactor", "taken"]
