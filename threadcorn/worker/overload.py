"""Refusing early: which request is too late to be run, and the answer that it gets instead.

The queue is everything that has arrived and has no thread: events in `reactor.ready` whose bytes nobody has
read, and requests in `pool.waiting` that the caretaker has read. It is first in, first out; a connection's
next request stands at the end of it like anybody's. How long one may stand is `policy.concurrency.Patience`.
"""

from __future__ import annotations

import sys
from collections import Counter, deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from threadcorn.http1.parser import Request
from threadcorn.http1.response import STAMP
from threadcorn.policy.cells import REASONS
from threadcorn.policy.concurrency import ROUNDS, Flow, Patience
from threadcorn.policy.concurrency import STANDING as STANDING_FOR
from threadcorn.worker.connection import Connection

if TYPE_CHECKING:
    from threadcorn.worker.reactor import Reactor
    from threadcorn.worker.serve import Service

#: A queue that was not seen empty for so long is looked at before the leader may sleep (seconds).
DOUBT = 0.25
#: Seconds after which a client may come again. Longer would leave us idle once the load ends.
RETRY_AFTER = 1
BODY = b"503 Service Unavailable\nThe server is busy, please try again.\n"

#: Seconds, at least, over which what comes is compared with what is served.
WINDOW = 0.4
#: How much of a standing queue's bound is filled. Beyond it a request is refused when it comes.
FILLED = 0.8

TIMEOUT, STANDING, FULL = REASONS
GONE = "client gone"

#: Requests that waited for less (ns) are run without asking whether their client is still there.
ASK_AFTER = 50_000_000


