"""Giving connections to a sibling, and taking them: by descriptor, over the inboxes of the berths.

A connection that waits for its next request, or has sent half a head, does not notice that the worker behind
it leaves: descriptor, peer and the bytes that were read travel to another worker in one packet, and what was
not read yet travels in the socket itself. The giver only closes its copy; `shutdown` would end it for both.

An inbox is made by the arbiter and belongs to a slot, not to a process: what was put into it for a worker
that has died since is taken by its successor, and meanwhile by whoever looks after slots that nobody serves.
"""

from __future__ import annotations

import errno
import logging
import socket
import threading
from functools import partial
from time import monotonic_ns
from typing import Any

from threadcorn.policy.accepting import UNFIT
from threadcorn.policy.parcel import LARGEST, Parcel, pack, unpack
from threadcorn.system.berths import Berth
from threadcorn.worker.announcement import Announcement
from threadcorn.worker.connection import Connection, Phase
from threadcorn.worker.neighbours import Neighbours, Sibling
from threadcorn.worker.partial import Head
from threadcorn.worker.reactor import Reactor

__all__ = ["Handover", "parcel_of"]

#: Packets taken from one inbox before others get their turn.
BATCH = 32
#: Pause after the system had no descriptor for one (seconds); and without such a failure, until the next is
#: told again. An inbox that is not empty would wake the leader, and fill the log, without end.
PAUSE, QUIET = 0.5, 60.0


