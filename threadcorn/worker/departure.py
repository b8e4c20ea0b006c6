"""How a worker leaves: it accepts nothing more, gives its connections away, finishes what runs.

Connections that wait for bytes go to a sibling at once, the others when their response is over, so clients
notice nothing. Where nobody can take them yet, because the only worker was told to leave, they wait for its
successor. Where nobody will (the last stop) each response says that it is the last
one, and connections between two requests are closed a few at a time: a thousand clients that all come back in
the same instant would be a second problem. What is being received is never closed.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from threadcorn.worker.connection import Connection, Phase

if TYPE_CHECKING:
    from threadcorn.worker.handover import Handover
    from threadcorn.worker.neighbours import Neighbours
    from threadcorn.worker.pool import Pool
    from threadcorn.worker.reactor import Reactor

__all__ = ["Departure"]

#: Idle connections that are closed at once, and then each second, as long as that ends in half of the time.
AT_ONCE = 16
A_SECOND = 100
#: A connection that has not sent its first request yet was opened for it just now: it gets so long (s).
FRESH = 0.5


class Departure:
    """From the order to drain to the last connection. Used by the caretaker."""

    def __init__(
        self,
        pool: Pool,
        handover: Handover,
        neighbours: Neighbours,
        *,
        now: float,
        seconds: float,
        alone: bool,
    ) -> None:
        self._pool = pool
        self._reactor: Reactor = pool.reactor
        self._handover = handover
        self._neighbours = neighbours
        self._alone = alone  # nobody is to be given anything: they leave as well
        self._began = now
        self._last = now
        self.until = now + seconds
        self._hope_until = now + seconds / 2
        self._credit = float(AT_ONCE)
        self._rate = max(A_SECOND, 2 * len(self._reactor.connections) / max(0.1, seconds))
        self._fresh_until = now + min(FRESH, seconds / 2)
        # Whether responses are the last ones is known before any learns that we drain: one that said so for
        # nothing would cost its client a connection that a sibling could have had.
        self._look(now)
        self._reactor.on_idle = self._idle
        self._reactor.draining = True
        pool.service.watch_each()

    def hurry(self, until: float) -> None:
        """There is less time than was said first."""
        self.until = min(self.until, until)

    def _idle(self, conn: Connection) -> None:
        """A response is over and the connection stays: its owner, in whatever thread."""
        if not self._reactor.close_each:
            self._handover.give(conn)

    def _look(self, now: float) -> tuple[bool, bool]:
        """Whether somebody takes connections now, and whether somebody will."""
        possible = not self._alone and self._handover.look()
        hope = not self._alone and now < self._hope_until and self._neighbours.expects_somebody
        self._reactor.close_each = not (possible or hope) or self._reactor.limits.keepalive <= 0
        return possible, hope

    def sweep(self, now: float) -> None:
        """Go round once: a few times in a tenth of a second."""
        reactor = self._reactor
        possible, hope = self._look(now)
        self._credit = min(self._credit + (now - self._last) * self._rate, self._rate)
        self._last = now
        if not possible and not hope and not self._alone:
            # Nobody else serves this slot. What was given to it just before is ours to end well.
            self._handover.take(self._neighbours.own)
        for conn in reactor.snapshot():
            if conn.phase > Phase.READING or not conn.token.acquire(False):
                continue
            if possible:
                self._handover.give(conn)
            elif not hope and self._credit >= 1 and self._closable(conn, now):
                self._credit -= 1
                reactor.retire(conn)
            conn.token.release()
            if conn.again:
                self._pool.push(conn.fd)

    def _closable(self, conn: Connection, now: float) -> bool:
        """Whether nothing is arriving. What has arrived goes first: it is a request, and is answered."""
        if conn.phase is not Phase.IDLE or conn.again or conn.rest:
            return False
        if not conn.since and now < self._fresh_until:
            return False
        try:
            return not conn.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            return True  # reset; the leader is about to hear of it
