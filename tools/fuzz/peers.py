"""What others say of a client, under fuzzing: PROXY announcements, X-Forwarded-For, Forwarded.

Each is read a second time here, with patterns and with what the C library takes for an address. Where the
second reading finds a client, ours must find the same one; where ours finds one, so must the second.
"""

from __future__ import annotations

import re
import socket
import struct
from collections import Counter
from collections.abc import Sequence
from ipaddress import ip_address

from threadcorn.errors import ProtocolViolation
from threadcorn.http1.proxyline import MODES, announced
from threadcorn.wsgi.forwarded import Forwarding

__all__ = ["ANNOUNCED", "ANNOUNCED_WORDS", "FORWARDED", "FORWARDED_WORDS", "Announcements", "Fields"]

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_GET = b"GET / HTTP/1.1\r\n\r\n"


def _second(kind: int, family: int, body: bytes) -> bytes:
    return _SIGNATURE + struct.pack("!BBH", kind, family, len(body)) + body


_V4 = bytes((9, 8, 7, 6, 127, 0, 0, 1)) + struct.pack("!HH", 1111, 80)
_V6 = bytes(range(32)) + struct.pack("!HH", 1, 65535)
ANNOUNCED = (
    b"PROXY TCP4 9.8.7.6 127.0.0.1 1111 80\r\n" + _GET,
    b"PROXY TCP6 2001:db8::1 ::1 1111 80\r\n" + _GET,
    b"PROXY TCP6 ::ffff:1.2.3.4 ::1 0 65535\r\n" + _GET,
    b"PROXY UNKNOWN\r\n" + _GET,
    b"PROXY UNKNOWN ffff::1 x 1 2\r\n" + _GET,
    _second(0x21, 0x11, _V4) + _GET,
    _second(0x21, 0x21, _V6) + _GET,
    _second(0x21, 0x11, _V4 + b"\x04\x00\x04abcd") + _GET,
    _second(0x20, 0x11, _V4) + _GET,
    _second(0x20, 0x00, b"") + _GET,
    _second(0x21, 0x00, b"anything") + _GET,
    _second(0x21, 0x31, b"/run/x".ljust(216, b"\0")) + _GET,
)
ANNOUNCED_WORDS = (
    b"PROXY ", b"TCP4", b"TCP6", b"UNKNOWN", b" ", b"\r\n", b"\n", b"::", b"1.2.3.4", b"65536", b"0",
    b"%eth0", b"+1", b"0x1", b"\x00", _SIGNATURE, b"\x20", b"\x21", b"\x11", b"\x21", b"\x31", b"\x02\x18",
    b"\x02\x19", b"00",
)  # fmt: skip

#: What the second reading says: how many bytes, and the client, if one is named.
_Said = tuple[int, "str | None", str]


#: What stands before the four bytes of an IPv4 client of a socket for both families.
_MAPPED = bytes(10) + b"\xff\xff"


def _text(packed: bytes) -> str:
    if packed.startswith(_MAPPED):
        return "::ffff:" + socket.inet_ntop(socket.AF_INET, packed[len(_MAPPED) :])
    return str(ip_address(packed))


def _address(family: int, text: bytes) -> str | None:
    try:
        return _text(socket.inet_pton(family, text.decode("ascii")))
    except (OSError, ValueError):
        return None


_LINE = re.compile(
    rb"PROXY TCP([46]) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})\r\n"
)
_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: [^\r\n]*)?\r\n")


