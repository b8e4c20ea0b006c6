"""Response heads: what an application may put into one, and how it looks on the wire.

Everything that does not change between two responses is computed once and kept: the status line of
a status, the wire form of a field name, the Server and Date lines of the current second. What the
application sends is checked before a byte of it is used (RFC 9112 section 4 and 5, PEP 3333),
because a CR in a field value is somebody else's response.
"""

from __future__ import annotations

import re
from enum import IntEnum
from http import HTTPStatus
from time import gmtime

SERVER = "threadcorn"

#: Longest an in-process cache of names or statuses may become. An application that makes names from
#: request data would otherwise grow it without end.
CACHE_LIMIT = 512

CRLF2 = b"\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


class Kind(IntEnum):
    """What the server does with a field that the application set."""

    PLAIN = 0
    CONTENT_LENGTH = 1
    HOP_BY_HOP = 2
    DATE = 3
    SERVER = 4
    CONNECTION = 5


# Enum members by name: looking one up through its class costs more than the comparison.
PLAIN, CONTENT_LENGTH, HOP_BY_HOP, DATE, SERVER_NAME, CONNECTION = Kind

_KINDS = {
    "content-length": Kind.CONTENT_LENGTH,
    "date": Kind.DATE,
    "server": Kind.SERVER,
    "connection": Kind.CONNECTION,
    **dict.fromkeys(
        (
            "keep-alive",
            "proxy-authenticate",
            "proxy-authorization",
            "proxy-connection",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
        ),
        Kind.HOP_BY_HOP,
    ),
}

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_STATUS = re.compile(r"([2-5][0-9][0-9]) ([\t\x20-\x7e\x80-\xff]*)\Z")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*\Z")

#: Statuses that have no content, whatever the application yields (RFC 9110 section 6.4.1).
BODYLESS = frozenset(("204", "205", "304"))

#: Field name to its wire form and what to do with it.
FIELD_NAMES: dict[str, tuple[str, Kind]] = {}
#: Whole field lines that have been checked before. Most of an application's fields are the same in each
#: response; those that are not push each other out, all at once when there are too many. A Content-Length has
#: an empty line: what it says is in LENGTHS, and whether it is sent is decided with the body.
FIELD_LINES: dict[tuple[str, str], bytes] = {}
LENGTHS: dict[tuple[str, str], int] = {}
LINE_CACHE_LIMIT = 2048
LINE_CACHE_VALUE = 100
#: Status to its line and whether it has no content.
STATUS_LINES: dict[str, tuple[bytes, bool]] = {}
#: The end of a head with a small Content-Length, by that length.
SMALL = 1024
LENGTH_ENDS = tuple(b"\r\nContent-Length: %d\r\n\r\n" % size for size in range(SMALL))


def learn_name(name: str) -> tuple[str, Kind]:
    """The wire form of a field name (`"\\r\\nName: "`) and what to do with the field.

    Raises TypeError when it is no `str`, ValueError when it is no token (RFC 9110 section 5.1).
    """
    if not isinstance(name, str):
        raise TypeError(f"response header name must be str, not {type(name).__name__}: {name!r}")
    name = str.__str__(name)  # an enum of strings formats itself otherwise
    if not _TOKEN.match(name):
        raise ValueError(f"response header name is not a token: {name!r}")
    known = (f"\r\n{name}: ", _KINDS.get(name.lower(), Kind.PLAIN))
    if len(FIELD_NAMES) < CACHE_LIMIT:
        FIELD_NAMES[name] = known
    return known


def learn_status(status: str) -> tuple[bytes, bool]:
    """The status line of a WSGI status string (`"200 OK"`), and whether it has no content.

    Raises TypeError when it is no `str`, ValueError when it is not three digits from 200 to 599, a
    space and a reason without controls. Interim responses do not come this way.
    """
    if not isinstance(status, str):
        raise TypeError(f"response status must be str, not {type(status).__name__}: {status!r}")
    status = str.__str__(status)
    if not _STATUS.match(status):
        raise ValueError(f"response status must be like '200 OK', from 200 to 599: {status!r}")
    known = (f"HTTP/1.1 {status}".encode("latin-1"), status[:3] in BODYLESS)
    if len(STATUS_LINES) < CACHE_LIMIT:
        STATUS_LINES[status] = known
    return known


