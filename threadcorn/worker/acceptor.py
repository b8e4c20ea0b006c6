"""Accepting: from a listener's queue to a connection in the reactor.

A worker polls the shard of its own slot, its bell, and the shards of slots that nobody serves. Alone it takes
whatever comes. With siblings it follows the rule of `policy/accepting.py`: the least loaded accepts, from the
deepest queue, whoever's that is; a worker that has more to do rings those that have less.

Descriptor exhaustion does not spin: a level-triggered listener that cannot be accepted from would wake the
leader for ever, so accepting pauses, says so once, and resumes by itself.
"""

from __future__ import annotations

import errno
import logging
import socket
import threading
from collections.abc import Callable
from functools import partial

from threadcorn.policy.accepting import UNFIT, deepest, to_ring
from threadcorn.policy.cells import ACCEPT_WAIT
from threadcorn.system.berths import Berth
from threadcorn.system.depths import depth
from threadcorn.system.tcpinfo import waited
from threadcorn.worker.announcement import Announcement
from threadcorn.worker.neighbours import Neighbours
from threadcorn.worker.reactor import Reactor

#: Connections taken from one listener before the others get their turn.
BATCH = 32
#: The same while new requests are refused: their clients learn it at once, and a refusal is cheap.
BATCH_REFUSED = 256
#: Pause after the system had no descriptor or memory left (seconds).
PAUSE = 0.5
#: Seconds without such a failure, until the next one is told again. Clients that come again at once let
#: accepting succeed and fail in turn.
QUIET = 60.0
#: After ringing, our own queue is left alone for so long (seconds); and so often, until we accept anyway.
YIELD = 0.001
YIELDS = 10
#: The same while all our threads are busy.
YIELD_BUSY = 0.01
YIELDS_BUSY = 5
#: Queues that are looked at for one connection. With more, some of the siblings' wait for the next look.
QUEUES = 32
#: The last one is epoll's: max_user_watches.
_EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ENOSPC))
_NOTHING = frozenset((errno.EAGAIN, errno.EWOULDBLOCK))

#: A listener and the index of its address.
Queue = tuple[int, socket.socket]


