"""The thread pool: leader and followers, with an inline mode.

Of the pool threads one at a time is the *leader*: it alone polls, accepts, reads, and runs what is complete.

* Hand-off: before the leader enters the application it promotes a follower, which polls on. The follower is
  the one that parked last: its caches are warm, and one that is never reached can be retired.
* Inline: the leader stays the leader while it runs the application. Right as long as the application does
  not block, because under the GIL a second runnable thread would only fight for the lock.

When every thread is in the application nobody leads. The *caretaker* (the main thread) sees that at its next
tick and leads without ever entering the application: complete requests wait in `waiting` for the first thread
that comes back.

Laws:

1. `leader`, `parked` and `waiting` change under `mutex` only; no I/O happens under it.
2. An event taken from the poller is in `ready` until somebody has looked at it, so it does not matter who
   leads next. Whoever adds to `ready` without being the leader rings when the leader may be polling.
3. A thread is in exactly one of: leading, running a request, parked, gone.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from resource import RUSAGE_THREAD, getrusage
from time import monotonic, time
from typing import TYPE_CHECKING

from threadcorn.http1.parser import HeadParser, Request
from threadcorn.http1.response import STAMP
from threadcorn.system.poller import HANG_UP
from threadcorn.worker.connection import Connection, Phase
from threadcorn.worker.telemetry import Telemetry

if TYPE_CHECKING:
    from threadcorn.worker.intake import Intake
    from threadcorn.worker.reactor import Reactor
    from threadcorn.worker.serve import Service

#: How long a leader polls at most; deadlines are looked at this often.
POLL = 0.25
#: Requests after which inline mode is judged, and voluntary context switches per request it may cost.
JUDGE_AFTER = 32
SWITCHES = 0.25
#: Hold-off after a failed probe of inline mode (seconds): first and longest.
HOLD_OFF = 0.05
HOLD_OFF_MAX = 5.0

Work = tuple[Connection, Request]


class Seat:
    """What the pool knows about a thread that may lead. `in_app` is when the request that it runs began
    (monotonic nanoseconds), 0 outside of one: no two requests of a thread have the same."""

    def __init__(self) -> None:
        self.polling = False
        self.in_app = 0


class Caretaker(Seat):
    """The main thread's seat. It leads when nobody else can, and never runs the application."""


