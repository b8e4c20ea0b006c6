"""The lines of a request head, judged one by one, as soon as they can be.

A head is parsed only when it is whole, but much can be said before: that it grows beyond its limits,
that it holds bytes which no head may hold, that its request line is wrong. Waiting for the end would
let a client hold a connection with bytes that can never become a request.

The verdict is that of the *first* byte that shows a fault, never of what happens to be in the buffer,
so it is the same however the bytes were split. `HeadParser` (parser.py) takes the verdict of this file,
too, whenever httptools refuses a head or something in it is unusual.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from threadcorn.errors import ProtocolViolation
from threadcorn.http1 import rules
from threadcorn.http1.rules import METHODS

__all__ = [
    "BEGIN",
    "BEGIN_FIELDS",
    "Limits",
    "Partial",
    "RequestLine",
    "check_fields",
    "check_partial",
    "head_end",
    "judge",
    "read_line",
    "skip_blank",
]

CRLF2 = b"\r\n\r\n"

#: Blank lines that are skipped in front of a request line (RFC 9112 section 2.2 asks for at least one).
BLANK_LINES = 2

# A byte that no head may hold, or a CR that is not followed by LF, or a LF that does not follow CR. A CR
# at the very end is not judged yet. HTAB may stand in a value and is left to the patterns of the lines.
_find_bad = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n|\Z)|(?<!\r)\n").search
_match_name = re.compile(rb"(" + rules.TOKEN + rb"):").match
_match_version = re.compile(rb"HTTP/[0-9]\.[0-9]\Z").match


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of everything: bytes of the request line, count and bytes of fields, bytes of the head and
    of the body (0: no limit), what becomes of names with an underscore, and for which of these names that
    depends on who sends them."""

    line: int = 8190
    fields: int = 100
    field_size: int = 8190
    head: int = 65536
    body: int = 1 << 30
    header_map: str = "drop"
    forwarder: frozenset[str] = frozenset()  # in lower case


class RequestLine(NamedTuple):
    method: str
    version11: bool
    raw_target: str
    target: rules.Target


class Partial(NamedTuple):
    """How far a head that is not whole has been judged. Opaque to who keeps it."""

    line: int  # where the line begins that is still open, from the start of the head
    seen: int  # where the bytes begin that were not looked at
    lines: int  # lines that are complete, the request line among them
    end: int = -1  # where the blank line ends, if it has been seen


#: Nothing has been judged.
BEGIN = Partial(0, 0, 0)
#: The same for fields without a request line: trailers.
BEGIN_FIELDS = Partial(0, 0, 1)


def skip_blank(buffer: bytes | bytearray, start: int = 0) -> int:
    """Where the request line begins behind at most two blank lines. Raises at the third."""
    for _ in range(BLANK_LINES):
        if not buffer.startswith(b"\r\n", start):
            return start
        start += 2
    if buffer.startswith(b"\r", start):
        raise ProtocolViolation(400, "too many blank lines in front of the request line")
    return start


def head_end(buffer: bytes | bytearray, start: int = 0) -> int:
    """Where the head ends that begins at `start` (behind blank lines), or -1 when it is not whole."""
    at = buffer.find(CRLF2, start)
    return at if at < 0 else at + 4


def read_line(line: bytes) -> RequestLine:
    """A request line without its CRLF, taken apart; raises for what this server does not serve."""
    parts = line.split(b" ")
    if len(parts) != 3:
        raise ProtocolViolation(400, "the request line is not METHOD SP TARGET SP VERSION")
    method, target, version = parts
    if version != b"HTTP/1.1" and version != b"HTTP/1.0":
        if _match_version(version):
            raise ProtocolViolation(505, "this server speaks HTTP/1.1 and HTTP/1.0")
        raise ProtocolViolation(400, "the request line does not end in an HTTP version")
    known = METHODS.get(method.decode("latin-1"))
    if known is None:
        if rules.is_token(method):
            raise ProtocolViolation(501, "the method is not known here")
        raise ProtocolViolation(400, "the method is no token")
    text = target.decode("latin-1")
    return RequestLine(known, version == b"HTTP/1.1", text, rules.Target(known, text))


def check_partial(
    buffer: bytes | bytearray, limits: Limits, state: Partial = BEGIN, start: int = 0
) -> Partial:
    """Judge a head that is not whole yet and begins at `start`; return the state for the next call.

    Each byte is looked at once, so a client that sends one byte at a time costs what it sends.
    """
    return _scan(buffer, limits, state, start, None)


def check_fields(
    buffer: bytearray, limits: Limits, state: Partial, fields: list[tuple[bytes, bytes]]
) -> Partial:
    """`check_partial()` for a section of fields alone, which are put into `fields` as their lines end."""
    return _scan(buffer, limits, state, 0, fields)


def judge(head: bytes, limits: Limits) -> tuple[RequestLine, list[tuple[bytes, bytes]]]:
    """Judge a whole head; return its request line and its fields, values without the space around them."""
    fields: list[tuple[bytes, bytes]] = []
    state = _scan(head, limits, BEGIN, 0, fields)
    if state.end != len(head):
        raise ProtocolViolation(400, "the head has a blank line before its end, or none")
    return read_line(head[: head.index(b"\r\n")]), fields


def _scan(
    buffer: bytes | bytearray,
    limits: Limits,
    state: Partial,
    start: int,
    fields: list[tuple[bytes, bytes]] | None,
) -> Partial:
    line, seen, lines = state.line + start, state.seen + start, state.lines
    stop = min(len(buffer), start + limits.head)
    while line < stop:
        if lines > limits.fields and buffer[line] != 13:
            raise ProtocolViolation(431, f"more than {limits.fields} header fields")
        limit = limits.field_size if lines else limits.line
        # From one byte back: the CR may have been the last byte of the last piece.
        end = buffer.find(b"\r\n", max(line, seen - 1), stop)
        # The CR of the line end is looked at, too: a CR in front of it is a bare one.
        bad = _find_bad(buffer, seen, min(stop if end < 0 else end + 1, line + limit + 2))
        # Whichever comes first: the byte that may not be there, or the first byte too many.
        if bad and bad.start() <= line + limit:
            raise ProtocolViolation(400, "a control character, or a line that does not end in CRLF")
        if end < 0:
            seen = stop - 1 if buffer[stop - 1] == 13 else stop
            if seen - line > limit:
                _too_long(lines, limit)
            break
        if end - line > limit:
            _too_long(lines, limit)
        if lines == 0:
            read_line(bytes(buffer[line:end]))
        elif end == line:
            return Partial(end + 2 - start, end + 2 - start, lines, end + 2 - start)
        else:
            name = _match_name(buffer, line, end)
            if name is None:
                raise ProtocolViolation(400, "a header line is not NAME COLON VALUE")
            if fields is not None:
                fields.append((bytes(name[1]), bytes(buffer[name.end() : end].strip(b" \t"))))
        lines += 1
        line = seen = end + 2
    if len(buffer) - start > limits.head:
        raise ProtocolViolation(431, f"the head has more than {limits.head} bytes")
    return Partial(line - start, seen - start, lines)


def _too_long(lines: int, limit: int) -> None:
    if lines == 0:
        raise ProtocolViolation(414, f"the request line has more than {limit} bytes")
    raise ProtocolViolation(431, f"a header field has more than {limit} bytes")