class Admission:
    """One per worker. `poll` and `judge` belong to the leader, and to threads that take what has waited."""

    def __init__(self, reactor: Reactor, service: Service) -> None:
        limits = reactor.limits
        self._reactor = reactor
        self._service = service
        self._policy = Patience(limits.queue_timeout, limits.queue_target)
        self._probes = limits.probe_paths
        self.last_empty = reactor.now
        #: Of what pool threads have ended, what says nothing of how much they can run: what was not run, and
        #: probes that had waited. Those are let in without bound, and quick.
        self._aside = 0
        self._window: tuple[float, int, int] | None = None  # see `_measure`
        self._flow: Flow | None = None
        # Requests served in a second, in the latest windows. The best of them counts: one in which others had
        # the processor says little of the next one, and who is refused in vain is refused for good.
        self._rates: deque[float] = deque(maxlen=3)
        self.room = sys.maxsize  # requests that may wait without being too late when their turn comes
        self.service = 0.0  # about how long one takes (seconds); the tuner's estimate
        self.patience = limits.queue_timeout
        self.patience_ns = self._timeout_ns = ns(self.patience)
        self._standing_since = 0  # those that came before may wait for the whole time-out (ns)
        #: Requests that were not run, by reason. Several threads count; one that is lost when two do so at
        #: the same instant is worth less than a lock.
        self.shed: Counter[str] = Counter()
        self._stamp = ""
        self._answers: dict[tuple[bool, bool], bytes] = {}

    def look(self, standing: float, queued: int, finished: Callable[[], int], threads: int) -> None:
        """While the queue was not seen empty for `standing` seconds, after each poll: `queued` wait, and
        `finished` tells how many requests the pool has ended so far."""
        self._measure(standing, queued, finished, threads)
        bound = self._policy.now(standing, self._flow, self.service)
        self.room = sys.maxsize
        # Not before it has stood for so long: what a burst does to the rate says little of the next one.
        if self._flow is not None and bound < self._policy.timeout and standing > bound:
            self.room = max(threads, int(max(self._rates) * bound * FILLED))
        self._reactor.refusing = self.room < sys.maxsize
        if bound != self.patience:
            self.patience = bound
            self.patience_ns = ns(bound)
            self._standing_since = ns(self.last_empty + STANDING_FOR)

    def _measure(self, standing: float, queued: int, finished: Callable[[], int], threads: int) -> None:
        """Compare what came with what was served, once enough was served to tell."""
        if self._window is not None and standing - self._window[0] < WINDOW:
            return  # adding up what all threads have finished costs as much as a small request
        served = finished() - self._aside
        # Whatever came is in the queue still, was served, or was not.
        came = queued + served + sum(self.shed.values())
        if self._window is None:
            self._window = (standing, came, served)
            return
        began, came_then, served_then = self._window
        seconds, newly = standing - began, served - served_then
        if newly >= ROUNDS * threads:
            self._flow = Flow(seconds, came - came_then, newly)
            self._rates.append(newly / seconds)
            self._window = (standing, came, served)

    def crowd(self, waiting: int) -> None:
        """Above `max_queued` connections wait in the kernel, where a sibling can take them."""
        reactor = self._reactor
        if not reactor.crowded:
            reactor.crowded = True
            reactor.on_crowd()
        elif waiting <= reactor.limits.max_queued // 2:
            reactor.crowded = False
            reactor.on_room()

    def empty(self, now: float) -> None:
        """Nothing waits for a thread."""
        self.last_empty = now
        self._window = self._flow = None
        self._rates.clear()
        self.room = sys.maxsize
        self._reactor.refusing = False
        self.patience = self._policy.timeout
        self.patience_ns = ns(self.patience)

    def judge(self, conn: Connection, request: Request, since: int, now: int) -> str | None:
        """Why not to run a request that has waited since `since` (ns); None: run it."""
        waited = now - since
        if waited > ASK_AFTER and conn.gave_up():
            reason = GONE
        elif waited <= self.patience_ns or request.environ["PATH_INFO"] in self._probes:
            return None
        elif waited > self._timeout_ns:
            reason = TIMEOUT
        elif since >= self._standing_since:
            reason = STANDING
        else:
            return None
        self.shed[reason] += 1
        return reason

    def turn_away(self, conn: Connection, request: Request, since: int, now: int) -> str | None:
        """End a request that waited for too long, or for nobody. Answers its outcome; None: it is to be run.
        The caller owns the connection."""
        reason = self.judge(conn, request, since, now)
        if reason is None:
            return None
        if reason is GONE:
            self._reactor.close(conn)
            return ""
        return self.refuse(conn, request)

    def turn(self, conn: Connection, request: Request, since: int, now: int) -> str | None:
        """The same for a request that has waited and whose turn it is."""
        outcome = self.turn_away(conn, request, since, now)
        if outcome is not None or request.environ["PATH_INFO"] in self._probes:
            self._aside += 1
        return outcome

    def refuse(self, conn: Connection, request: Request) -> str:
        """503, prepared. The caller owns the connection; answers the outcome."""
        keep = request.keep and request.version11 and conn.intake is None and not self._reactor.close_each
        return self._service.shed(conn, request, self.answer(keep, request.method != "HEAD"), keep)

    @property
    def refused(self) -> int:
        """Requests answered with 503."""
        return self.shed[TIMEOUT] + self.shed[STANDING] + self.shed[FULL]

    def too_many(self, request: Request) -> bool:
        """Refuse a request on arrival, because the queue in front of it is too long. False: it is a probe."""
        if request.environ["PATH_INFO"] in self._probes:
            return False
        self.shed[FULL] += 1
        return True

    def answer(self, keep: bool, body: bool) -> bytes:
        """503 with Retry-After. Built once a second, so that refusing costs next to nothing."""
        stamp = STAMP.text
        if stamp is not self._stamp:
            both = (False, True)
            self._answers = {(stay, full): busy(stamp, stay, full) for stay in both for full in both}
            self._stamp = stamp
        return self._answers[keep, body]


def busy(stamp: str, keep: bool, body: bool) -> bytes:
    close = "" if keep else "Connection: close\r\n"
    head = (
        f"HTTP/1.1 503 Service Unavailable{stamp}\r\nRetry-After: {RETRY_AFTER}\r\n"
        f"Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len(BODY)}\r\n{close}\r\n"
    )
    return head.encode("latin-1") + (BODY if body else b"")


def ns(seconds: float) -> int:
    """Nanoseconds that can be compared with the clock's, for any bound."""
    return int(min(seconds, 1e9) * 1e9)
