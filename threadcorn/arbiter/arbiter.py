"""The arbiter: one thread, one loop. It tells the supervisor what happened and does what it says.

Theory of operation. The loop waits on three kinds of things: the wake-up descriptor of signals, the channels
of workers, and time. Each becomes events; the supervisor (policy/supervisor.py) answers each event with
commands; each command has one method here. Nothing in this file decides about a worker.

Laws:

1. No application code runs here, unless `preload_app` asks for it, and no thread is ever started.
2. Nothing here waits for a child: every answer is an event, every silence has a deadline in the supervisor.
3. A child is forked inside of one command and knows the world as it was then. What it must not keep is closed
   by `_leave_parent`, in the child.
"""

from __future__ import annotations

import logging
import os
import random
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, Protocol

from threadcorn import __version__, logs
from threadcorn.arbiter import child, hooks, notes, reloading
from threadcorn.arbiter.generations import Generations, rules_of, title
from threadcorn.arbiter.nameplate import Nameplate
from threadcorn.arbiter.operations import Operations
from threadcorn.arbiter.orders import ASKED_BY, SIGNAL_OF
from threadcorn.arbiter.premises import Premises, slots_of
from threadcorn.arbiter.pulse import Pulse
from threadcorn.arbiter.staff import Staff
from threadcorn.arbiter.systemd import Systemd
from threadcorn.arbiter.upgrade import Upgrade
from threadcorn.arbiter.view import View
from threadcorn.arbiter.worker_handle import WorkerHandle
from threadcorn.clock import Clock, MonotonicClock
from threadcorn.errors import ConfigError, ExitCode, InternalError
from threadcorn.messages import ReopenLogs, WorkerBoot
from threadcorn.policy import events as e
from threadcorn.policy.events import Milestone, What
from threadcorn.policy.restart import Restart
from threadcorn.policy.supervisor import Supervisor
from threadcorn.settings import Settings
from threadcorn.system import announce, spawn
from threadcorn.system.channel import Channel
from threadcorn.system.inherit import Inheritance
from threadcorn.system.oom import OomWatch
from threadcorn.system.poller import Waiter
from threadcorn.system.signals import ARBITER_EARLY, ARBITER_SIGNALS, TABLE, Order, Sig, SignalReader
from threadcorn.system.spawn import Program

__all__ = ["App", "Arbiter"]

LONGEST_NAP = 1.0  # seconds: a signal that was lost somewhere would be noticed that much later


class App(Protocol):
    """What the arbiter asks of who composes it (app/base.py)."""

    cfg: Any

    def load_for(self, settings: Settings) -> Callable[[], Callable[..., Any]]: ...
    def adopt(self, settings: Settings) -> None: ...
    def program(self) -> Program: ...
    def reload(self) -> Settings: ...


