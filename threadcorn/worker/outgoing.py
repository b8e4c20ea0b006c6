"""Answers that leave together.

A send wakes the client, or the proxy, that waits for it. Where that sleeps on another processor, waking it
costs the sender more than the send: measured in a virtual machine, 20 us, and because the caches are cold
then, as much again in what runs next. So the inline leader, when it serves requests in a row
(`PoolThread._in_a_row`), keeps finished answers back and sends them in one go: the first wakes the client,
which the others find awake.

Laws:

1. Only what completes an answer is kept. A block that the application follows by others leaves at once, and
   what is kept leaves even if the application does not come back: the caretaker sends it (PEP 3333, on
   buffering and streaming).
2. Nothing is kept for longer than KEEP, or one request, or one tick of the caretaker where that request
   blocks. A thread that has lost the lead keeps nothing: the caretaker looks at the leader only.
3. A connection whose answer is kept still has its owner: its token goes with the answer.
"""

from __future__ import annotations

import threading
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from threadcorn.wsgi.gateway import ClientGone

if TYPE_CHECKING:
    from threadcorn.worker.connection import Connection
    from threadcorn.worker.reactor import Reactor

__all__ = ["KEEP", "MOST", "Outgoing"]

#: Nanoseconds for which an answer is kept, and how many are.
KEEP = 1_000_000
MOST = 16


class Outgoing:
    """The answers that one thread keeps while it leads. A `Sink` for the request that it runs."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._lock = threading.Lock()  # between the leader and the caretaker; held while they send
        self._kept: list[tuple[Connection, bytes]] = []
        self._over = 0  # so many of them belong to requests that are over
        self.since = 0  # when the first of them was kept (ns)
        self._conn: Any = None
        self.left = False  # the last request is over, and its connection's token is ours
        self.keeps = True  # False: its thread has lost the lead

    def sink(self, conn: Connection) -> Outgoing:
        """For the next request."""
        self._conn = conn
        return self

    def __bool__(self) -> bool:
        return bool(self._kept)

    def late(self, now: int) -> bool:
        """Whether what is kept must leave now (monotonic nanoseconds)."""
        return now - self.since >= KEEP or len(self._kept) >= MOST

    def send(self) -> None:
        """Send everything. The leader, or the caretaker in its place."""
        with self._lock:
            over, self._over = self._over, 0
            kept, self._kept = self._kept, []
            for conn, data in kept:
                try:
                    conn.write(data)
                except ClientGone:
                    pass  # `broken` says so to whoever ends the request
                if over > 0:
                    over -= 1
                    self._settle(conn)

    def let_go(self) -> None:
        """Send everything, and from now on at once. The caretaker, when it has taken the lead away."""
        self.keeps = False
        self.send()

    def _settle(self, conn: Connection) -> None:
        if conn.broken:
            self._reactor.close(conn)
        else:
            self._reactor.finish(conn, True)
        conn.token.release()
        if conn.again or conn.rest:
            self._reactor.push(conn.fd)

    # -- the request that runs

    def over(self, stays: bool) -> bool:
        """The request is over, and whether its connection stays. True: its answer is kept, and the
        connection's token with it. False: everything has been sent."""
        self._conn = None
        if stays:
            with self._lock:
                if len(self._kept) > self._over:
                    self._over = len(self._kept)
                    self.left = True
                    return True
        self.send()
        return False

    # -- the sink

    def write_last(self, data: bytes) -> None:
        if self._conn.out is None:
            with self._lock:
                if self.keeps:
                    if not self._kept:
                        self.since = monotonic_ns()
                    self._kept.append((self._conn, data))
                    return
        self._conn.write_last(data)

    def write(self, data: bytes) -> None:
        self._conn.write(data)

    def write_pieces(self, pieces: list[bytes]) -> None:
        self._conn.write_pieces(pieces)

    def file_span(self, filelike: Any) -> tuple[int, int, int] | None:
        return self._conn.file_span(filelike)  # type: ignore[no-any-return]

    def write_file(self, head: bytes, descriptor: int, offset: int, count: int) -> None:
        self._conn.write_file(head, descriptor, offset, count)

    def began(self) -> None:
        self._conn.began()

    def arrived(self) -> bool:
        return self._conn.arrived()  # type: ignore[no-any-return]
