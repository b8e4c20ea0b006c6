"""What is told of requests that the server refuses without the application.

They are in no access log (often there is no request that could be written down), so this line is all that
helps a person who asks why a client got a 400, a 413 or a 431. Anybody can send nonsense as fast as he likes
and must not fill the disk with it: a worker says so once in PERIOD, and then how many it has left out.
"""

from __future__ import annotations

import logging

from threadcorn.errors import ProtocolViolation
from threadcorn.worker.serve import printable

__all__ = ["Refusals"]

#: Seconds between two lines of the same kind.
PERIOD = 1.0
#: Characters of a request line: what is refused may be no text at all.
SHOWN = 100


class Refusals:
    """One per worker. Any thread: two in one instant may count as one, which is worth less than a lock."""

    def __init__(self, log: logging.Logger) -> None:
        self.count = 0
        self._log = log
        # What we could not do ourselves has a place of its own: nonsense of clients must not hide it.
        self._quiet_until = {False: 0.0, True: 0.0}
        self._untold = {False: 0, True: 0}

    def tell(self, now: float, peer: str, why: ProtocolViolation, head: bytes, *, ours: bool = False) -> None:
        """`now`: seconds, monotonic. `head`: what is known of it. `ours`: not the client's fault."""
        self.count += 1
        if now < self._quiet_until[ours]:
            self._untold[ours] += 1
            return
        self._quiet_until[ours] = now + PERIOD
        line = printable(head.partition(b"\r\n")[0][:SHOWN])
        text = f"{why.status}, {why.reason}{f': {line}' if line else ''}"
        untold, self._untold[ours] = self._untold[ours], 0
        if untold:
            text += f" ({untold} more were not told)"
        if ours:
            self._log.error("Cannot take a request of %s: %s", peer or "?", text)
        else:
            # gunicorn's sentence: people search their logs for it.
            self._log.warning("Invalid request from ip=%s: %s", peer or "?", text)
