"""Processes: fork, reap, kill, and becoming another user. What to do about them is decided elsewhere.

The only door to fork, waitpid and kill. A child is held by a pidfd where the system has them: a process id
can be given to somebody else between our looking and our shooting, a pidfd cannot.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from threadcorn.errors import BootError, ExitCode
from threadcorn.system import signals
from threadcorn.system.signals import Sig

__all__ = ["Child", "Death", "Program", "become", "end_fork", "fork", "is_alive", "kill", "reap"]


@dataclass(slots=True)
class Child:
    """A process of ours. `pidfd` is -1 where there are none, and after `close`."""

    pid: int
    pidfd: int = -1

    def close(self) -> None:
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


@dataclass(frozen=True, slots=True)
class Death:
    """How a child ended: with an exit code, or by a signal."""

    pid: int
    code: int | None
    signal: int | None = None
    dumped: bool = False

    def words(self, *, out_of_memory: bool = False) -> str:
        """The cause as a person would say it."""
        if self.signal is None:
            return f"exited with code {self.code}"
        by = signals.name_of(self.signal)
        if self.signal == Sig.SIGKILL:
            return f"killed by {by}" + (", by the kernel because memory was used up" if out_of_memory else "")
        return f"killed by {by}" + (", core dumped" if self.dumped else "")


@dataclass(frozen=True, slots=True)
class Program:
    """What is on disk, as we were started: to be executed again in the same place."""

    argv: Sequence[str]  # the executable first
    environ: Mapping[str, str]
    directory: str

    def execute(self, extra: Mapping[str, str]) -> NoReturn:
        """Become it. Raises OSError, and then this process is still what it was."""
        environ = {**self.environ, **extra}
        for name in ("WATCHDOG_PID", "LISTEN_PID"):
            # systemd's watchdog is fed, and its sockets are taken, by whoever finds his own number there.
            if name in environ:
                environ[name] = str(os.getpid())
        os.chdir(self.directory)
        os.execve(self.argv[0], list(self.argv), environ)


def fork(live: Callable[[], int]) -> Child:
    """Fork; in the child run `live` and end with the exit code it returns. Raises OSError.

    Signals are held back until the child has taken off its parent's handlers (`signals.become_child`, first
    thing in `live`): one that came in between would be written into the parent's wake-up descriptor, and a
    TERM for the child would stop the server.
    """
    # What is still in Python's buffers would otherwise be written twice.
    _flush()
    mask = signals.block_all()
    try:
        pid = os.fork()
        if pid == 0:
            _be_the_child(live)
    finally:
        signals.restore(mask)
    return Child(pid, _pidfd(pid))


def _be_the_child(live: Callable[[], int]) -> None:
    code: int = ExitCode.INTERNAL
    try:
        code = live()
    except BaseException:  # noqa: BLE001 - nothing may reach the parent's code, which is below us on the stack
        traceback.print_exc()
    finally:
        try:
            _flush()
        finally:
            # Not sys.exit: it would wait for threads that are stuck in the application.
            os._exit(code & 0xFF)


def end_fork(code: object) -> NoReturn:
    """End a process that the application has forked, with what it gave to `sys.exit()`."""
    _flush()
    os._exit(code & 0xFF if isinstance(code, int) else code is not None)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass  # closed, full, or None under a daemon: there is nobody to tell


def _pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):  # not Linux; an old kernel, a sandbox, no descriptors left
        return -1


def reap() -> list[Death]:
    """Everybody who has died, known or not: we may be pid 1. Never waits.

    A loop, because signals merge: one CHLD may stand for many deaths.
    """
    deaths: list[Death] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return deaths
        if pid == 0:
            return deaths
        if os.WIFSIGNALED(status):
            deaths.append(Death(pid, None, os.WTERMSIG(status), os.WCOREDUMP(status)))
        elif os.WIFEXITED(status):
            deaths.append(Death(pid, os.WEXITSTATUS(status)))


def kill(child: Child, number: Sig) -> bool:
    """Send a signal. False: it is gone already, or out of our reach."""
    try:
        if child.pidfd < 0 or not signals.send_by_pidfd(child.pidfd, number):
            os.kill(child.pid, number)
    except (ProcessLookupError, PermissionError):
        # The second: a worker whose application has made it somebody whom we may not signal.
        return False
    return True


def is_alive(pid: int) -> bool:
    """Whether there is such a process, of whomever. One that has ended and that nobody has reaped is none: it
    may stay for ever in a container whose first process does not reap."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2][:1] not in (b"Z", b"X")
    except OSError:
        return True  # no /proc here, or it has gone meanwhile


def become(user: int | None, group: int | None, *, initgroups: bool) -> None:
    """Be that user from now on, and never anybody else again. Raises BootError.

    The supplementary groups go as well: a worker of `www-data` that is still in root's groups may read
    what only root's groups may read.
    """
    if user is None and group is None:
        return
    name, primary = _passwd(user)
    if group is None:
        group = primary
    try:
        if os.geteuid() == 0:
            if initgroups and name is not None and group is not None:
                os.initgroups(name, group)
            elif group is not None:
                os.setgroups([group])
        if group is not None and (group != os.getgid() or group != os.getegid()):
            os.setgid(group)
        if user is not None and (user != os.getuid() or user != os.geteuid()):
            os.setuid(user)
    except OSError as error:
        raise BootError(
            f"cannot become user {user} and group {group}: {error.strerror}",
            "start the server as root, or leave --user and --group out",
        ) from error
    if user and hasattr(os, "getresuid") and os.getresuid() != (user, user, user):
        # Only possible with capabilities that keep the saved id: then root is one call away.
        raise BootError(f"the system keeps a way back from user {user}: {os.getresuid()}", "start as root")


def _passwd(user: int | None) -> tuple[str | None, int | None]:
    """Name and primary group, where the system knows the user."""
    if user is None:
        return None, None
    import pwd

    try:
        entry = pwd.getpwuid(user)
    except KeyError:
        return None, None
    return entry.pw_name, entry.pw_gid
