"""One request, from its environ to its log line, on the thread that owns the connection.

Whatever the application does has one outcome. Before the head is sent: a 500 without detail. After it: the
connection is cut, so that the client cannot take the half for the whole. The process lives on, also when the
application raises SystemExit.
"""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import Callable, Iterable
from http import HTTPStatus
from time import monotonic_ns, thread_time_ns, time
from typing import Any, NoReturn

from threadcorn.http1.parser import Request
from threadcorn.http1.response import error_response
from threadcorn.http1.rules import key_of
from threadcorn.system.spawn import end_fork
from threadcorn.worker.connection import IDLE, Connection, Phase
from threadcorn.worker.outgoing import Outgoing
from threadcorn.worker.reactor import Reactor
from threadcorn.worker.streaming import BodyCut, BodySource
from threadcorn.worker.stuck import TIMED_OUT, Guard, Interrupted, Stuck
from threadcorn.worker.timing import TimedResponse, Watch
from threadcorn.wsgi.gateway import ClientGone, Response, Unsendable, WrongLength

#: The outcome of a request that was refused because of overload.
SHED = "503 Service Unavailable"

WSGIApp = Callable[..., Iterable[bytes]]


class Service:
    """Runs requests. One per worker, used by all its threads."""

    def __init__(
        self,
        app: WSGIApp,
        reactor: Reactor,
        *,
        access: Any,
        log: logging.Logger,
        hooks: Hooks,
        stuck: Stuck | None = None,
    ) -> None:
        self._app = app
        self._reactor = reactor
        self._access = access
        self._log = log
        self._hooks = hooks
        self._keepalive = reactor.limits.keepalive
        self._stuck = stuck if stuck is not None and stuck.limited else None
        self._server_timing = reactor.limits.server_timing
        # A system call, twice a request: only for those who look at it.
        self._cpu_clock = thread_time_ns if reactor.limits.log_cpu else int
        self._plain = not (
            access.enabled
            or self._stuck is not None
            or self._server_timing
            or reactor.limits.stream_body
            or not hooks.empty
        )
        #: Requests whose application raised. Counted by any thread; one that is lost when two do so at the
        #: same instant is worth less than a lock.
        self.errors = 0
        #: This process is one that the application has forked.
        self.forked = False

    def run(self, conn: Connection, request: Request, outgoing: Outgoing | None = None) -> str:
        """Run the application, send its answer, decide what becomes of the connection. Answers the status
        line that the client got, "" when it was gone. With `outgoing` the answer may be sent later, and the
        connection's token with it: then its `left` is true."""
        if not self._plain:
            if self._stuck is None:
                return self._run_watched(conn, request, outgoing)
            return self._run_limited(conn, request)
        status = ""
        reactor = self._reactor
        sink = conn if outgoing is None else outgoing.sink(conn)
        response = Response(sink, request.version11, request.method == "HEAD", request.keep)
        environ = request.environ
        environ["wsgi.early_hints"] = response.early_hints
        try:
            result = self._app(environ, response.start_response)
            if reactor.close_each:
                response.close_after()
            if result.__class__ is list:  # has no close()
                if len(result) == 1 and result[0].__class__ is bytes and not response.committed:
                    response.whole(result[0])
                else:
                    response.deliver(result)
            else:
                self._deliver(request, response, result)
            status = response.status
        except BaseException as error:  # noqa: BLE001 - whatever it is, it has one outcome
            status = self._failed(conn, request, response, error)
        if outgoing is not None:
            if outgoing.over(response.keep and conn.intake is None):
                return status
        elif (
            conn.out is None
            and response.keep
            and conn.intake is None
            and not conn.rest
            and not conn.half_closed
        ):
            conn.phase = IDLE
            conn.deadline = reactor.now + self._keepalive
            return status
        self._end(conn, request, response)
        return status

    def watch_each(self) -> None:
        """From now on every response ends in `Reactor.finish`, because somebody waits for connections."""
        self._plain = False

    def shed(self, conn: Connection, request: Request, answer: bytes, keep: bool) -> str:
        """Send a prepared refusal in place of an answer of the application."""
        try:
            conn.write(answer)
        except ClientGone:
            keep = False
        source, conn.intake = conn.intake, None
        if source is not None:
            source.close()
        if self._access.enabled:
            try:
                self._access.record(request.environ, SHED, [], 0, time(), 0.0, None)
            except Exception:  # noqa: BLE001 - a log must not cost the connection
                self._log.exception("Cannot write an access log line")
        self._part(conn, keep, last=source is None and not request.keep)
        return SHED

    def _run_limited(self, conn: Connection, request: Request) -> str:
        """The same under --request-timeout."""
        stuck: Any = self._stuck
        guard = stuck.guard(conn, request.environ)
        try:
            return self._run_watched(conn, request, None, guard)
        except Interrupted:
            # It came between the application and `done`, in code of our own: nobody knows how far that was.
            stuck.done(guard)
            conn.broken = True
            self._reactor.close(conn)
            return TIMED_OUT

    def _run_watched(
        self, conn: Connection, request: Request, outgoing: Outgoing | None, guard: Guard | None = None
    ) -> str:
        """The same with hooks and access log."""
        reactor = self._reactor
        hooks = self._hooks
        environ = request.environ
        wall = time()
        cpu = self._cpu_clock
        watch = Watch(conn, monotonic_ns(), cpu())
        kind = TimedResponse if self._server_timing else Response
        sink = guard or (conn if outgoing is None else outgoing.sink(conn))
        response = kind(sink, request.version11, request.method == "HEAD", request.keep)
        if isinstance(response, TimedResponse):
            response.timed(watch, monotonic_ns)
        if conn.intake is not None:
            response.body_arrives()
        environ["wsgi.early_hints"] = response.early_hints
        view = RequestView(request, conn) if not hooks.empty else None
        try:
            if view is not None and hooks.pre_request is not None:
                hooks.pre_request(hooks.worker, view)
                view.hand_on(environ)
            result = self._app(environ, response.start_response)
            if reactor.close_each:
                response.close_after()
            if result.__class__ is list:  # nothing of the application runs any more
                watch.ended(monotonic_ns(), cpu())
            self._deliver(request, response, result)
            outcome = response.status
            late = self._left(conn, guard)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it has one outcome
            # First: interrupted in the middle of a log line, we would keep the lock of the log for ever.
            late = self._left(conn, guard)
            outcome = self._failed(conn, request, response, error)
        ended = monotonic_ns()
        if not watch.app_ended:
            watch.ended(ended, cpu())
        if late:
            outcome = TIMED_OUT
            response.keep = False
        if self._access.enabled:
            fields = response.fields if response.committed and not late else []
            status = response.status if response.committed else outcome or "500 Internal Server Error"
            if late:
                status = TIMED_OUT
            try:
                self._access.record(
                    environ,
                    status,
                    fields,
                    response.sent,
                    wall,
                    (ended - watch.began) / 1e9,
                    watch.timings(ended),
                )
            except Exception:  # noqa: BLE001 - a hook or a log must not cost the request
                self._log.exception("Cannot write an access log line")
        if hooks.post_request is not None:
            try:
                hooks.post_request(hooks.worker, view, environ, ResponseView(response, outcome))
            except BaseException:  # noqa: BLE001 - a hook must not cost the worker, not even by sys.exit()
                self._log.exception("Exception in post_request hook")
        if outgoing is not None and outgoing.over(response.keep and conn.intake is None):
            return outcome
        self._end(conn, request, response)
        return outcome

    def _left(self, conn: Connection, guard: Guard | None) -> bool:
        """The application has come back: nothing interrupts this thread any more. True: its time was up."""
        late = guard is not None and self._stuck is not None and self._stuck.done(guard)
        if late:
            conn.broken = True  # the answer has been given, or cannot be completed
        return late

    def _deliver(self, request: Request, response: Response, result: Iterable[bytes]) -> None:
        try:
            response.deliver(result)
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                try:
                    close()
                except BaseException:  # noqa: BLE001 - whatever it is, it has one outcome
                    # The response has ended, or is about to be reported as failed with its own reason.
                    self._log.exception("Exception in close() of the response to %s", printable(request.line))

    def _failed(self, conn: Connection, request: Request, response: Response, error: BaseException) -> str:
        line = printable(request.line)
        if self.forked:
            self._end_fork(line, error)
        response.keep = False
        ended = response.ended
        response.dead()
        if isinstance(error, ClientGone) and not isinstance(error, Unsendable):
            self._log.debug("Client %s went away: %s (%s)", conn.peer, line, error)
            if not isinstance(error, BodyCut) or not error.status or response.committed:
                return ""
            # It broke the rules in a body that the application was reading, and waits for an answer.
            return self._refuse(conn, request, error.status, str(error))
        if isinstance(error, Interrupted):
            return TIMED_OUT  # the caretaker has told it, and answered
        self.errors += 1
        if isinstance(error, (WrongLength, Unsendable)):
            self._log.error("Cut the response to %s: %s", line, error)
        else:
            self._log.error("Error handling request %s", line, exc_info=error)
        if response.committed:
            if not ended and response.unframed:
                # Without length or chunks, an orderly end would say that this was all.
                conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                conn.broken = True
            return response.status
        return self._refuse(conn, request, 500)

    def _end_fork(self, line: str, error: BaseException) -> NoReturn:
        """The answer is the worker's to give: here the connection is closed already."""
        if isinstance(error, SystemExit):
            end_fork(error.code)
        if not isinstance(error, ClientGone):
            self._log.error("Error in a process that was forked in request %s", line, exc_info=error)
            end_fork(1)
        self._log.warning("A process that was forked in request %s came back with an answer; it ends", line)
        end_fork(0)

    def _refuse(self, conn: Connection, request: Request, status: int, detail: str = "") -> str:
        if conn.broken:
            return ""
        try:
            conn.write(error_response(status, detail, body=request.method != "HEAD"))
        except ClientGone:
            return ""
        return f"{status} {HTTPStatus(status).phrase}"

    def _end(self, conn: Connection, request: Request, response: Response) -> None:
        if self.forked:
            end_fork(0)
        keep = response.keep
        source = conn.intake
        if source is not None:
            conn.intake = None
            if source.__class__ is BodySource:
                conn.again = True
                if not source.drain(self._reactor.limits.drain_limit if keep else 0):
                    keep = False
            source.close()
        self._part(conn, keep, last=source is None and not request.keep)

    def _part(self, conn: Connection, keep: bool, *, last: bool) -> None:
        """The answer is on its way. `last`: the client said with its request that it sends nothing more."""
        if (conn.broken and conn.phase is not Phase.CLOSED) or (last and not keep and conn.has_all()):
            self._reactor.close(conn)
        else:
            self._reactor.finish(conn, keep)


