"""From bytes to a complete request, without ever waiting for them.

`Intake.read` is called by the owner of a connection after an event. It answers a request that is whole,
or None: more bytes have to come, or the connection has ended or been refused. Between two requests a
connection keeps nothing here (`conn.intake` is None); half a head or half a body is kept in an object that
says what the next bytes mean.
"""

from __future__ import annotations

import logging
from io import BytesIO

from threadcorn.errors import ProtocolViolation
from threadcorn.http1.parser import ASTERISK, HeadParser, Limits, Request
from threadcorn.http1.response import CONTINUE, STAMP, answer_options, error_response
from threadcorn.worker.announcement import Announcement
from threadcorn.worker.connection import RUNNING, Connection, Phase
from threadcorn.worker.partial import Body, Head
from threadcorn.worker.peers import one_too_many
from threadcorn.worker.reactor import Lingering, Reactor
from threadcorn.worker.refusals import Refusals
from threadcorn.worker.streaming import BodySource
from threadcorn.wsgi.gateway import ClientGone
from threadcorn.wsgi.input import StreamedBody

#: What is asked of the socket first: more than nearly every head has. The C library takes what did not come
#: off the end of the buffer, and a small thing that is put there leaves a hole that the next one does not fit
#: into: with 64 KiB the free holes of a worker grew to 6 MB in 200,000 short connections, and went on.
FIRST = 8192
#: What is asked of it when that was not enough.
RECV = 65536
#: Reads of one connection before the others get their turn.
TURNS = 16


