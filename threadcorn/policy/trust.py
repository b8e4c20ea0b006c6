"""Whose word about others is taken: addresses and networks of proxies."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

__all__ = ["Trust", "usual"]

#: Peers that are remembered. Proxies are few; strangers must not fill the memory.
_REMEMBERED = 1024


class Trust:
    """`Trust(entries)(peer)`: is this address one of them? Asked once for each connection.

    A peer without an address came through a unix socket, whose file permissions have decided already.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        entries = tuple(entries)
        self._everybody = "*" in entries
        self._networks = [ip_network(entry) for entry in entries if entry != "*"]
        self._known: dict[str, bool] = {}

    def __call__(self, peer: str) -> bool:
        if self._everybody or not peer:
            return True
        known = self._known.get(peer)
        if known is None:
            known = self._judge(peer)
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[peer] = known
        return known

    def _judge(self, peer: str) -> bool:
        try:
            address = usual(ip_address(peer.partition("%")[0]))
        except ValueError:
            return False
        return any(
            address in network
            # A list may hold the mapped form, too.
            or (isinstance(network, IPv6Network) and isinstance(address, IPv4Address)
                and IPv6Address(f"::ffff:{address}") in network and network.prefixlen >= 96)
            for network in self._networks
        )  # fmt: skip


def usual(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """An IPv4 client of a socket for both families is an IPv4 client."""
    return getattr(address, "ipv4_mapped", None) or address
