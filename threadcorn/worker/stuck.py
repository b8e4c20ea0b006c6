"""Requests that take too long: told, ended, and what becomes of their thread.

1. `--slow-request`: one line when a request still runs after so long, with the stack of its thread and
   whether it burns CPU or waits. Nothing is done to it.
2. `--request-timeout`: the client gets a 504 from the caretaker, if the response has not begun; the thread
   gets an exception that no `except Exception` catches. If it has not come back after GRACE (it is in C code,
   or waits for a lock), the worker asks to be replaced; its other requests finish meanwhile.
3. A worker in which not even the caretaker runs any more, because C code holds the GIL: all stacks are
   written by faulthandler's own thread, which needs no GIL. The arbiter does the rest.

Who may answer is decided by one lock for each request: the first write of the application takes it, and so
does the caretaker before it sends a 504. An exception is sent only while that same guard says that the thread
is in the application, and is taken back when the thread leaves it: it must not be raised in the server's own
code.
"""

from __future__ import annotations

import faulthandler
import io
import logging
import os
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from threadcorn.http1.response import error_response
from threadcorn.logs import for_stacks
from threadcorn.messages import Reported
from threadcorn.system.interrupt import cancel, cpu_ns, interrupt
from threadcorn.worker.connection import Connection
from threadcorn.wsgi.gateway import ClientGone

if TYPE_CHECKING:
    from threadcorn.worker.pool import Pool
    from threadcorn.worker.telemetry import Telemetry
    from threadcorn.worker.thread import PoolThread

__all__ = ["TIMED_OUT", "Guard", "Interrupted", "Stuck"]

TIMED_OUT = "504 Gateway Timeout"
#: Seconds after its time-out in which a thread may come back.
GRACE = 5.0
#: Seconds between two looks at what runs, and at least between two readings of a thread's CPU time.
LOOK = 0.05
#: Share of that time above which a thread burns CPU.
BURNS = 0.2
#: Seconds between two re-armings of the dump that needs no GIL.
REARM = 1.0
#: Frames of a stack in the log and in a report.
DEEPEST = 40

_SECOND = 1_000_000_000
_OURS = os.path.join("threadcorn", "worker", "")


class Interrupted(BaseException):
    """Raised in the application when its request has reached --request-timeout."""


class Guard:
    """One request under --request-timeout: who answers it, and whether its thread may be interrupted.

    A `Sink` for the gateway in front of the connection.
    """

    __slots__ = (
        "_active", "_conn", "_content", "_gate", "_ident", "_mutex", "_open", "_sends",
        "expired_at", "extra", "sent"
    )  # fmt: skip

    def __init__(self, conn: Connection, content: bool) -> None:
        self._conn = conn
        self._content = content  # of an answer; there is none to HEAD
        self._gate = threading.Lock()  # taken for ever by whoever answers
        self._mutex = threading.Lock()  # guards `_active`: who ends it, its thread or the caretaker
        self._active = True
        self._open = False
        self._sends = False  # its thread is in our own code
        self._ident = threading.get_ident()
        self.extra = 0.0
        self.expired_at = 0
        self.sent = False  # a 504 was sent

    def extend(self, seconds: float) -> None:
        """`environ["threadcorn.extend_deadline"](seconds)`: the application needs longer than usual."""
        self.extra += max(0.0, float(seconds))

    # -- the sink

    def _send(self, send: Callable[..., None], *what: Any) -> None:
        """Call `send` of the connection. What comes meanwhile is raised when it is done: in the middle of it,
        files and locks would be left behind."""
        with self._mutex:
            late = self.expired_at
            self._sends = True
        try:
            if not self._open:
                if not self._gate.acquire(blocking=False):
                    raise ClientGone("the request has reached its time limit")
                self._open = True
            send(*what)
        finally:
            self._sends = False
            if self.expired_at and not late:
                raise Interrupted

    def write(self, data: bytes) -> None:
        self._send(self._conn.write, data)

    write_last = write

    def write_pieces(self, pieces: list[bytes]) -> None:
        self._send(self._conn.write_pieces, pieces)

    def file_span(self, filelike: Any) -> tuple[int, int, int] | None:
        return self._conn.file_span(filelike)

    def write_file(self, head: bytes, descriptor: int, offset: int, count: int) -> None:
        self._send(self._conn.write_file, head, descriptor, offset, count)

    def began(self) -> None:
        self._conn.began()

    def arrived(self) -> bool:
        return self._conn.arrived()

    # -- the caretaker's side

    def expire(self, now: int) -> bool | None:
        """The time is up: answer, and interrupt. True: the client got a 504. None: the request has ended
        meanwhile, and its connection may be in the next one."""
        if not self._mutex.acquire(timeout=0.1):
            return None  # it is leaving just now
        try:
            if not self._active:
                return None
            self.expired_at = now
            if self._gate.acquire(blocking=False):
                self.sent = True
                try:
                    self._conn.sock.send(error_response(504, body=self._content))
                except OSError:
                    pass  # gone, or it does not read what it was sent before
            # Its end is the end of this connection in either case: what was cut short must look like it.
            try:
                self._conn.sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            if not self._sends:
                interrupt(self._ident, Interrupted)
        finally:
            self._mutex.release()
        return self.sent

    # -- the thread's side

    def leave(self) -> bool:
        """The application is left. From now on nothing is raised in this thread. True: its time was up."""
        while True:
            try:
                with self._mutex:
                    self._active = False
                    if self.expired_at:
                        cancel(self._ident)
                return bool(self.expired_at)
            except Interrupted:
                continue  # it came just now; the next round takes back what might follow


