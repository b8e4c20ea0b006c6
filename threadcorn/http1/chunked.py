"""Chunked bodies, strictly: RFC 9112 section 7.1.

A decoder of our own, because httptools cannot say where a message ends: it hands out body bytes and goes
on with the next request in the same call, and what is behind the message must not be parsed before the
application has answered. It is also more lenient than we want to be.

CRLF alone ends a line. A size has 1 to 16 hexadecimal digits. Extensions are checked and thrown away,
trailer fields likewise: nothing of them reaches the environ. What is no data is bounded over the whole
message, so that no size of it needs to be right for every piece.
"""

from __future__ import annotations

import re
from dataclasses import replace

from threadcorn.errors import ProtocolViolation
from threadcorn.http1 import rules
from threadcorn.http1.lines import BEGIN_FIELDS, Limits, check_fields

__all__ = ["ChunkedDecoder"]

#: Longest line with a size and its extensions.
LONGEST_LINE = 4096
#: Bytes of chunk framing that may go beyond what honest chunks need, over the whole message. Extensions of
#: gigabytes were CVE-2023-39326, CVE-2024-22019, CVE-2024-21647 of others.
EXCESS = 16384
#: What an honest chunk needs: a line of this many bytes, and twice its data.
FREE = 16
#: Greatest size of one chunk. The number of 16 digits would not fit into what others count with.
GREATEST = (1 << 63) - 1

#: Fields that decide where a message ends or to whom it goes. In a trailer they are an attempt to have
#: somebody else decide anew; other fields there are dropped like any.
FORBIDDEN_TRAILERS = frozenset((b"content-length", b"host", b"transfer-encoding"))

# The line end after the data of a chunk and the size line of the next one, as nearly everybody sends it.
_next_size = re.compile(rb"\r\n([0-9A-Fa-f]{1,16})\r\n").match

_QUOTED = rb'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
_VALUE = rb"(?:" + rules.TOKEN + rb"|" + _QUOTED + rb")"
_EXTENSION = rb"[ \t]*;[ \t]*" + rules.TOKEN + rb"(?:[ \t]*=[ \t]*" + _VALUE + rb")?"
_size_line = re.compile(rb"([0-9A-Fa-f]{1,16})(?:" + _EXTENSION + rb")*\r\Z").match
# How a size line may begin: for what has no end yet.
_half_line = re.compile(rb"[0-9A-Fa-f]{1,16}(?:[ \t;][\t\x20-\x7e\x80-\xff]*)?\r?\Z").match


class ChunkedDecoder:
    """Takes the bytes behind a head; gives the body, and what came behind the message.

    `done` says that the last byte of the message has been seen; `leftover` then holds the bytes after it.
    After a violation every later `feed()` raises it again.
    """

    __slots__ = (
        "_due", "_excess", "_failed", "_fields", "_held", "_left", "_limits", "_state", "_tail", "_total",
        "done", "leftover",
    )  # fmt: skip

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._left = 0  # bytes of the open chunk that are still to come
        self._due = False  # a line end must come before the next size line
        self._held = b""  # the beginning of what is not whole yet: that line end, that size line
        self._excess = 0
        self._total = 0
        self._tail: bytearray | None = None  # the trailer section, once it has begun and is not empty
        self._state = BEGIN_FIELDS
        self._fields: list[tuple[bytes, bytes]] = []
        self._failed: tuple[int, str] | None = None  # not the exception: its traceback would keep all of us
        self.done = False
        self.leftover = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The body bytes in `data`, in order, as few pieces as possible; none is empty."""
        if self._failed is not None:
            raise ProtocolViolation(*self._failed)
        try:
            blocks = self._feed(data)
        except ProtocolViolation as error:
            self._failed = (error.status, error.reason)
            raise
        # A flood of tiny chunks must not become a flood of tiny objects for everybody behind us.
        return blocks if len(blocks) < 8 else [b"".join(blocks)]

    def _feed(self, data: bytes) -> list[bytes]:
        if self.done:
            self.leftover += data
            return []
        if self._tail is not None:
            self._trailers(data, 0)
            return []
        blocks: list[bytes] = []
        at = 0
        if self._left:
            if len(data) <= self._left:
                self._left -= len(data)
                return [data] if data else blocks
            at = self._left
            self._left = 0
            blocks.append(data[:at])
        elif self._held:
            data = self._held + data
            self._held = b""
        while True:
            match = _next_size(data, at) if self._due else None
            if match is not None:
                digits, begin = match[1], match.end()
            else:
                line = self._size_line(data, at)
                if line is None:
                    self._held = data[at:]
                    return blocks
                digits, begin = line
            size = rules.proven_digits(digits.decode("ascii"), 16)
            self._account(begin - at, size)
            self._due = True
            if size == 0:
                self._trailers(data, begin)
                return blocks
            at = begin + size
            if at > len(data):
                self._left = at - len(data)
                if begin < len(data):
                    blocks.append(data[begin:])
                return blocks
            blocks.append(data[begin:at])

    def _account(self, framing: int, size: int) -> None:
        self._excess = max(0, self._excess + framing - FREE - 2 * size)
        if self._excess > EXCESS:
            raise ProtocolViolation(400, "the chunked body is mostly framing")
        self._total += size
        if 0 < self._limits.body < self._total:
            raise ProtocolViolation(413, f"the body has more than {self._limits.body} bytes")
        if size > GREATEST:
            raise ProtocolViolation(400, "a chunk of more than 2**63 - 1 bytes")

    def _size_line(self, data: bytes, at: int) -> tuple[bytes, int] | None:
        """The digits of the size line at `at` and where its data begins, or None when it is not whole."""
        if self._due:
            two = data[at : at + 2]
            if two != b"\r\n":
                if b"\r\n".startswith(two):
                    return None
                raise ProtocolViolation(400, "the data of a chunk is not followed by CRLF")
            at += 2
        end = data.find(b"\n", at, at + LONGEST_LINE + 2)
        if end < 0:
            if len(data) - at > LONGEST_LINE + 1:
                raise ProtocolViolation(400, f"a chunk size line of more than {LONGEST_LINE} bytes")
            if at < len(data) and not _half_line(data, at):
                raise ProtocolViolation(400, "a chunk does not begin with its size")
            return None
        # The CR is wanted by the pattern: it must be there, and be the only one.
        match = _size_line(data, at, end)
        if match is None:
            raise ProtocolViolation(400, "the size line of a chunk is malformed")
        return match[1], end + 1

    def _trailers(self, data: bytes, at: int) -> None:
        if self._tail is None:
            if data.startswith(b"\r\n", at):
                self.done = True
                self.leftover = data[at + 2 :]
                return
            self._tail = bytearray()
            # The whole section has the room that one field of the head has.
            self._limits = replace(self._limits, head=self._limits.field_size)
        self._tail += data[at:]
        self._state = check_fields(self._tail, self._limits, self._state, self._fields)
        if self._state.end >= 0:
            for name, _ in self._fields:
                if name.lower() in FORBIDDEN_TRAILERS:
                    raise ProtocolViolation(400, "a trailer field that only a head may have")
            self.done = True
            self.leftover = bytes(self._tail[self._state.end :])
