"""The WSGI side of one response (PEP 3333): `start_response`, `write`, iteration, framing.

Laws:

1. Nothing leaves before the first non-empty block; until then the application may change its mind.
2. What the application says is checked when it says it, so that it can still answer something else.
3. The bytes on the wire are never more than the Content-Length, and when they are fewer, or the
   application failed half-way, the client can see that the response was cut.

The gateway knows no socket. It writes to a `Sink`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Protocol

from threadcorn.http1 import response as heads
from threadcorn.http1.response import (
    CONNECTION,
    CONTENT_LENGTH,
    CRLF2,
    DATE,
    FIELD_LINES,
    FIELD_NAMES,
    HOP_BY_HOP,
    LAST_CHUNK,
    LENGTH_ENDS,
    LENGTHS,
    SMALL,
    STAMP,
    STATUS_LINES,
)

ExcInfo = tuple[type[BaseException], BaseException, TracebackType]

#: From here on a block is sent beside its head by `sendmsg` instead of being copied behind it.
GATHER = 16384


class Sink(Protocol):
    """Where a response goes. Raises ClientGone when nobody reads any more."""

    def write(self, data: bytes) -> None: ...
    def write_last(self, data: bytes) -> None:
        """The same; with this the response is complete."""

    def write_pieces(self, pieces: list[bytes]) -> None: ...
    def file_span(self, filelike: Any) -> tuple[int, int, int] | None:
        """Descriptor, offset and bytes left of a file that the kernel can send by itself, or None."""

    def write_file(self, head: bytes, descriptor: int, offset: int, count: int) -> None: ...
    def began(self) -> None:
        """The final response begins while the application still runs."""

    def arrived(self) -> bool:
        """Whether the whole body of the request is here, so that another request can be found behind it."""


class ClientGone(ConnectionError):
    """The client closed, or was too slow for the limits; nothing more can be sent to it."""


class Unsendable(ClientGone):
    """A response ends here, and that is not the client's doing: a disk is full, a file became shorter, the
    kernel has no memory."""


class WrongLength(Exception):
    """The application gave more or fewer bytes than its Content-Length said."""


class ShortResponse(WrongLength):
    """Fewer."""


class LongResponse(WrongLength):
    """More. What fits has been sent, so that the client is not harmed; the application is told."""


class FileWrapper:
    """`wsgi.file_wrapper`: iterates over a file, or lets the kernel send it where that is possible."""

    def __init__(self, filelike: Any, blksize: int = 65536) -> None:
        self.filelike = filelike
        self.blksize = blksize
        if hasattr(filelike, "close"):
            self.close = filelike.close

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        data: bytes = self.filelike.read(self.blksize)
        if data:
            return data
        raise StopIteration

    def __getitem__(self, index: int) -> bytes:
        # Some middleware iterates by the old sequence protocol.
        try:
            return next(self)
        except StopIteration:
            raise IndexError(index) from None


class Response:
    """One response: made for one request, dead after it."""

    __slots__ = (
        "_bodyless",
        "_chunked",
        "_declared",
        "_head_only",
        "_out",
        "_parts",
        "_usual",
        "_version11",
        "committed",
        "ended",
        "fields",
        "keep",
        "sent",
        "status",
    )

    def __init__(self, out: Sink, version11: bool, head_only: bool, keep: bool) -> None:
        self._out = out
        self._version11 = version11
        self._head_only = head_only
        self.keep = keep
        # Persistent HTTP/1.1 with a body: no case of `_commit` but the length applies.
        self._usual = keep and version11 and not head_only
        self._parts: list[bytes] | None = None
        self.committed = False
        self.ended = False
        self.sent = 0

    # -- what the application calls

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """PEP 3333. Raises at once what is wrong with the status or a header."""
        if self._parts is not None:
            self._start_again(exc_info)
        line, bodyless = STATUS_LINES.get(status) or heads.learn_status(status)
        parts = [line, STAMP.raw]
        append = parts.append
        known_line = FIELD_LINES.get
        declared = -1
        own = 0
        for pair in headers:
            try:
                known = known_line(pair)
            except TypeError:
                # A list of two, which gunicorn takes as well, cannot be looked up.
                name, value = pair
                pair = name, value
                known = known_line(pair)
            if known:
                append(known)
                continue
            if known is not None:
                length = LENGTHS.get(pair)
                if length is not None and declared < 0:
                    declared = length
                    continue
            name, value = pair
            prefix, kind = FIELD_NAMES.get(name) or heads.learn_name(name)
            try:
                if not (value.isprintable() and value.isascii()):
                    heads.check_value(name, value)
            except AttributeError:
                heads.check_value(name, value)
            if not kind:
                append(heads.learn_line(pair, prefix))
            elif kind is CONTENT_LENGTH:
                if declared >= 0:
                    raise ValueError("response has two Content-Length headers")
                declared = heads.learn_length(pair)
            elif kind is CONNECTION:
                if "close" in value.lower():
                    self.keep = self._usual = False
            elif kind is not HOP_BY_HOP:
                own |= 1 if kind is DATE else 2
                append((prefix + value).encode("latin-1"))
        if own:
            parts[1] = heads.stamp_without(date=bool(own & 1), server=bool(own & 2))
        # Only now: a failed call must leave the response as if it had not been made.
        self.status = status
        self.fields = headers
        self._bodyless = bodyless
        if bodyless:
            self._usual = False
        self._declared = declared
        self._parts = parts
        return self.write

    def _start_again(self, exc_info: ExcInfo | None) -> None:
        if exc_info is None:
            raise AssertionError("start_response was called a second time without exc_info")
        try:
            if self.committed:
                raise exc_info[1].with_traceback(exc_info[2])
        finally:
            # A traceback that refers to this frame would keep the whole request alive.
            exc_info = None
        self._parts = None

    def write(self, data: bytes) -> None:
        """Send a block at once: the `write()` of PEP 3333, and every block of an iterable."""
        if not isinstance(data, bytes):
            raise TypeError(f"a block of a response must be bytes, not {type(data).__name__}")
        if self.ended:
            raise RuntimeError("write() was called after the response had ended")
        if not data:
            return
        head = b""
        if not self.committed:
            if self._usual and self._parts is not None and self._declared == len(data) < GATHER:
                self.whole(data)
                self.ended = self._chunked = False  # the application runs on, and may give too much
                return
            head = self._commit(-1)
            self._out.began()
        if self._head_only or self._bodyless:
            if head:
                self._out.write(head)
            return
        if self._chunked:
            self.sent += len(data)
            size = b"%x\r\n" % len(data)
            if len(data) < GATHER:
                self._out.write(b"%b%b%b\r\n" % (head, size, data))
            else:
                self._out.write_pieces([head + size, data, b"\r\n"])
            return
        declared = self._declared
        if declared >= 0:
            room = declared - self.sent
            if len(data) > room:
                self._overrun(head, data[:room])
        self.sent += len(data)
        if self.sent == declared and len(data) < GATHER and self.keep:
            self._out.write_last(head + data)
        elif len(data) < GATHER:
            self._out.write(head + data)
        elif head:
            self._out.write_pieces([head, data])
        else:
            self._out.write(data)

    def _overrun(self, head: bytes, data: bytes) -> None:
        self.sent += len(data)
        if head or data:
            self._out.write(head + data)
        raise LongResponse(f"the application sent more than {self._declared} bytes")

    def early_hints(self, headers: list[tuple[str, str]]) -> None:
        """`environ["wsgi.early_hints"]`: send "103 Early Hints" (RFC 8297) with these fields, now.

        Does nothing for a client of HTTP/1.0, which knows no interim responses (RFC 9110 section 15.2).
        Raises what is wrong with a header, and when the response itself has begun.
        """
        if self.committed or self.ended:
            raise RuntimeError("early hints after the response has begun")
        hints = heads.interim(headers)
        if self._version11:
            self._out.write(hints)

    # -- what the server calls

    @property
    def unframed(self) -> bool:
        """True when only the end of the connection tells the client where the body ends."""
        return self.committed and not (
            self._chunked or self._bodyless or self._head_only or self._declared >= 0
        )

    def deliver(self, result: Iterable[bytes]) -> None:
        """Send the whole iterable. Raises what the application raises, ClientGone, ShortResponse."""
        kind = result.__class__
        if (kind is list or kind is tuple) and not self.committed:
            # A finished sequence has nothing left to run between two blocks, so it may go as one.
            for block in result:
                if not isinstance(block, bytes):  # join() would take a bytearray
                    raise TypeError(f"a block of a response must be bytes, not {type(block).__name__}")
            self.whole(result[0] if len(result) == 1 else b"".join(result))  # type: ignore[index,arg-type]
            return
        if type(result) is FileWrapper:  # one derived from it may iterate otherwise
            if not self.committed and self._send_file(result):
                return
            result = self._read_file(result)
        for block in result:
            if block:
                self.write(block)
            elif not isinstance(block, bytes):
                raise TypeError(f"a block of a response must be bytes, not {type(block).__name__}")
        self.end()

    def whole(self, body: bytes) -> None:
        """Send head and complete body together."""
        size = len(body)
        parts = self._parts
        if self._usual and parts is not None and size < GATHER and not self.committed:
            declared = self._declared
            if declared < 0 or declared == size:
                self.committed = self.ended = True
                self.sent = size
                parts.append(LENGTH_ENDS[size] if size < SMALL else b"\r\nContent-Length: %d\r\n\r\n" % size)
                parts.append(body)
                self._out.write_last(b"".join(parts))
                return
        head = self._commit(size)
        self.ended = True
        if self._head_only or self._bodyless:
            self._out.write(head)
            return
        declared = self._declared
        if 0 <= declared < size:
            self._overrun(head, body[:declared])
        self.sent = size
        if size < GATHER:
            self._out.write(head + body)
        else:
            self._out.write_pieces([head, body])
        if size < declared:
            self.keep = False
            raise ShortResponse(f"the application sent {size} of {declared} bytes")

    def dead(self) -> None:
        """The request has failed: a `write()` that somebody kept must not reach the next response."""
        self.ended = True

    def body_arrives(self) -> None:
        """The body need not be here yet: whether this is the last response is asked when its head is made."""
        self._usual = False

    def close_after(self) -> None:
        """This is the connection's last response."""
        self.keep = self._usual = False

    def end(self) -> None:
        """After the last block."""
        if not self.committed:
            self.whole(b"")
            return
        self.ended = True
        if self._head_only or self._bodyless:
            return
        if self._chunked:
            self._out.write(LAST_CHUNK)
        elif self.sent < self._declared:
            self.keep = False
            raise ShortResponse(f"the application sent {self.sent} of {self._declared} bytes")

    def _read_file(self, wrapper: FileWrapper) -> Iterator[bytes]:
        """The blocks of a file, to its end or to Content-Length bytes, whichever comes first (PEP 3333)."""
        if self._parts is None or self._declared < 0:
            yield from wrapper
            return
        left = self._declared - self.sent
        while left > 0 and (block := next(wrapper, b"")):
            yield block[:left]
            left -= len(block)

    def _send_file(self, wrapper: FileWrapper) -> bool:
        found = self._out.file_span(wrapper.filelike) if self._parts is not None else None
        if found is None:
            return False
        descriptor, offset, count = found
        declared = self._declared
        if declared >= 0:
            short = count < declared
            count = min(count, declared)
        else:
            short = False
        head = self._commit(count)
        self.ended = True
        if self._head_only or self._bodyless:
            self._out.write(head)
            return True
        self.sent = count
        self._out.write_file(head, descriptor, offset, count)
        if short:
            self.keep = False
            raise ShortResponse(f"the file has {count} of {declared} bytes")
        return True

    def _commit(self, size: int) -> bytes:
        """The head on the wire. `size` is the whole body's length, -1 when it is not known yet."""
        parts = self._parts
        if parts is None:
            raise RuntimeError("the application returned without calling start_response")
        self.committed = True
        self._chunked = False
        declared = self._declared
        if self._bodyless:
            # 304 may say the length of what it stands for; 204 has none (RFC 9110 section 8.6); 205 has no
            # content, but it does not end by itself (section 15.3.6).
            if declared >= 0 and self.status[:3] == "304":
                parts.append(b"\r\nContent-Length: %d" % declared)
            elif self.status[:3] == "205":
                parts.append(b"\r\nContent-Length: 0")
        elif declared >= 0:
            parts.append(b"\r\nContent-Length: %d" % declared)
        elif size >= 0:
            if size or not self._head_only:
                parts.append(b"\r\nContent-Length: %d" % size)
            self._declared = size
        elif self._version11:
            self._chunked = True
            parts.append(b"\r\nTransfer-Encoding: chunked")
        else:
            self.keep = False
        if self.keep and not self._out.arrived():
            self.keep = False
        if not self.keep:
            parts.append(b"\r\nConnection: close")
        elif not self._version11:
            parts.append(b"\r\nConnection: keep-alive")
        parts.append(CRLF2)
        return b"".join(parts)
