"""A berth is what a slot owns for life: its shard of every address, its bell, its inbox.

The arbiter makes all berths before it forks anybody, so every worker of every generation inherits all of
them, its own and its siblings'. A worker that is replaced leaves its berth as it is; the successor finds
waiting connections, a bell that may be ringing, and an inbox with what was handed over.
"""

from __future__ import annotations

import array
import errno
import os
import socket
import sys
from collections.abc import Mapping, Sequence

from threadcorn.errors import MORE_DESCRIPTORS, BootError
from threadcorn.system.listeners import ShardGroup

__all__ = ["Berth", "close_all", "hand_down", "handed_down", "leave_to_parent", "open_berths"]

# Room for a burst of connections that a draining sibling hands over before this worker gets to read them.
# The kernel clamps it to its own limit.
INBOX_BYTES = 1 << 20
#: Bytes of a packet that travel in the inbox itself; more of them in a file in memory.
LETTER = 128 << 10
_EMPTY = frozenset((errno.EAGAIN, errno.EWOULDBLOCK))
_FULL = _EMPTY | {errno.ENOBUFS, errno.ETOOMANYREFS, errno.EMFILE, errno.ENFILE}


class Berth:
    """One slot's place. `bell` is polled for reading; siblings `ring()` it, its owner `hush()`es it."""

    __slots__ = ("_ringer", "bell", "inbox", "listeners", "slot")
    inbox: tuple[socket.socket, socket.socket]

    def __init__(
        self, slot: int, listeners: list[socket.socket], inherited: Sequence[int] | None = None
    ) -> None:
        self.slot = slot
        self.listeners = listeners
        if inherited is not None:
            self.bell, self._ringer = inherited[:2]
            self.inbox = socket.socket(fileno=inherited[2]), socket.socket(fileno=inherited[3])
            return
        self.bell, self._ringer = _open_bell()
        try:
            self.inbox = _open_inbox()
        except BaseException:
            for fd in {self.bell, self._ringer}:
                os.close(fd)
            raise

    def ring(self) -> None:
        """Wake whoever polls this bell. Never blocks; ringing twice is ringing once."""
        try:
            os.write(self._ringer, _ONE)
        except BlockingIOError:
            pass  # it is ringing as loud as it can

    def hush(self) -> bool:
        """Stop the bell; True if it rang. To be called before looking at the queues, never after: a ring in
        between would be lost."""
        try:
            return bool(os.read(self.bell, 4096))
        except BlockingIOError:
            return False

    def give(self, packet: bytes, fd: int) -> bool:
        """Put a connection into the inbox. False: it is full, or cannot take it now."""
        fds = [fd]
        try:
            if len(packet) > LETTER:
                fds.append(os.memfd_create("threadcorn-packet"))
                while packet:
                    packet = packet[os.write(fds[1], packet) :]
                packet = b"\n"
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
            self.inbox[1].sendmsg([packet], rights, socket.MSG_NOSIGNAL)
        except OSError as error:
            if error.errno in _FULL:
                return False
            raise
        finally:
            for file in fds[1:]:
                os.close(file)
        return True

    def take(self) -> tuple[bytes, int] | None:
        """A packet and a connection from the inbox (-1: it was lost). None: it is empty. Raises OSError."""
        receive = self.inbox[0]
        try:
            # The kernel drops a descriptor that it finds no number for, and the connection with it.
            for spare in (os.dup(receive.fileno()), os.dup(receive.fileno())):
                os.close(spare)
            packet, ancillary, _, _ = receive.recvmsg(
                LETTER + 4096, socket.CMSG_SPACE(8), socket.MSG_CMSG_CLOEXEC
            )
        except OSError as error:
            if error.errno in _EMPTY:
                return None
            raise
        fds = array.array("i")
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        if len(fds) == 2:
            with open(fds[1], "rb") as file:
                packet = os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0)
        return packet, fds[0] if fds else -1

    def filenos(self) -> list[int]:
        """Every descriptor of the berth except the listeners, which belong to their groups."""
        return sorted({self.bell, self._ringer, self.inbox[0].fileno(), self.inbox[1].fileno()})

    def close(self) -> None:
        for fd in {self.bell, self._ringer} - {-1}:
            os.close(fd)
        self.bell = self._ringer = -1
        for end in self.inbox:
            end.close()

    def __repr__(self) -> str:
        return f"<Berth {self.slot} listeners={[s.fileno() for s in self.listeners]} bell={self.bell}>"


def open_berths(
    groups: Sequence[ShardGroup], count: int, inherited: Mapping[str, int] | None = None
) -> list[Berth]:
    """`count` berths over these groups, in slot order. Whatever fails, nothing is left open. Raises BootError
    when there are not descriptors enough.

    `inherited` is what a predecessor's `hand_down` gave: bells and inboxes then are the same ones, so that
    what its workers hand over is read by ours.
    """
    berths: list[Berth] = []
    try:
        for slot in range(count):
            theirs = [(inherited or {}).get(name) for name in _names(slot)]
            known = [fd for fd in theirs if fd is not None]
            whole = known if len(known) == len(theirs) else None
            berths.append(Berth(slot, [group.shard(slot) for group in groups], whole))
    except BaseException as error:
        # A list comprehension would lose the berths that were made when a descriptor limit is hit.
        close_all(berths)
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            raise BootError(
                f"too many open descriptors: there are not enough for {count} workers (max_workers)",
                MORE_DESCRIPTORS,
            ) from error
        raise
    return berths


def hand_down(berths: Sequence[Berth]) -> dict[str, int]:
    """Bells and inboxes by name, for a successor."""
    named: dict[str, int] = {}
    for berth in berths:
        fds = berth.bell, berth._ringer, berth.inbox[0].fileno(), berth.inbox[1].fileno()  # noqa: SLF001
        named.update(zip(_names(berth.slot), fds, strict=True))
    return named


def handed_down(named: Mapping[str, int]) -> int:
    """How many berths a predecessor has handed down."""
    return sum(name.startswith("berth ") for name in named) // len(_names(0))


def _names(slot: int) -> list[str]:
    return [f"berth {slot} {what}" for what in ("bell", "ringer", "inbox", "letter box")]


def close_all(berths: Sequence[Berth]) -> None:
    for berth in berths:
        berth.close()


def leave_to_parent(berths: Sequence[Berth], groups: Sequence[ShardGroup]) -> None:
    """In a process that the application forked: close what came with the fork and is none of its business.

    Registered in worker/forks.py. Without it a long-lived child of the
    application keeps listeners open after the server has ended, and clients would connect to nobody.
    """
    close_all(berths)
    for group in groups:
        group.release()  # never close(): that would shut the listeners down for everybody


_ONE = (1).to_bytes(8, sys.byteorder)


def _open_bell() -> tuple[int, int]:
    """Descriptors to read and to ring; one and the same where the system has eventfd."""
    if hasattr(os, "eventfd"):
        fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        return fd, fd
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    return reader, writer


def _open_inbox() -> tuple[socket.socket, socket.socket]:
    """(receive, send): one packet a connection, so that a reader never sees half of one."""
    # macOS has no SEQPACKET. A datagram pair keeps packets whole too; what it lacks, the end of file when the
    # other side closes, never happens here because everybody holds both ends.
    kind = socket.SOCK_DGRAM if sys.platform == "darwin" else socket.SOCK_SEQPACKET
    receive, send = socket.socketpair(socket.AF_UNIX, kind)
    for end in (receive, send):
        end.setblocking(False)
    send.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, INBOX_BYTES)
    return receive, send
