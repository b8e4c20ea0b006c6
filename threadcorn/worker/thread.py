"""A thread of the pool: it leads, runs a request, is parked, or is gone; never two of these."""

from __future__ import annotations

import threading
from resource import RUSAGE_THREAD, getrusage
from time import monotonic_ns, thread_time_ns
from typing import TYPE_CHECKING

from threadcorn.http1.parser import HeadParser, Request
from threadcorn.policy.cells import CPU, READY_WAIT
from threadcorn.system.poller import HANG_UP
from threadcorn.system.spawn import end_fork
from threadcorn.worker.connection import Connection
from threadcorn.worker.outgoing import KEEP, MOST, Outgoing
from threadcorn.worker.overload import ASK_AFTER

if TYPE_CHECKING:
    from threadcorn.worker.pool import Pool

#: Requests after which inline mode is judged, and voluntary context switches per request it may cost.
JUDGE_AFTER = 32
#: The same while they take so long that the leader polls between two of them.
JUDGE_SLOW = 4
SWITCHES = 0.25
#: One request in so many has its processor time measured, and in inline mode its wait. Reading that clock is
#: a system call, which costs a sixth of a small request. Odd, so that it is not the same one of requests that
#: come in turn.
SAMPLED = 127
SAMPLED_HAND_OFF = 7
#: Processor time (ns) from which on requests are served in rows. Shorter ones stay in the caches anyway, and
#: their clients hardly fall asleep.
SHORTEST = 30_000
#: Nanoseconds after which a row is not what it was meant to be: something in it blocks.
LONG_ROW = 3 * KEEP
#: Seconds for which a tracer that was seen is taken to be there.
PATIENCE = 1.0
#: Hold-off after the first failed probe of inline mode (seconds); it doubles with each.
HOLD_OFF = 0.05
#: A request that waits: the connection whose token goes with it, the request, since when (monotonic ns).
Work = tuple[Connection, Request, int]


class Seat:
    """What the pool knows about a thread that may lead. `in_app` is when the request that it runs began
    (monotonic nanoseconds), 0 outside of one: no two requests of a thread have the same."""

    outgoing: Outgoing | None = None

    def __init__(self, parsers: list[HeadParser]) -> None:
        self.polling = False
        self.in_app = 0
        self.parsers = parsers  # one for each group of listeners


class Caretaker(Seat):
    """The main thread's seat. It leads when nobody else can, and never runs the application."""


