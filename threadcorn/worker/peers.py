"""How many connections each client address has, where there is a limit for them."""

from __future__ import annotations

import threading

from threadcorn.errors import ProtocolViolation
from threadcorn.worker.connection import Connection

__all__ = ["Peers", "one_too_many"]


class Peers:
    """One per worker. Any thread."""

    def __init__(self, most: int) -> None:
        """0: no limit, and nothing is counted."""
        self._most = most
        self._open: dict[str, int] = {}
        self._lock = threading.Lock()

    def admit(self, peer: str) -> bool:
        """Whether a client may have one more. On a Unix socket nobody has an address."""
        return not self._most or not peer or self._open.get(peer, 0) < self._most

    def enter(self, conn: Connection) -> None:
        """Count a connection in. Also one that would be too many: who has it from another worker, where there
        was room for it, does not end it."""
        if self._most and conn.peer:
            conn.counted = conn.peer
            with self._lock:
                self._open[conn.peer] = self._open.get(conn.peer, 0) + 1

    def leave(self, conn: Connection) -> None:
        """Count it out, if it was counted."""
        peer, conn.counted = conn.counted, ""
        if not peer:
            return
        with self._lock:
            left = self._open[peer] - 1
            if left:
                self._open[peer] = left
            else:
                del self._open[peer]


def one_too_many() -> ProtocolViolation:
    return ProtocolViolation(503, "too many connections from this address")
