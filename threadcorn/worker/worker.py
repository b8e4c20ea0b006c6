"""The life of a worker: boot, ready, drain, exit. Its main thread is the caretaker.

The caretaker takes signals and the arbiter's messages, keeps the heartbeat, and watches the leader. It
never runs application code after the boot. It ticks fast only while there is something to watch: in inline
mode, when nobody leads, and while the worker drains.
"""

from __future__ import annotations

import faulthandler
import gc
import logging
import os
import random
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic, monotonic_ns
from typing import Any

from threadcorn.errors import ExitCode, explain
from threadcorn.http1.memory import Memory
from threadcorn.http1.parser import HeadParser, Limits
from threadcorn.logs import for_stacks, named_file
from threadcorn.messages import (
    Drain,
    Draining,
    Failed,
    Hello,
    Message,
    Quit,
    Ready,
    RecycleMe,
    ReopenLogs,
    Report,
    Reported,
    Threads,
    WorkerBoot,
)
from threadcorn.policy.cells import ACCEPT_ERRORS, HANDED_OVER, RECEIVED, RINGS, TAKEN, WorkerState
from threadcorn.policy.concurrency import Tuning
from threadcorn.settings import Settings
from threadcorn.system import altstack
from threadcorn.system.cpus import capacity, usable_cpus
from threadcorn.system.poller import Waiter
from threadcorn.system.signals import Sig, SignalReader
from threadcorn.worker.acceptor import Acceptor
from threadcorn.worker.departure import Departure
from threadcorn.worker.forks import leave_clients, leave_service, part_at_fork
from threadcorn.worker.handover import Handover
from threadcorn.worker.intake import Intake
from threadcorn.worker.limits import WorkerLimits
from threadcorn.worker.neighbours import Neighbours
from threadcorn.worker.pool import Pool
from threadcorn.worker.reactor import Reactor
from threadcorn.worker.serve import Hooks, Service
from threadcorn.worker.stuck import Stuck
from threadcorn.worker.telemetry import Telemetry
from threadcorn.worker.tuner import Tuner
from threadcorn.worker.vaulted import Deposits
from threadcorn.wsgi.environ import ErrorStream, template

#: Seconds between two ticks of the caretaker while it watches a leader, and while there is nothing to watch.
TICK = 0.01
SLOW_TICK = 0.1


def run(boot: WorkerBoot) -> int:
    """Serve until told to stop. Answers the exit code; runs in the forked child's main thread."""
    worker = Worker(boot)
    code = worker.boot()
    return worker.serve() if code is None else code


