"""A descriptor that takes log lines: one line, one write, and never a reason for a request to wait or fail.

Laws:

1. A line is one `write` on a descriptor opened O_APPEND: lines of many threads and processes end up
   side by side, never inside each other, and no lock is needed for it. (A pipe promises this up to
   4096 bytes a line.)
2. What cannot be written at once is dropped and counted. A full disk, a pipe that nobody reads and a pipe
   that nobody has any more look the same to the request: like nothing.
3. The descriptor's number never changes in the life of the object. Re-opening puts another file under it
   with `dup2`, so that a thread which writes at that moment hits either the old file or the new one.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from _thread import get_ident
from collections.abc import Callable

from threadcorn.errors import ConfigError

__all__ = ["LogFile", "open_log"]

# 64 KiB, the default, is 30 ms of a busy access log; a collector that is scheduled away for that long
# would cost lines. 1 MiB is what Linux gives everybody.
_PIPE_SIZE = 1 << 20

_STREAMS = {"/dev/stdout": 1, "/dev/stderr": 2}


class LogFile:
    """See the module. `path` is None for a standard stream, which cannot be re-opened."""

    __slots__ = (
        "_descriptor",
        "_followers",
        "_losses",
        "_owner",
        "_put",
        "_socket",
        "_torn",
        "path",
        "reason",
    )

    def __init__(self, descriptor: int, path: str | None, owner: tuple[int, int] = (-1, -1)) -> None:
        self.path = path
        self.reason = ""  # why the last lost line was lost
        self._descriptor = descriptor
        self._owner = owner
        self._followers: list[int] = []
        self._losses: dict[int, int] = {}  # by thread: two threads cannot add to one number without a lock
        self._torn = False
        self._socket: socket.socket | None = None
        self._put: Callable[[int, bytes], int] = os.write
        if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            # The journal's standard error. O_NONBLOCK would be seen by everybody who shares the socket.
            self._socket = socket.socket(fileno=descriptor)
            self._put = self._send

    @property
    def dropped(self) -> int:
        """Lines lost since the start, whole or in part."""
        return sum(list(self._losses.values()))

    def fileno(self) -> int:
        return self._descriptor

    def write(self, line: bytes) -> bool:
        """Write one line that ends in a newline, or drop it. Never raises, never waits for a reader."""
        if self._torn:
            # The last line is there in part. Without a newline this one would be glued to it.
            self._torn = False
            line = b"\n" + line
        try:
            written = self._put(self._descriptor, line)
        except OSError as error:
            self._lose(os.strerror(error.errno or 0))
            return False
        if written != len(line):
            self._torn = True
            self._lose("it fitted only in part")
            return False
        return True

    def _send(self, descriptor: int, line: bytes) -> int:
        if self._socket is None:
            return os.write(descriptor, line)
        return self._socket.send(line, socket.MSG_DONTWAIT | getattr(socket, "MSG_NOSIGNAL", 0))

    def _lose(self, reason: str) -> None:
        thread = get_ident()
        self._losses[thread] = self._losses.get(thread, 0) + 1
        self.reason = reason

    def capture(self, *descriptors: int) -> None:
        """Let these descriptors (1 and 2) lead to this file as well, now and after every re-opening."""
        self._followers = list(descriptors)
        for follower in descriptors:
            os.dup2(self._descriptor, follower)

    def reopen(self) -> None:
        """Open the file by its name again: it was rotated. Raises OSError, and the old one stays in use."""
        if self.path is None:
            return
        fresh = _open(self.path, self._owner)
        try:
            os.dup2(fresh, self._descriptor, inheritable=False)
            for follower in self._followers:
                os.dup2(fresh, follower)
        finally:
            os.close(fresh)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        elif self._descriptor >= 0:
            os.close(self._descriptor)
        # A number that was closed may be somebody else's in the next moment.
        self._socket, self._descriptor, self._put = None, -1, os.write


def open_log(target: str, standard: int, flag: str, owner: tuple[int, int] = (-1, -1)) -> LogFile:
    """The log that a setting names: '-' is the standard stream, anything else a path.

    `owner` are the user and group the workers will have: when root opens the file it is given to them,
    for it is they who must open it again after a rotation. Raises ConfigError with what to do.
    """
    if target == "-":
        return LogFile(_stream(standard), None)
    if target in _STREAMS:
        return LogFile(_stream(_STREAMS[target]), None)
    path = os.path.abspath(target)  # a later chdir must not move the log
    try:
        return LogFile(_open(path, owner), path, owner)
    except OSError as error:
        raise ConfigError([f"{flag} {target!r}: {_explain(error, path)}"]) from error


def _open(path: str, owner: tuple[int, int]) -> int:
    # O_NONBLOCK is for a FIFO: opening one waits for a reader, and writing to a full one waits as well.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o644)
    try:
        mode = os.fstat(descriptor).st_mode
        if owner != (-1, -1) and stat.S_ISREG(mode) and os.geteuid() == 0:
            os.fchown(descriptor, *owner)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _stream(number: int) -> int:
    """A descriptor of our own for a standard stream, one on which a write does not wait for a reader."""
    try:
        mode = os.fstat(number).st_mode
    except OSError:
        # Started with `2>&-`. The number may later be anybody's, so it must not be written to.
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    if stat.S_ISFIFO(mode):
        # O_NONBLOCK belongs to the open file, which the shell and every other process of the pipeline
        # may share. Opening the pipe once more through /proc gives us one with flags of its own.
        try:
            descriptor = os.open(f"/proc/self/fd/{number}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return os.dup(number)  # no /proc here: such a pipe can make us wait
        try:
            fcntl.fcntl(descriptor, getattr(fcntl, "F_SETPIPE_SZ", 1031), _PIPE_SIZE)
        except OSError:
            pass  # over the user's limit for pipes: the size it has will do
        return descriptor
    # A terminal is left to wait: whoever stops it wants to read, and would miss half of a traceback.
    return os.dup(number)


def _explain(error: OSError, path: str) -> str:
    directory = os.path.dirname(path)
    if error.errno == errno.ENOENT:
        return f"the directory {directory!r} does not exist; create it, or name another file"
    if error.errno in (errno.EACCES, errno.EPERM):
        # Which of the two it is decides what to do.
        where = f"the file {path!r}" if os.path.exists(path) else f"the directory {directory!r}"
        return f"user {os.geteuid()} may not write to {where}; change its owner or mode, or name another file"
    if error.errno == errno.EISDIR:
        return "this is a directory; name a file in it"
    if error.errno == errno.ENOTDIR:
        return f"a part of {directory!r} is not a directory; name another file"
    if error.errno == errno.ENXIO:
        return "nobody reads from this pipe yet; start its reader first, or name a file"
    if error.errno == errno.EROFS:
        return "the file system is read-only; name a file on another one, or - for the standard stream"
    return f"cannot be opened: {os.strerror(error.errno or 0)}; name another file"
