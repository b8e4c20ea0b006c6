"""What the outside may see of us: the pid file, process titles, the ready descriptor, systemd's socket.

When something is announced is decided elsewhere. None of it may stop a server that serves: what fails
after the start is answered with False.
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from collections.abc import Iterable

from threadcorn.errors import BootError
from threadcorn.system.spawn import is_alive

#: Bytes of what may be a pid file. A longer one is something else, which a mistyped name must not cost.
LONGEST = 64

__all__ = ["PidFile", "notify_systemd", "set_title", "write_ready"]


class PidFile:
    """The arbiter's process id in a file, locked for as long as the arbiter lives.

    The lock tells a file that was left behind from one whose owner lives, also when the number in it has
    been given to somebody else meanwhile, which after a restart of a container is the rule. Readers never see
    half a file: it is written beside and renamed.
    """

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        self._fd = -1

    def create(self, *, takes_over: bool = False) -> None:
        """Raises BootError when another server holds it (unless that is our predecessor), or it cannot be
        written."""
        if takes_over:
            self._refuse_what_is_no_file()
        else:
            self.refuse()
        beside = f"{self.path}.{os.getpid()}"
        try:
            # 0644: a file that only root may read helps nobody who is asked "which pid is it?".
            # A new file, whatever was there: a link could lead to somebody's precious one.
            _unlink(beside)
            fd = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise self._cannot(error) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.fchmod(fd, 0o644)  # whatever the umask says
            os.write(fd, b"%d\n" % os.getpid())
            os.rename(beside, self.path)
        except OSError as error:
            os.close(fd)
            _unlink(beside)
            raise self._cannot(error) from error
        self.forget()
        self._fd = fd

    def refuse(self) -> None:
        """Raises BootError when it is another server's, or what is there is no pid file."""
        self._refuse_what_is_no_file()
        self._refuse_the_living()

    def restore(self) -> None:
        """Put it back, if somebody had put their own there, or taken it away. Raises as `create`."""
        if self._fd >= 0 and not self._is_there():
            self.create()

    def remove(self) -> None:
        """Take it away, if it is still ours: a successor may have put its own in the same place."""
        if self._fd >= 0 and self._is_there():
            _unlink(self.path)
        self.forget()

    def forget(self) -> None:
        """Let go of the lock only. In a child: the file is its parent's."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _is_there(self) -> bool:
        try:
            mine, there = os.fstat(self._fd), os.stat(self.path)
        except OSError:
            return False
        return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)

    def _refuse_what_is_no_file(self) -> None:
        # Root could put a file in the place of a device, /dev/null for all, and take it away at the end; and
        # to open a pipe takes until somebody writes to it.
        try:
            mode = os.stat(self.path).st_mode
        except OSError:
            return  # what is wrong, if anything, is told where it is opened
        if not stat.S_ISREG(mode):
            raise BootError(
                f"pid file {self.path!r}: what is there is no file",
                "name another path, or leave --pid out if nobody reads it",
            )

    def _refuse_the_living(self) -> None:
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._cannot(error) from error
        try:
            try:
                text = os.read(fd, LONGEST + 1).strip()
            except OSError as error:  # a directory
                raise self._cannot(error) from error
            if len(text) > LONGEST:
                raise BootError(
                    f"pid file {self.path!r}: what is there is no pid file, and would be lost",
                    "name another path, or remove the file if nobody needs it",
                )
            pid = int(text) if text.isdigit() and len(text) < 10 else 0
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise self._taken(pid) from None
            # Not locked: left behind, or of another program (gunicorn's has the same name and no lock).
            if pid > 0 and pid != os.getpid() and is_alive(pid):
                raise self._taken(pid)
        finally:
            os.close(fd)

    def _taken(self, pid: int) -> BootError:
        return BootError(
            f"pid file {self.path!r}: process {pid} is running",
            "stop that server first, or name another --pid; if it is no server, remove the file",
        )

    def _cannot(self, error: OSError) -> BootError:
        return BootError(
            f"pid file {self.path!r} cannot be written: {error.strerror}",
            "give a --pid in a directory that exists and may be written to",
        )


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass


def set_title(text: str) -> bool:
    """What ps shows. False where the optional package setproctitle is not installed."""
    try:
        from setproctitle import setproctitle
    except ImportError:
        return False
    setproctitle(text)
    return True


def write_ready(fd: int, addresses: Iterable[str]) -> bool:
    """One line, "ready ADDRESS...", then the end of the file. False if nobody reads."""
    line = " ".join(["ready", *addresses]) + "\n"
    try:
        os.write(fd, line.encode("utf-8", "surrogateescape"))
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def notify_systemd(path: str | None, *states: str, patience: float = 0.0) -> bool:
    """sd_notify(3) without the library: one datagram. False: a busy systemd had no room for it, not
    even after `patience` (seconds), and may have later. About one that is not there nothing can be done."""
    if not path:
        return True
    address = "\0" + path[1:] if path.startswith("@") else path
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.settimeout(patience)
            sender.sendto("\n".join(states).encode(), address)
    except (BlockingIOError, TimeoutError):
        return False
    except OSError:
        pass
    return True
