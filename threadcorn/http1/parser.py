"""From the bytes of one whole request head to a WSGI environ. The only door to httptools.

A head is parsed only when it is whole: the connection keeps raw bytes until `head_end()` finds its end,
and `check_partial()` refuses early what can never become a request (both in lines.py). So a verdict
cannot depend on how bytes were split, ten thousand idle connections own no parser, and half a head can be
handed to another process as what it is, bytes.

There are two ways through `HeadParser.parse()`:

* the fast path takes what almost every request is: httptools has accepted it, every field name is in
  `rules.KEYS`, no name comes twice, the target is a path. It is unrolled on purpose; each line of it is
  paid by every request.
* the exact path takes everything else, and everything that was refused: it reads the lines again with
  lines.py, so that the status does not depend on who noticed first. What it lets pass has been accepted
  by two parsers that know nothing of each other.

httptools is asked about the head only. It cannot say where a body ends, and after a request with a body,
`Connection: close` or an upgrade it waits for something else than a head; it is then replaced by a new
one (0.5 us).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from httptools import HttpParserError, HttpParserInvalidMethodError, HttpParserUpgrade, HttpRequestParser

from threadcorn.errors import ProtocolViolation
from threadcorn.http1 import rules
from threadcorn.http1.lines import BEGIN, Limits, Partial, check_partial, head_end, judge, skip_blank
from threadcorn.http1.rules import CHUNKED, HOSTS, KEEPS, KEYS, METHODS

__all__ = [
    "BEGIN",
    "CHUNKED",
    "PER_REQUEST",
    "HeadParser",
    "Limits",
    "Partial",
    "Request",
    "check_partial",
    "head_end",
    "skip_blank",
]

#: Keys that `parse()` sets in every environ. They are put into the copy of the template before, so that
#: the number of keys that the fields added can be told from the size of the dict.
PER_REQUEST = ("REQUEST_METHOD", "RAW_URI", "REQUEST_URI", "PATH_INFO", "QUERY_STRING", "SERVER_PROTOCOL")

#: Fields that may come once. Joining two of them would hide one from somebody.
_SINGLE = frozenset(("HTTP_HOST", "CONTENT_LENGTH", "CONTENT_TYPE"))


class Request:
    """What the connection needs to know of a request. The rest is in `environ`."""

    __slots__ = ("environ", "expect", "keep", "length", "line", "method", "version11")

    environ: dict[str, Any]
    method: str
    version11: bool
    keep: bool  # the client lets us keep the connection
    length: int  # of the body; 0: none, CHUNKED: not known
    expect: bool  # the client waits for "100 Continue" before it sends the body
    line: bytes  # the request line as it came


class _Callbacks:
    """What httptools calls. `dict.setdefault` itself takes the fields: no Python frame for each of them.

    It forgets the second of two equal names; the count of lines tells that there was one.
    """

    __slots__ = ("on_header",)

    def __init__(self, fields: dict[bytes, bytes]) -> None:
        self.on_header = fields.setdefault


class HeadParser:
    """Parses whole heads, one after the other. One for each thread: it is not thread-safe."""

    __slots__ = ("_base", "_callbacks", "_feed", "_fields", "_limits", "_short", "_template")

    def __init__(self, limits: Limits, template: Mapping[str, Any]) -> None:
        self._limits = limits
        self._template: dict[str, Any] = {**dict.fromkeys(PER_REQUEST, ""), **template}
        self._base = len(self._template)
        self._fields: dict[bytes, bytes] = {}
        self._callbacks = _Callbacks(self._fields)
        # A head that is no longer than any of the limits cannot break one of them.
        self._short = min(limits.line, limits.field_size, limits.head)
        self._renew()

    def _renew(self) -> None:
        self._feed = HttpRequestParser(self._callbacks).feed_data

    def parse(self, head: bytes) -> Request:
        """Parse exactly the bytes up to and with the blank line. Raises ProtocolViolation."""
        fields = self._fields
        fields.clear()
        try:
            self._feed(head)
            line = head[: head.index(b"\r\n")]
            method, target, version = line.split(b" ")
            environ = self._template.copy()
            for name, value in fields.items():
                environ[KEYS[name]] = value.decode("latin-1")
        except (HttpParserError, HttpParserUpgrade, KeyError, ValueError):
            return self._exact(head)
        if (
            # All lines but the request line and the blank one must have become keys of their own.
            len(environ) - self._base != head.count(b"\n") - 2
            or target[:1] != b"/"
            or version != b"HTTP/1.1"
            or len(head) > self._short
            or b"#" in target
            # httptools leaves white space at the end of a value.
            or b" \r\n" in head
            or b"\t\r\n" in head
            or environ.get("HTTP_HOST") not in HOSTS
            or "HTTP_TRANSFER_ENCODING" in environ
            or "HTTP_UPGRADE" in environ
            or "HTTP_EXPECT" in environ
        ):
            return self._exact(head)
        request = Request()
        request.environ = environ
        text = target.decode("ascii")
        environ["RAW_URI"] = environ["REQUEST_URI"] = text
        if "?" in text:
            text, _, environ["QUERY_STRING"] = text.partition("?")
        environ["PATH_INFO"] = rules.path_info(text) if "%" in text else text
        environ["REQUEST_METHOD"] = request.method = METHODS[method]
        environ["SERVER_PROTOCOL"] = "HTTP/1.1"
        request.version11 = True
        request.expect = False
        request.line = line
        request.keep = True
        request.length = 0
        if "HTTP_CONNECTION" in environ or "CONTENT_LENGTH" in environ:
            connection = environ.get("HTTP_CONNECTION")
            if connection is not None:
                close, _ = KEEPS.get(connection) or rules.learn_connection(connection)
                request.keep = not close
            length = environ.get("CONTENT_LENGTH")
            if length is not None:
                request.length = self._length(length)
            if request.length or not request.keep:
                self._renew()
        return request

    def _length(self, value: str) -> int:
        length = rules.content_length(value)
        if 0 < self._limits.body < length:
            raise ProtocolViolation(413, f"the body has more than {self._limits.body} bytes")
        return length

    def _exact(self, head: bytes) -> Request:
        """The path for everything unusual. Whatever the old httptools parser is in now, it is dropped."""
        self._renew()
        (method, version11, raw, target), fields = judge(head, self._limits)
        environ = self._template.copy()
        self._put(environ, fields)
        request = Request()
        request.environ = environ
        environ["REQUEST_METHOD"] = request.method = method
        environ["RAW_URI"] = environ["REQUEST_URI"] = raw
        environ["PATH_INFO"] = rules.path_info(target.path)
        environ["QUERY_STRING"] = target.query
        environ["SERVER_PROTOCOL"] = "HTTP/1.1" if version11 else "HTTP/1.0"
        request.version11 = version11
        request.line = head[: head.index(b"\r\n")]
        self._frame(request, environ, target.host)
        try:
            self._feed(head)
        except HttpParserUpgrade:
            pass  # refused or ignored by what stands above; the upgrade itself is never spoken
        except HttpParserInvalidMethodError:
            raise ProtocolViolation(501, "the method is not known here") from None
        except HttpParserError as error:
            raise ProtocolViolation(400, f"the head was refused: {error}") from None
        finally:
            self._renew()
        return request

    def _put(self, environ: dict[str, Any], fields: list[tuple[bytes, bytes]]) -> None:
        for name, value in fields:
            key = KEYS.get(name)
            if key is None:
                if b"_" in name or name.lower() == b"proxy":
                    if name.lower() == b"proxy":
                        continue
                    if self._limits.header_map == "refuse":
                        raise ProtocolViolation(400, "a field name with an underscore")
                    if self._limits.header_map == "drop":
                        continue
                    key = rules.key_of(name)
                else:
                    key = rules.learn_key(name)
            text = value.decode("latin-1")
            if key in environ:
                if key in _SINGLE:
                    raise ProtocolViolation(400, "a field that may come once came twice")
                text = environ[key] + ("; " if key == "HTTP_COOKIE" else ", ") + text
            environ[key] = text

    def _frame(self, request: Request, environ: dict[str, Any], host: str | None) -> None:
        """Where the body ends, and whether the connection may stay: RFC 9112 sections 3.2, 6 and 9."""
        named = environ.get("HTTP_HOST")
        if named is not None:
            rules.learn_host(named)
        elif request.version11:
            raise ProtocolViolation(400, "HTTP/1.1 without Host")
        if host is not None:
            environ["HTTP_HOST"] = host  # RFC 9112 section 3.2.2: the target's overrides the field
        length = environ.get("CONTENT_LENGTH")
        coding = environ.get("HTTP_TRANSFER_ENCODING")
        request.length = 0
        if coding is not None:
            if length is not None:
                raise ProtocolViolation(400, "Transfer-Encoding together with Content-Length")
            if not request.version11:
                raise ProtocolViolation(400, "Transfer-Encoding in HTTP/1.0")
            rules.transfer_encoding(coding)
            request.length = CHUNKED
        elif length is not None:
            request.length = self._length(length)
        close, keep = rules.learn_connection(environ.get("HTTP_CONNECTION", ""))
        request.keep = not close and (request.version11 or keep)
        expect = environ.get("HTTP_EXPECT")
        request.expect = False
        if expect is not None and request.version11:
            if expect.lower() != "100-continue":
                raise ProtocolViolation(417, "an expectation other than 100-continue")
            request.expect = request.length != 0
