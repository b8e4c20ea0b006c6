"""What the kernel knows of a connection: TCP_INFO, tcp(7). Of a Unix socket it tells nothing."""

from __future__ import annotations

import fcntl
import socket
import struct
import sys
import termios

__all__ = ["ended_after", "unconfirmed", "waited", "written"]


def waited(sock: socket.socket) -> float:
    """Seconds since something came in on a connection that was just accepted: the time it waited for that.

    Milliseconds are as fine as the kernel tells (tcp_info.tcpi_last_data_recv). 0.0 where it does not.
    """
    return _since(sock, _DATA)[0]


def ended_after(sock: socket.socket) -> float:
    """The peer has ended its side: how many seconds after its last byte? It sends nothing afterwards but
    that it has got what we send, so nobody knows once something was sent: the answer to the first of several
    requests that came together. 0.0 then, and where the kernel does not tell."""
    sent, data, anything = _since(sock, _SENT, _DATA, _ANYTHING)
    return 0.0 if sent < data else max(0.0, data - anything)


def written(sock: socket.socket) -> int:
    """Bytes that were ever given to the kernel to be sent on a connection that was accepted: what the peer
    has confirmed, and what lies here still. -1 where nobody knows."""
    try:
        waits = _queued(sock)
        while True:
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKED + 8)
            then, waits = waits, _queued(sock)
            if then == waits:  # else some was confirmed between the two looks
                break
    except (OSError, AttributeError):
        return -1
    return int.from_bytes(info[_ACKED:], sys.byteorder) + waits if len(info) == _ACKED + 8 else -1


def unconfirmed(sock: socket.socket) -> int:
    """Bytes that lie here still, or are under way: the peer has not confirmed them. Of a Unix socket those
    that it has not read, in pieces of some ten kilobytes, which the kernel counts larger than they are. 0
    where nobody knows."""
    try:
        return _queued(sock)
    except (OSError, ValueError):  # another kernel, or closed
        return 0


def _queued(sock: socket.socket) -> int:
    """tcp(7): SIOCOUTQ, which has the number of the terminals' call."""
    return struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0]  # type: ignore[no-any-return]


#: Where in tcp_info: tcpi_last_data_sent, tcpi_last_data_recv, tcpi_last_ack_recv, tcpi_bytes_acked.
_SENT, _DATA, _ANYTHING, _ACKED = 44, 52, 56, 120


def _since(sock: socket.socket, *places: int) -> list[float]:
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 60)
    except (OSError, AttributeError):  # another kernel, or a Unix socket
        return [0.0] * len(places)
    return [int.from_bytes(info[at : at + 4], sys.byteorder) / 1000 for at in places]