class Pool:
    """All threads of a worker that run the application."""

    def __init__(
        self,
        reactor: Reactor,
        intake: Intake,
        service: Service,
        make_parsers: Callable[[], list[HeadParser]],
        attention: Callable[[], None],
        on_thread_failure: Callable[[BaseException], None],
        telemetry: Telemetry | None = None,
    ) -> None:
        self.reactor = reactor
        self.intake = intake
        self.service = service
        self.make_parsers = make_parsers
        self.attention = attention  # wakes the caretaker
        self.on_thread_failure = on_thread_failure
        self.telemetry = telemetry if telemetry is not None else Telemetry(None)
        self.mutex = threading.Lock()
        self.leader: Seat | None = None
        self.parked: list[PoolThread] = []
        self.waiting: deque[Work] = deque()
        self.threads: list[PoolThread] = []
        self.caretaker = Caretaker()
        self.inline = False
        self.stopping = False
        self.wanted = 0
        self.next_probe = 0.0
        self.hold_off = HOLD_OFF
        self.mode_changes = 0
        self.taken_over = 0
        self.caretaker_sleeps = False

    # -- size

    def resize(self, count: int) -> int:
        """Run `count` threads. Answers how many there are; fewer when the system gives no more."""
        with self.mutex:
            self.wanted = count
            missing = count - len(self.threads)
            surplus = self.parked[: max(0, -missing)]  # those that parked longest ago
            del self.parked[: len(surplus)]
        for thread in surplus:
            thread.retired = True
            thread.gate.release()
        for _ in range(missing):
            with self.mutex:
                thread = PoolThread(self)
                self.threads.append(thread)
            try:
                thread.start()
            except RuntimeError:  # "can't start new thread": RLIMIT_NPROC, pids.max
                with self.mutex:
                    self.threads.remove(thread)
                    self.telemetry.give_back(thread.desk)
                break
        return len(self.threads)

    @property
    def running(self) -> int:
        """Threads that run the application now."""
        return sum(1 for thread in list(self.threads) if thread.in_app)

    @property
    def requests(self) -> int:
        """Requests served since the worker started."""
        return sum(desk.finished for desk in list(self.telemetry.desks))

    def stop(self) -> None:
        """Let every thread end after what it runs now."""
        with self.mutex:
            self.stopping = True
            parked, self.parked = self.parked, []
        for thread in parked:
            thread.gate.release()
        self.reactor.ring()

    # -- who leads

    def next_role(self, thread: PoolThread) -> Work | None:
        """Called by a thread that has nothing to do: work, or None: lead (or end, when retired)."""
        with self.mutex:
            if self.stopping or (len(self.threads) > self.wanted):
                self._leave_locked(thread)
                return None
            if self.waiting:
                return self.waiting.popleft()
            if self.leader is None:
                self.leader = thread
                return None
            from_caretaker = self.leader is self.caretaker
            if from_caretaker:
                self.leader = thread
            else:
                self.parked.append(thread)
        if from_caretaker:
            self.reactor.ring()
            return None
        thread.gate.acquire()
        if thread.retired or self.stopping:
            with self.mutex:
                self._leave_locked(thread)
            return None
        work, thread.work = thread.work, None
        return work

    def _leave_locked(self, thread: PoolThread) -> None:
        thread.retired = True
        if self.leader is thread:
            self.leader = None
        if thread in self.threads:
            self.threads.remove(thread)
            self.telemetry.give_back(thread.desk)

    def promote(self, leader: Seat) -> None:
        """Give the lead to the follower that parked last; to nobody when there is none."""
        with self.mutex:
            if self.leader is not leader:
                return
            follower = self.parked.pop() if self.parked else None
            self.leader = follower
        if follower is not None:
            follower.gate.release()
        elif self.caretaker_sleeps:
            self.attention()

    def take_lead_from(self, leader: Seat, serial: int) -> None:
        """The caretaker found `leader` in the same request at two ticks: it is stuck, or slow."""
        with self.mutex:
            if self.leader is not leader or leader.in_app != serial:
                return
            follower = self.parked.pop() if self.parked else None
            self.leader = follower if follower is not None else self.caretaker
        self.taken_over += 1
        self.leave_inline()
        if follower is not None:
            follower.gate.release()

    def lead_if_nobody_does(self) -> bool:
        """The caretaker takes the lead when nobody has it."""
        with self.mutex:
            if self.leader is None and not self.stopping:
                self.leader = self.caretaker
            return self.leader is self.caretaker

    def dispatch(self, work: Work) -> None:
        """From a leader that does not enter the application: to a parked thread, or into `waiting`."""
        with self.mutex:
            thread = self.parked.pop() if self.parked else None
            if thread is None:
                self.waiting.append(work)
                return
            thread.work = work
        thread.gate.release()

    # -- events

    def push(self, fd: int, mask: int = 0) -> None:
        """Have somebody look at a connection (again). Any thread."""
        self.reactor.ready.append((fd, mask))
        leader = self.leader
        if leader is not None and leader.polling:
            self.reactor.ring()

    def poll(self, seat: Seat, timeout: float = POLL) -> None:
        """Fill `ready`. Called by the leader when it is empty."""
        reactor = self.reactor
        seat.polling = True
        # After `polling` is set, not before: `push` looks at it after it has appended.
        if reactor.ready:
            seat.polling = False
            return
        events = reactor.poller.poll(timeout)
        seat.polling = False
        now = reactor.now = monotonic()
        STAMP.refresh(time())
        if events:
            reactor.ready.extend(events)
            if self.leader is not seat:
                # The lead was taken while we polled; the new leader may sleep already.
                self.reactor.ring()
        if now >= reactor.next_look:
            reactor.next_look = now + POLL
            reactor.look_at_deadlines(now)

    def special_or_gone(self, fd: int) -> None:
        handler = self.reactor.special.get(fd)
        if handler is not None:
            handler()

    def unusual(self, conn: Connection, mask: int) -> bool:
        """Room to write, or the peer's end. True: nothing more to do for this event. The caller owns."""
        if mask & HANG_UP:
            conn.half_closed = True
        out = conn.out
        if out is not None:
            drained = self.reactor.flush(conn, out)
            if conn.phase is Phase.FLUSHING:
                if drained:
                    self.reactor.finish(conn, not conn.closing)
                    conn.again = True  # what came while the response waited has raised its edge already
                return True
        return conn.phase is Phase.CLOSED

    # -- inline mode

    def enter_inline(self) -> None:
        self.inline = True
        self.mode_changes += 1
        self.attention()

    def leave_inline(self) -> None:
        self.inline = False
        self.mode_changes += 1
        self.next_probe = monotonic() + self.hold_off
        self.hold_off = min(self.hold_off * 2, HOLD_OFF_MAX)


