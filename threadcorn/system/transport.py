"""Bytes to a client that may not read them: send what fits, keep the rest in order, never wait.

`Outbox` holds what the kernel would not take yet: references to what the application gave, then,
when those become too many, a temporary file. Law: an outbox is created and published before the
poller is asked for writability, so that no edge can fall between the two.
"""

from __future__ import annotations

import errno
import io
import os
import socket
import stat
import sys
import tempfile
import threading
from collections import deque
from typing import Any

#: The peer is gone, in one of its ways of saying so (send(2), recv(2)).
GONE = frozenset(
    (
        errno.EPIPE,
        errno.ECONNRESET,
        errno.ECONNABORTED,
        errno.ENOTCONN,
        errno.ESHUTDOWN,
        errno.ETIMEDOUT,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.ENETDOWN,
        errno.EBADF,
    )
)

#: One sendfile(2) call moves at most this much, so that a fast client cannot keep the leader.
SENDFILE_STEP = 1 << 20
#: Bytes that one pwrite(2) puts into a temporary file. A call with ten megabytes takes five times as long as
#: many small ones, because the kernel then makes its cache of large pages (measured on ext4).
SPOOL_STEP = 64 << 10
#: Bytes one flush may send before other connections get their turn.
FLUSH_TURN = 4 << 20


class Budget:
    """Bytes that all connections of a worker together may keep in memory. Beyond it things go to files."""

    __slots__ = ("_held", "_lock", "limit", "used")

    def __init__(self, limit: int) -> None:
        self._held: dict[int, int] = {}  # by identity: how many outboxes refer to an object
        self.limit = limit or sys.maxsize
        self.used = 0
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Count `size` bytes in, unless they are too many."""
        with self._lock:
            if self.used + size > self.limit:
                return False
            self.used += size
            return True

    def give(self, size: int) -> None:
        """Count `size` bytes out."""
        if size:
            with self._lock:
                self.used -= size

    def hold(self, thing: object, size: int) -> bool:
        """Count an object in, unless it is too much. A page that many clients get is in memory once."""
        with self._lock:
            held = self._held.get(id(thing), 0)
            if not held:
                if self.used + size > self.limit:
                    return False
                self.used += size
            self._held[id(thing)] = held + 1
            return True

    def release(self, thing: object, size: int) -> None:
        """Count it out. The caller has the object still, so its identity is its own."""
        with self._lock:
            held = self._held.pop(id(thing)) - 1
            if held:
                self._held[id(thing)] = held
            else:
                self.used -= size


class FileSpan:
    """Part of a file still to be sent. Owns its descriptor."""

    __slots__ = ("count", "descriptor", "offset")

    def __init__(self, descriptor: int, offset: int, count: int) -> None:
        self.descriptor = descriptor
        self.offset = offset
        self.count = count

    def close(self) -> None:
        os.close(self.descriptor)


class Truncated(Exception):
    """A file became shorter while it was being sent."""


class Outbox:
    """What one client has not taken yet. Appended to by the owner, flushed by whoever holds `token`."""

    __slots__ = (
        "_again",
        "_budget",
        "_held",
        "_items",
        "_memory",
        "_memory_limit",
        "_spool",
        "_spool_dir",
        "more",
        "sent",
        "size",
        "token",
    )

    def __init__(self, memory_limit: int, spool_dir: str | None, budget: Budget) -> None:
        self._budget = budget
        self._held: Any = None  # one large block that is kept as what it is, whatever its size
        self._items: deque[memoryview | FileSpan] = deque()
        self._memory = 0
        self._memory_limit = memory_limit
        self._spool: tuple[int, int] | None = None  # descriptor and length of the temporary file
        self._spool_dir = spool_dir
        self._again = False
        self.token = threading.Lock()
        self.more = False  # the last flush ended because its turn was over, not because the client was full
        self.size = 0
        self.sent = 0

    def append(self, data: bytes | memoryview) -> None:
        """Keep `data`; the caller is the connection's owner. Raises OSError when the disk is full."""
        with self.token:
            size = len(data)
            if self._spool is None and self._memory + size <= self._memory_limit and self._budget.take(size):
                self._items.append(memoryview(data))
                self._memory += size
            elif size > self._memory_limit and not self._items and self._hold(memoryview(data)):
                # It is in memory already. To write ten megabytes to a file for each of many clients costs
                # more than to remember them.
                self._items.append(memoryview(data))
            else:
                self._append_to_file(data)
            self.size += size

    def _hold(self, view: memoryview) -> bool:
        thing = view.obj
        if not self._budget.hold(thing, len(memoryview(thing))):
            return False
        self._held = thing
        return True

    def _release(self) -> None:
        thing, self._held = self._held, None
        if thing is not None:
            self._budget.release(thing, len(memoryview(thing)))

    def append_file(self, span: FileSpan) -> None:
        """Keep part of a file, whose descriptor becomes ours."""
        with self.token:
            self._items.append(span)
            self.size += span.count

    def _append_to_file(self, data: bytes | memoryview) -> None:
        if self._spool is None:
            descriptor, path = tempfile.mkstemp(prefix="threadcorn-out-", dir=self._spool_dir)
            os.unlink(path)
            self._spool = (descriptor, 0)
        descriptor, end = self._spool
        view = memoryview(data)
        done = 0
        try:
            while done < len(view):
                done += os.pwrite(descriptor, view[done : done + SPOOL_STEP], end + done)
        except OSError:
            if not end:  # no item refers to it: nobody else would close it, and the disk would stay full
                self._spool = None
                os.close(descriptor)
            raise
        self._spool = (descriptor, end + done)
        last = self._items[-1] if self._items else None
        if isinstance(last, FileSpan) and last.descriptor == descriptor:
            last.count += done
        else:
            self._items.append(FileSpan(descriptor, end, done))

    def flush(self, sock: socket.socket) -> bool:
        """Send what the kernel takes, but not more than a turn's worth. True when everything has left.

        May be called by the owner and by the leader at once: the second one leaves a mark and goes,
        the first one sees it and looks again. Raises OSError when the peer is gone, Truncated.
        """
        self._again = True
        while self._again:
            if not self.token.acquire(blocking=False):
                return False
            try:
                self._again = False
                self._flush_locked(sock)
            finally:
                self.token.release()
        return self.size == 0

    def _flush_locked(self, sock: socket.socket) -> None:
        items = self._items
        before = self._memory
        try:
            self._flush_items(sock, items)
        finally:
            self._budget.give(before - self._memory)

    def _flush_items(self, sock: socket.socket, items: deque[memoryview | FileSpan]) -> None:
        turn = self.sent + FLUSH_TURN
        self.more = False
        while items:
            if self.sent >= turn:
                # A client that reads as fast as we send would never let go of this thread.
                self.more = True
                return
            item = items[0]
            try:
                if isinstance(item, FileSpan):
                    step = min(item.count, SENDFILE_STEP)
                    done = os.sendfile(sock.fileno(), item.descriptor, item.offset, step)
                    if done == 0:
                        raise Truncated("the file became shorter while it was sent")
                    item.offset += done
                    item.count -= done
                    if item.count == 0:
                        self._drop(item)
                else:
                    done = sock.send(item)
                    own = item.obj is not self._held
                    if own:
                        self._memory -= done
                    if done == len(item):
                        items.popleft()
                        if not own:
                            self._release()
                    else:
                        items[0] = item[done:]
            except (BlockingIOError, InterruptedError):
                return
            self.size -= done
            self.sent += done

    def _drop(self, span: FileSpan) -> None:
        self._items.popleft()
        if self._spool is not None and span.descriptor == self._spool[0]:
            self._spool = None
        span.close()

    def close(self) -> None:
        """Forget everything and close what is open."""
        with self.token:
            for item in self._items:
                if isinstance(item, FileSpan):
                    item.close()
            self._items.clear()
            self._spool = None
            self._release()
            self._budget.give(self._memory)
            self.size = self._memory = 0


