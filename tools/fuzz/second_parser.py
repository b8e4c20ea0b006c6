"""h11 as an oracle: what it serves of a stream, and why it and we differ where one is stricter.

h11 is a parser of other people, with its own idea of every rule. Where it serves and we refuse, one of
`STRICTER` must be true of the message; where we serve and it refuses, one of `LOOSER`. A difference for
which no reason is named is a finding.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import h11

from tests.kit.oracle import Message
from threadcorn.http1.rules import METHODS

__all__ = ["LOOSER", "STRICTER", "Read", "messages", "why"]


class Read(NamedTuple):
    """A message that h11 serves, and its bytes."""

    message: Message
    raw: bytes


def messages(wire: bytes) -> tuple[list[Read], bool, bytes]:
    """What h11 serves, whether it then refuses, and the bytes that it has not served."""
    found: list[Read] = []
    while wire:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        connection.receive_data(wire)
        request: h11.Request | None = None
        body = b""
        try:
            while True:
                event = connection.next_event()
                kind = type(event)
                if kind is h11.Request:
                    request = event  # type: ignore[assignment]
                elif kind is h11.Data:
                    body += bytes(event.data)  # type: ignore[union-attr]
                elif kind is h11.EndOfMessage:
                    break
                else:
                    return found, False, wire
        except h11.RemoteProtocolError:
            return found, True, wire
        assert request is not None
        rest = connection.trailing_data[0]
        keep = request.http_version >= b"1.1" and not any(
            option.strip(b" \t").lower() == b"close"
            for name, value in request.headers
            if name == b"connection"
            for option in value.split(b",")
        )
        message = Message(
            bytes(request.method),
            bytes(request.target),
            bytes(request.http_version) == b"1.1",
            tuple(request.headers.raw_items()),
            body,
            keep,
        )
        found.append(Read(message, wire[: len(wire) - len(rest)]))
        wire = rest
        if not keep:
            break
    return found, False, wire


# -- reasons -------------------------------------------------------------------------------------------

_HEAD = re.compile(rb".*?\n\r?\n", re.DOTALL)
_BARE_LF = re.compile(rb"(?<!\r)\n")
_FOLD = re.compile(rb"\n[ \t]")
_CONTROL = re.compile(rb"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]")
_ORIGIN = re.compile(rb"/[!-\"$-~]*|\*|(?i:https?)://[^/?#@]+(?:[/?][!-\"$-~]*)?")
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9\-._~!$&'()*+;=]|%[0-9A-Fa-f]{2})+)(?::[0-9]{0,5})?")
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_EXT = re.compile(
    rb"(?:[\t ]*;[\t ]*" + _TOKEN
    + rb"(?:[\t ]*=[\t ]*(?:" + _TOKEN + rb'|"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"))?)*'
)  # fmt: skip
_SIZE = re.compile(rb"([0-9A-Fa-f]+)([^\n]*?)\r\n")
_TRAILER = re.compile(rb"\n(?i:content-length|transfer-encoding|host):")


def _head(raw: bytes) -> bytes:
    match = _HEAD.match(raw)
    return match[0] if match else raw


def _every(message: Message, name: bytes) -> list[bytes]:
    return [value for field, value in message.fields if field.lower() == name]


def _framing(raw: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Digits and rest of each size line of a chunked body that h11 has served, and its trailer section."""
    at = len(_head(raw))
    sizes: list[tuple[bytes, bytes]] = []
    while True:
        line = _SIZE.match(raw, at)
        if line is None:
            return sizes, raw[at:]
        sizes.append((line[1], line[2]))
        size = int(line[1], 16)
        at = line.end() + size + 2
        if not size:
            return sizes, b"\r\n" + raw[line.end() :]


def _chunked(message: Message) -> bool:
    return bool(_every(message, b"transfer-encoding"))


def _outside_body(read: Read) -> bytes:
    """Head and trailer section."""
    tail = _framing(read.raw)[1] if _chunked(read.message) else b""
    return _head(read.raw) + tail