def check_value(name: str, value: str) -> None:
    """Raise when a field value is no `str` or holds a control character or one beyond latin-1."""
    if not isinstance(value, str):
        raise TypeError(f"value of response header {name!r} must be str, not {type(value).__name__}")
    if not _VALUE.match(value):
        raise ValueError(f"value of response header {name!r} holds a forbidden character: {value!r}")


def learn_line(pair: tuple[str, str], prefix: str) -> bytes:
    """The field line of a name's wire form and a value that has been checked. It is remembered; long values
    hardly ever come twice."""
    line = (prefix + pair[1]).encode("latin-1")
    if len(line) <= LINE_CACHE_VALUE:
        _make_room()
        FIELD_LINES[pair] = line
    return line


def learn_length(pair: tuple[str, str]) -> int:
    """The number in a Content-Length that the application set. Raises ValueError."""
    value = pair[1]
    if not (value.isascii() and value.isdecimal() and len(value) < 20):
        raise ValueError(f"response Content-Length is not a number: {value!r}")
    length = int(value)
    _make_room()
    LENGTHS[pair] = length  # first: whoever finds the line looks here
    FIELD_LINES[pair] = b""
    return length


def _make_room() -> None:
    if len(FIELD_LINES) >= LINE_CACHE_LIMIT:
        FIELD_LINES.clear()
        if len(LENGTHS) >= LINE_CACHE_LIMIT:
            LENGTHS.clear()


def interim(headers: list[tuple[str, str]]) -> bytes:
    """A "103 Early Hints" with these fields. Raises as the head of a final response does, and for fields that
    say something of the message or the connection: there is no content yet, and they are the server's."""
    parts = ["HTTP/1.1 103 Early Hints"]
    for name, value in headers:
        prefix, kind = FIELD_NAMES.get(name) or learn_name(name)
        check_value(name, value)
        if kind in (Kind.CONTENT_LENGTH, Kind.HOP_BY_HOP, Kind.CONNECTION):
            raise ValueError(f"early hints cannot have a field {name!r}")
        parts.append(prefix + value)
    return "".join(parts).encode("latin-1") + CRLF2


def answer_options(keep: bool) -> bytes:
    """The answer to `OPTIONS *`, which asks the server and no resource of the application."""
    close = "" if keep else "Connection: close\r\n"
    return f"HTTP/1.1 200 OK{STAMP.text}\r\nContent-Length: 0\r\n{close}\r\n".encode("latin-1")


_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def http_date(seconds: float) -> str:
    """IMF-fixdate (RFC 9110 section 5.6.7) of a wall-clock time, whatever the locale."""
    year, month, day, hour, minute, second, weekday, _, _ = gmtime(seconds)
    clock = f"{hour:02d}:{minute:02d}:{second:02d}"
    return f"{_DAYS[weekday]}, {day:02d} {_MONTHS[month - 1]} {year:04d} {clock} GMT"


class Stamp:
    """The Server and Date lines of this second.

    Whoever leads calls `refresh` after each poll, which is at least four times a second, so that a response
    reads one attribute instead of asking the clock.
    """

    __slots__ = ("_second", "date", "raw", "text")

    def __init__(self) -> None:
        self._second = -1
        self.date = self.text = ""
        self.raw = b""
        self.refresh(0.0)

    def refresh(self, wall: float) -> None:
        """Set the wall-clock time. Two threads that cross a second together write the same thing."""
        second = int(wall)
        if second != self._second:
            self.date = f"\r\nDate: {http_date(second)}"
            self.text = f"\r\nServer: {SERVER}{self.date}"
            self.raw = self.text.encode("ascii")
            self._second = second


STAMP = Stamp()


def stamp_without(date: bool, server: bool) -> bytes:
    """The lines of `STAMP` that the application has not set itself."""
    return (("" if server else f"\r\nServer: {SERVER}") + ("" if date else STAMP.date)).encode("ascii")


def error_response(status: int, detail: str = "", *, extra: str = "", body: bool = True) -> bytes:
    """A whole response of the server's own, with `Connection: close`.

    `detail` must hold nothing that came from the wire. `extra` is complete field lines with their
    CRLF. `body` is false for the answer to a HEAD request.
    """
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Error"
    text = f"{status} {phrase}\n" + (f"{detail}\n" if detail else "")
    head = (
        f"HTTP/1.1 {status} {phrase}{STAMP.text}\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(text.encode())}\r\n{extra}Connection: close\r\n\r\n"
    )
    return head.encode("latin-1") + (text.encode() if body else b"")
