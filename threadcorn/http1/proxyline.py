"""The PROXY protocol, versions 1 and 2: what a proxy says of its client before the first request.

Every byte is judged: whoever can write this line chooses the address that logs, limits and the application
see. Numbers are ASCII digits, addresses are in their one usual form, and both versions have an end, so a
peer cannot make us keep bytes for a line that never ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from threadcorn.errors import ProtocolViolation
from threadcorn.http1.rules import address_text

__all__ = ["MODES", "Announced", "announced"]

MODES = ("off", "v1", "v2", "auto")

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_V1 = b"PROXY "
#: The specification's figure, with its end of line.
LONGEST_V1 = 107
#: Addresses of a unix socket (216) and room for what load balancers add.
LONGEST_V2 = 536
_DIGITS = frozenset(b"0123456789")


@dataclass(frozen=True, slots=True)
class Announced:
    """What was said. `peer` is None when it says nothing of the client: the connection's own counts."""

    size: int
    peer: str | None = None
    port: str = ""


def announced(data: bytes, mode: str) -> Announced | None:
    """The announcement at the start of `data`, or None when more bytes are needed. Raises
    ProtocolViolation for everything else, as soon as that is clear."""
    if mode != "v1":
        begin = data[: len(SIGNATURE)]
        if SIGNATURE.startswith(begin):
            return _second(data) if begin == SIGNATURE else None
    if mode != "v2" and _V1.startswith(data[: len(_V1)]):
        return _first(data)
    raise ProtocolViolation(400, "no PROXY announcement, and one is required here")


def _first(data: bytes) -> Announced | None:
    end = data.find(b"\n", 0, LONGEST_V1)
    if end < 0:
        if len(data) >= LONGEST_V1:
            raise _wrong("longer than 107 bytes")
        return None
    line = data[:end]
    if not line.endswith(b"\r"):
        raise _wrong("it ends in a bare line feed")
    line = line[:-1]
    # What stands behind UNKNOWN is to be ignored, says the specification.
    if line == b"PROXY UNKNOWN" or line.startswith(b"PROXY UNKNOWN "):
        if b"\r" in line:
            raise _wrong("a carriage return in the line")
        return Announced(end + 1)
    parts = line.split(b" ")
    if len(parts) != 6 or parts[1] not in (b"TCP4", b"TCP6"):
        raise _wrong("not PROXY TCP4|TCP6 and four fields")
    family = IPv4Address if parts[1] == b"TCP4" else IPv6Address
    peer = _address(family, parts[2])
    _address(family, parts[3])
    port = _port(parts[4])
    _port(parts[5])
    return Announced(end + 1, peer, port)


def _address(kind: type[IPv4Address | IPv6Address], field: bytes) -> str:
    # A zone ("%eth0") means something on the proxy's machine only.
    if b"%" not in field:
        try:
            return address_text(kind(field.decode("ascii")))
        except ValueError:
            pass
    raise _wrong("an address that is none of its family")


def _port(field: bytes) -> str:
    if not 1 <= len(field) <= 5 or not _DIGITS.issuperset(field) or (field[0] == 48 and len(field) > 1):
        raise _wrong("a port that is not a plain number")
    number = 0
    for digit in field:
        number = number * 10 + digit - 48
    if number > 65535:
        raise _wrong("a port above 65535")
    return str(number)


def _second(data: bytes) -> Announced | None:
    if len(data) > 12 and data[12] not in (0x20, 0x21):
        raise _wrong("an unknown version or command")
    if len(data) < 16:
        return None
    local = data[12] == 0x20
    family = data[13]
    length = data[14] << 8 | data[15]
    if length > LONGEST_V2:
        raise _wrong(f"longer than {LONGEST_V2} bytes")
    needed = {0x00: 0, 0x11: 12, 0x21: 36, 0x31: 216}.get(family)
    if not local and (needed is None or length < needed):
        raise _wrong("an unknown family, or too short for its addresses")
    size = 16 + length
    if len(data) < size:
        return None
    if local or family == 0x00:
        return Announced(size)
    if family == 0x31:
        return Announced(size, "", "")
    packed = data[16:20] if family == 0x11 else data[16:32]
    at = 24 if family == 0x11 else 48
    kind = IPv4Address if family == 0x11 else IPv6Address
    return Announced(size, address_text(kind(packed)), str(data[at] << 8 | data[at + 1]))


def _wrong(what: str) -> ProtocolViolation:
    return ProtocolViolation(400, f"bad PROXY announcement: {what}")
