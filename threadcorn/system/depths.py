"""What a listener tells about itself: how many wait, how many were turned away.

By getsockopt, about a microsecond each, by whoever holds the descriptor. /proc/net/tcp and netlink tell
the same for a thousand times the price.
"""

from __future__ import annotations

import socket
import sys

__all__ = ["UNKNOWN", "depth", "drops", "is_listening"]

# Said where the system does not tell: unix sockets, other systems.
UNKNOWN = -1

SO_MEMINFO = 55  # Linux; Python has no name for it
_LINUX = sys.platform == "linux"
_TCP = socket.IPPROTO_TCP
_TCP_INFO: int = getattr(socket, "TCP_INFO", 11)
_ORDER = sys.byteorder


def depth(sock: socket.socket) -> int:
    """Connections that wait in this listener's accept queue, or UNKNOWN."""
    if not _LINUX:
        return UNKNOWN
    try:
        info = sock.getsockopt(_TCP, _TCP_INFO, 32)
    except OSError:
        return UNKNOWN  # a unix socket, or a system that only looks like Linux
    # tcpi_unacked: of a listener, the number of children that wait.
    return int.from_bytes(info[24:28], _ORDER)


def drops(sock: socket.socket) -> int:
    """SYNs and ACKs that this listener dropped because its queue was full, or UNKNOWN."""
    if not _LINUX:
        return UNKNOWN
    try:
        info = sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 36)
    except OSError:
        return UNKNOWN
    return int.from_bytes(info[32:36], _ORDER) if len(info) >= 36 else UNKNOWN


def is_listening(sock: socket.socket) -> bool:
    """Whether listen() was called on it. Where the system cannot say so, we believe it was."""
    try:
        return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except (OSError, AttributeError):
        return True
