"""The exception tree and the exit codes: who is at fault, and how the process ends.

Four children, one per culprit: the person who configures (`ConfigError`), the peer on the wire
(`ProtocolViolation`), the application or the machine it boots on (`BootError`), and ourselves
(`InternalError`). Workers and arbiter end with the same `ExitCode`, so that the arbiter can tell a
bad application from a bad day.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from traceback import TracebackException

__all__ = [
    "MORE_DESCRIPTORS",
    "BootError",
    "ConfigError",
    "ExitCode",
    "InternalError",
    "ProtocolViolation",
    "ThreadcornError",
    "explain",
    "traceback_text",
]


class ExitCode(IntEnum):
    """How a process of ours ends. Members are documented in docs/settings.md by their sentences below."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    BOOT_FAILED = 3
    APP_NOT_LOADABLE = 4
    TOO_MANY_DEATHS = 5

    @property
    def sentence(self) -> str:
        return _SENTENCES[self]


_SENTENCES = {
    ExitCode.OK: "done: stopped as asked, or the check passed",
    ExitCode.INTERNAL: "a fault of threadcorn itself; please report it",
    ExitCode.USAGE: "a mistake on the command line, in the environment or in the config file",
    ExitCode.BOOT_FAILED: "the server could not start: address, permission, user, or the application raised",
    ExitCode.APP_NOT_LOADABLE: "the application was not found, cannot be called, or has a syntax error",
    ExitCode.TOO_MANY_DEATHS: "workers died too often in too short a time",
}


class ThreadcornError(Exception):
    """The root of everything that threadcorn raises on purpose."""

    exit_code: int = ExitCode.INTERNAL


class ConfigError(ThreadcornError):
    """The configuration is wrong. Carries every problem found, not only the first one."""

    exit_code = ExitCode.USAGE

    def __init__(self, problems: Iterable[str] | str) -> None:
        self.problems: list[str] = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class ProtocolViolation(ThreadcornError):
    """The peer sent what may not be served. `status` is the answer it should get."""

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        self.reason = reason
        super().__init__(f"{status}: {reason}")


class BootError(ThreadcornError):
    """The application or the machine does not allow a start. `hint` says what to try."""

    def __init__(self, message: str, hint: str = "", exit_code: int = ExitCode.BOOT_FAILED) -> None:
        self.message = message
        self.hint = hint
        self.exit_code = exit_code
        super().__init__(f"{message}\n{hint}" if hint else message)


class InternalError(ThreadcornError):
    """A promise of our own is broken: an illegal event, an impossible state."""

    def __init__(self, message: str) -> None:
        super().__init__(f"{message} (this is a fault of threadcorn; please report it)")


#: What to do about it.
MORE_DESCRIPTORS = "raise the limit of open descriptors (ulimit -n, LimitNOFILE=), or lower --max-workers"
_OURS = os.path.dirname(os.path.abspath(__file__)) + os.sep


def explain(error: BaseException) -> tuple[int, str]:
    """The exit code for an error that ends a process, and what a person should read about it.

    Our own errors are sentences. A syntax error is shown as Python shows it, without the frames of the
    import. Anything else keeps its traceback: the application's is cut to the application's frames, one
    that was raised by our own code is whole and asks to be reported.
    """
    if isinstance(error, ThreadcornError):
        return int(error.exit_code), str(error)
    if isinstance(error, SyntaxError):
        return int(ExitCode.APP_NOT_LOADABLE), _only(error)
    text = traceback_text(error)
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return int(ExitCode.BOOT_FAILED), f"{text}\n{MORE_DESCRIPTORS}"  # it can happen anywhere
    if _raised_by_us(error):
        return int(ExitCode.INTERNAL), f"{text}\n(this is a fault of threadcorn; please report it)"
    return int(ExitCode.BOOT_FAILED), text


def traceback_text(error: BaseException) -> str:
    """The traceback as the application's author wants it: from their first frame on.

    What led there (the program's start, our frames, the import machinery's) is the same every time and
    says nothing.
    """
    import traceback  # slow to import, and a process that is well never needs it

    whole = traceback.TracebackException.from_exception(error)
    _trim(whole, set())
    return "".join(whole.format()).rstrip()


def _only(error: BaseException) -> str:
    import traceback

    return "".join(traceback.format_exception_only(type(error), error)).rstrip()


def _raised_by_us(error: BaseException) -> bool:
    step = error.__traceback__
    while step is not None and step.tb_next is not None:
        step = step.tb_next
    return step is not None and step.tb_frame.f_code.co_filename.startswith(_OURS)


def _trim(whole: TracebackException, seen: set[int]) -> None:
    # Exceptions may be each other's context in a ring.
    if id(whole) in seen:
        return
    seen.add(id(whole))
    frames = list(whole.stack)
    # Only the first block of ours: further down the application may have called us (start_response).
    first = next((n for n, frame in enumerate(frames) if frame.filename.startswith(_OURS)), 0)
    while first < len(frames) and _machinery(frames[first].filename):
        first += 1
    if frames and first == len(frames) and _import_machinery(frames[-1].filename):
        whole.stack.clear()  # the import machinery's alone: the message names the file
    elif first < len(frames):
        whole.stack[:] = [frame for frame in frames[first:] if not _import_machinery(frame.filename)]
    for other in (whole.__cause__, whole.__context__):
        if other is not None:
            _trim(other, seen)


def _machinery(filename: str) -> bool:
    return filename.startswith(_OURS) or _import_machinery(filename)


def _import_machinery(filename: str) -> bool:
    return filename.startswith("<frozen importlib") or filename.endswith(
        f"{os.sep}importlib{os.sep}__init__.py"
    )
