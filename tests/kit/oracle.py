"""A second opinion on request bytes: slow, made of patterns only, and sharing nothing with the server.

It knows what may be served, not which status the rest gets. `messages()` reads a whole stream and says of
each message what it is; where the bytes end within a message it says nothing, since whether that is waited
for or refused early is a matter of taste, except that it must never be served.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Message", "Refused", "messages"]

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_HEAD = re.compile(
    rb"(?:\r\n){0,2}"
    rb"(?P<method>" + _TOKEN + rb") (?P<target>[!-~]+) HTTP/1\.(?P<minor>[01])\r\n"
    rb"(?P<fields>(?:" + _TOKEN + rb":[\t -~\x80-\xff]*\r\n)*)\r\n"
)
_FIELD = re.compile(rb"(" + _TOKEN + rb"):[\t ]*([\t -~\x80-\xff]*)\r\n")
_FUTURE = rb"\[[vV][0-9A-Fa-f]+\.[A-Za-z0-9\-._~!$&'()*+;=:]+\]"
_HOST_TEXT = rb"(?:\[[0-9A-Fa-f:.]+\]|" + _FUTURE + rb"|(?:[A-Za-z0-9\-._~!$&'()*+;=]|%[0-9A-Fa-f]{2})+)"
_HOST = re.compile(_HOST_TEXT + rb"(?::[0-9]{0,5})?")
_PATH = re.compile(rb"/[!-\"$-~]*")
_URL = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://(" + _HOST_TEXT + rb"(?::[0-9]{0,5})?)(?:[/?][!-\"$-~]*)?")
_METHODS = frozenset(
    b"GET HEAD POST PUT DELETE OPTIONS PATCH TRACE ACL BIND CHECKOUT COPY LINK LOCK M-SEARCH MERGE "
    b"MKACTIVITY MKCALENDAR MKCOL MOVE NOTIFY PROPFIND PROPPATCH PURGE QUERY REBIND REPORT SEARCH SOURCE "
    b"SUBSCRIBE UNBIND UNLINK UNLOCK UNSUBSCRIBE".split()
)
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
_EXT = rb"(?:[\t ]*;[\t ]*" + _TOKEN + rb"(?:[\t ]*=[\t ]*(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?)*"
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})" + _EXT + rb"\r\n")
_TRAILERS = re.compile(rb"((?:" + _TOKEN + rb":[\t -~\x80-\xff]*\r\n)*)\r\n")


@dataclass(frozen=True)
class Message:
    """A request that may be served."""

    method: bytes
    target: bytes
    version11: bool
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes
    keep: bool


@dataclass(frozen=True)
class Refused:
    why: str


def messages(wire: bytes) -> Iterator[Message | Refused]:
    """The messages in `wire` up to the first that is refused, asks to close, or is not whole."""
    at = 0
    while True:
        begin = re.compile(rb"(?:\r\n){0,2}").match(wire, at)
        assert begin is not None
        if wire.find(b"\r\n\r\n", begin.end()) < 0:
            return
        head = _HEAD.match(wire, at)
        if head is None:
            yield Refused("no head")
            return
        told = _message(head)
        if isinstance(told, Refused):
            yield told
            return
        chunked, length, message = told
        at = head.end()
        if chunked:
            body = _chunks(wire, at)
            if isinstance(body, Refused):
                yield body
                return
            if body is None:
                return
            data, at = body
        else:
            if len(wire) - at < length:
                return
            data, at = wire[at : at + length], at + length
        yield Message(message.method, message.target, message.version11, message.fields, data, message.keep)
        if not message.keep:
            return


def _message(head: re.Match[bytes]) -> tuple[bool, int, Message] | Refused:
    fields = tuple((name, value.rstrip(b"\t ")) for name, value in _FIELD.findall(head["fields"]))
    minor11 = head["minor"] == b"1"

    def every(name: bytes) -> list[bytes]:
        return [value for field, value in fields if field.lower() == name]

    hosts, lengths, codings = every(b"host"), every(b"content-length"), every(b"transfer-encoding")
    if head["method"] not in _METHODS:
        return Refused("method")
    target = head["target"]
    if target == b"*":
        if head["method"] != b"OPTIONS":
            return Refused("asterisk")
    elif not _PATH.fullmatch(target):
        url = _URL.fullmatch(target)
        if url is None or not _port(url[1]):
            return Refused("target")
    if len(hosts) > 1 or (minor11 and not hosts):
        return Refused("hosts")
    if hosts and not (_HOST.fullmatch(hosts[0]) and _port(hosts[0])):
        return Refused("host")
    if len(every(b"content-type")) > 1 or len(lengths) > 1:
        return Refused("twice")
    if codings and (lengths or not minor11 or len(codings) > 1 or codings[0].lower() != b"chunked"):
        return Refused("coding")
    if re.search(rb"(?i)\r\ntransfer-encoding:[^\r]*\t\r", head[0]):
        return Refused("a tab behind the coding: llhttp takes it for a part of it")
    if lengths and not re.fullmatch(rb"[0-9]{1,19}", lengths[0]):
        return Refused("length")
    expected = every(b"expect")
    if minor11 and expected and (len(expected) > 1 or expected[0].lower() != b"100-continue"):
        return Refused("expect")
    options = [option.strip(b"\t ").lower() for value in every(b"connection") for option in value.split(b",")]
    keep = b"close" not in options and (minor11 or b"keep-alive" in options)
    message = Message(head["method"], target, minor11, fields, b"", keep)
    return bool(codings), int(lengths[0]) if lengths else 0, message


def _port(host: bytes) -> bool:
    _, colon, port = host.rpartition(b":")
    if re.match(_FUTURE, host):
        _, colon, port = host[host.index(b"]") :].rpartition(b":")
    elif host.startswith(b"["):
        try:
            ipaddress.IPv6Address(host[1 : host.index(b"]")].decode())
        except ValueError:
            return False
        _, colon, port = host[host.index(b"]") :].rpartition(b":")
    return not (colon and port) or int(port) <= 65535


def _chunks(wire: bytes, at: int) -> tuple[bytes, int] | Refused | None:
    """The data and where the message ends; None when it is not whole."""
    data = b""
    while True:
        if b"\n" not in wire[at:]:
            return None  # perhaps refused early, perhaps not: never served
        size = _SIZE.match(wire, at)
        if size is None:
            return Refused("size")
        at, count = size.end(), int(size[1], 16)
        if count == 0:
            break
        if len(wire) - at < count + 2:
            return None
        data += wire[at : at + count]
        at += count
        if wire[at : at + 2] != b"\r\n":
            return Refused("end of data")
        at += 2
    trailers = _TRAILERS.match(wire, at)
    if trailers is None:
        # Either malformed or not whole; both are never served.
        return None
    names = {name.lower() for name, _ in _FIELD.findall(trailers[1])}
    if names & {b"content-length", b"host", b"transfer-encoding"}:
        return Refused("trailer")
    return data, trailers.end()