class Stuck:
    """One per worker. `guard` and `done` belong to pool threads, everything else to the caretaker."""

    def __init__(
        self,
        *,
        slow: float,
        limit: float,
        silence: float,
        log: logging.Logger,
        telemetry: Telemetry,
        recycle: Callable[[str], None],
    ) -> None:
        self.limited = limit > 0
        self._slow = int(slow * _SECOND)
        self._limit = limit
        self._silence = silence
        self._log = log
        self._telemetry = telemetry
        self._recycle = recycle
        self._guards: dict[int, Guard] = {}
        self._told: dict[int, tuple[int, int | None, bool]] = {}  # ident: began, CPU then, told
        self._next = 0
        self._next_arm = 0
        self._report: tuple[int, int, dict[int, int | None]] | None = None
        self.slow = 0
        self.timed_out = 0
        self.interrupted = 0
        #: Requests whose thread did not come back.
        self.lost = 0

    # -- pool threads

    def guard(self, conn: Connection, environ: dict[str, Any]) -> Guard:
        """The thread enters the application."""
        guard = Guard(conn, environ["REQUEST_METHOD"] != "HEAD")
        environ["threadcorn.extend_deadline"] = guard.extend
        self._guards[threading.get_ident()] = guard
        return guard

    def done(self, guard: Guard) -> bool:
        """The thread has left it. True: its time was up."""
        expired = guard.leave()
        self._guards.pop(threading.get_ident(), None)
        if expired:
            self.interrupted += 1
            if guard.expired_at < 0:
                self.lost -= 1
        return expired

    # -- the caretaker

    def look(self, pool: Pool, now: int) -> None:
        """Find what runs for too long."""
        if now < self._next:
            return
        self._next = now + int(LOOK * _SECOND)
        if self._slow or self.limited:
            for thread in list(pool.threads):
                began = thread.in_app
                if began:
                    if self._slow and now - began > self._slow:
                        self._tell(thread, began, now)
                    if self.limited:
                        self._judge(thread, began, now)
        if self._report is not None and now >= self._report[1] + int(LOOK * _SECOND):
            self._next = now

    def rearm(self, now: int) -> None:
        """Have all stacks written should this not be called again in time."""
        if self._silence > 0 and now >= self._next_arm:
            self._next_arm = now + int(REARM * _SECOND)
            # The dump waits in a thread of its own. Where there is none for it (RLIMIT_NPROC, pids.max), a
            # worker that serves must not die of that.
            with suppress(RuntimeError):
                faulthandler.dump_traceback_later(max(2 * REARM, self._silence / 2), file=_stream(self._log))

    def _tell(self, thread: PoolThread, began: int, now: int) -> None:
        ident = thread.ident or 0
        known = self._told.get(ident)
        if known is None or known[0] != began:
            self._told[ident] = (began, cpu_ns(thread.native_id or 0), False)
            return
        if known[2]:
            return
        self._told[ident] = (began, None, True)
        self.slow += 1
        self._log.warning(
            "Slow request, running for %.1f s and %s: %s\n%s",
            (now - began) / 1e9,
            _verdict(known[1], cpu_ns(thread.native_id or 0), LOOK),
            self._line(thread, began),
            "".join(stack(ident)).rstrip(),
        )

    def _judge(self, thread: PoolThread, began: int, now: int) -> None:
        guard = self._guards.get(thread.ident or 0)
        if guard is None:
            return
        if guard.expired_at:
            if now - guard.expired_at > GRACE * _SECOND and guard.expired_at > 0:
                guard.expired_at = -guard.expired_at  # told
                self.lost += 1
                self._recycle(f"a thread did not come back from {self._line(thread, began)}")
            return
        if now - began <= (self._limit + guard.extra) * _SECOND:
            return
        if thread.in_app != began:
            return  # the guard is the next request's
        words = "".join(stack(thread.ident or 0)).rstrip()
        answered = guard.expire(now)
        if answered is None:
            return
        self.timed_out += 1
        self._log.error(
            "Request timed out after %.1f s (request_timeout), %s: %s\n%s",
            (now - began) / 1e9,
            "answered with 504" if answered else "its response is cut",
            self._line(thread, began),
            words,
        )

    def _line(self, thread: PoolThread, began: int) -> str:
        """What began then in that thread, whether it still runs or was ended a moment ago."""
        page = self._telemetry.page
        number = self._telemetry.desks.index(thread.desk)
        for record in page.board.requests(page.index):
            if record.thread == number and abs(record.start - began / 1e9) < 1e-6:
                return f"{record.request} from {record.peer}"
        return "(many requests ago)"

    def abandoned(self, pool: Pool) -> None:
        """The worker leaves, and these do not finish."""
        unfinished = [(thread, began) for thread in list(pool.threads) if (began := thread.in_app)]
        if unfinished:
            lines = "; ".join(self._line(thread, began) for thread, began in unfinished)
            self._log.warning(
                "Left with %d requests unfinished (graceful_timeout): %s", len(unfinished), lines
            )

    # -- a person asks

    def ask(self, pool: Pool, token: int, now: int) -> None:
        """Begin a report; `answer` has it a moment later, when it is known who burns CPU."""
        busy = [thread for thread in list(pool.threads) if thread.in_app]
        self._report = (token, now, {thread.ident or 0: cpu_ns(thread.native_id or 0) for thread in busy})

    def answer(self, pool: Pool, now: int, why: Sequence[object]) -> tuple[int, str] | None:
        """The report that was asked for, when it is due."""
        if self._report is None or now < self._report[1] + int(LOOK * _SECOND):
            return None
        token, asked, before = self._report
        self._report = None
        threads = []
        for thread in list(pool.threads):
            ident = thread.ident or 0
            lines = stack(ident)
            row: dict[str, Any] = {
                "number": self._telemetry.desks.index(thread.desk),
                "running": bool(thread.in_app),
                "leads": pool.leader is thread,
                "stack": lines,
            }
            if thread.in_app:
                after = cpu_ns(thread.native_id or 0)
                row["verdict"] = _verdict(before.get(ident), after, (now - asked) / 1e9)
                row["top"] = lines[-1].strip().splitlines()[0] if lines else ""
            threads.append(row)
        return token, _fitting({"threads": threads, "why": list(why)[-20:]})