class Worker:
    """One worker process."""

    def __init__(self, boot: WorkerBoot) -> None:
        self._boot = boot
        self._settings: Settings = boot.settings
        self._log: logging.Logger = boot.log
        self._channel = boot.channel
        self._waiter = Waiter()
        self._exit: int | None = None
        self._departure: Departure | None = None
        self._orphan_until: float | None = None
        self._leave_at: float | None = None  # told to leave, we do so then at the latest
        self._asked_to_recycle = False
        most, jitter = self._settings.max_requests, self._settings.max_requests_jitter
        self._max_requests = most + random.randint(0, jitter) if most else 0
        self._last_seen: tuple[Any, int] = (None, 0)
        self._telemetry = Telemetry(boot.page)
        self._stuck = Stuck(
            slow=self._settings.slow_request,
            limit=self._settings.request_timeout,
            silence=self._settings.timeout,
            log=self._log,
            telemetry=self._telemetry,
            recycle=self._recycle_me,
        )

    # -- boot

    def boot(self) -> int | None:
        """Load the application and start the threads. None when all is well, else the exit code."""
        boot = self._boot
        # Off first: enabled in the arbiter, it would believe in handlers that the fork has taken off.
        faulthandler.disable()
        faulthandler.enable(for_stacks(self._log), all_threads=True)
        altstack.widen()
        self._telemetry.state(WorkerState.BOOTING)
        self._channel.send(Hello(os.getpid()))
        part_at_fork(boot.berths, boot.groups)
        try:
            app = boot.load()
            if self._settings.post_worker_init is not None:
                self._settings.post_worker_init(boot.worker)
        except BaseException as error:  # noqa: BLE001 - an application may raise anything, also SystemExit
            return self._failed(*explain(error))
        try:
            self._build(app)
        except Exception as error:  # noqa: BLE001 - told to the arbiter, which tells the person
            return self._failed(*explain(error))
        gc.collect()
        gc.freeze()
        started = self._pool.resize(self._threads())
        if not started:
            return self._failed(ExitCode.BOOT_FAILED, "the system gives no thread (RLIMIT_NPROC, pids.max)")
        faulthandler.cancel_dump_traceback_later()  # the end of a boot that hangs; see arbiter/child.py
        # All is said before the first request can come: it may be the one that holds the GIL, and a worker
        # that is wedged unsaid would count as one that boots. What it is given meanwhile waits for it.
        self._telemetry.beat(monotonic_ns())
        self._publish()
        self._telemetry.state(WorkerState.READY)
        boot.worker.booted = True
        self._stuck.rearm(monotonic_ns())
        self._channel.send(Ready())
        self._acceptor.open()
        self._handover.open()
        return None

    def _failed(self, code: int, text: str) -> int:
        self._channel.send(Failed(int(code), text))
        return int(code)

    def _threads(self) -> int:
        threads = self._settings.threads
        return self._settings.threads_min if threads == "auto" else int(threads)

    def _build(self, app: Any) -> None:
        boot, settings = self._boot, self._settings
        limits = WorkerLimits.of(settings)
        http_limits = Limits(
            line=settings.limit_request_line,
            fields=settings.limit_request_fields,
            field_size=settings.limit_request_field_size,
            head=settings.limit_request_head,
            body=settings.max_body_size,
            header_map=settings.header_map,
            forwarder=frozenset(name.lower() for name in settings.forwarder_headers),
        )
        watched = limits.forwarding.keys
        file = named_file(self._log)
        errors = ErrorStream(None if file is None else file.write)
        memories = [Memory(template(settings, group, errors=errors), watched) for group in boot.groups]
        self._reactor = Reactor(limits)
        leave_clients(self._reactor)
        self._deposits = (
            None if boot.custody is None else Deposits(boot.custody, boot.page.index, self._reactor)
        )
        self._intake = Intake(self._reactor, http_limits, self._log)
        self._reactor.count = self._telemetry.seat().count
        hooks = Hooks(boot.worker, settings.pre_request, settings.post_request)
        service = Service(
            app, self._reactor, access=boot.access, log=self._log, hooks=hooks, stuck=self._stuck
        )
        self._attention_r, self._attention_w = os.pipe()
        os.set_blocking(self._attention_r, False)
        os.set_blocking(self._attention_w, False)
        self._pool = Pool(
            self._reactor,
            self._intake,
            service,
            lambda: [HeadParser(http_limits, memory) for memory in memories],
            self._wake,
            self._thread_failed,
            self._telemetry,
        )
        leave_service(self._pool)
        self._pool.rows = self._deposits is None
        least, most = settings.threads_min, settings.threads_max
        tuning = Tuning(least, max(least, most)) if settings.threads == "auto" else None
        workers = usable_cpus() if settings.workers == "auto" else int(settings.workers)
        cpus = min(capacity(), max(1.0, usable_cpus() / workers))
        self._tuner = Tuner(self._pool, self._log, tuning, cpus=cpus)
        self._neighbours = Neighbours(boot.page, boot.berths, boot.slot)
        self._acceptor = Acceptor(self._reactor, self._neighbours, self._log, self._pool.pressure)
        self._handover = Handover(self._reactor, self._neighbours, self._log)
        self._acceptor.on_change = self._handover.open
        # Not before the application is loaded: until then a signal ends the process by its default action,
        # because an import that hangs could not be told anything.
        self._signals = SignalReader((Sig.SIGTERM, Sig.SIGINT, Sig.SIGQUIT, Sig.SIGUSR1))
        for fd in (self._attention_r, self._channel.fileno(), self._signals.fileno()):
            self._waiter.watch(fd)

    def _wake(self) -> None:
        try:
            os.write(self._attention_w, b"!")
        except BlockingIOError:
            pass

    def _thread_failed(self, error: BaseException) -> None:
        # A pool thread ended by our own fault. What it held is lost; the process cannot be trusted.
        self._log.critical("A pool thread failed, please report this", exc_info=error)
        self._exit = int(ExitCode.INTERNAL)
        self._wake()

    # -- the caretaker's loop

    def serve(self) -> int:
        """Until the exit code is known."""
        while self._exit is None:
            self._tick()
        return self._leave(self._exit)

    def _tick(self) -> None:
        pool = self._pool
        pool.caretaker_sleeps = True  # before we look who leads: who gives the lead up looks at it afterwards
        busy = pool.inline or pool.leader is None or self._tuner.eager or self._departure is not None
        if busy:
            pool.caretaker_sleeps = False
        if pool.leader is pool.caretaker:
            pool.caretaker_sleeps = False
            self._lead()
            ready = self._waiter.wait(0)
        else:
            nap = TICK if busy else SLOW_TICK
            asleep = monotonic()
            ready = self._waiter.wait(nap)
            pool.caretaker_sleeps = False
            if not ready:
                self._telemetry.late(monotonic() - asleep - nap)
        if ready:
            self._obey(ready)
        self._beat()
        if self._channel.ended and self._departure is None:
            self._arbiter_gone()
        self._watch_leader()
        self._tuner.tick(monotonic())
        if self._departure is not None:
            self._depart(self._departure)
        if 0 < self._max_requests <= self._telemetry.requests:
            self._recycle_me("max_requests")
        if self._leave_at is not None and self._departure is None and monotonic() >= self._leave_at:
            self._begin_drain(self._settings.graceful_timeout, "TERM")

    def _recycle_me(self, reason: str) -> None:
        if not self._asked_to_recycle:
            self._asked_to_recycle = True
            self._channel.send(RecycleMe(reason))

    def _beat(self) -> None:
        now = monotonic_ns()
        if self._telemetry.beat(now):
            self._publish()
            self._acceptor.watch_over()
            self._handover.watch_over()
            if self._deposits is not None:
                self._deposits.retry()
        self._stuck.rearm(now)
        self._stuck.look(self._pool, now)
        report = self._stuck.answer(self._pool, now, self._tuner.decisions)
        if report is not None:
            self._channel.send(Reported(*report))

    def _publish(self) -> None:
        telemetry, acceptor, handover = self._telemetry, self._acceptor, self._handover
        lost = self._boot.access.dropped
        telemetry.publish(self._pool, self._intake.refusals.count, lost, self._stuck)
        cells = telemetry.cells
        cells[TAKEN], cells[RINGS], cells[ACCEPT_ERRORS] = acceptor.taken, acceptor.rings, acceptor.failed
        cells[HANDED_OVER], cells[RECEIVED] = handover.given, handover.received
        busy, waiting, _ = self._pool.pressure()
        self._neighbours.publish(busy, waiting, len(self._reactor.connections))

    def _watch_leader(self) -> None:
        pool = self._pool
        leader = pool.leader
        if leader is None:
            if self._last_seen == (None, -1):
                pool.lead_if_nobody_does()
            self._last_seen = (None, -1)
            return
        seen = (leader, leader.in_app)
        if leader.outgoing:
            leader.outgoing.send()
        if leader.in_app and seen == self._last_seen:
            pool.take_lead_from(leader, leader.in_app)
        self._last_seen = seen

    def _lead(self) -> None:
        """Lead for one batch: read, flush, expire; hand complete requests to whoever comes back."""
        pool = self._pool
        reactor = self._reactor
        seat = pool.caretaker
        if not reactor.ready:
            pool.poll(seat, TICK)
        if pool.waiting:
            pool.expire(monotonic_ns())
        while pool.leader is seat:
            try:
                work = pool.take(seat, self._handover.pass_on)
            except IndexError:
                return
            if work is not None:
                pool.dispatch(work)

    # -- orders

    def _obey(self, ready: Sequence[int]) -> None:
        """Only what has something to say is read: each call takes the GIL away from the leader."""
        if self._attention_r in ready:
            with suppress(BlockingIOError):
                os.read(self._attention_r, 4096)
        if self._signals.fileno() in ready:
            for number in self._signals.read():
                self._signalled(number)
        if self._channel.fileno() in ready:
            for message in self._channel.receive():
                self._told(message)

    def _signalled(self, number: int) -> None:
        if number == Sig.SIGTERM:
            self._asked_to_leave()
        elif number == Sig.SIGUSR1:
            self._reopen_logs()
        else:
            self._quit()

    def _asked_to_leave(self) -> None:
        """TERM: stay until a successor serves, or those who wait for us would have nobody. But nobody waits
        for ever for one that cannot boot, and who says it again means now."""
        if self._leave_at is None and self._orphan_until is None:
            self._leave_at = monotonic() + self._settings.boot_timeout
            self._recycle_me("TERM")
        else:
            self._begin_drain(self._settings.graceful_timeout, "TERM")

    def _quit(self) -> None:
        if self._exit is not None:
            return  # a terminal's INT goes to all of us, and the arbiter tells us too
        self._exit = int(ExitCode.OK)
        if self._settings.worker_int is not None:
            try:
                self._settings.worker_int(self._boot.worker)
            except Exception:  # noqa: BLE001 - it is the user's code, and we leave all the same
                self._log.exception("Exception in worker_int hook")

    def _told(self, message: Message) -> None:
        if isinstance(message, Drain):
            self._begin_drain(message.seconds, message.reason)
        elif isinstance(message, Quit):
            self._quit()
        elif isinstance(message, ReopenLogs):
            self._reopen_logs()
        elif isinstance(message, Threads):
            self._tuner.fix()
            self._pool.resize(message.n)
        elif isinstance(message, Report):
            self._stuck.ask(self._pool, message.token, monotonic_ns())

    def _arbiter_gone(self) -> None:
        """Nobody replaces us any more, nor any sibling: leave, unless there is a time to go on."""
        now = monotonic()
        if self._orphan_until is None:
            self._waiter.forget(self._channel.fileno())
            self._orphan_until = now + self._settings.orphan_timeout
            if now < self._orphan_until:
                self._log.warning("The arbiter is gone; serving on for %g s", self._settings.orphan_timeout)
        if now < self._orphan_until:
            return
        self._log.warning("The arbiter is gone; finishing what runs, then leaving")
        alone = not self._neighbours.succeeded
        self._begin_drain(self._settings.graceful_timeout, "arbiter gone", alone=alone)
        # What has come in is answered, and the port is free for whoever is started next.
        self._acceptor.empty()
        for group in self._boot.groups:
            group.release()

    def _reopen_logs(self) -> None:
        from threadcorn import logs

        logs.reopen()
        self._boot.access.reopen()

    # -- drain

    def _begin_drain(self, seconds: float, reason: str, *, alone: bool = False) -> None:
        now = monotonic()
        if self._departure is not None:
            self._departure.hurry(now + seconds)
            return
        self._telemetry.state(WorkerState.DRAINING)
        self._acceptor.close()
        self._handover.close()
        self._departure = Departure(
            self._pool, self._handover, self._neighbours, now=now, seconds=seconds, alone=alone
        )
        self._channel.send(Draining(reason))

    def _depart(self, departure: Departure) -> None:
        now = monotonic()
        departure.sweep(now)
        lost = self._stuck.lost
        # A thread gives its connection away before it has counted the request.
        if len(self._reactor.connections) <= lost and self._pool.running <= lost:
            self._exit = int(ExitCode.OK)
        elif now >= departure.until:
            self._exit = int(ExitCode.OK)
            self._stuck.abandoned(self._pool)

    def _leave(self, code: int) -> int:
        """Stop. A thread that is stuck in the application does not keep the process."""
        self._pool.stop()
        self._boot.worker.alive = False
        faulthandler.cancel_dump_traceback_later()
        self._publish()
        self._boot.worker.nr = self._telemetry.requests
        self._boot.access.tell_losses()
        for handler in self._log.handlers:
            with suppress(OSError, ValueError):  # the application may have closed what it writes to
                handler.flush()
        return code
