"""Heartbeats: who has been silent for too long.

A worker's caretaker writes the time into its page of the scoreboard every tick, also while all its threads
are in the application. Silence means that not even that thread runs: C code that holds the GIL, a process
that was stopped, a machine without memory. It says nothing of a slow request.
"""

from __future__ import annotations

from collections.abc import Iterable

from threadcorn.arbiter.worker_handle import WorkerHandle
from threadcorn.policy.cells import HEARTBEAT

__all__ = ["PERIOD", "Pulse"]

PERIOD = 1.0  # seconds between two looks

# If we ourselves were away for so long, it was the machine (a suspend, a debugger, no CPU), and the
# workers were away as well: everybody is spared for one round. Half of a shorter limit counts as well.
AWAY = 3.0


class Pulse:
    """Looks every PERIOD."""

    __slots__ = ("_last", "next")

    def __init__(self) -> None:
        self.next = float("-inf")
        self._last: float | None = None

    def silent(
        self, handles: Iterable[WorkerHandle], now: float, limit: float
    ) -> list[tuple[WorkerHandle, float]]:
        """Those whose heart has not beaten for `limit` seconds (0: no limit), and for how long."""
        if now < self.next:
            return []
        away = self._last is not None and now - self._last > PERIOD + min(AWAY, limit / 2)
        self._last = now
        self.next = now + PERIOD
        if away or limit <= 0:
            return []
        found = []
        for handle in handles:
            beat = handle.page.cells[HEARTBEAT]
            # 0: it boots, and boot_timeout is its limit.
            if beat and (silence := now - beat / 1e9) > limit:
                found.append((handle, silence))
        return found