def stack(ident: int) -> list[str]:
    """The stack of a thread, outermost first, without the server's own frames below the application's."""
    frame = sys._current_frames().get(ident)  # noqa: SLF001 - the documented way to another thread's stack
    if frame is None:
        return []
    summary = traceback.extract_stack(frame)
    last = max((i for i, entry in enumerate(summary) if _OURS in entry.filename), default=-1)
    outside = list(summary)[last + 1 :] or list(summary)
    return traceback.format_list(outside[-DEEPEST:])


def _verdict(before: int | None, after: int | None, seconds: float) -> str:
    if before is None or after is None or seconds <= 0:
        return "running"
    return "burning CPU" if (after - before) / (seconds * 1e9) > BURNS else "waiting"


def _fitting(report: dict[str, Any]) -> str:
    """Packed, short enough for one message: stacks lose their outer frames first."""
    most = DEEPEST
    while True:
        text = Reported.pack(report)
        if text is not None or most == 0:
            return text or ""
        most //= 2
        for row in report["threads"]:
            row["stack"] = row["stack"][-most:] if most else []


def _stream(log: logging.Logger) -> Any:
    """Where the error log goes, as something with a descriptor, or as a descriptor."""
    for handler in log.handlers:
        stream = getattr(handler, "stream", None)
        try:
            if stream is not None and stream.fileno() >= 0:
                return stream
        except (OSError, ValueError, AttributeError, io.UnsupportedOperation):
            continue
    return for_stacks(log)