#: Files whose reading is that of their descriptor. Exactly these: what is derived of them may read otherwise.
_FILES = frozenset((io.BufferedReader, io.BufferedRandom, io.FileIO))


def regular_file(filelike: Any) -> tuple[int, int, int] | None:
    """Descriptor, offset and bytes left of the regular file behind an object, None when there is none.

    Only a regular file has a length that can be promised, and only one whose `read` gives what its
    descriptor holds: a gzip file has a descriptor, too, also inside a buffer, and so has what deciphers a
    file that it calls `file`. A file of which nothing is left is read: those of /proc say so of themselves.
    """
    try:
        file: Any = filelike
        if type(file) not in _FILES:
            # tempfile's wrapper, Django's File: what they read is what the file in them reads.
            file = getattr(filelike, "file", None)
            if type(file) not in _FILES:
                return None
            read = getattr(filelike, "read", None)
            if getattr(read, "__wrapped__", read) != file.read:
                return None
        if type(getattr(file, "raw", file)) is not io.FileIO:
            return None
        descriptor = file.fileno()
        offset = file.tell()
        status = os.fstat(descriptor)
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(status.st_mode) or status.st_size <= offset:
        return None
    return descriptor, offset, status.st_size - offset


def linger(sock: socket.socket) -> None:
    """Say that nothing more will come, so that the peer can read our answer before we close."""
    try:
        sock.shutdown(socket.SHUT_WR)
    except OSError as error:
        if error.errno not in GONE:
            raise
