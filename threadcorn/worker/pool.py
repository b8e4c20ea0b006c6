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
from time import monotonic, monotonic_ns, time
from typing import TYPE_CHECKING

from threadcorn.http1.parser import HeadParser, Request
from threadcorn.http1.response import STAMP
from threadcorn.system.poller import HANG_UP
from threadcorn.worker.connection import Connection, Phase
from threadcorn.worker.overload import DOUBT, Admission
from threadcorn.worker.reactor import taken
from threadcorn.worker.telemetry import Telemetry
from threadcorn.worker.thread import HOLD_OFF, Caretaker, PoolThread, Seat, Work

if TYPE_CHECKING:
    from threadcorn.worker.intake import Intake
    from threadcorn.worker.reactor import Reactor
    from threadcorn.worker.serve import Service

#: How long a leader polls at most; deadlines are looked at this often.
POLL = 0.25
#: Longest hold-off after a failed probe of inline mode (seconds).
HOLD_OFF_MAX = 5.0

#: While requests stand in `ready` for longer, the leader polls between two of them (seconds): otherwise
#: what arrives meanwhile would not be known, nor when it arrived.
POLL_BETWEEN = 0.01
#: In place of a descriptor: events behind it came with a later poll.
NEXT_POLL = -1


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
        self.caretaker = Caretaker(make_parsers())
        self.inline = False
        #: Whether requests may be served in rows. Not where a crash must cost nothing but what runs.
        self.rows = True
        self.stopping = False
        self.wanted = 0
        self.next_probe = 0.0
        self.hold_off = HOLD_OFF
        self.mode_changes = 0
        self.taken_over = 0
        self.caretaker_sleeps = False
        self.admission = Admission(reactor, service)
        reactor.push = self.push
        reactor.special[NEXT_POLL] = self._next_poll

    # -- size

    def resize(self, count: int) -> int:
        """Run `count` threads. Answers how many there are; fewer when the system gives no more."""
        with self.mutex:
            self.wanted = count
            missing = count - len(self.threads)
            surplus = self.parked[: max(0, -missing)]  # those that parked longest ago
            del self.parked[: len(surplus)]
            for thread in surplus:  # now: the next resize must not count them
                self._leave_locked(thread)
        for thread in surplus:
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

    def pressure(self) -> tuple[int, int, bool]:
        """Threads that run something, requests that wait for one, and whether no thread is left to lead."""
        busy = len(self.threads) - len(self.parked)
        if self.leader is self.caretaker:
            return busy, len(self.waiting) + len(self.reactor.ready), True
        return max(0, busy - 1), len(self.waiting) + len(self.reactor.ready), False

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

    def _hand_out_locked(self, otherwise: Seat | None) -> list[PoolThread]:
        """Give what waits to parked threads, the lead to the next or to `otherwise`. Answers whom to wake."""
        woken = []
        while self.waiting and self.parked:
            thread = self.parked.pop()
            thread.work = self.waiting.popleft()
            woken.append(thread)
        follower = self.parked.pop() if self.parked else None
        if follower is not None:
            woken.append(follower)
        self.leader = follower or otherwise
        return woken

    def promote(self, leader: Seat) -> None:
        """Give the lead to the follower that parked last; to nobody when there is none."""
        with self.mutex:
            if self.leader is not leader:
                return
            woken = self._hand_out_locked(None)
            alone = self.leader is None
        for thread in woken:
            thread.gate.release()
        if alone and self.caretaker_sleeps:
            self.attention()

    def take_lead_from(self, leader: Seat, serial: int) -> None:
        """The caretaker found `leader` in the same request at two ticks: it is stuck, or slow."""
        with self.mutex:
            if self.leader is not leader or leader.in_app != serial:
                return
            woken = self._hand_out_locked(self.caretaker)
        self.taken_over += 1
        self.leave_inline()
        for thread in woken:
            thread.gate.release()
        if leader.outgoing is not None:
            leader.outgoing.let_go()

    def lead_if_nobody_does(self) -> bool:
        """The caretaker takes the lead when nobody has it."""
        with self.mutex:
            if self.leader is None and not self.stopping:
                self.leader = self.caretaker
            return self.leader is self.caretaker

    def dispatch(self, work: Work) -> None:
        """From a leader that does not enter the application: to a parked thread, or into `waiting`."""
        if not self.parked:
            work[0].waits()  # before anybody can take it, and not under the mutex
        with self.mutex:
            thread = self.parked.pop() if self.parked else None
            if thread is not None:
                thread.work = work
            else:
                self.waiting.append(work)
            leader = self.leader
        if thread is not None:
            thread.gate.release()
        elif leader is not None and leader.polling:
            self.reactor.ring()

    # -- events

    def push(self, fd: int) -> None:
        """Have somebody look at a connection (again), after those that wait already. Any thread."""
        self.reactor.later.append((fd, 0))
        leader = self.leader
        if leader is not None and leader.polling:
            self.reactor.ring()

    def poll(self, seat: Seat, timeout: float = POLL) -> None:
        """Fill `ready`. Called by the leader."""
        reactor = self.reactor
        admission = self.admission
        ready = reactor.ready
        later = reactor.later
        if reactor.crew:
            timeout = reactor.on_poll(timeout)
        seat.polling = True
        # After `polling` is set, not before: `push` and `dispatch` look at it after they have appended.
        if ready or later or (self.waiting and seat is not self.caretaker):
            events = reactor.poller.poll(0)
        elif reactor.now - admission.last_empty > DOUBT:
            # Is there really nothing? A poll that may sleep does not tell whether it did.
            events = reactor.poller.poll(0)
            if not events:
                if not self.waiting:
                    admission.empty(reactor.now)
                events = reactor.poller.poll(timeout)
        else:
            events = reactor.poller.poll(timeout)
        seat.polling = False
        now = reactor.now = monotonic()
        STAMP.refresh(time())
        standing = now - admission.last_empty
        if standing > DOUBT:
            queued = len(ready) + len(events) + len(later) - len(reactor.polls) + len(self.waiting)
            admission.look(standing, queued, self.telemetry.finished, len(self.threads))
        came = int(now * 1e9)
        if not ready:
            reactor.batch = came
        elif events or later:
            events = self._doors_first(events)
            # Each piece of an upload is another edge. One entry is enough: whoever takes it reads all that
            # came until then. More would fill the queue, and a request would seem as old as a piece of the
            # one before it.
            listed = {fd for fd, _ in ready.copy()}  # a copy: who has just lost the lead may take one out
            events = [event for event in events if event[0] not in listed or event[1] & HANG_UP]
            events.extend(event for event in taken(later) if event[0] not in listed)
            if events:
                reactor.polls.append(came)
                ready.append((NEXT_POLL, 0))
        ready.extend(events)
        if later:
            ready.extend(taken(later))
        self._set_alarm(came)
        if self.leader is not seat:
            # The lead was taken while we polled; the new leader may sleep already.
            reactor.ring()
        crowd = len(ready) + len(self.waiting) - len(reactor.polls)
        if crowd > admission.room:
            self._turn_back(seat, min(crowd - admission.room, len(ready)))
            # However many there are to be refused, those who are served get their share of our time.
            self._set_alarm(monotonic_ns())
        if crowd > reactor.limits.max_queued or reactor.crowded:
            admission.crowd(crowd)
        if now >= reactor.next_look:
            reactor.next_look = now + POLL
            reactor.look_at_deadlines(now)

    def take(self, seat: Seat, elsewhere: Callable[[Connection], bool] | None = None) -> Work | None:
        """What the next event of `ready` brings: a request, with its connection's token. None: it brought
        none, or `elsewhere` took the connection. Raises IndexError when nothing is ready. Called by the
        leader."""
        reactor = self.reactor
        fd, mask = reactor.ready.popleft()
        conn = reactor.connections.get(fd)
        if conn is None:
            reactor.special_or_gone(fd)
            return None
        conn.again = True
        if not conn.token.acquire(False):
            if mask & HANG_UP:
                conn.hear_hang_up()  # the owner, or whoever takes its request, will see it
            out = conn.out  # once: the owner may be done with it in the next instant
            if out is not None:
                reactor.flush_for_owner(conn, out)
            return None
        conn.again = False
        if not reactor.unusual(conn, mask) and (elsewhere is None or not elsewhere(conn)):
            request = self.intake.read(conn, seat.parsers)
            if request is not None:
                since = reactor.batch - int(conn.accept_wait * 1e9)
                conn.accept_wait = 0.0
                return conn, request, since
        conn.token.release()
        if conn.again:
            self.push(fd)  # which rings, should another have taken the lead and sleep in its poll
        return None

    def _doors_first(self, events: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Accept before what waits already is run. It costs those nothing, because whoever comes in stands
        behind them, and who would be late learns it at once. Answers the events of connections."""
        special = self.reactor.special
        doors = [fd for fd, _ in events if fd in special]
        if not doors:
            return events
        others = [event for event in events if event[0] not in special]
        for fd in doors:
            self.reactor.special_or_gone(fd)
        return others

    def _set_alarm(self, polled: int) -> None:
        reactor = self.reactor
        reactor.next_poll = polled + int(POLL_BETWEEN * 1e9)
        reactor.alarm = min(reactor.next_poll, reactor.batch + self.admission.patience_ns)

    def _next_poll(self) -> None:
        """What comes now out of `ready` arrived with a later poll than what came before it."""
        reactor = self.reactor
        try:
            reactor.batch = reactor.polls.popleft()
        except IndexError:
            return  # two threads that led at once have emptied it
        reactor.alarm = min(reactor.next_poll, reactor.batch + self.admission.patience_ns)

    def _turn_back(self, seat: Seat, count: int) -> None:
        """The newest of those that wait would be late when their turn came: they are told at once."""
        reactor = self.reactor
        ready = reactor.ready
        kept: list[tuple[int, int]] = []
        for _ in range(count):
            try:
                event = fd, mask = ready.pop()
            except IndexError:
                break
            conn = reactor.connections.get(fd)
            if conn is None or conn.phase is not Phase.IDLE or not conn.token.acquire(False):
                kept.append(event)
                continue
            conn.again = False
            request = None
            if not (mask & HANG_UP and self.reactor.unusual(conn, mask)):
                request = self.intake.read(conn, seat.parsers)
            if request is not None:
                if not self.admission.too_many(request):
                    self.dispatch((conn, request, reactor.batch))  # the token goes with it
                    continue
                conn.accept_wait = 0.0  # it is judged; the next one has not waited for that
                self.admission.refuse(conn, request)
            conn.token.release()
            if conn.again or conn.rest:
                self.push(fd)
        ready.extend(reversed(kept))

    def turned_away(self, seat: Seat, conn: Connection, request: Request, now: int) -> str | None:
        """The leader's alarm went off between two requests: poll, if it is time, and judge this request.
        The outcome of a request that is not run, None for one that is."""
        reactor = self.reactor
        since = reactor.batch
        if conn.accept_wait:
            since = conn.since = since - int(conn.accept_wait * 1e9)
            conn.accept_wait = 0.0
        if now >= reactor.next_poll:
            self.poll(seat, 0)
        return self.admission.turn(conn, request, since, now)

    def expire(self, now: int) -> None:
        """Refuse what has been in `waiting` for too long: the caretaker, while all threads are busy."""
        stay: list[Work] = []  # probes, and those that came before the queue stood
        while self.waiting:
            with self.mutex:
                if not self.waiting or now - self.waiting[0][2] <= self.admission.patience_ns:
                    break
                work = self.waiting.popleft()
            conn, request, since = work
            if self.admission.turn_away(conn, request, since, now) is None:
                stay.append(work)
                continue
            conn.token.release()
            if conn.again or conn.rest:
                self.push(conn.fd)
        if stay:
            # They have waited longest, so they stay first, in their order.
            with self.mutex:
                self.waiting.extendleft(reversed(stay))

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