def _read_again(data: bytes, mode: str) -> _Said | None:
    """What a whole, valid announcement at the start of `data` says; None when there is none."""
    if mode != "v2":
        match = _UNKNOWN.match(data) or _LINE.match(data)
        if match is not None and len(match[0]) <= 107:
            if match.re is _UNKNOWN:
                return len(match[0]), None, ""
            family = socket.AF_INET if match[1] == b"4" else socket.AF_INET6
            peer, own = _address(family, match[2]), _address(family, match[3])
            if peer is not None and own is not None and max(int(match[4]), int(match[5])) < 65536:
                return len(match[0]), peer, match[4].decode()
            return None
    if mode != "v1" and data.startswith(_SIGNATURE) and len(data) >= 16:
        kind, family, length = struct.unpack("!BBH", data[12:16])
        body = data[16 : 16 + length]
        if kind not in (0x20, 0x21) or length > 536 or len(body) < length:
            return None
        if kind == 0x20 or family == 0x00:
            return 16 + length, None, ""
        if family == 0x11 and length >= 12:
            return (
                16 + length,
                socket.inet_ntop(socket.AF_INET, body[:4]),
                str(struct.unpack("!H", body[8:10])[0]),
            )
        if family == 0x21 and length >= 36:
            return 16 + length, _text(body[:16]), str(struct.unpack("!H", body[32:34])[0])
        if family == 0x31 and length >= 216:
            return 16 + length, "", ""
    return None


class Announcements:
    """The PROXY protocol, in every mode but off."""

    def __init__(self) -> None:
        self.differs: Counter[str] = Counter()

    def difference(self, wire: bytes, cuts: Sequence[int]) -> str:
        for mode in MODES:
            if mode != "off":
                found = self._in_mode(wire, cuts, mode)
                if found:
                    return f"{mode}: {found}"
        return ""

    def _in_mode(self, wire: bytes, cuts: Sequence[int], mode: str) -> str:
        try:
            whole = _ours(wire, mode)
            parts = [(cut, _ours(wire[:cut], mode)) for cut in cuts]
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
            return f"raised {error!r}"
        again = _read_again(wire, mode)
        if (whole if isinstance(whole, tuple) else None) != again:
            return f"{whole}, read again: {again}"
        for cut, part in parts:
            if isinstance(part, tuple):
                if part != whole:
                    return f"at {cut}: {part}, whole: {whole}"
            elif part == "refused" and whole != "refused":
                return f"refused at {cut}, whole: {whole}"
            elif part == "waits" and isinstance(whole, tuple) and cut >= whole[0]:
                return f"waits at {cut}, whole: {whole}"
        return ""


def _ours(data: bytes, mode: str) -> _Said | str:
    try:
        said = announced(data, mode)
    except ProtocolViolation as violation:
        return "refused" if violation.status == 400 else f"status {violation.status}"
    return "waits" if said is None else (said.size, said.peer, said.port)


FORWARDED = (
    b"9.8.7.6", b"6.6.6.6, 9.8.7.6", b"6.6.6.6,9.8.7.6:1234, 10.0.0.1", b"[2001:db8::1]:9", b"2001:db8::1",
    b"unknown, 1.2.3.4", b'"quoted, 1.2.3.4', b"for=9.8.7.6", b"for=6.6.6.6, For=9.8.7.6;proto=https",
    b'for="[2001:db8::1]:47";by=_a;host="x"', b"for=_hidden, for=unknown",
    b'for=1.1.1.1;x="a,b;c", for=2.2.2.2',
)  # fmt: skip
FORWARDED_WORDS = (
    b",", b", ", b";", b"=", b'"', b"\\", b"for=", b"proto=https", b"proto=http", b"1.2.3.4", b"[::1]",
    b":80", b"_x", b"unknown", b"::", b"%", b" ", b"\t", b"FOR=", b"by=_a", b"0", b"01", b"\xb2", b"256",
)  # fmt: skip

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PAIR = rf'(?:{_TOKEN}=(?:{_TOKEN}|"(?:[^"\\]|\\.)*"))'
_ELEMENT = rf"[ \t]*{_PAIR}?(?:[ \t]*;[ \t]*{_PAIR}?)*[ \t]*"
#: RFC 7239 section 4, but for white space beside the semicolons and for escapes, of which we take none.
_FORWARDED = re.compile(rf"{_ELEMENT}(?:,{_ELEMENT})*\Z")