class PoolThread(threading.Thread, Seat):
    """A thread that leads, runs requests, or is parked."""

    def __init__(self, pool: Pool) -> None:
        threading.Thread.__init__(self, name="threadcorn-pool", daemon=True)
        Seat.__init__(self, pool.make_parsers())
        self.pool = pool
        self.desk = pool.telemetry.seat()
        self.gate = threading.Lock()  # released to wake this thread when it is parked
        self.gate.acquire()
        self.retired = False
        self.work: Work | None = None
        self.traced_until = 0.0  # until then switches are a tracer's
        self.outgoing: Outgoing = Outgoing(pool.reactor)
        self.row = 0  # requests that are read, run and answered together; 0: each for itself
        self.cost = 0  # processor time of a request, smoothed (ns)

    def run(self) -> None:
        try:
            while True:
                if self.pool.service.forked:
                    end_fork(0)
                work = self.pool.next_role(self)
                if self.retired:
                    return
                if work is not None:
                    self._run(*work)
                else:
                    self._lead()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it has one outcome
            self.pool.on_thread_failure(error)

    def _run(self, conn: Connection, request: Request, since: int, outgoing: Outgoing | None = None) -> None:
        """Run a request that was read before. The connection's token came with it."""
        desk = self.desk
        admission = self.pool.admission
        conn.runs()
        now = self.in_app = monotonic_ns()
        desk.begin(request.line, conn.who, now)
        sampled = now % (SAMPLED_HAND_OFF if outgoing is None else SAMPLED) == 0
        if sampled or outgoing is None:
            desk.count(READY_WAIT, (now - since) // 1000)
        conn.since = since
        outcome = None
        if now - since > min(ASK_AFTER, admission.patience_ns):
            outcome = admission.turn(conn, request, since, now)
        if outcome is None:
            run = self._measured if sampled else self.pool.service.run
            outcome = run(conn, request, outgoing)
        desk.end(outcome)
        self.in_app = 0
        if outgoing is not None and outgoing.left:
            outgoing.left = False
            return
        conn.token.release()
        if conn.again or conn.rest:
            self.pool.push(conn.fd)

    def _measured(self, conn: Connection, request: Request, outgoing: Outgoing | None = None) -> str:
        """Run a request and count its processor time: a system call before and after it."""
        began = thread_time_ns()
        outcome = self.pool.service.run(conn, request, outgoing)
        took = thread_time_ns() - began
        self.desk.count(CPU, took // 1000)
        self.cost += (took - self.cost) // 4
        self.row = min(MOST, KEEP // self.cost) if self.pool.rows and self.cost >= SHORTEST else 0
        return outcome

    def _in_a_row(self) -> int:
        """Read requests that stand in the queue, run them, send their answers: each of the three for all of
        them, so that its code stays in the caches. Answers how many were run.

        What is read waits where every thread may take it: when one of them blocks, the others do not wait
        for it. A row that takes too long ends early, and what it has read is still in `pool.waiting`.
        """
        pool = self.pool
        outgoing = self.outgoing
        outgoing.keeps = pool.rows
        now = monotonic_ns()
        if now >= pool.reactor.next_poll:
            pool.poll(self, 0)
        works: list[Work] = []
        try:
            for _ in range(0 if pool.waiting else self.row):
                work = pool.take(self)
                if work is not None:
                    works.append(work)
        except IndexError:
            pass  # those were all
        with pool.mutex:
            pool.waiting.extend(works)
        ran = 0
        until = now + LONG_ROW
        while pool.leader is self and now < until:
            with pool.mutex:
                if not pool.waiting:
                    break
                work = pool.waiting.popleft()
            if outgoing and outgoing.late(now):
                outgoing.send()
            self._run(*work, outgoing)
            ran += 1
            now = monotonic_ns()
        outgoing.send()
        return ran

    def _lead(self) -> None:
        pool = self.pool
        reactor = pool.reactor
        connections = reactor.connections
        ready = reactor.ready
        waiting = pool.waiting
        next_event = ready.popleft
        read = pool.intake.read
        run = pool.service.run
        begin, end, count = self.desk.begin, self.desk.end, self.desk.count
        parsers = self.parsers
        served = 0
        unmeasured = SAMPLED_HAND_OFF
        # When the next request begins: where the one before it ended. A second look at the clock would cost
        # as much as the record. 0: something else was done since.
        now = 0
        switches = getrusage(RUSAGE_THREAD).ru_nvcsw
        while pool.leader is self:
            # What was read already comes first, also where nothing is read ahead any more: in a standing
            # queue `ready` is never empty, and nobody else would come for it.
            if waiting or self.row > 1:
                if pool.inline:
                    if waiting or len(ready) > 1:
                        now = 0
                        served += self._in_a_row()
                        if served >= (JUDGE_SLOW if waiting else JUDGE_AFTER):
                            served, switches = 0, self._judged(served, switches)
                        continue
                elif waiting:
                    pool.promote(self)  # a row ended because something in it blocks
                    return
            try:
                fd, mask = next_event()
            except IndexError:
                now = 0
                if served >= JUDGE_AFTER:
                    served, switches = 0, self._judged(served, switches)
                if pool.stopping:
                    return
                if pool.waiting:
                    # A caretaker that read it has lost the lead to us: nobody else would come for it.
                    pool.promote(self)
                    return
                pool.poll(self)
                continue
            # As in Pool.take, without its call, which every small request would pay for.
            conn = connections.get(fd)
            if conn is None:
                now = 0
                reactor.special_or_gone(fd)
                continue
            conn.again = True
            if not conn.token.acquire(False):
                if mask & HANG_UP:
                    conn.hear_hang_up()  # the owner, or whoever takes its request, will see it
                out = conn.out  # once: the owner may be done with it in the next instant
                if out is not None:
                    reactor.flush_for_owner(conn, out)
                continue
            conn.again = False
            if (mask & HANG_UP or conn.out is not None) and reactor.unusual(conn, mask):
                request = None
            else:
                request = read(conn, parsers)
            if request is not None:
                now = now or monotonic_ns()
                begin(request.line, conn.who, now)
                conn.since = reactor.batch
                outcome = None
                if now >= reactor.alarm or conn.accept_wait:
                    outcome = pool.turned_away(self, conn, request, now)
                    if served >= JUDGE_SLOW:  # in a standing queue this is the only place that is reached
                        served, switches = 0, self._judged(served, switches)
                if outcome is None:
                    if not pool.inline:
                        count(READY_WAIT, (now - reactor.batch) // 1000)
                        if len(ready) > 0 and reactor.now >= pool.next_probe:
                            pool.enter_inline()
                            served = 0
                            switches = getrusage(RUSAGE_THREAD).ru_nvcsw
                        else:
                            pool.promote(self)
                    self.in_app = now
                    unmeasured -= 1
                    if unmeasured:
                        outcome = run(conn, request)
                    else:
                        if pool.inline:
                            unmeasured = SAMPLED
                            count(READY_WAIT, (now - reactor.batch) // 1000)
                        else:
                            unmeasured = SAMPLED_HAND_OFF
                        outcome = self._measured(conn, request)
                    now = end(outcome)
                    self.in_app = 0  # not before: who leaves waits for this, and then reads the counts
                    served += 1
                else:
                    now = end(outcome)
            else:
                now = 0
            conn.token.release()
            if conn.again:
                pool.push(fd)

    def _judged(self, served: int, before: int) -> int:
        """Whether inline mode was right for the last requests, of which there were `served`. Answers the
        count of voluntary switches that the next ones begin with."""
        pool = self.pool
        switches = getrusage(RUSAGE_THREAD).ru_nvcsw
        if pool.inline:
            now = pool.reactor.now
            if switches - before <= served * SWITCHES:
                pool.hold_off = HOLD_OFF
            elif now >= self.traced_until:
                self.traced_until = now + PATIENCE if traced() else 0.0
                if not self.traced_until:
                    pool.leave_inline()
        return switches


def traced() -> bool:
    """Whether somebody traces this process (strace, a debugger).

    A traced system call stops its thread, and each stop counts as a voluntary switch: the worker would take
    the tracer for an application that blocks, and change what the tracer has come to see. The caretaker's
    ticks still find an application that does block.
    """
    try:
        with open("/proc/self/status", "rb") as status:
            return b"\nTracerPid:\t0\n" not in status.read()
    except OSError:
        return False
