"""What systemd is told (sd_notify): READY after the first worker, RELOADING, STOPPING, STATUS, WATCHDOG.

The watchdog is fed by the arbiter's loop itself: a loop that hangs stops feeding it, and systemd restarts the
service. A thread that feeds it would go on for ever.

In an upgrade one of two arbiters speaks: with NotifyAccess=all systemd listens to both, and would end the
service with the STOPPING of a successor that has failed.
"""

from __future__ import annotations

import os
from collections import deque
from time import monotonic_ns

from threadcorn.policy.events import Milestone
from threadcorn.system.announce import notify_systemd

__all__ = ["Systemd"]

#: Seconds between two sendings of STATUS, which changes with every request.
PERIOD = 5.0
#: Seconds until what systemd had no room for is sent again, and what our last words may take.
AGAIN, LAST = 0.2, 1.0


class Systemd:
    """Silent without NOTIFY_SOCKET, and until `speak`."""

    def __init__(self, path: str | None, watchdog_usec: str | None = None, pid: str | None = None) -> None:
        self._path = path
        self._speaks = False
        self._ready = False
        self._status = ""
        self._next_status = 0.0
        ours = pid is None or pid == str(os.getpid())
        usec = int(watchdog_usec) if ours and watchdog_usec and watchdog_usec.isdigit() else 0
        # Twice as often as it must be: one late turn is no reason to be shot.
        self._every = usec / 2e6
        self._next_food = 0.0
        # What systemd acts upon, in its order. Lost for want of room, READY would cost the service its life.
        # Bounded: systemd may never read again.
        self._owed: deque[str] = deque(maxlen=8)
        self._next_try = 0.0

    @property
    def silent(self) -> bool:
        return self._path is None or not self._speaks

    def speak(self) -> None:
        """There is no arbiter before us, or none any more that serves."""
        self._speaks = True

    def next(self) -> float | None:
        """When the watchdog is due, or what could not be sent."""
        due = [self._next_food] if self._every else []
        due += [self._next_try] if self._owed else []
        return None if self.silent else min(due, default=None)

    def worker_ready(self) -> None:
        """The first one makes us ready: requests are answered from now on."""
        if not self._ready:
            self._ready = True
            self._send("READY=1", "STATUS=serving")

    def reached(self, milestone: Milestone) -> None:
        if milestone is Milestone.READY:
            self.worker_ready()
        elif milestone is Milestone.RELOADING:
            self._send("RELOADING=1", f"MONOTONIC_USEC={monotonic_ns() // 1000}", "STATUS=reloading")
        elif milestone is Milestone.RELOADED:
            self._send("READY=1", "STATUS=serving")
        elif milestone is Milestone.RELOAD_FAILED:
            # Type=notify-reload waits for READY, also when nothing has changed.
            self._send("READY=1", "STATUS=serving; the last reload failed")
        elif milestone is Milestone.STOPPING:
            self._send("STOPPING=1", "STATUS=stopping")

    def moved(self, pid: int) -> None:
        """A successor serves. Nothing of ours counts after that, so STOPPING must not follow."""
        self._send(f"MAINPID={pid}", "READY=1", "STATUS=serving")
        self._pay(LAST)
        self._speaks = False

    def turn(self, now: float, status: str) -> None:
        """Once a turn of the loop."""
        if self._owed and now >= self._next_try:
            self._next_try = now + AGAIN
            self._pay()
        if self._every and now >= self._next_food:
            self._next_food = now + self._every
            notify_systemd(self._path, "WATCHDOG=1")
        if self._ready and now >= self._next_status and status != self._status:
            self._next_status = now + PERIOD
            self._status = status
            notify_systemd(self._path, f"STATUS={status}")

    def _send(self, *states: str) -> None:
        if not self.silent:
            self._owed.append("\n".join(states))
            self._pay()

    def _pay(self, patience: float = 0.0) -> None:
        while self._owed and notify_systemd(self._path, self._owed[0], patience=patience):
            self._owed.popleft()