class Fields:
    """X-Forwarded-For and Forwarded, as one and as two trusted proxies in front of us would have them."""

    def __init__(self) -> None:
        self.differs: Counter[str] = Counter()
        self._rules = [
            (hops, source, Forwarding({"X-Forwarded-Proto": "https"}, (), hops, source))
            for hops in (1, 2)
            for source in ("x-forwarded-for", "forwarded")
        ]

    def difference(self, wire: bytes, cuts: Sequence[int]) -> str:
        text = wire.decode("latin-1").strip(" \t")  # a value as the parser hands it on
        for hops, source, rules in self._rules:
            key = "HTTP_FORWARDED" if source == "forwarded" else "HTTP_X_FORWARDED_FOR"
            environ = {key: text, "REMOTE_ADDR": "peer", "REMOTE_PORT": "1", "wsgi.url_scheme": "http"}
            try:
                rules.apply(environ, b"GET / HTTP/1.1\r\n\r\n")
            except ProtocolViolation as violation:
                if violation.status != 400 or source != "forwarded":
                    return f"{source}: refused with {violation.status}"
                if _FORWARDED.match(text) and "\\" not in text and not _named_twice(text):
                    return f"refuses {text!r}"
                continue
            except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
                return f"{source}: raised {error!r}"
            seen = (environ["REMOTE_ADDR"], environ["REMOTE_PORT"], environ["wsgi.url_scheme"])
            expected = _x_forwarded_for(text, hops) if source != "forwarded" else _forwarded(text, hops)
            if expected is not None and seen != expected:
                return f"{source}, {hops} hops: {seen}, read again: {expected}"
            if seen[0] != "peer" and seen[0] != _text(ip_address(seen[0]).packed):
                return f"{source}: an address that is none: {seen}"
            if seen[2] not in ("http", "https") or re.search(r"[^0-9]", seen[1]):
                return f"{source}: {seen}"
        return ""


_PEER = ("peer", "1", "http")


def _x_forwarded_for(text: str, hops: int) -> tuple[str, str, str]:
    entries = text.split(",")
    if len(entries) < hops:
        return _PEER
    address, port = _node(entries[-hops].strip(" \t"))
    return (address, port, "http") if address else _PEER


def _node(text: str) -> tuple[str, str]:
    match = re.fullmatch(
        r"([0-9.]+)(?::([0-9]{0,5}|_[\w.-]+))?|\[([0-9A-Fa-f:.]+)\](?::([0-9]{0,5}|_[\w.-]+))?|([0-9A-Fa-f:.]+)",
        text,
        re.ASCII,
    )
    if match is None:
        return "", ""
    four, port4, six, port6, bare = match.groups()
    address = _address(socket.AF_INET if four else socket.AF_INET6, (four or six or bare).encode())
    port = port4 or port6 or ""
    return address or "", "" if port.startswith("_") else port  # RFC 7239 section 6.2: hidden


def _elements(text: str) -> list[dict[str, str]]:
    elements = []
    for element in re.findall(r'((?:[^,"]|"(?:[^"\\]|\\.)*")*),', text + ","):
        pairs = re.findall(rf'({_TOKEN})=(?:"([^"]*)"|({_TOKEN}))', element)
        elements.append([(name.lower(), quoted or plain) for name, quoted, plain in pairs])
    return [dict(pairs) if len(dict(pairs)) == len(pairs) else {"twice": ""} for pairs in elements]


def _named_twice(text: str) -> bool:
    return any("twice" in element for element in _elements(text)) or '=""' in text


def _forwarded(text: str, hops: int) -> tuple[str, str, str] | None:
    """None: not by the grammar, where ours may take or leave it."""
    if not _FORWARDED.match(text) or "\\" in text:
        return None
    elements = _elements(text)
    if len(elements) < hops:
        return _PEER
    pairs = elements[-hops]
    if "twice" in pairs:
        return None
    address, port = _node(pairs.get("for", ""))
    proto = pairs.get("proto", "").lower()
    scheme = proto if proto in ("http", "https") else "http"
    return (address, port, scheme) if address else ("peer", "1", scheme)