def _bad_hosts(read: Read) -> bool:
    hosts = _every(read.message, b"host")
    url = re.match(rb"(?i:https?)://([^/?#@]+)", read.message.target)
    if url:
        hosts.append(url[1])
    for host in hosts:
        if not _HOST.fullmatch(host) or host.startswith(b"["):  # brackets: whether it is an address
            return True
        _, colon, port = host.rpartition(b":")
        if colon and port and int(port) > 65535:
            return True
    return False


def _lengths(read: Read) -> list[bytes]:
    return re.findall(rb"(?im)^content-length[ \t]*:[ \t]*([^\r\n]*?)[ \t]*\r?$", _head(read.raw))


#: Why we refuse what h11 serves: the rule of ours, and whether it applies to a message.
STRICTER: tuple[tuple[str, Callable[[Read], bool]], ...] = (
    ("CRLF alone ends a line", lambda read: bool(_BARE_LF.search(_outside_body(read)))),
    ("no folded lines", lambda read: bool(_FOLD.search(_outside_body(read)))),
    ("no controls in values", lambda read: bool(_CONTROL.search(_outside_body(read)))),
    ("methods that are known", lambda read: read.message.method.decode("latin-1") not in METHODS),
    ("CONNECT is not served", lambda read: read.message.method == b"CONNECT"),
    ("HTTP/1.1 and HTTP/1.0", lambda read: not re.match(rb"[^\n]* HTTP/1\.[01]\r?\n", read.raw)),
    ("the forms of a target", lambda read: not _ORIGIN.fullmatch(read.message.target)),
    ("* is for OPTIONS", lambda read: read.message.target == b"*" and read.message.method != b"OPTIONS"),
    ("a Host that is one", _bad_hosts),
    ("one Host, also in HTTP/1.0", lambda read: len(_every(read.message, b"host")) > 1),
    ("one Content-Length of at most 19 digits", lambda read: not all(
        re.fullmatch(rb"[0-9]{1,19}", value) for value in _lengths(read)) or len(_lengths(read)) > 1),
    ("length or coding, not both", lambda read: _chunked(read.message) and bool(_lengths(read))),
    ("no coding in HTTP/1.0", lambda read: _chunked(read.message) and not read.message.version11),
    ("one Content-Type", lambda read: len(_every(read.message, b"content-type")) > 1),
    ("no expectation but 100-continue", lambda read: read.message.version11 and any(
        value.lower() != b"100-continue" for value in _every(read.message, b"expect"))),
    ("one Expect", lambda read: len(_every(read.message, b"expect")) > 1),
    ("the grammar of chunk extensions", lambda read: _chunked(read.message) and not all(
        _EXT.fullmatch(rest) for _, rest in _framing(read.raw)[0])),
    ("chunk sizes of at most 16 digits, and 63 bits", lambda read: _chunked(read.message) and any(
        len(digits) > 16 or int(digits, 16) >> 63 for digits, _ in _framing(read.raw)[0])),
    ("no framing in trailers", lambda read: _chunked(read.message) and bool(
        _TRAILER.search(_framing(read.raw)[1]))),
    ("httptools takes a tab behind the coding for a part of it", lambda read: bool(
        re.search(rb"(?i)transfer-encoding:[^\r\n]*\t", _head(read.raw)))),
)  # fmt: skip

#: Why we serve what h11 refuses, of the bytes that h11 stopped at and the message before them.
LOOSER: tuple[tuple[str, Callable[[bytes, Read | None], bool]], ...] = (
    ("two blank lines are skipped (RFC 9112 section 2.2)",
     lambda rest, before: rest.startswith(b"\r\n")),
    ("HTTP/1.0 may ask for keep-alive",
     lambda rest, before: before is not None and not before.message.version11),
    ("space around the parts of a chunk extension (RFC 9112 section 7.1.1)",
     lambda rest, before: bool(re.search(rb"\n[0-9A-Fa-f]+[ \t]+;", rest))),
)  # fmt: skip


def why(read: Read) -> str:
    """The rule of ours for which a message that h11 serves is refused, or an empty text."""
    return next((name for name, applies in STRICTER if applies(read)), "")
