"""An upgrade in place (USR2), from both sides: the arbiter that leaves, and the one that comes.

    predecessor                                      successor
    executes the program on disk: shards, bells,     adopts them by name, boots its workers; steers nothing,
      inboxes, admin doors, two ends of wires          gates nothing, closes nothing for others
    hears "ready" on the first wire                  says it when all its workers are ready
    stops steering, lets go of pid file and doors,   hears it: it steers, answers at the doors
      says so on the second wire; drains, leaves     hears the end of the second wire: it is alone, and may be
                                                       upgraded itself

Until it says "ready" the successor owns nothing that it could damage. If it fails, hangs or is killed, we
have lost nothing, and rollback is doing nothing. The second wire also tells it of our death.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any

from threadcorn.arbiter import hooks
from threadcorn.arbiter.nameplate import Nameplate
from threadcorn.arbiter.operations import Operations
from threadcorn.arbiter.premises import Premises
from threadcorn.errors import BootError, ExitCode
from threadcorn.policy import events as e
from threadcorn.system import inherit, signals, spawn
from threadcorn.system.inherit import Inheritance
from threadcorn.system.poller import Waiter
from threadcorn.system.signals import Sig
from threadcorn.system.spawn import Child, Death, Program

__all__ = ["Predecessor", "Upgrade"]

# Seconds that a successor which we do not want any more gets to end its workers.
LAST_WORDS = 5.0
# Characters of what it said about its failure.
LONGEST = 4000

_YOURS = b"!"  # on the second wire: steer, from now on


class Predecessor:
    """The arbiter before us, as long as it lives. `yields` is true once it has left the steering to us."""

    def __init__(self, inheritance: Inheritance, waiter: Waiter) -> None:
        self.ready_fd = inheritance.named.pop("ready")
        self._wire = socket.socket(fileno=inheritance.named.pop("life"))
        self._wire.setblocking(False)
        self._waiter = waiter
        waiter.watch(self._wire.fileno())
        self.yields = False
        self.gone = False

    def listen(self) -> bool:
        """Hear what it says. True when the steering has become ours just now."""
        if self.gone:
            return False
        before = self.yields
        try:
            said = self._wire.recv(16)
        except BlockingIOError:
            return False
        except OSError:
            said = b""
        self.yields = True
        if not said:
            self.gone = True
            self.close()
        return not before

    def close(self) -> None:
        """Also in a child: a copy there would say nothing, but would hold the number."""
        if self._wire.fileno() >= 0:
            self._waiter.forget(self._wire.fileno())
            self._wire.close()


class Upgrade:
    """The successor, while there is one, and the predecessor, while there is one; never both. What happens to
    the successor becomes events for the supervisor."""

    def __init__(
        self,
        waiter: Waiter,
        log: logging.Logger,
        tell: Callable[[e.Event], None],
        inheritance: Inheritance | None,
    ) -> None:
        self.before = None if inheritance is None else Predecessor(inheritance, waiter)
        self._waiter = waiter
        self._log = log
        self._tell = tell
        self._child: Child | None = None
        self._wire: socket.socket | None = None
        self._news = -1
        self._said = b""
        self._kill_at: float | None = None
        self.pid: int | None = None  # of the successor that serves

    def start(self, server: Any, premises: Premises, operations: Operations) -> None:
        """Execute what is on disk now. Whatever prevents it is told as `SuccessorFailed`."""
        if self._child is not None:
            self._tell(e.SuccessorFailed("the last successor has not ended yet"))
            return
        if self.before is not None and not self.before.gone:
            self._tell(e.SuccessorFailed("our predecessor has not left yet"))
            return
        if os.getpid() == 1:
            # The kernel ends all of a container with its first process: nothing would serve any more.
            why = "it would end with us, as all of a container does with its first process"
            self._tell(e.SuccessorFailed(why))
            return
        try:
            news, theirs_news = os.pipe()
            ours, theirs = socket.socketpair()
        except OSError as error:
            self._tell(e.SuccessorFailed(f"no descriptors for it: {error.strerror}"))
            return
        named = {**premises.hand_down(), **operations.hand_down()}
        named.update(ready=theirs_news, life=theirs.fileno())
        papers, fds = inherit.hand_down(premises.groups, named)
        program: Program = server.app.program()

        def live() -> int:
            signals.become_child(executes_us=True)
            premises.leave_to_parent()
            hooks.call(self._log, "pre_exec", server.settings.pre_exec, server)
            inherit.let_through(fds)
            try:
                program.execute(papers)
            except OSError as error:
                where = f"{program.argv[0]} in {program.directory}"
                text = f"{where} cannot be executed: {error.strerror}"
                os.write(theirs_news, f"failed\n{text}".encode("utf-8", "replace"))
            return int(ExitCode.BOOT_FAILED)

        try:
            self._child = spawn.fork(live)
        except OSError as error:
            os.close(news)
            ours.close()
            self._tell(e.SuccessorFailed(f"it could not be forked: {error.strerror}"))
            return
        finally:
            os.close(theirs_news)
            theirs.close()
        os.set_blocking(news, False)
        self._news, self._wire, self._said = news, ours, b""
        self._waiter.watch(news)
        self._log.info("Executing the successor with pid: %d", self._child.pid)

    def turn(self, ready: Sequence[int], now: float, premises: Premises, operations: Operations) -> None:
        """Hear what they have to say. KILL a successor that was to leave and does not."""
        self._hear(ready)
        if self.before is not None and self.before.listen():
            premises.take_lease(now)
            operations.take_doors()
        if self._kill_at is not None and now >= self._kill_at and self._child is not None:
            spawn.kill(self._child, Sig.SIGKILL)
            self._kill_at = now + LAST_WORDS

    def _hear(self, ready: Sequence[int]) -> bool:
        """Hear what it says. False: nothing more, for now or for ever."""
        if self._news < 0 or self._news not in ready:
            return False
        try:
            part = os.read(self._news, 65536)
        except BlockingIOError:
            return False
        self._said += part
        if self._said.startswith(b"ready") and self._said.endswith(b"\n"):
            self._stop_listening()
            if self._kill_at is None and self._child is not None:
                self.pid = self._child.pid
                self._tell(e.SuccessorReady())
        elif not part:
            self._stop_listening()  # its death tells the rest
        return self._news >= 0

    def died(self, death: Death, nameplate: Nameplate) -> bool:
        """A child of ours has been reaped. True if it was the successor."""
        if self._child is None or death.pid != self._child.pid:
            return False
        while self._hear([self._news]):
            pass  # its last words
        # Not "until the end": what the application has forked may hold the other end for as long as it lives.
        self._stop_listening()
        served = self.pid is not None
        self._child.close()
        self._child = None
        self._kill_at = None
        self._cut()
        if served:
            self._log.critical("The successor (pid: %d) has ended: it %s", death.pid, death.words())
        else:
            try:
                nameplate.stay()
            except BootError as error:
                self._log.error("The pid file does not name us any more, and cannot be put right: %s", error)
            _, _, text = self._said.decode("utf-8", "replace").partition("\n")
            text = text[-LONGEST:].strip()
            cause = f"the successor (pid: {death.pid}) {death.words()}"
            self._tell(e.SuccessorFailed(f"{cause}\n{text}" if text else cause))
        return True

    def abandon(self, now: float) -> None:
        """End it. INT, so that it ends its workers: one that hangs in an import would not hear its end."""
        if self._child is not None:
            spawn.kill(self._child, Sig.SIGINT)
            self._kill_at = now + LAST_WORDS

    def next(self) -> float | None:
        """When `turn` has something to do by itself."""
        return self._kill_at

    def make_way(self, premises: Premises, operations: Operations, nameplate: Nameplate) -> None:
        """It is ready: it steers from now on. The wire stays, its end says that we are gone."""
        if self.pid is not None:
            premises.yield_lease(self.pid)
            operations.desk.yield_doors()
            nameplate.close()
            operations.systemd.moved(self.pid)
        if self._wire is not None:
            try:
                self._wire.send(_YOURS, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except OSError:
                pass  # it has just died: nobody is there to hear it

    def end(self) -> None:
        """We leave. One that serves lives on; another one is of no use without us."""
        if self._child is not None and self.pid is None:
            spawn.kill(self._child, Sig.SIGKILL)
        self.leave_to_parent()

    def leave_to_parent(self) -> None:
        """In a child: a copy of the wire there would make us look alive when we are gone."""
        if self.before is not None:
            self.before.close()
        self._stop_listening()
        self._cut()
        if self._child is not None:
            self._child.close()

    def _stop_listening(self) -> None:
        if self._news >= 0:
            self._waiter.forget(self._news)
            os.close(self._news)
            self._news = -1

    def _cut(self) -> None:
        if self._wire is not None:
            self._wire.close()
            self._wire = None