class Arbiter:
    """What hooks get as `server`: log, cfg, pid, num_workers, workers (and gunicorn's WORKERS), address."""

    def __init__(
        self,
        *,
        app: App,
        settings: Settings,
        log: logging.Logger,
        run_worker: Callable[[WorkerBoot], int],
        clock: Clock | None = None,
        systemd: Systemd | None = None,
        inheritance: Inheritance | None = None,
    ) -> None:
        self.app = app
        self.settings = settings
        self.log = log
        self.pid = os.getpid()
        self.address: list[str] = []
        self.why = ""  # no worker could be started
        self._run_worker = run_worker
        self._clock: Clock = clock or MonotonicClock()
        self._generations = Generations()
        self._supervisor = Supervisor(
            slots=slots_of(settings, inheritance),
            target=int(settings.workers),
            rules=rules_of(settings),
            restart=Restart(random.random),
        )
        self._events: deque[e.Event] = deque()
        self._performing = False
        self._story = ""  # what the worker that is being buried was doing
        self._waiter = Waiter()
        self._staff = Staff(self._waiter, log)
        self._pulse = Pulse()
        self._oom = OomWatch()
        self._signals = SignalReader(ARBITER_SIGNALS, early=ARBITER_EARLY)
        self._inheritance = inheritance
        self._upgrade = Upgrade(self._waiter, log, self._tell, inheritance)
        before = self._upgrade.before
        ready_fd = settings.ready_fd if before is None else before.ready_fd
        self._nameplate = Nameplate(settings.pidfile, ready_fd, succeeds=before is not None)
        self._premises: Premises | None = None
        self._code: int | None = None
        view = View(
            self._supervisor, self._staff, lambda: self._premises, lambda: self.settings, self._clock.now
        )
        self._operations = Operations(
            view=view,
            settings=lambda: self.settings,
            tell=self._tell,
            reload=self._reload,
            log=log,
            systemd=systemd or Systemd(None),
        )

    # -- what hooks see ----------------------------------------------------------------------------------

    @property
    def cfg(self) -> Any:
        return self.app.cfg

    @property
    def num_workers(self) -> int:
        return self._supervisor.wanted

    @property
    def workers(self) -> Mapping[int, WorkerHandle]:
        """By process id."""
        return self._staff.by_pid

    WORKERS = workers  # gunicorn's name, which hooks use

    # -- life --------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Serve until told to stop. The exit code. Raises ThreadcornError when it cannot even begin."""
        try:
            self._open()
            self._loop()
        finally:
            self._close()
        code = int(ExitCode.INTERNAL) if self._code is None else self._code
        self.log.info("Shutting down: arbiter (exit code %d)", code)
        return code

    def _open(self) -> None:
        settings = self.settings
        announce.set_title(title("arbiter", settings))
        self.log.info("Starting threadcorn %s", __version__)
        self._nameplate.open()
        self._hook("nworkers_changed", self.num_workers, None)
        self._hook("on_starting")
        generation = self._generations.make(settings, self.app.load_for(settings))
        if settings.preload_app:
            generation.preload(self.log)
        self._premises = Premises(settings, self.log, self.pid, self._inheritance, self._waiter)
        self.address = self._premises.addresses()
        self._signals.listen()
        self._nameplate.hang()
        self._waiter.watch(self._signals.fileno())
        self._operations.open(self._inheritance.named if self._inheritance is not None else {})
        self._waiter.watch(self._operations.fileno())
        self.log.info("Listening at: %s (%d)", self._premises.names(), self.pid)
        self._hook("when_ready")

    def _loop(self) -> None:
        self._tell(e.Tick())
        while self._code is None:
            ready = self._waiter.wait(self._patience())
            # Orders first: a TERM to the whole process group also makes the workers drain, and whoever heard
            # them first would replace them. Messages before deaths: the last one often says why it died.
            self._obey()
            self._listen(ready)
            self._reap()
            self._look()
            self._operations.turn()
            self._tell(e.Tick())

    def _close(self) -> None:
        """However we leave: nobody is left alive that we know of, and nothing of ours lies about."""
        self._staff.abandon()
        if self._premises is not None:
            self._premises.close(ours=True)
        self._operations.close()
        self._hook("on_exit")
        self._nameplate.close()
        self._upgrade.end()
        self._generations.keep(set())
        self._signals.close(deaf=True)

    def _patience(self) -> float:
        """Seconds until something is due."""
        now = self._clock.now()
        due = [now + LONGEST_NAP, self._operations.next()]
        maybe = [self._supervisor.deadline(), self._upgrade.next()]
        if self._premises is not None:
            maybe.append(self._premises.next_tick(now))
        due += [at for at in maybe if at is not None]
        return max(0.0, min(due) - now)

    # -- what happens ------------------------------------------------------------------------------------

    def _tell(self, event: e.Event) -> None:
        """Tell the supervisor, and do what it says. An event that a command causes waits its turn: half of an
        answer must not be mixed with the next one."""
        self._events.append(event)
        if self._performing:
            return
        self._performing = True
        try:
            while self._events:
                before = self._supervisor.wanted
                commands = self._supervisor.handle(self._events.popleft(), self._clock.now())
                if self._supervisor.wanted != before:
                    self._hook("nworkers_changed", self._supervisor.wanted, before)
                for command in commands:
                    self._PERFORM[type(command)](self, command)
        finally:
            self._performing = False

    def _listen(self, ready: list[int]) -> None:
        for fd in ready:
            handle = self._staff.listening_at(fd)
            if handle is not None:
                self._receive(handle)
        self._staff.flush()
        self._upgrade.turn(ready, self._clock.now(), self._there, self._operations)

    def _receive(self, handle: WorkerHandle) -> None:
        try:
            messages = self._staff.receive(handle)
            self._obey()  # a TERM to everybody came to us too, and before what a worker says because of it
            for message in messages:
                if self._operations.heard(handle, message):
                    continue
                self._tell(e.Heard(handle.age, message))
        except InternalError as error:
            self.log.critical("Worker (pid: %s) sent what is not a message: %s", handle.pid, error)
            self._tell(e.Judged(handle.age, e.Verdict.KILL, "it sent what is not a message"))

    def _reap(self) -> None:
        deaths = spawn.reap()
        self._obey()  # a terminal's INT came to us too, and before the death of a worker that obeyed it
        for death in deaths:
            handle = self._staff.by_pid.pop(death.pid, None)
            if handle is None:
                if not self._upgrade.died(death, self._nameplate):
                    self.log.debug("Reaped process %d, which is not a worker", death.pid)
                continue
            self._receive(handle)
            cause = death.words(out_of_memory=death.signal == Sig.SIGKILL and self._oom.rose())
            self._hook("child_exit", handle)
            cause, self._story = self._operations.buried(handle, cause, in_order=death.code == 0)
            self._there.rescue(handle)
            self._tell(e.Exited(handle.age, cause))
            self._story = ""
            self._staff.bury(handle)
            self._there.board.release(handle.page.index)

    def _look(self) -> None:
        now = self._clock.now()
        if self._there.gated and self._there.queues_empty():
            self._tell(e.QueuesEmpty())
        self._there.tick(now)
        for handle, seconds in self._pulse.silent(self._staff, now, self.settings.timeout):
            reason = self._operations.silence(handle, seconds)
            self._tell(e.Judged(handle.age, e.Verdict.SILENT, f"{reason} (timeout)"))

    # -- signals -----------------------------------------------------------------------------------------

    def _obey(self) -> None:
        for number in self._signals.read():
            order = TABLE[Sig(number)].arbiter
            if order is not Order.REAP and order is not None:
                self.log.info("Handling signal: %s", Sig(number).name[3:].lower())
                event = ASKED_BY.get(order)
                if event is not None:
                    self._tell(event)
                else:
                    self._ORDERS[order](self)

    def _retire(self) -> None:
        if self.settings.daemon:
            self._tell(e.RetireAsked())
        else:
            # A terminal sends it whenever its window changes its size.
            self.log.debug("WINCH ignored: the server is not a daemon")

    def _reopen_logs(self) -> None:
        logs.reopen()
        self._generations.reopen_logs()
        for handle in self._staff:
            handle.channel.send(ReopenLogs())

    def _reload(self) -> tuple[int, str]:
        """The generation that is to serve; or 0, and why nothing has happened."""
        event, trouble = reloading.prepare(self, self._generations)
        if event is None:
            return 0, trouble
        self._tell(event)
        return event.generation, ""

    # -- commands ----------------------------------------------------------------------------------------

    def _spawn(self, command: e.Spawn) -> None:
        generation = self._generations[command.generation]
        try:
            page = self._there.claim(command.slot, command.generation)
        except LookupError as error:
            self._tell(e.NotForked(command.age, f"could not be forked: {error}"))
            return
        try:
            ours, theirs = Channel.pair()
        except OSError as error:
            self._there.board.release(page.index)
            self._tell(e.NotForked(command.age, f"could not be forked: {error.strerror}"))
            return
        handle = WorkerHandle(command, generation, self, ours, page)
        hooks.call(self.log, "pre_fork", generation.settings.pre_fork, self, handle)
        boot = WorkerBoot(
            slot=command.slot,
            generation=command.generation,
            age=command.age,
            pid_of_arbiter=self.pid,
            settings=generation.settings,
            load=generation.load,
            channel=theirs,
            berths=self._there.berths,
            groups=self._there.groups,
            page=page,
            custody=self._there.custody,
            log=self.log,
            access=generation.access,
            server=self,
            worker=handle,
        )
        live = partial(child.live, boot, lambda: self._leave_parent(handle), self._run_worker)
        try:
            self._staff.fork(handle, theirs, live)
        except OSError as error:
            handle.close()
            self._there.board.release(page.index)
            self._tell(e.NotForked(command.age, f"could not be forked: {error.strerror}"))
            return
        self.log.info("Booting worker with pid: %s", handle.pid)

    def _leave_parent(self, handle: WorkerHandle) -> None:
        """In the child: close what is the arbiter's. Berths and groups stay, they are everybody's."""
        self._signals.forget()
        self._nameplate.leave_to_parent()
        self._upgrade.leave_to_parent()
        self._operations.leave_to_parent()
        self._there.leave_to_parent()
        self._staff.leave_to_parent(handle)

    def _tell_worker(self, command: e.Tell) -> None:
        handle = self._staff.get(command.age)
        if handle is not None:
            handle.channel.send(command.message)

    def _kill(self, command: e.Kill) -> None:
        self._staff.kill(command.age, SIGNAL_OF[command.force])

    def _steer(self, command: e.Steer) -> None:
        owners = [self._staff.get(age) for age in command.owners]
        self._there.steer(owners, self._clock.now(), wanted=self._supervisor.wanted)

    def _gate(self, _: e.Gate) -> None:
        self._there.gate()

    def _close_listeners(self, command: e.CloseListeners) -> None:
        self._there.close(ours=command.ours)

    def _promote(self, command: e.Promote) -> None:
        settings = self._generations[command.generation].settings
        self.settings = settings
        try:
            self.app.adopt(settings)
            logs.setup(settings)
            self._operations.promoted()
        except (ConfigError, OSError) as error:
            # The canary has lived through the same; only a file system that changed meanwhile comes here.
            self.log.error("The new settings are in force, but not all of them in the arbiter: %s", error)

    def _start_successor(self, _: e.StartSuccessor) -> None:
        self._upgrade.start(self, self._there, self._operations)

    def _abandon_successor(self, _: e.AbandonSuccessor) -> None:
        self._upgrade.abandon(self._clock.now())

    def _announce(self, command: e.Announce) -> None:
        milestone = command.milestone
        if milestone is Milestone.READY:
            self._nameplate.ready(self.address)
        elif milestone is Milestone.UPGRADED:
            self._upgrade.make_way(self._there, self._operations, self._nameplate)
        if milestone in (Milestone.RELOADED, Milestone.RELOAD_FAILED):
            self._generations.keep(self._supervisor.generations())
        self._operations.systemd.reached(milestone)

    def _note(self, command: e.Note) -> None:
        handle = self._staff.get(command.age)
        level, sentence = notes.render(command, "?" if handle is None else handle.pid, self._story)
        self.log.log(level, "%s", sentence)
        self.why = sentence if command.what is What.FATAL else self.why
        self._operations.control.noted(command)

    def _exit(self, command: e.Exit) -> None:
        self._code = command.code

    @property
    def _there(self) -> Premises:
        if self._premises is None:
            raise InternalError("the arbiter serves without premises")
        return self._premises

    def _hook(self, name: str, *args: Any) -> None:
        hooks.call(self.log, name, getattr(self.settings, name), self, *args)

    _PERFORM: ClassVar[dict[type, Callable[[Arbiter, Any], None]]] = {
        e.Spawn: _spawn,
        e.Tell: _tell_worker,
        e.Kill: _kill,
        e.Steer: _steer,
        e.Gate: _gate,
        e.CloseListeners: _close_listeners,
        e.Promote: _promote,
        e.StartSuccessor: _start_successor,
        e.AbandonSuccessor: _abandon_successor,
        e.Announce: _announce,
        e.Note: _note,
        e.Exit: _exit,
    }

    _ORDERS: ClassVar[dict[Order, Callable[[Arbiter], object]]] = {
        Order.RELOAD: _reload,
        Order.REOPEN_LOGS: _reopen_logs,
        Order.RETIRE_WORKERS: _retire,
    }
