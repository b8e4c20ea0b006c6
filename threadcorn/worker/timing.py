"""Where the time of a request goes, for the access log, the histograms and `Server-Timing`.

* accept: a connection's first bytes were there, and nobody had accepted it (its first request only);
* waited: the request was ready to be read, and no thread was free;
* ran: the application, with everything that it iterates over;
* cpu: processor time of the thread in the application;
* write: from the application's end to the last byte that the kernel, or the outbox, took.
"""

from __future__ import annotations

from collections.abc import Callable

from threadcorn.accesslog import Timings
from threadcorn.worker.connection import Connection
from threadcorn.wsgi.gateway import Response

__all__ = ["TimedResponse", "Watch"]


class Watch:
    """The times of one request. All clocks are given by the caller, in seconds."""

    __slots__ = ("accept", "app_ended", "began", "cpu", "waited")

    def __init__(self, conn: Connection, now_ns: int, cpu_ns: int) -> None:
        self.accept, conn.first_wait = conn.first_wait, 0.0
        self.waited = max(0.0, (now_ns - conn.since) / 1e9)
        self.began = now_ns
        self.app_ended = 0
        self.cpu = cpu_ns

    def ended(self, now_ns: int, cpu_ns: int) -> None:
        """The application has given everything."""
        self.app_ended = now_ns
        self.cpu = cpu_ns - self.cpu

    def timings(self, now_ns: int) -> Timings:
        return Timings(
            self.waited,
            (self.app_ended - self.began) / 1e9,
            self.accept,
            self.cpu / 1e9,
            max(0, now_ns - self.app_ended) / 1e9,
        )


class TimedResponse(Response):
    """A response that says in its head what it took until then (W3C Server Timing)."""

    __slots__ = ("_clock", "_watch")

    def timed(self, watch: Watch, clock: Callable[[], int]) -> None:
        self._watch = watch
        self._clock = clock
        self._usual = False  # the head is made by `_commit` alone

    def _commit(self, size: int) -> bytes:
        parts = self._parts
        if parts is not None:
            watch = self._watch
            took = (self._clock() - watch.began) / 1e6
            accept = f"accept;dur={watch.accept * 1e3:.1f}, " if watch.accept else ""
            line = f"\r\nServer-Timing: {accept}wait;dur={watch.waited * 1e3:.1f}, app;dur={took:.1f}"
            parts.append(line.encode("ascii"))
        return super()._commit(size)
