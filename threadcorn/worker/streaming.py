"""A body that the application reads while it arrives (`--stream-body`).

The only place where a pool thread waits for a client, because the application asked for it; and then
always with a deadline and a minimum rate.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from threadcorn.errors import ProtocolViolation
from threadcorn.http1.chunked import ChunkedDecoder
from threadcorn.http1.parser import Limits, Request
from threadcorn.http1.response import CONTINUE
from threadcorn.system.poller import IN, wait_for
from threadcorn.wsgi.gateway import ClientGone

if TYPE_CHECKING:
    from threadcorn.worker.connection import Connection

RECV = 65536
HALF = "the client closed in the middle of the body"


class BodyCut(ClientGone):
    """The body ended, or broke the rules, before it was complete. `status` is what the client is to be told,
    0 when it has gone."""

    def __init__(self, reason: str, status: int = 0) -> None:
        super().__init__(reason)
        self.status = status


class BodySource:
    """Reads one body from the connection's socket, in the thread that runs the application."""

    def __init__(self, conn: Connection, request: Request, http_limits: Limits) -> None:
        self._conn = conn
        self._left = request.length
        self._decoder = ChunkedDecoder(http_limits) if request.length < 0 else None
        self._expect = request.expect and not conn.rest
        if request.expect and not 0 < request.length <= len(conn.rest):
            # The application may answer without asking for the body, and then nobody knows whether the client
            # sends it. The head of the answer has to say that nothing follows (RFC 9110 section 10.1.1).
            request.keep = False
        self._blocks: list[bytes] = []
        self._size = 0
        self._failed: tuple[str, int] | None = None  # not the exception: its traceback would keep all of us
        self._waited = 0.0  # seconds this thread was held by the client since the last judgement
        self._received = 0  # bytes since then

    @property
    def complete(self) -> bool:
        """True when the last byte has been taken from the socket."""
        return self._decoder.done if self._decoder is not None else self._left == 0

    def read_some(self, size: int) -> bytes:
        """At least one byte and at most `size`; b"" at the end. Raises BodyCut."""
        blocks = self._blocks
        while not blocks:
            if self._failed is not None:
                raise BodyCut(*self._failed)
            if self.complete:
                return b""
            try:
                self._receive()
            except (OSError, ProtocolViolation) as error:
                self._failed = _told(error)
                raise BodyCut(*self._failed) from None
        block = blocks[0]
        if len(block) <= size:
            del blocks[0]
            return block
        blocks[0] = block[size:]
        return block[:size]

    def _receive(self) -> None:
        conn = self._conn
        if conn.rest:
            data, conn.rest = conn.rest, b""
        else:
            data = self._wait()
        if not data:
            raise BodyCut(HALF)
        if self._decoder is None:
            self._left -= len(data)
            if self._left < 0:
                conn.rest = data[self._left :]
                data = data[: self._left]
                self._left = 0
            self._blocks.append(data)
            return
        blocks = self._decoder.feed(data)
        self._blocks.extend(block for block in blocks if block)
        self._size += sum(map(len, blocks))
        if self._size > conn.reactor.limits.max_body_size:
            raise BodyCut("the body is longer than max_body_size", 413)
        if self._decoder.done:
            conn.rest = self._decoder.leftover

    def _wait(self) -> bytes:
        conn = self._conn
        if self._expect:
            self._expect = False
            conn.write(CONTINUE)
        limits = conn.reactor.limits
        while True:
            try:
                data: bytes = conn.recv(RECV)
            except (BlockingIOError, InterruptedError):
                # Only time in which the client keeps us waiting counts, not the application's own.
                before = monotonic()
                wait_for(conn.fd, IN, limits.body_timeout - self._waited)
                self._waited += monotonic() - before
                if self._waited >= limits.body_timeout:
                    if self._received < max(1.0, limits.body_min_rate * self._waited):
                        raise BodyCut("the body did not arrive in time", 408) from None
                    self._waited, self._received = 0.0, 0
            else:
                self._received += len(data)
                return data

    def arrived(self) -> bool:
        """Whether the body is complete, or can be had without waiting and is small. The application may read
        it all the same."""
        return self._take_what_is_there(self._conn.reactor.limits.drain_limit, drop=False)

    def drain(self, limit: int) -> bool:
        """Drop what the application left unread, if it is there already and small. False: too much."""
        return self._take_what_is_there(limit, drop=True)

    def _take_what_is_there(self, limit: int, *, drop: bool) -> bool:
        conn = self._conn
        blocks = self._blocks
        unread, known = 0, 0  # bytes of the body alone: what is read with its end may be the next request
        while True:
            unread += sum(map(len, blocks[known:]))
            if drop:
                blocks.clear()
            known = len(blocks)
            # A length that was said is judged at once, however much of it is here already.
            if unread + max(self._left, 0) > limit:
                return False
            if self.complete or self._expect or self._failed:
                return self.complete
            try:
                conn.rest = conn.rest or conn.recv(RECV)
                if not conn.rest:
                    raise BodyCut(HALF)
                self._receive()
            except (BlockingIOError, InterruptedError):
                return False
            except (OSError, ProtocolViolation) as error:
                self._failed = _told(error)

    def began(self) -> None:
        """Nothing but the rest of the final response may be sent from now on: no "100 Continue"."""
        self._expect = False

    def renew(self, now: float) -> None:
        return None

    def close(self) -> None:
        # Whoever kept `wsgi.input` must not read what the next request brings.
        self._failed = self._failed or ("the request has ended", 0)
        self._blocks.clear()


def _told(error: OSError | ProtocolViolation) -> tuple[str, int]:
    """Why a body was cut, and the status for a client that is still there."""
    if isinstance(error, ProtocolViolation):
        return error.reason, error.status
    return str(error) or type(error).__name__, getattr(error, "status", 0)