class Acceptor:
    """Owns which listeners are polled. Used by the leader; `close` and `watch_over` by the caretaker.

    `pressure` tells how many threads are busy, how many requests wait, and whether every thread is busy.
    """

    def __init__(
        self,
        reactor: Reactor,
        neighbours: Neighbours,
        log: logging.Logger,
        pressure: Callable[[], tuple[int, int, bool]],
    ) -> None:
        self._reactor = reactor
        self._neighbours = neighbours
        self._log = log
        self._pressure = pressure
        self._own: list[Queue] = list(enumerate(neighbours.own.listeners))
        self._queues: list[Queue] = list(self._own)
        self._watched: dict[int, Queue] = {}
        self._polled = False
        self._closed = False
        self._open = False
        self._paused_until = 0.0
        self._quiet_until = 0.0
        self._yields = 0
        self._yielding_until = 0.0
        self._deep: frozenset[int] = frozenset()  # queues that were not empty at the caretaker's last look
        self._lock = threading.Lock()  # the caretaker closes while the leader pauses and resumes
        #: Held by who accepts. A connection between accept() and the reactor is in no list yet, and who
        #: counted the connections then would leave with it.
        self._accepting = threading.Lock()
        self.taken = 0  # accepted from a queue that is not ours
        self.rings = 0
        self.failed = 0
        #: The siblings have changed.
        self.on_change: Callable[[], None] = _nothing
        reactor.on_room = self.resume
        reactor.on_tick = self._tick
        reactor.on_crowd = self.pause
        reactor.on_poll = self._before_poll

    # -- which listeners are polled

    def open(self) -> None:
        """Begin to accept."""
        if self._closed:
            return
        if not self._open:
            self._open = True
            for _, listener in self._own:
                listener.setblocking(False)
            self._reactor.watch(self._neighbours.own.bell, self._rung)
        self._look_around()
        self.resume()

    def pause(self) -> None:
        """Stop accepting; connections wait in the kernel."""
        with self._lock:
            self._polled = False
            self._unwatch_locked()

    def close(self) -> None:
        """Stop accepting for good; what has been accepted is in the reactor then. The listeners themselves
        belong to the arbiter."""
        with self._accepting:
            self._closed = True
        self._reactor.unwatch(self._neighbours.own.bell)
        self.pause()
        self._neighbours.own.ring()  # a ring of the arbiter's that we may have taken from our successor

    def empty(self) -> None:
        """Take what waits, whether it is our turn or not: nobody will come after us. After `close`."""
        for group, listener in self._queues:
            while self._accept(group, listener):
                pass

    def resume(self) -> None:
        """Accept again if the reason not to is gone. Called whenever a connection ends, and each tick."""
        reactor = self._reactor
        if self._polled or self._closed or not self._open or reactor.crowded:
            return
        if reactor.now >= self._paused_until and len(reactor.connections) < reactor.limits.connections:
            with self._lock:
                if not self._closed:
                    self._polled = True
                    self._watch_locked()

    def _watch_locked(self) -> None:
        """Own shards, and those that nobody serves: they have every worker for a poller."""
        neighbours = self._neighbours
        wanted = {
            listener.fileno(): (group, listener, neighbours.shares(listener.fileno()))
            for group, listener in self._own
        }
        for berth in neighbours.orphans:
            for group, listener in enumerate(berth.listeners):
                wanted.setdefault(listener.fileno(), (group, listener, True))
        for fd in [fd for fd in self._watched if fd not in wanted]:
            del self._watched[fd]
            self._reactor.unwatch(fd)
        for fd, (group, listener, shared) in wanted.items():
            if fd not in self._watched:
                try:
                    self._reactor.watch(fd, partial(self._readable, group, listener), shared)
                except OSError as error:  # no memory for it; later perhaps
                    self._unwatch_locked()
                    self._exhausted(error)
                    return
                self._watched[fd] = (group, listener)

    def _others(self) -> list[Berth]:
        return [sibling.berth for sibling in self._neighbours.siblings]

    def _unwatch_locked(self) -> None:
        for fd in self._watched:
            self._reactor.unwatch(fd)
        self._watched.clear()
        self._yielding_until = 0.0

    # -- looking around

    def _tick(self) -> None:
        self._look_around()
        self.resume()

    def _look_around(self) -> None:
        """See who serves which slot. Cheap when nothing has changed."""
        neighbours = self._neighbours
        if self._closed or not neighbours.look():
            return
        self._reactor.crew = bool(neighbours.siblings)
        seen = {listener.fileno() for _, listener in self._own}
        self._queues = list(self._own)
        for berth in (*self._others(), *neighbours.orphans):
            for group, listener in enumerate(berth.listeners):
                if listener.fileno() not in seen:
                    seen.add(listener.fileno())
                    self._queues.append((group, listener))
        with self._lock:
            if self._polled:
                self._watch_locked()
        self.on_change()

    def _before_poll(self, timeout: float) -> float:
        """Before each poll, when there are siblings: say how much there is to do, end a pause."""
        busy, waiting, _ = self._pressure()
        reactor = self._reactor
        self._neighbours.publish(busy, waiting, len(reactor.connections))
        if self._yielding_until:
            left = self._yielding_until - reactor.clock()
            if left > 0:
                return min(timeout, left)
            self._yielding_until = 0.0
            with self._lock:
                if self._polled:
                    self._watch_locked()
        return timeout

    def watch_over(self) -> None:
        """A sibling that is stuck, or whose loop is starved, does not look at its own queue. The caretaker
        does it from time to time: what was there at two looks is taken by whoever has least to do."""
        if self._closed or not self._polled or not self._neighbours.siblings:
            return
        fit = self._neighbours.figures()
        stuck = any(load >= UNFIT for load in fit)
        deep = frozenset(listener.fileno() for _, listener in self._queues if depth(listener) > 0)
        if deep & self._deep or (deep and stuck):
            self._neighbours.own.ring()
        self._deep = deep

    # -- accepting

    def _rung(self) -> None:
        with self._accepting:
            if self._closed:
                return  # it rings for our successor
            self._neighbours.own.hush()
            self._look_around()
            if self._polled:
                self._share(self._own[0])

    def _readable(self, group: int, listener: socket.socket) -> None:
        with self._accepting:
            if self._closed:
                return  # its event was older than the end
            if self._reactor.crew:
                self._share((group, listener))
            else:
                self._take_all(group, listener)

    def _take_all(self, group: int, listener: socket.socket) -> None:
        for _ in range(BATCH_REFUSED if self._reactor.refusing else BATCH):
            if not self._accept(group, listener):
                return

    def _share(self, readable: Queue) -> None:
        """Accept as long as nobody has less to do than we."""
        reactor = self._reactor
        neighbours = self._neighbours
        queues = self._queues
        if len(queues) > QUEUES:
            own = len(self._own)
            queues = self._queues = [*queues[:own], *queues[QUEUES:], *queues[own:QUEUES]]
            queues = queues[:QUEUES]
        dry: set[int] = set()
        for _ in range(BATCH_REFUSED if reactor.refusing else BATCH):
            depths = [depth(listener) for _, listener in queues]
            if min(depths) < 0:
                # Not told (unix sockets): the one that woke us has something, until it turns out not to.
                for n, queue in enumerate(queues):
                    if depths[n] < 0:
                        depths[n] = int(queue == readable and queue[1].fileno() not in dry)
            choice = deepest(depths)
            if choice is None:
                self._yields = 0
                return
            busy, waiting, full = self._pressure()
            mine = neighbours.publish(busy, waiting, len(reactor.connections))
            rest = YIELDS_BUSY if full else YIELDS
            if self._yields < rest:
                ring = to_ring(UNFIT - 1 if full else mine, neighbours.figures(), sum(depths))
                if ring:
                    for index in ring:
                        neighbours.siblings[index].berth.ring()
                    self.rings += len(ring)
                    if any(depths[: len(self._own)]):
                        self._yields += 1
                        self._yield(YIELD_BUSY if full else YIELD)
                    return
            self._yields = 0
            group, listener = queues[choice]
            if self._accept(group, listener):
                self.taken += choice >= len(self._own)
            elif not self._polled:
                return
            else:
                dry.add(listener.fileno())
        neighbours.own.ring()  # others first; then on with it

    def _yield(self, seconds: float) -> None:
        """Leave what we poll to those who were rung."""
        with self._lock:
            self._unwatch_locked()
            if self._polled:
                self._yielding_until = self._reactor.clock() + seconds

    def _accept(self, group: int, listener: socket.socket) -> bool:
        """One connection. False: there was none, or it cannot be had."""
        reactor = self._reactor
        if len(reactor.connections) >= reactor.limits.connections:
            self.pause()
            return False
        try:
            sock, address = listener.accept()
        except OSError as error:
            self._accept_failed(error)
            return False
        sock.setblocking(False)
        if listener.family == socket.AF_UNIX:
            conn = reactor.make(sock, "", "", group, reactor)
        else:
            conn = reactor.make(sock, address[0], str(address[1]), group, reactor)
            conn.accept_wait = conn.first_wait = wait = waited(sock)
            reactor.count(ACCEPT_WAIT, int(wait * 1e6))
        reactor.accepted += 1
        limits = reactor.limits
        conn.trusted = limits.may_forward(conn.peer)
        if limits.proxy_protocol:
            conn.intake = Announcement(limits.proxy_protocol, limits.may_announce(conn.peer))
        elif not reactor.peers.admit(conn.peer):
            reactor.turn_away(conn)
            return True
        try:
            reactor.add(conn, reactor.now + reactor.limits.header_timeout)
        except OSError as error:
            self._accept_failed(error)
            return False
        return True

    def _accept_failed(self, error: OSError) -> None:
        if error.errno in _NOTHING:
            return
        if error.errno in _EXHAUSTED:
            self.pause()
            self._exhausted(error)
            return
        # Anything else belongs to the one connection that was being accepted (accept(2), "error handling").
        self._log.debug("accept: %s", error)

    def _exhausted(self, error: OSError) -> None:
        self.failed += 1
        self._polled = False
        self._paused_until = self._reactor.now + PAUSE
        complained = self._reactor.now < self._quiet_until
        self._quiet_until = self._reactor.now + QUIET
        if not complained:
            self._log.error(
                "Cannot accept: %s. Accepting pauses until connections end; raise the limit on open "
                "files (ulimit -n, LimitNOFILE=) or lower worker_connections.",
                error.strerror,
            )


def _nothing() -> None:
    """Nobody wants to know."""