class Intake:
    """One per worker; keeps no state of its own but counters."""

    def __init__(self, reactor: Reactor, http_limits: Limits, log: logging.Logger) -> None:
        self._reactor = reactor
        self._limits = reactor.limits
        self._http_limits = http_limits
        self._health = reactor.limits.health_path
        self._forwarding = reactor.limits.forwarding
        self.refusals = Refusals(log)
        reactor.on_late_head = self.late
        reactor.on_one_too_many = self.one_too_many

    def read(self, conn: Connection, parsers: list[HeadParser]) -> Request | None:
        """A complete request, its environ filled, or None."""
        data = conn.rest
        if data:
            conn.rest = b""
            # What came meanwhile raised an edge that was taken for the event which brought us here (see
            # `Pool.poll`), and this reads nothing.
            conn.again = True
        else:
            try:
                data = conn.recv(FIRST)
            except (BlockingIOError, InterruptedError):
                if conn.half_closed:
                    conn.again = True  # its end is there to be read, and nobody will say so again
                return None
            except OSError:
                self._reactor.close(conn)
                return None
            if len(data) == FIRST:
                data = self._more(conn, data)
        if conn.intake is None and data and data[0] != 13:  # no blank line in front
            end = data.find(b"\r\n\r\n") + 4
            if end > 4:
                if end == len(data):
                    head = data
                else:
                    head = data[:end]
                    conn.rest = data[end:]
                return self._begin(conn, parsers[conn.group], head)
        return self._slow(conn, parsers, data)

    def _begin(self, conn: Connection, parser: HeadParser, head: bytes) -> Request | None:
        """The request of a whole head; None when it was refused, answered, or waits for its body."""
        try:
            request = parser.parse(head)
            environ = request.environ
            environ["REMOTE_ADDR"] = conn.peer
            environ["REMOTE_PORT"] = conn.port
            environ["threadcorn.client_gone"] = conn.is_gone
            if conn.trusted:
                if parser.dropped or (
                    parser.memory.seen and not environ.keys().isdisjoint(self._forwarding.keys)
                ):
                    parser.dropped = False
                    self._forwarding.apply(environ, head)
            elif parser.dropped:
                parser.dropped = False
                self._forwarding.deny(head)
            if request.length != 0:
                return self._body(conn, request)
            if self._health is not None and environ["PATH_INFO"] == self._health:
                self._well(conn, request)
                return None
            environ["wsgi.input"] = BytesIO()
            conn.phase = RUNNING
            return request
        except ProtocolViolation as violation:
            self.refuse(conn, violation, head)
        except OSError as error:
            self._no_room(conn, error)
        return None

    def _more(self, conn: Connection, data: bytes) -> bytes:
        """What the first bytes were too few to show."""
        try:
            more = conn.recv(RECV)
        except (BlockingIOError, InterruptedError):
            return data
        except OSError:
            more = b""
        if not more or len(more) == RECV:
            conn.again = True  # there may be more, or the end, and its edge has been used up
        return data + more

    # -- everything that is not one whole head in one piece

    def _slow(self, conn: Connection, parsers: list[HeadParser], data: bytes) -> Request | None:
        """Bytes that continue something, or begin something that is not whole."""
        try:
            for _ in range(TURNS):
                if not data:
                    self._reactor.close(conn)
                    return None
                request = self._take(conn, parsers, data)
                if request is not None:
                    conn.again = True
                    return request
                if conn.phase is Phase.CLOSED:
                    return None
                if conn.intake is None:
                    # It was answered here. What is in `rest` came before what is in the socket.
                    conn.again = True
                    return None
                try:
                    data = conn.recv(RECV)
                except (BlockingIOError, InterruptedError):
                    return None
                except OSError:
                    self._reactor.close(conn)
                    return None
            # Others first; the rest of this one's bytes afterwards.
            conn.again = True
            if data:
                return self._take(conn, parsers, data)
            self._reactor.close(conn)
        except ProtocolViolation as violation:
            self.refuse(conn, violation)
        except OSError as error:
            self._no_room(conn, error)
        return None

    def _no_room(self, conn: Connection, error: OSError) -> None:
        """The disk, or the descriptor, for what does not fit into memory."""
        self.refuse(conn, ProtocolViolation(503, f"the body cannot be kept: {error.strerror}"), ours=True)

    def _take(self, conn: Connection, parsers: list[HeadParser], data: bytes) -> Request | None:
        state = conn.intake
        if state.__class__ is Announcement:
            announced = state.feed(data)
            if announced is None:
                return None
            said, data = announced
            state = conn.intake = None
            if said.peer is not None:
                conn.speaks_for(said.peer, said.port)
                if not self._reactor.peers.admit(said.peer):
                    raise one_too_many()
                self._reactor.peers.enter(conn)
            if not data:
                return None
        if state is None:
            state = conn.intake = Head(self._http_limits)
            conn.phase = Phase.READING
            conn.deadline = self._reactor.now + self._limits.header_timeout
            self._reactor.look_at(conn, conn.deadline)
        if state.__class__ is Head:
            whole = state.feed(data)
            if whole is None:
                return None
            head, conn.rest = whole
            conn.intake = None
            return self._begin(conn, parsers[conn.group], head)
        if state.__class__ is Body:
            return self._feed_body(conn, state, data)
        if isinstance(state, Lingering) and not state.drop(data):
            self._reactor.close(conn)
        return None

    def _body(self, conn: Connection, request: Request) -> Request | None:
        limits = self._limits
        if request.length == ASTERISK:
            self._options(conn, request)
            return None
        if request.length > limits.max_body_size:
            self.refuse(conn, ProtocolViolation(413, "the body is longer than max_body_size"), request.line)
            return None
        if limits.stream_body and request.environ["PATH_INFO"] != "*":
            source = BodySource(conn, request, self._http_limits)
            request.environ["wsgi.input"] = StreamedBody(source.read_some)
            conn.intake = source
            conn.phase = RUNNING
            return request
        now = self._reactor.now
        body = Body(request, limits, self._http_limits, self._reactor.budget, now)
        conn.intake = body
        conn.phase = Phase.READING
        conn.deadline = now + limits.body_timeout
        self._reactor.look_at(conn, conn.deadline)
        data, conn.rest = conn.rest, b""
        if data:
            try:
                complete = self._feed_body(conn, body, data)
            except ProtocolViolation as violation:
                self.refuse(conn, violation)
                return None
            if complete is not None or conn.phase is Phase.CLOSED:
                return complete
        elif request.expect:
            try:
                conn.write(CONTINUE)
            except ClientGone:
                self._reactor.close(conn)
                return None
        conn.waits()
        conn.again = True  # bytes that came since the last recv have raised an edge, those before it have not
        return None

    def _feed_body(self, conn: Connection, body: Body, data: bytes) -> Request | None:
        rest = body.feed(data)
        if body.size > self._limits.max_body_size:
            raise ProtocolViolation(413, "the body is longer than max_body_size")
        if rest is None:
            return None
        request = body.request
        if request.environ["PATH_INFO"] == "*":
            conn.intake = None
            body.close()
            conn.rest = rest
            self._options(conn, request)
            return None
        request.environ["wsgi.input"] = body.input()
        # A temporary file is closed when the response has ended, whatever the application did with it.
        conn.intake = body if body.spooled else None
        conn.rest = rest
        conn.phase = RUNNING
        return request

    # -- answers without the application

    def _well(self, conn: Connection, request: Request) -> None:
        """The health path: whoever leads is well enough to say so, also when no thread is left."""
        keep = request.keep and request.version11 and not self._reactor.close_each
        close = "" if keep else "Connection: close\r\n"
        head = f"HTTP/1.1 200 OK{STAMP.text}\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n{close}\r\n"
        try:
            conn.write(head.encode("latin-1") + (b"" if request.method == "HEAD" else b"ok\n"))
        except ClientGone:
            self._reactor.close(conn)
            return
        self._reactor.finish(conn, keep)
        conn.again = True  # bytes that came behind it have raised their edge already

    def _options(self, conn: Connection, request: Request) -> None:
        """`OPTIONS *` asks the server, and no resource of the application (RFC 9110 section 9.3.7)."""
        keep = request.keep and request.version11 and not self._reactor.close_each
        try:
            conn.write(answer_options(keep))
        except ClientGone:
            self._reactor.close(conn)
            return
        self._reactor.finish(conn, keep)
        conn.again = True  # as above

    # -- refusals

    def refuse(
        self, conn: Connection, violation: ProtocolViolation, head: bytes = b"", *, ours: bool = False
    ) -> None:
        """Answer once, parse nothing behind it, linger, close. `head` is what is known of the head, when
        nothing has been kept for the connection."""
        conn.rest = b""
        state, conn.intake = conn.intake, None
        if state is not None:
            if state.__class__ is Head:
                head = bytes(state.buffer).lstrip(b"\r\n")
            elif state.__class__ is Body:
                head = state.request.line
            state.close()
        self.refusals.tell(self._reactor.now, conn.peer, violation, head, ours=ours)
        try:
            # The answer to HEAD has no content, whatever it says.
            content = not head.startswith(b"HEAD ")
            conn.write(error_response(violation.status, violation.reason, body=content))
        except ClientGone:
            self._reactor.close(conn)
            return
        self._reactor.shut(conn)

    def late(self, conn: Connection) -> None:
        """A head or a body that was not complete in time."""
        state = conn.intake
        if state.__class__ is Head and not state.buffer.strip(b"\r\n"):
            # A blank line behind a body is no request. An answer to it would be taken for the next one's.
            self._reactor.close(conn)
            return
        self.refuse(conn, ProtocolViolation(408, "the request was not complete in time"))

    def one_too_many(self, conn: Connection, violation: ProtocolViolation) -> None:
        """A connection that was one too many. The reactor has answered it."""
        self.refusals.tell(self._reactor.now, conn.peer, violation, b"")