class PoolThread(threading.Thread, Seat):
    """A thread that leads, runs requests, or is parked."""

    def __init__(self, pool: Pool) -> None:
        threading.Thread.__init__(self, name="threadcorn-pool", daemon=True)
        Seat.__init__(self)
        self.pool = pool
        self.parsers = pool.make_parsers()
        self.desk = pool.telemetry.seat()
        self.gate = threading.Lock()  # released to wake this thread when it is parked
        self.gate.acquire()
        self.retired = False
        self.work: Work | None = None

    def run(self) -> None:
        try:
            while True:
                work = self.pool.next_role(self)
                if self.retired:
                    return
                if work is not None:
                    self._run(*work)
                else:
                    self._lead()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it has one outcome
            self.pool.on_thread_failure(error)

    def _run(self, conn: Connection, request: Request) -> None:
        """Run a request that somebody else has read. The connection's token came with it."""
        desk = self.desk
        self.in_app = desk.begin(request.line, conn.who)
        desk.end(self.pool.service.run(conn, request))
        self.in_app = 0
        conn.token.release()
        if conn.again or conn.rest:
            self.pool.push(conn.fd)

    def _lead(self) -> None:
        pool = self.pool
        reactor = pool.reactor
        connections = reactor.connections
        ready = reactor.ready
        next_event = ready.popleft
        read = pool.intake.read
        run = pool.service.run
        begin, end = self.desk.begin, self.desk.end
        parsers = self.parsers
        served = 0
        switches = getrusage(RUSAGE_THREAD).ru_nvcsw
        while pool.leader is self:
            try:
                fd, mask = next_event()
            except IndexError:
                if served >= JUDGE_AFTER:
                    now = getrusage(RUSAGE_THREAD).ru_nvcsw
                    if pool.inline:
                        if now - switches > served * SWITCHES:
                            pool.leave_inline()
                        else:
                            pool.hold_off = HOLD_OFF
                    served = 0
                    switches = now
                if pool.stopping:
                    return
                pool.poll(self)
                continue
            conn = connections.get(fd)
            if conn is None:
                pool.special_or_gone(fd)
                continue
            conn.again = True
            if not conn.token.acquire(False):
                if conn.out is not None:
                    reactor.flush(conn, conn.out)
                continue
            conn.again = False
            if (mask & HANG_UP or conn.out is not None) and pool.unusual(conn, mask):
                request = None
            else:
                request = read(conn, parsers)
            if request is not None:
                if not pool.inline:
                    if len(ready) > 0 and reactor.now >= pool.next_probe:
                        pool.enter_inline()
                        served = 0
                        switches = getrusage(RUSAGE_THREAD).ru_nvcsw
                    else:
                        pool.promote(self)
                self.in_app = begin(request.line, conn.who)
                end(run(conn, request))
                self.in_app = 0
                served += 1
            conn.token.release()
            if conn.again:
                pool.push(fd)
