"""Whose word about others is taken."""

from __future__ import annotations

import pytest

from threadcorn.policy.trust import Trust


@pytest.mark.parametrize(
    ("entries", "peer", "trusted"),
    [
        (("127.0.0.1", "::1"), "127.0.0.1", True),
        (("127.0.0.1", "::1"), "::1", True),
        (("127.0.0.1",), "127.0.0.2", False),
        (("10.0.0.0/8",), "10.255.0.1", True),
        (("10.0.0.0/8",), "11.0.0.1", False),
        (("10.0.0.0/8",), "::ffff:10.1.1.1", True),
        (("::ffff:10.0.0.0/104",), "10.1.1.1", True),
        (("::/0",), "10.1.1.1", False),
        (("fe80::/10",), "fe80::1%eth0", True),
        (("*",), "203.0.113.9", True),
        ((), "127.0.0.1", False),
        ((), "", True),  # a unix socket: its permissions have decided
        (("10.0.0.0/8",), "nonsense", False),
    ],
)
def test_peers(entries, peer, trusted) -> None:
    trust = Trust(entries)
    assert trust(peer) is trusted
    assert trust(peer) is trusted


def test_strangers_do_not_fill_the_memory() -> None:
    trust = Trust(("10.0.0.1",))
    for number in range(5000):
        assert not trust(f"192.0.{number >> 8}.{number & 255}")
    assert len(trust._known) <= 1024
