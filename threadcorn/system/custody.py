"""What the vault is made of: a mark for each connection in shared memory, and a wire for descriptors.

A worker sends a copy of each connection's descriptor to the arbiter, once. From then on it only marks, with
one store into shared memory, how far the connection is; what it has read of a request that cannot run yet it
sends after the copy. When the worker dies, its marks, the copies and those bytes are what is left: whatever
was not running has lost nothing (arbiter/vault.py).

A mark is made before what it tells of is done. Whether it was done is told by an amount beside the mark: the
bytes of a request that must have arrived at the arbiter, or the bytes that the kernel must have taken.

A mark is `serial << 3 | state`. It stands at the number that the descriptor has in its worker, and the serial
tells apart the connections that have had that number one after the other: a copy whose serial is not the one
in the mark is of a connection that has ended, or that somebody else has now.
"""

from __future__ import annotations

import array
import errno
import os
import resource
import socket
import struct
from collections.abc import Iterator

from threadcorn.system.probe import open_descriptors
from threadcorn.system.scoreboard import shared_memory

__all__ = [
    "ANSWERING", "COPY", "FREE", "FRESH", "HALF", "IDLE", "LAST", "MOST_READ", "PIECE", "PLACES", "SERIALS",
    "STATES", "TAKEN", "WRAP", "Custody",
]  # fmt: skip

#: States, in the order of a connection's life. Below TAKEN nothing of it is in the worker only.
FREE = 0  # no connection: ended, or given away
FRESH = 1  # its first request has not come
IDLE = 2  # between two requests
HALF = 3  # a part of a request, or one that waits for a thread, was read, and is sent after the copy
TAKEN = 4  # bytes of a request have been read, and none of an answer sent
ANSWERING = 5  # an answer has begun
LAST = 6  # the last bytes of an answer are being sent
STATES = 7  # the bits of a mark that are the state
SERIALS = 1 << 29
WRAP = 0xFFFFFFFF  # amounts are kept modulo 2**32

#: Descriptors with higher numbers are not kept: memory that nobody touches costs nothing, but is not endless.
PLACES = 1 << 16
#: Descriptors that are left to everything else the arbiter does, at least; and beside what slots own.
RESERVE, BESIDE = 512, 128
#: Page of the worker, number of the descriptor there, serial, and where in a request the bytes belong.
_HEADER = struct.Struct("=IIIi")
COPY = -1  # in place of where: this is a descriptor, and what is known of its connection
_ROOM = 1 << 20  # bytes that may wait on the wire; the kernel clamps it to about 280 descriptors
#: Bytes of a request that are sent after the copy, at most, and in one piece. Who takes over gets more than
#: an inbox holds in a file in memory, where there is such a thing.
MOST_READ = (256 if hasattr(os, "memfd_create") else 64) << 10
PIECE = 32 << 10
_LARGEST = PIECE + 8192
_AGAIN = frozenset((errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS, errno.ETOOMANYREFS))


class Custody:
    """Made by the arbiter before the first fork, for so many worker pages; workers inherit it.

    `room` is how many copies the arbiter may have: `most`, or what the system's limit leaves. A soft limit is
    raised for it, in the arbiter only: with more than 1024 descriptors an application's select() would fail.
    """

    def __init__(self, pages: int, most: int) -> None:
        self._limit = soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        # What slots own is open by now. Each worker has two more, and pages are for two in each slot: without
        # them nobody who leaves, or dies, could be replaced.
        reserve = max(RESERVE, (open_descriptors(os.getpid()) or 0) + pages + BESIDE)
        allowed = most + reserve if hard == resource.RLIM_INFINITY else min(most + reserve, hard)
        if soft != resource.RLIM_INFINITY and allowed > soft:
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        else:
            allowed = max(allowed, soft)
        self.room = max(0, min(most, allowed - reserve))
        self._memory = shared_memory(2 * pages * PLACES * 4).cast("I")
        self._receive, self._send = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self._receive, self._send):
            end.setblocking(False)
        self._send.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _ROOM)

    def marks(self, page: int) -> memoryview[int]:
        """Of one worker. Only that worker writes."""
        return self._memory[2 * page * PLACES : (2 * page + 1) * PLACES]

    def amounts(self, page: int) -> memoryview[int]:
        """Of one worker: to a mark of HALF the bytes that were read, to one of LAST those that are sent."""
        return self._memory[(2 * page + 1) * PLACES : (2 * page + 2) * PLACES]

    # -- a worker's side

    def put(self, page: int, fd: int, serial: int, packet: bytes) -> bool:
        """Send a copy of the descriptor. False: there is no room on the wire now, or nobody reads it."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", (fd,)))]
        return self._sent([_HEADER.pack(page, fd, serial, COPY), packet], rights)

    def add(self, page: int, fd: int, serial: int, where: int, data: bytes) -> bool:
        """Send what was read of a request, from byte `where` of it on. False as above."""
        return self._sent([_HEADER.pack(page, fd, serial, where), data], [])

    def _sent(self, packet: list[bytes], rights: list[tuple[int, int, array.array[int]]]) -> bool:
        try:
            self._send.sendmsg(packet, rights, socket.MSG_NOSIGNAL)
        except OSError as error:
            if error.errno in _AGAIN or error.errno in (errno.EPIPE, errno.ECONNRESET, errno.EMSGSIZE):
                return False
            raise
        return True

    def leave_to_parent(self) -> None:
        """In a child: what is on the wire is the arbiter's to take."""
        self._receive.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, self._limit)

    # -- the arbiter's side

    def fileno(self) -> int:
        return self._receive.fileno()

    def taken(self, most: int) -> Iterator[tuple[int, int, int, int, bytes, int]]:
        """What has been put: page, number there, serial, COPY and a packet, or where and bytes of a request;
        then the copy, which is the caller's now, or -1."""
        for _ in range(most):
            try:
                packet, ancillary, _, _ = self._receive.recvmsg(
                    _LARGEST, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC
                )
            except OSError as error:
                if error.errno in _AGAIN:
                    return
                raise
            fds = array.array("i")
            for level, kind, data in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
            page, number, serial, where = _HEADER.unpack_from(packet)
            if where == COPY and not fds:
                continue  # we had no number left for it, and the kernel has dropped it
            yield page, number, serial, where, packet[_HEADER.size :], fds[0] if fds else -1

    def close(self) -> None:
        """The end of the server."""
        self._receive.close()
        self._send.close()
