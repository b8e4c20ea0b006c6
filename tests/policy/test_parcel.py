from __future__ import annotations

import pytest

from threadcorn.policy.parcel import Parcel, pack, served, unpack

TCP = Parcel(1, "203.0.113.9", "4711", fresh=True, trusted=False, announced=True)
UNIX = Parcel(0, "", "", fresh=False, trusted=True, announced=False)
LINK = Parcel(0, "fe80::1%eth0", "80", fresh=False, trusted=False, announced=True)


@pytest.mark.parametrize("parcel", [TCP, UNIX, LINK])
@pytest.mark.parametrize("data", [b"", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\n\n \x00\xff"])
def test_what_is_packed_is_unpacked(parcel: Parcel, data: bytes) -> None:
    assert unpack(pack(parcel, data)) == (parcel, data)


@pytest.mark.parametrize("packet", [b"", b"1 0 a b 000\n", b'{"format":1}\nGET', b"\xff\n", b"2 0\n"])
def test_other_versions_are_not_guessed_at(packet: bytes) -> None:
    assert unpack(packet) is None


def test_served() -> None:
    """What the arbiter makes of a packet that was written when the connection was new."""
    parts = unpack(served(pack(TCP, b"x")))
    assert parts is not None
    assert not parts[0].fresh
    assert parts[0].peer == TCP.peer
    assert parts[1] == b"x"
