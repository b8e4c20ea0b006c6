"""Everything that is about knowing and steering a running server, in one place: monitor, admin address,
control socket, statsd, systemd's watchdog, what is said after a crash.

The arbiter calls it at a few points of its loop and is not concerned with what is behind. Nothing here may
end the arbiter: a fault is logged, and the part that had it is tried again at the next turn.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from threadcorn.arbiter.desk import Desk
from threadcorn.arbiter.exporter import Exporter
from threadcorn.arbiter.monitor import Monitor
from threadcorn.arbiter.view import View
from threadcorn.arbiter.worker_handle import WorkerHandle
from threadcorn.policy import events as e
from threadcorn.settings import Settings
from threadcorn.system.doorway import open_admin

__all__ = ["Operations"]


class Operations:
    """Made once by the arbiter."""

    def __init__(
        self,
        *,
        view: View,
        settings: Callable[[], Settings],
        tell: Callable[[e.Event], None],
        log: logging.Logger,
    ) -> None:
        self.view = view
        self._settings = settings
        self._log = log
        self.desk = Desk(log, view.now)
        self.monitor = Monitor(view, settings, tell, log)
        self._complained = False

    # -- life

    def open(self) -> None:
        """Raises BootError."""
        settings = self._settings()
        if settings.admin_bind is not None:
            door = open_admin(settings.admin_bind)
            self.desk.open(door, Exporter(self.view))
            self._log.info("Admin address: %s", door.name)

    def close(self) -> None:
        self.desk.close()

    def leave_to_parent(self) -> None:
        """In a child."""
        self.desk.leave_to_parent()

    # -- in the loop

    def fileno(self) -> int:
        return self.desk.fileno()

    def next(self) -> float:
        """When something is due at the latest."""
        due = [self.monitor.next]
        deadline = self.desk.next()
        if deadline is not None:
            due.append(deadline)
        return min(due)

    def turn(self) -> None:
        """Once a turn of the arbiter's loop."""
        try:
            self.desk.turn()
            self.monitor.tick(self.view.now())
            self._complained = False
        except Exception:  # noqa: BLE001 - watching a server must not be what ends it
            if not self._complained:
                self._complained = True
                self._log.exception("The monitor failed; it is tried again")

    def promoted(self) -> None:
        """A new generation's settings are in force."""
        self.monitor.reset()

    def buried(self, handle: WorkerHandle, cause: str) -> None:
        """A worker is gone; its page has not been given away yet."""
        self.view.bury(handle, cause)
        self.monitor.forget(handle)