class Handover:
    """One per worker. `give` belongs to the connection's owner, `take` to the leader; both to any thread."""

    def __init__(self, reactor: Reactor, neighbours: Neighbours, log: logging.Logger) -> None:
        self._reactor = reactor
        self._neighbours = neighbours
        self._log = log
        self._watched: dict[int, Berth] = {}
        #: Numbers of our addresses, by what is known of a connection's.
        self._addresses: dict[object, int] = {}
        for group, listener in enumerate(neighbours.own.listeners):
            for key in _keys(listener.getsockname()):
                self._addresses.setdefault(key, group)
        self._lock = threading.Lock()
        #: Held by who takes. A connection that has left an inbox and is not in the reactor yet is in no list.
        self._taking = threading.Lock()
        self._closed = False
        self._takers: list[Sibling] = []
        self._paused_until = 0  # ns
        self._quiet_until = 0
        self.given = 0
        self.received = 0

    # -- taking

    def open(self) -> None:
        """Take what comes into our inbox, and into those of slots that nobody serves."""
        with self._lock:
            if self._closed or self._paused_until:
                return
            neighbours = self._neighbours
            wanted = {berth.inbox[0].fileno(): berth for berth in (neighbours.own, *neighbours.orphans)}
            for fd in [fd for fd in self._watched if fd not in wanted]:
                del self._watched[fd]
                self._reactor.unwatch(fd)
            for fd, berth in wanted.items():
                if fd not in self._watched:
                    self._watched[fd] = berth
                    self._reactor.watch(fd, partial(self._look_into, berth), berth is not neighbours.own)

    def close(self) -> None:
        """Take nothing more: somebody else serves our slot now, or will. What was taken is in the reactor."""
        with self._taking, self._lock:
            self._closed = True
            self._unwatch_locked()

    def _unwatch_locked(self) -> None:
        for fd in self._watched:
            self._reactor.unwatch(fd)
        self._watched.clear()

    def _look_into(self, berth: Berth) -> None:
        with self._taking:
            if not self._closed and not self._paused_until:
                self.take(berth)

    def watch_over(self) -> None:
        """A sibling that is stuck does not look into its inbox, and was given something before anybody knew.
        The caretaker looks there from time to time."""
        now = monotonic_ns()
        if self._paused_until and now >= self._paused_until:
            self._paused_until = 0
            self._look_into(self._neighbours.own)  # a sibling may have emptied it
            self.open()
        for sibling in self._neighbours.siblings:
            if sibling.figure(now) >= UNFIT:
                self._look_into(sibling.berth)

    def take(self, berth: Berth) -> int:
        """Take what waits in an inbox; how many."""
        for count in range(BATCH):
            try:
                taken = berth.take()
            except OSError as error:
                self._exhausted(error)
                return count
            if taken is None:
                self._neighbours.full = False
                return count
            packet, fd = taken
            if fd < 0:
                self._log.error("A packet in the inbox of slot %d has no connection", berth.slot)
                continue
            self._adopt(fd, packet)
        return BATCH

    def _exhausted(self, error: OSError) -> None:
        """They wait, and no more are to come: until we can take all of them, siblings think of us as of one
        that is stuck, and look into our inbox."""
        self._neighbours.full = True
        now = monotonic_ns()
        with self._lock:
            self._paused_until = now + int(PAUSE * 1e9)
            self._unwatch_locked()
        if now >= self._quiet_until:
            self._log.error(
                "Cannot take a connection from a sibling: %s. It waits until others end; raise the limit on "
                "open files (ulimit -n, LimitNOFILE=) or lower worker_connections.",
                error.strerror,
            )
        self._quiet_until = now + int(QUIET * 1e9)

    def _adopt(self, fd: int, packet: bytes) -> None:
        sock = socket.socket(fileno=fd)
        sock.setblocking(False)
        parts = unpack(packet)
        if parts is None:
            self._log.error("A connection from a worker of another version was closed")
            sock.close()
            return
        known, data = parts
        reactor = self._reactor
        group = self._group_of(sock, known.group)
        conn = reactor.make(sock, known.peer, known.port, group, reactor)
        # A keep-alive connection has the whole time once more: nobody knows how much of it was left, and
        # closing it too late harms nobody.
        now = reactor.clock()
        wait = reactor.limits.header_timeout if known.fresh else reactor.limits.keepalive
        conn.trusted = known.trusted
        if not known.announced:
            conn.intake = Announcement(
                reactor.limits.proxy_protocol or "auto", reactor.limits.may_announce(conn.peer)
            )
        conn.since = 0 if known.fresh else 1
        conn.rest = data
        self.received += 1
        try:
            reactor.add(conn, now + wait)
        except OSError as error:
            self._log.error(
                "A connection of a sibling's was closed, it cannot be watched: %s", error.strerror
            )
            return
        if data and conn.phase is not Phase.CLOSED:
            reactor.push(conn.fd)

    def _group_of(self, sock: socket.socket, said: int) -> int:
        """Which of our addresses it came in by. The giver's number counts for what cannot be told otherwise:
        after an upgrade the addresses may be fewer, or in another order."""
        try:
            keys = _keys(sock.getsockname())
        except OSError:
            keys = ()
        found = [self._addresses[key] for key in keys if key in self._addresses]
        return found[0] if found else min(said, len(self._neighbours.own.listeners) - 1)

    # -- giving

    def look(self) -> bool:
        """Who can be given connections from now on. False: nobody. To be called before a round of `give`."""
        neighbours = self._neighbours
        neighbours.look()
        takers = [] if neighbours.stopping else neighbours.takers()
        self._takers = takers
        return bool(takers)

    def give(self, conn: Connection) -> bool:
        """Give away a connection that waits for bytes. True: it is not ours any more."""
        if conn.out is not None or conn.broken or conn.closing:
            return False
        if conn.phase is Phase.IDLE and conn.intake is None:
            data = conn.rest
        elif conn.intake.__class__ in (Announcement, Head):
            data = bytes(conn.intake.buffer) + conn.rest
        else:
            return False
        if len(data) > LARGEST:
            return False
        packet = pack(parcel_of(conn), data)
        conn.leave()
        given = self._send(conn, packet)
        if given:
            conn.rest = b""
            self._reactor.close(conn)  # our copy; the connection lives on
        else:
            conn.stay()
        return given

    def pass_on(self, conn: Connection) -> bool:
        """All our threads are busy and this connection has something to say: is a sibling idle? True: it
        has the connection now. Called by the caretaker while it leads."""
        if not self._reactor.crew or conn.phase is not Phase.IDLE or conn.half_closed:
            return False
        now = monotonic_ns()
        self._takers = [s for s in self._neighbours.siblings if s.is_idle(now)]
        return bool(self._takers) and not self._neighbours.stopping and self.give(conn)

    def _send(self, conn: Connection, packet: bytes) -> bool:
        takers = self._takers
        # Two threads may give at once: then both may choose the same sibling, which is no harm.
        for taker in sorted(takers, key=_order):
            try:
                if not taker.berth.give(packet, conn.fd):
                    continue
            except OSError as error:
                if error.errno not in (errno.EMSGSIZE, errno.EBADF):
                    self._log.error("Cannot give a connection to a sibling: %s", error.strerror)
                return False
            taker.given += 1
            self.given += 1
            return True
        return False


def parcel_of(conn: Connection) -> Parcel:
    """What another worker has to know of it."""
    return Parcel(
        group=conn.group,
        peer=conn.peer,
        port=conn.port,
        fresh=not conn.since,
        trusted=conn.trusted,
        announced=conn.intake.__class__ is not Announcement,
    )


def _keys(name: Any) -> tuple[object, ...]:
    """By host and port, by the port alone (of a wildcard only that is the same), or by path."""
    return (name[:2], name[1]) if isinstance(name, tuple) else (name,)


def _order(taker: Sibling) -> tuple[int, int]:
    return -taker.generation, taker.load_then + taker.given
