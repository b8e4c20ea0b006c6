"""The PROXY protocol: what is taken, what is refused, and that a cut anywhere changes neither."""

from __future__ import annotations

import socket
import struct

import pytest

from threadcorn.errors import ProtocolViolation
from threadcorn.http1.proxyline import SIGNATURE, Announced, announced

V4 = socket.inet_aton("9.8.7.6") + socket.inet_aton("127.0.0.1") + struct.pack("!HH", 1111, 80)
V6 = socket.inet_pton(socket.AF_INET6, "2001:db8::1") * 2 + struct.pack("!HH", 1111, 80)

MAPPED = socket.inet_pton(socket.AF_INET6, "::ffff:9.8.7.6") * 2 + struct.pack("!HH", 1111, 80)


def second(command: int, family: int, payload: bytes, length: int | None = None) -> bytes:
    size = len(payload) if length is None else length
    return SIGNATURE + bytes((command, family)) + struct.pack("!H", size) + payload


GOOD = [
    (b"PROXY TCP4 9.8.7.6 127.0.0.1 1111 80\r\n", "9.8.7.6", "1111"),
    (b"PROXY TCP6 2001:db8::1 ::1 1111 80\r\n", "2001:db8::1", "1111"),
    (b"PROXY TCP4 9.8.7.6 127.0.0.1 0 65535\r\n", "9.8.7.6", "0"),
    (b"PROXY UNKNOWN\r\n", None, ""),
    (b"PROXY UNKNOWN ffff::1 any thing 1 2\r\n", None, ""),
    (second(0x21, 0x11, V4), "9.8.7.6", "1111"),
    (second(0x21, 0x11, V4 + b"\x04\x00\x04abcd"), "9.8.7.6", "1111"),
    (second(0x21, 0x21, V6), "2001:db8::1", "1111"),
    (second(0x21, 0x31, b"/x".ljust(216, b"\0")), "", ""),
    (second(0x21, 0x00, b""), None, ""),
    (second(0x20, 0x11, V4), None, ""),
    (second(0x20, 0x00, b""), None, ""),
    (b"PROXY TCP6 2001:DB8:0::1 ::1 1111 80\r\n", "2001:db8::1", "1111"),
    (b"PROXY TCP6 ::FFFF:9.8.7.6 ::1 1111 80\r\n", "::ffff:9.8.7.6", "1111"),
    (b"PROXY TCP6 ::ffff:908:706 ::1 1111 80\r\n", "::ffff:9.8.7.6", "1111"),
    (second(0x21, 0x21, MAPPED), "::ffff:9.8.7.6", "1111"),
]

BAD = [
    b"GET / HTTP/1.1\r\n",
    b"\r\nPROXY TCP4 9.8.7.6 127.0.0.1 1 80\r\n",
    b"proxy TCP4 9.8.7.6 127.0.0.1 1 80\r\n",
    b"PROXY  TCP4 9.8.7.6 127.0.0.1 1 80\r\n",
    b"PROXY TCP4 9.8.7.6 127.0.0.1 1 80 x\r\n",
    b"PROXY TCP4 9.8.7.6 127.0.0.1 1 80 \r\n",
    b"PROXY TCP4 9.8.7.6 127.0.0.1 1\r\n",
    b"PROXY TCP4 9.8.7.6 127.0.0.1 1 80\n",
    b"PROXY TCP4 9.8.7.6 127.0.0.1 1 80\r\r\n",
    b"PROXY TCP4 9.8.7.6 127.0.0.1 +1 80\r\n",
    b"PROXY TCP4 9.8.7.6 127.0.0.1 01 80\r\n",
    b"PROXY TCP4 9.8.7.6 127.0.0.1 65536 80\r\n",
    b"PROXY TCP4 9.8.7.6 127.0.0.1 1_1 80\r\n",
    b"PROXY TCP4 9.8.7.6 127.0.0.1 \xd9\xa1 80\r\n",
    b"PROXY TCP4 9.8.7 127.0.0.1 1 80\r\n",
    b"PROXY TCP4 010.8.7.6 127.0.0.1 1 80\r\n",
    b"PROXY TCP4 2001:db8::1 127.0.0.1 1 80\r\n",
    b"PROXY TCP6 9.8.7.6 127.0.0.1 1 80\r\n",
    b"PROXY TCP6 fe80::1%lo ::1 1 80\r\n",
    b"PROXY TCP4 9.8.7.6\x00 127.0.0.1 1 80\r\n",
    b"PROXY UDP4 9.8.7.6 127.0.0.1 1 80\r\n",
    b"PROXY UNKNOWNX\r\n",
    b"PROXY UNKNOWN a\rb\r\n",
    b"PROXY UNKNOWN " + b"a" * 94,
    b"PROXY UNKNOWN " + b"a" * 92 + b"\r\n",
    second(0x2F, 0x11, V4),
    second(0x11, 0x11, V4),
    second(0x21, 0x12, V4),
    second(0x21, 0x41, V4),
    second(0x21, 0x11, V4[:4]),
    second(0x21, 0x21, V4),
    second(0x21, 0x11, V4, 537),
]


@pytest.mark.parametrize(("wire", "peer", "port"), GOOD)
def test_what_is_taken(wire: bytes, peer: str | None, port: str) -> None:
    expected = Announced(len(wire), peer, port)
    assert announced(wire, "auto") == expected
    assert announced(wire + b"GET / HTTP/1.1\r\n", "auto") == expected
    for cut in range(len(wire)):
        assert announced(wire[:cut], "auto") is None


@pytest.mark.parametrize("wire", BAD)
def test_what_is_refused(wire: bytes) -> None:
    with pytest.raises(ProtocolViolation) as caught:
        announced(wire, "auto")
    assert caught.value.status == 400


def test_a_version_that_is_not_asked_for_is_refused() -> None:
    for mode, wire in (("v1", GOOD[5][0]), ("v2", GOOD[0][0])):
        with pytest.raises(ProtocolViolation):
            announced(wire, mode)
