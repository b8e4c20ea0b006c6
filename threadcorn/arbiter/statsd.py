"""Metrics to statsd, under gunicorn's names, so that dashboards keep working.

Sent once a second from the scoreboard, not three datagrams a request: counts are what was added since the
last time, and durations are the buckets of the histogram, each once, with the sample rate that stands for
how many there were. A server that is not there costs nothing and stops nothing. Its name is looked up once,
at the start: a resolver that does not answer would hold up the arbiter's loop for seconds at every push.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from typing import Any

from threadcorn.policy.cells import Histogram, bounds

__all__ = ["Statsd", "lines"]

PERIOD = 1.0
#: Bytes of a datagram: what fits into an Ethernet frame.
DATAGRAM = 1400


class Statsd:
    """The socket, and what was sent the last time. Raises OSError when the name is not known."""

    def __init__(self, target: str, prefix: str, tags: str) -> None:
        self._prefix = f"{prefix.rstrip('.')}." if prefix else ""
        self._tags = f"|#{tags}" if tags else ""
        self._before: dict[str, float] = {}
        self._histogram: tuple[int, ...] = ()
        self.next = 0.0
        self._address: Any
        if target.startswith(("unix:", "unix://")):
            self._address = target.removeprefix("unix:").removeprefix("//")
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        else:
            host, _, port = target.rpartition(":")
            name = host.strip("[]") or "127.0.0.1"
            found = socket.getaddrinfo(name, int(port), type=socket.SOCK_DGRAM)
            family, _, _, _, self._address = found[0]
            self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def close(self) -> None:
        self._socket.close()

    def push(self, now: float, counters: Mapping[str, float], workers: int, app: Histogram) -> None:
        """`counters`: totals of the server by cell name."""
        self.next = now + PERIOD
        grown = {name: value - self._before.get(name, 0) for name, value in counters.items()}
        before = self._histogram or (0,) * len(app.counts)
        times = [new - old for new, old in zip(app.counts, before, strict=True)]
        self._before, self._histogram = dict(counters), app.counts
        packet = ""
        for line in lines(grown, workers, times):
            text = f"{self._prefix}{line}{self._tags}\n"
            if len(packet) + len(text) > DATAGRAM:
                self._send(packet)
                packet = ""
            packet += text
        self._send(packet)

    def _send(self, packet: str) -> None:
        try:
            self._socket.sendto(packet.rstrip("\n").encode(), self._address)
        except OSError:
            pass  # nobody listens, or its buffer is full: the next second has the next numbers


def lines(grown: Mapping[str, float], workers: int, times: Iterable[int]) -> Iterable[str]:
    """What to send, without prefix and tags."""
    if grown.get("requests"):
        yield f"gunicorn.requests:{int(grown['requests'])}|c"
    for name, value in grown.items():
        code = name.removeprefix("status_")
        if code != name and value:
            yield f"gunicorn.request.status.{code}:{int(value)}|c"
    yield f"gunicorn.workers:{workers}|g"
    for index, count in enumerate(times):
        if count > 0:
            low, high = bounds(index)
            rate = f"|@{1 / count:.6g}" if count > 1 else ""
            yield f"gunicorn.request.duration:{(low + high) / 2000:.3f}|ms{rate}"
