"""Framed messages and descriptors over a socket pair. Death of the peer is end-of-file.

SOCK_SEQPACKET keeps the borders between messages, delivers them in order, and ends with end-of-file when
the last copy of the other end is closed: a worker learns of the arbiter's death, and the arbiter of a
worker's, without asking. That is why a child closes every end that is not its own at once: one copy
left in a sibling would keep a dead process alive in the eyes of its peer.

Nothing here waits. A message that does not fit is kept and goes out at the next `flush`.
"""

from __future__ import annotations

import array
import errno
import os
import socket
from collections import deque
from collections.abc import Sequence

from threadcorn.messages import MAX_PACKET, Message, decode, encode

MAX_FDS = 253  # SCM_MAX_FD: the kernel takes no more descriptors with one packet
MAX_OUTBOX = 1024  # messages kept for a peer that does not read; more means that it never will
_GONE = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.ESHUTDOWN})
_AGAIN = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS})


class Channel:
    """One end. `ended` is true once the peer is gone; what it sent before can still be received."""

    __slots__ = ("_outbox", "_socket", "ended")

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._socket = end
        self._outbox: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self.ended = False

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        """Two ends. Which is whose is decided by who closes the other."""
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(left), cls(right)

    def fileno(self) -> int:
        return self._socket.fileno()

    # -- sending --

    def send(self, message: Message, fds: Sequence[int] = ()) -> bool:
        """Send, or keep for `flush`. False: the peer is gone, or has not read for very long.

        The descriptors are duplicated, so the caller keeps its own and may close them at once.
        """
        if self.ended or len(self._outbox) >= MAX_OUTBOX:
            return False
        if len(fds) > MAX_FDS:
            raise ValueError(f"{len(fds)} descriptors in one message, the kernel takes {MAX_FDS}")
        packet = encode(message)
        if not self._outbox and self._send(packet, fds):
            return True
        if not self.ended:
            self._outbox.append((packet, tuple(os.dup(fd) for fd in fds)))
        return not self.ended

    def flush(self) -> bool:
        """Send what was kept. True: nothing is left to send."""
        while self._outbox and not self.ended:
            packet, fds = self._outbox[0]
            if not self._send(packet, fds):
                break
            self._outbox.popleft()
            _close_all(fds)
        if self.ended:
            self._drop_outbox()
        return not self._outbox

    @property
    def wants_write(self) -> bool:
        return bool(self._outbox)

    def _send(self, packet: bytes, fds: Sequence[int]) -> bool:
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self._socket.sendmsg([packet], ancillary, socket.MSG_NOSIGNAL)
        except OSError as error:
            if error.errno in _AGAIN:
                return False
            if error.errno in _GONE:
                self.ended = True
                return False
            raise
        return True

    # -- receiving --

    def receive(self, limit: int = 64) -> list[Message]:
        """The messages that are there, at most `limit`. Look at `ended` afterwards. Never waits."""
        messages = []
        for message, fds in self.receive_with_fds(limit):
            _close_all(fds)  # nobody asked for them, and nobody else would ever close them
            messages.append(message)
        return messages

    def receive_with_fds(self, limit: int = 64) -> list[tuple[Message, list[int]]]:
        """The same with the descriptors that came along; they belong to the caller now (close-on-exec)."""
        received: list[tuple[Message, list[int]]] = []
        while len(received) < limit:
            try:
                packet, ancillary, _flags, _ = self._socket.recvmsg(
                    MAX_PACKET, socket.CMSG_SPACE(MAX_FDS * 4), socket.MSG_CMSG_CLOEXEC
                )
            except OSError as error:
                if error.errno in _AGAIN:
                    break
                if error.errno in _GONE:
                    self.ended = True
                    break
                raise
            fds = _descriptors(ancillary)
            if not packet:
                # No message is empty, so this is the end of file.
                _close_all(fds)
                self.ended = True
                break
            try:
                received.append((decode(packet), fds))
            except BaseException:
                _close_all(fds)
                for _message, earlier in received:
                    _close_all(earlier)
                raise
        return received

    # -- the end --

    def close(self) -> None:
        self.ended = True
        self._drop_outbox()
        self._socket.close()

    def _drop_outbox(self) -> None:
        while self._outbox:
            _close_all(self._outbox.popleft()[1])


def _descriptors(ancillary: Sequence[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return list(fds)


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
