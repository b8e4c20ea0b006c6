"""Everything that is about knowing and steering a running server, in one place: monitor, admin address,
control socket, statsd, systemd's watchdog, what is said after a crash.

The arbiter calls it at a few points of its loop and is not concerned with what is behind. Nothing here may
end the arbiter: a fault is logged, and the part that had it is tried again at the next turn.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from threadcorn.arbiter import postmortem
from threadcorn.arbiter.control import Control
from threadcorn.arbiter.desk import Desk, Service
from threadcorn.arbiter.exporter import Exporter
from threadcorn.arbiter.monitor import Monitor
from threadcorn.arbiter.statsd import Statsd
from threadcorn.arbiter.systemd import Systemd
from threadcorn.arbiter.view import View
from threadcorn.arbiter.worker_handle import WorkerHandle
from threadcorn.messages import Message, Ready
from threadcorn.policy import events as e
from threadcorn.policy.cells import READY_AT
from threadcorn.policy.health import silence
from threadcorn.policy.incarnation import State
from threadcorn.settings import Settings
from threadcorn.system.doorway import Doorway, open_admin, open_private

__all__ = ["Operations"]

#: Seconds between two records that the server is not ready: at the edge of an overload it turns all the time.
TELL_EVERY = 10.0


class Operations:
    """Made once by the arbiter."""

    def __init__(
        self,
        *,
        view: View,
        settings: Callable[[], Settings],
        tell: Callable[[e.Event], None],
        reload: Callable[[], tuple[int, str]],
        log: logging.Logger,
        systemd: Systemd,
    ) -> None:
        self.view = view
        self._settings = settings
        self._log = log
        self.desk = Desk(log, view.now)
        self.monitor = Monitor(view, settings, tell, log)
        self.systemd = systemd
        self.control = Control(view, tell, reload, log)
        self._statsd: Statsd | None = None
        self._complained = False
        self._was_ready: bool | None = None  # as the log has it; None: not yet
        self._unready_at = float("-inf")
        self._doors: list[tuple[str, Doorway, Service]] = []
        self._given_up: list[Doorway] = []  # our predecessor's, which nobody asks for any more
        self._borrowed: set[str] = set()  # names of doors that are our predecessor's
        self._taken = False

    # -- life

    def open(self, inherited: Mapping[str, int]) -> None:
        """Raises BootError. A door that a predecessor hands down is its own until `take_doors`."""
        settings = self._settings()
        self._borrowed = set(inherited)
        if settings.admin_bind is not None:
            name = f"Admin address {settings.admin_bind}"
            door = self._inherit(name, inherited) or open_admin(settings.admin_bind)
            self._doors.append((name, door, Exporter(self.view)))
            self._log.info("Admin address: %s", door.name)
            if door.everywhere:
                self._log.warning(
                    "The admin address %s is open on every network of this machine, and asks nobody who they "
                    "are: bind 127.0.0.1, or have a firewall in front of it",
                    door.name,
                )
        if settings.control_socket is not None:
            name = f"Control socket {settings.control_socket}"
            door = self._inherit(name, inherited) or open_private(settings.control_socket)
            self._doors.append((name, door, self.control))
            self._log.info("Control socket: %s", door.name)
        mine = {name for name, _, _ in self._doors}
        for name in inherited.keys() - mine:
            if name.startswith(("Admin address", "Control socket")):
                self._given_up.append(Doorway.adopt(inherited[name]))
        if not inherited:
            self.take_doors()
        if settings.statsd_host is not None:
            try:
                self._statsd = Statsd(settings.statsd_host, settings.statsd_prefix, settings.dogstatsd_tags)
            except OSError as error:
                # Metrics are not worth a site that does not start because a name server is away.
                reason = error.strerror or error
                self._log.error("Nothing is sent to statsd_host %s: %s", settings.statsd_host, reason)

    def _inherit(self, name: str, inherited: Mapping[str, int]) -> Doorway | None:
        if name not in inherited:
            return None
        door = Doorway.adopt(inherited[name])
        if not door.hidden:
            return door
        self._borrowed.discard(name)
        self._given_up.append(door)
        return None

    def take_doors(self) -> None:
        """Answer at them from now on. At those that were given up clients would connect to nobody."""
        self.systemd.speak()
        self._taken = True
        for _, door, service in self._doors:
            self.desk.open(door, service)
        for door in self._given_up:
            door.close()
        self._given_up.clear()

    def hand_down(self) -> dict[str, int]:
        """The doors, for a successor."""
        return {name: door.sock.fileno() for name, door, _ in self._doors}

    def close(self) -> None:
        self.desk.close()
        # Where we never served: what is our predecessor's stays, and the files of what we made go.
        for door in self._given_up:
            door.forget()
        for name, door, _ in () if self._taken else self._doors:
            if name in self._borrowed:
                door.forget()
            else:
                door.close()
        if self._statsd is not None:
            self._statsd.close()

    def leave_to_parent(self) -> None:
        """In a child."""
        self.desk.leave_to_parent()
        for _, door, _ in self._doors:
            door.forget()
        for door in self._given_up:
            door.forget()
        if self._statsd is not None:
            self._statsd.close()

    # -- in the loop

    def fileno(self) -> int:
        return self.desk.fileno()

    def next(self) -> float:
        """When something is due at the latest."""
        due = [self.monitor.next(), self.desk.next(), self.systemd.next()]
        if self._statsd is not None:
            due.append(self._statsd.next)
        return min((at for at in due if at is not None), default=float("inf"))

    def turn(self) -> None:
        """Once a turn of the arbiter's loop."""
        try:
            self.desk.turn()
            now = self.view.now()
            self.monitor.tick(now)
            self.view.remember(now)
            self._tell_readiness(now)
            if not self.systemd.silent:
                self.systemd.turn(now, self._words())
            if self._statsd is not None and now >= self._statsd.next:
                self._push(self._statsd, now)
            self._complained = False
        except Exception:  # noqa: BLE001 - watching a server must not be what ends it
            if not self._complained:
                self._complained = True
                self._log.exception("The monitor failed; it is tried again")

    def promoted(self) -> None:
        """A new generation's settings are in force."""
        self.monitor.reset()

    def heard(self, handle: WorkerHandle, message: Message) -> bool:
        """A worker has said something. True if it was for us alone."""
        if isinstance(message, Ready):
            self.systemd.worker_ready()
            self.control.ready(handle)
        return self.control.heard(handle, message)

    def buried(self, handle: WorkerHandle, cause: str, *, in_order: bool) -> tuple[str, str]:
        """A worker is gone; its page has not been given away yet. For the log: the cause, and what goes below
        it when nobody has asked it to die. `in_order`: its exit code was 0."""
        self.view.bury(handle, cause)
        self.monitor.forget(handle)
        self.control.forget(handle)
        supervisor = self.view.supervisor
        asked = in_order and supervisor.crew[handle.age].state not in (State.BOOTING, State.READY)
        records = self.view.records(handle)
        # Its threads may have a request before it, or we, have got to say that it is ready.
        if asked or not (records or handle.page.cells[READY_AT]):
            return cause, ""
        if supervisor.leaving is not None and supervisor.leaving.quick:
            return cause, ""
        return postmortem.tell(cause, records, self.view.now())

    def silence(self, handle: WorkerHandle, seconds: float) -> str:
        """Why a worker that does not beat is ended."""
        return silence(seconds, self.view.measured(handle.age).get("status", ""))

    # -- small things

    def _tell_readiness(self, now: float) -> None:
        """When it turns, and why: whoever asks /readyz keeps no record of the answers."""
        if self.view.supervisor.leaving is not None:
            return  # the log says so already
        readiness = self.view.readiness()
        if readiness.ready == self._was_ready or (self._was_ready is None and not readiness.ready):
            return
        if self._was_ready is None:
            self._was_ready = True
        elif readiness.ready:
            self._was_ready = True
            self._log.info("Ready again, after %.1f s", now - self._unready_at)
        elif now >= self._unready_at + TELL_EVERY:
            self._was_ready, self._unready_at = False, now
            self._log.warning("Not ready: %s", "; ".join(readiness.reasons))

    def _words(self) -> str:
        supervisor = self.view.supervisor
        return f"{supervisor.phase.value}, {len(self.view.ready())} of {supervisor.wanted} workers ready"

    def _push(self, statsd: Statsd, now: float) -> None:
        counters: dict[str, float] = {}
        for values in self.view.totals(self.view.rows()).values():
            for name, value in values.items():
                counters[name] = counters.get(name, 0) + value
        app = next(h for h in self.view.histograms() if h.name == "app")
        statsd.push(now, counters, sum(1 for _ in self.view.incarnations()), app)
