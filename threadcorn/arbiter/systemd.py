"""What systemd is told (sd_notify): READY after the first worker, RELOADING, STOPPING, STATUS, WATCHDOG.

The watchdog is fed by the arbiter's loop itself: a loop that hangs stops feeding it, and systemd restarts the
service. A thread that feeds it would go on for ever.

In an upgrade one of two arbiters speaks: with NotifyAccess=all systemd listens to both, and would end the
service with the STOPPING of a successor that has failed.
"""

from __future__ import annotations

import os
from time import monotonic_ns

from threadcorn.policy.events import Milestone
from threadcorn.system.announce import notify_systemd

__all__ = ["Systemd"]

#: Seconds between two sendings of STATUS, which changes with every request.
PERIOD = 5.0


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

    @property
    def silent(self) -> bool:
        return self._path is None or not self._speaks

    def speak(self) -> None:
        """There is no arbiter before us, or none any more that serves."""
        self._speaks = True

    def next(self) -> float | None:
        """When the watchdog is due."""
        return self._next_food if self._every and not self.silent else None

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
        self._speaks = False

    def turn(self, now: float, status: str) -> None:
        """Once a turn of the loop."""
        if self._every and now >= self._next_food:
            self._next_food = now + self._every
            self._send("WATCHDOG=1")
        if self._ready and now >= self._next_status and status != self._status:
            self._next_status = now + PERIOD
            self._status = status
            self._send(f"STATUS={status}")

    def _send(self, *states: str) -> None:
        if not self.silent:
            notify_systemd(self._path, *states)