class Hooks:
    """The two server hooks of the request path, and the worker that they get."""

    def __init__(self, worker: Any, pre_request: Any, post_request: Any) -> None:
        self.worker = worker
        self.pre_request = pre_request
        self.post_request = post_request
        self.empty = pre_request is None and post_request is None


class RequestView:
    """A request as gunicorn's hooks know it: method, uri, path, query, headers, version, peer."""

    def __init__(self, request: Request, conn: Connection) -> None:
        environ = request.environ
        self.method = request.method
        self.uri = uri = environ["RAW_URI"]
        # As it was sent: PATH_INFO is decoded, and a line end in it would be one in the log of a hook.
        whole = environ.get("SCRIPT_NAME", "") + environ["PATH_INFO"]
        self.path = uri.partition("?")[0] if uri.startswith("/") else whole
        self.query = environ["QUERY_STRING"]
        self.version = (1, 1) if request.version11 else (1, 0)
        self.peer_addr = self.remote_addr = (conn.peer, int(conn.port)) if conn.port else ""
        self.scheme = environ["wsgi.url_scheme"]
        self.headers = [
            (key.removeprefix("HTTP_").replace("_", "-"), value)
            for key, value in environ.items()
            if key.startswith("HTTP_") or key in ("CONTENT_TYPE", "CONTENT_LENGTH")
        ]
        self._sent = list(self.headers)

    def hand_on(self, environ: dict[str, Any]) -> None:
        """Let the application see what a hook has changed in `headers`: a request id, as is usual."""
        if self.headers == self._sent:
            return
        for name, _ in self._sent:
            environ.pop(key_of(name), None)
        added: set[str] = set()
        for name, value in self.headers:
            key = key_of(name)
            environ[key] = f"{environ[key]}, {value}" if key in added else value
            added.add(key)


class ResponseView:
    """A response as gunicorn's hooks know it; `status` is None if the client left before there was one."""

    def __init__(self, response: Response, outcome: str) -> None:
        self.headers_sent = response.committed
        self.status = outcome or (response.status if response.committed else None)
        self.status_code = int(self.status[:3]) if self.status else None
        self.headers = response.fields if response.committed else []
        self.sent = response.sent


def printable(line: bytes) -> str:
    """A request line for a log: nothing in it can end the line or move the cursor."""
    text = line.decode("latin-1")
    return "".join(char if " " <= char <= "~" else f"\\x{ord(char):02x}" for char in text[:500])
