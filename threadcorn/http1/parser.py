"""From the bytes of one whole request head to a WSGI environ. The only door to httptools.

A head is parsed only when it is whole: the connection keeps raw bytes until `head_end()` finds its end,
and `check_partial()` refuses early what can never become a request (both in lines.py). So a verdict
cannot depend on how bytes were split, ten thousand idle connections own no parser, and half a head can be
handed to another process as what it is, bytes.

There are two ways through `HeadParser.parse()`, and one result:

* httptools is strict where it should be: when it says yes, the lines can be cut at their first colon. What
  clients repeat is found in memory.py instead of being cut again. This path is unrolled on purpose: each line
  of it is paid by every request.
* The exact path takes everything unusual, and everything that was refused: it judges the lines with
  lines.py, so that the status does not depend on who noticed first. What it lets pass has been accepted by
  two parsers that know nothing of each other.

httptools is asked about the head only. It cannot say where a body ends; and after a request with a body,
`Connection: close` or an upgrade it waits for something else than a head, so it is replaced by a new one
(0.4 us).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from httptools import HttpParserError, HttpParserInvalidMethodError, HttpParserUpgrade, HttpRequestParser

from threadcorn.errors import ProtocolViolation
from threadcorn.http1 import rules
from threadcorn.http1.lines import BEGIN, Limits, Partial, check_partial, head_end, judge, skip_blank
from threadcorn.http1.memory import Memory
from threadcorn.http1.rules import CHUNKED, HOSTS, KEEPS, KEYS, METHODS

__all__ = [
    "ASTERISK",
    "BEGIN",
    "CHUNKED",
    "HeadParser",
    "Limits",
    "Partial",
    "Request",
    "check_partial",
    "head_end",
    "skip_blank",
]

#: One field in so many that were not known is remembered: cheaper than to find out which come again, and one
#: that does come again is known soon enough.
_SAMPLE = 8

#: Fields that may come once. Joining two of them would hide one from somebody.
_SINGLE = frozenset(("HTTP_HOST", "CONTENT_LENGTH", "CONTENT_TYPE"))

#: What decides how a message is read. An underscore never does.
_FRAMING = frozenset(
    (
        "CONTENT_LENGTH",
        "CONTENT_TYPE",
        "HTTP_CONNECTION",
        "HTTP_EXPECT",
        "HTTP_HOST",
        "HTTP_TRANSFER_ENCODING",
    )
)

#: The length of `OPTIONS *` without a body.
ASTERISK = -2

#: For `_more`: a field that must not be served.
REFUSED = 1

# An older httptools may not know all of these methods. Whether a head is shown to it depends on what is
# remembered, so the table must not hold what it would refuse.
for _name in tuple(METHODS):
    try:
        HttpRequestParser(None).feed_data(f"{_name} / HTTP/1.1\r\n\r\n".encode())
    except HttpParserInvalidMethodError:
        del METHODS[_name]
    except (HttpParserError, HttpParserUpgrade):
        pass


class Request:
    """What the connection needs to know of a request. The rest is in `environ`."""

    __slots__ = ("environ", "expect", "keep", "length", "line", "method", "version11")

    environ: dict[str, Any]
    method: str
    version11: bool
    keep: bool  # the client lets us keep the connection
    length: int  # of the body; 0: none, CHUNKED: not known, ASTERISK: none, and the server answers itself
    expect: bool  # the client waits for "100 Continue" before it sends the body
    line: bytes  # the request line as it came


class HeadParser:
    """Parses whole heads, one after the other. One for each thread: it is not thread-safe."""

    __slots__ = (
        "_base", "_feed", "_field_of", "_limits", "_misses", "_more", "_most", "_short", "_start_of",
        "dropped", "memory",
    )  # fmt: skip

    def __init__(self, limits: Limits, memory: Memory) -> None:
        self._limits = limits
        self.memory = memory
        self._start_of = memory.starts.get
        self._field_of = memory.fields.get
        self._misses = 0
        self._base = len(memory.template)
        # A head that is no longer than any of the limits breaks none of them.
        self._short = min(limits.line, limits.field_size, limits.head)
        self._most = limits.fields
        self._more = 0  # REFUSED when one of the fields of this head must not be served
        self.dropped = False  # a name with an underscore came; stays until whoever asks puts it back
        self._renew()

    def _renew(self) -> None:
        # No callbacks: httptools judges the head, its lines are cut here.
        self._feed = HttpRequestParser(None).feed_data

    def _cut(self, field: bytes) -> tuple[str, str]:
        """Key and value of a field line that httptools has accepted. KeyError: a name not in the table."""
        name, _, value = field.partition(b":")
        known = (KEYS[name], value.strip(b" \t").decode("latin-1"))
        self.memory.watch(known[0])
        self._misses = misses = self._misses + 1
        if misses % _SAMPLE == 0:
            self.memory.keep_field(field, known)
        return known

    def _put(self, environ: dict[str, Any], fields: Iterable[bytes]) -> bool:
        """Put field lines into an environ one by one. False: one of them must not be served."""
        self._more = 0
        for field in fields:
            name, _, value = field.partition(b":")
            self._odd_header(environ, name, value.strip(b" \t").decode("latin-1"))
        return self._more < REFUSED

    def _odd_header(self, environ: dict[str, Any], raw_name: bytes, value: str) -> None:
        """A field that may be new, may have come before, may have to be dropped or refused."""
        key = KEYS.get(raw_name)
        if key is None:
            name = raw_name.decode("ascii")
            if name.lower() == "proxy":
                pass  # HTTP_PROXY means something else to the libraries of the application (httpoxy)
            elif "_" not in name:
                key = rules.learn_key(raw_name)
            elif self._limits.header_map == "refuse" and name.lower() not in self._limits.forwarder:
                self._more = REFUSED
            else:
                # WSGI could not tell it from the name with a dash. A trusted proxy may mean something by it.
                self.dropped = True
                if self._limits.header_map == "dangerous" and rules.key_of(name) not in _FRAMING:
                    key = rules.key_of(name)
        if key is None:
            return
        self.memory.watch(key)
        if key not in environ:
            environ[key] = value
        elif key in _SINGLE:
            self._more = REFUSED
        else:
            environ[key] += ("; " if key == "HTTP_COOKIE" else ", ") + value

    def parse(self, head: bytes) -> Request:
        """Parse exactly the bytes up to and with the blank line. Raises ProtocolViolation."""
        if len(head) > self._short:
            return self._exact(head)
        try:
            self._feed(head)
        except (HttpParserError, HttpParserUpgrade):
            return self._exact(head)
        fields = head[:-4].split(b"\r\n")
        line = fields.pop(0)
        start = self._start_of(line) or self.memory.start(line)
        if start is None:
            return self._exact(head)
        constants, method, version11 = start
        environ = constants.copy()
        known_field = self._field_of
        try:
            for field in fields:
                known = known_field(field)
                if known is None:
                    known = self._cut(field)
                environ[known[0]] = known[1]
            usual = len(environ) - self._base == len(fields)
        except KeyError:
            usual = False
        if not usual:
            # A name that is new, came twice, or is to be dropped or refused.
            environ = constants.copy()
            if not self._put(environ, fields):
                return self._exact(head)
        if len(fields) > self._most:
            return self._exact(head)
        host = environ.get("HTTP_HOST")
        if host not in HOSTS and not rules.is_host(host):
            return self._exact(head)
        request = Request()
        request.environ = environ
        request.line = line
        request.method = method
        request.version11 = keep = version11
        connection = environ.get("HTTP_CONNECTION")
        if connection is not None:
            close, alive = KEEPS.get(connection) or rules.learn_connection(connection)
            keep = not close and (version11 or alive)
        request.keep = keep
        request.length = 0
        request.expect = False
        if "CONTENT_LENGTH" in environ or "HTTP_TRANSFER_ENCODING" in environ or "HTTP_EXPECT" in environ:
            self._renew()  # httptools waits for the body now
            self._frame(request, environ)
        elif not keep:
            self._renew()  # httptools takes nothing more after a last request
        return request

    def _frame(self, request: Request, environ: dict[str, Any]) -> None:
        """Where the body ends, and whether the client waits before it sends it: RFC 9112 section 6."""
        length = environ.get("CONTENT_LENGTH")
        coding = environ.get("HTTP_TRANSFER_ENCODING")
        if coding is not None:
            if length is not None:
                raise ProtocolViolation(400, "Transfer-Encoding together with Content-Length")
            if not request.version11:
                raise ProtocolViolation(400, "Transfer-Encoding in HTTP/1.0")
            if coding != "chunked":
                rules.transfer_encoding(coding)
            request.length = CHUNKED
        elif length is not None:
            request.length = number = rules.content_length(length)
            if 0 < self._limits.body < number:
                raise ProtocolViolation(413, f"the body has more than {self._limits.body} bytes")
        expect = environ.get("HTTP_EXPECT")
        # RFC 9110 section 10.1.1: from HTTP/1.0 it is to be ignored.
        if expect is not None and request.version11:
            if expect.lower() != "100-continue":
                raise ProtocolViolation(417, "an expectation other than 100-continue")
            request.expect = request.length != 0

    def _exact(self, head: bytes) -> Request:
        """Everything unusual, and everything refused. In whatever state httptools is, it starts anew."""
        self._renew()
        (method, version11, raw, target), fields = judge(head, self._limits)
        environ = self.memory.template.copy()
        request = Request()
        request.environ = environ
        request.line = head[: head.index(b"\r\n")]
        request.method = environ["REQUEST_METHOD"] = method
        environ["RAW_URI"] = environ["REQUEST_URI"] = raw
        environ["PATH_INFO"] = rules.path_info(target.path)
        environ["QUERY_STRING"] = target.query
        environ["SERVER_PROTOCOL"] = "HTTP/1.1" if version11 else "HTTP/1.0"
        request.version11 = version11
        self._more = 0
        for name, value in fields:
            self._odd_header(environ, name, value.strip(b" \t").decode("latin-1"))
        if self._more >= REFUSED:
            raise ProtocolViolation(
                400, "a field that may come once came twice, or a name with an underscore"
            )
        host = environ.get("HTTP_HOST")
        if not rules.is_host(host) and (version11 or host is not None):
            raise ProtocolViolation(400, "no Host, or one that is not a host name or address with a port")
        if target.host is not None:
            environ["HTTP_HOST"] = target.host  # RFC 9112 section 3.2.2: it overrides the field
        close, alive = rules.learn_connection(environ.get("HTTP_CONNECTION", ""))
        request.keep = not close and (version11 or alive)
        request.length = 0
        request.expect = False
        self._frame(request, environ)
        self._confirm(head)
        if target.path == "*" and request.length == 0:
            # Not for the application, whose paths begin with "/". Told by the length because that is looked
            # at for every request anyway.
            request.length = ASTERISK
        return request

    def _confirm(self, head: bytes) -> None:
        """Nothing is served that httptools refuses."""
        try:
            HttpRequestParser(None).feed_data(head)
        except HttpParserUpgrade:
            pass  # asked for and never spoken: it is answered as if not asked (RFC 9110 section 7.8)
        except HttpParserInvalidMethodError:
            raise ProtocolViolation(501, "the method is not known here") from None
        except HttpParserError as error:
            raise ProtocolViolation(400, f"the head was refused: {error}") from None
