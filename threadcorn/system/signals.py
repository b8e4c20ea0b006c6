"""The signal table, and the one way signals are received.

A handler does nothing (law 7): the interpreter's C handler writes the signal's number as one byte into a
socket pair, the byte wakes whoever polls it, and the loop decides. Equal signals that are pending at the
same time may merge into one byte, so every meaning here is idempotent or, like CHLD, answered by a loop.

This is the only module that imports `signal`. Others use `Sig` and the functions below.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, unique
from types import FrameType

from threadcorn.errors import BootError
from threadcorn.system import altstack

Sig = signal.Signals


@unique
class Order(Enum):
    """What a signal asks of the process that gets it."""

    STOP_GRACEFUL = "stop, letting running requests finish"
    STOP_QUICK = "stop at once"
    RELOAD = "reload"
    MORE_WORKERS = "one worker more"
    FEWER_WORKERS = "one worker less"
    REOPEN_LOGS = "reopen logs"
    UPGRADE = "upgrade"
    RETIRE_WORKERS = "drain the workers, but stay"
    REAP = "reap"
    ABORT = "dump all stacks and die"


@dataclass(frozen=True, slots=True)
class Row:
    """One signal: what it means to the arbiter and to a worker. None: the worker ignores it."""

    number: Sig
    arbiter: Order | None
    worker: Order | None
    manual: str


TABLE: dict[Sig, Row] = {
    row.number: row
    for row in (
        Row(
            Sig.SIGTERM,
            Order.STOP_GRACEFUL,
            Order.STOP_GRACEFUL,
            "Stop: no new connections, running requests get `graceful_timeout` to finish.",
        ),
        Row(Sig.SIGINT, Order.STOP_QUICK, Order.STOP_QUICK, "Stop at once. A second one kills what is left."),
        Row(Sig.SIGQUIT, Order.STOP_QUICK, Order.STOP_QUICK, "The same as INT."),
        Row(
            Sig.SIGHUP,
            Order.RELOAD,
            None,
            "Read the configuration and the code again. A new generation of workers takes over slot by slot; "
            "if it does not boot, the old one serves on.",
        ),
        Row(Sig.SIGTTIN, Order.MORE_WORKERS, None, "One worker more."),
        Row(Sig.SIGTTOU, Order.FEWER_WORKERS, None, "One worker less, but never less than one."),
        Row(Sig.SIGUSR1, Order.REOPEN_LOGS, Order.REOPEN_LOGS, "Open the log files again, after a rotation."),
        Row(
            Sig.SIGUSR2,
            Order.UPGRADE,
            None,
            "Start a new arbiter from the program on disk and hand over to it.",
        ),
        Row(
            Sig.SIGWINCH, Order.RETIRE_WORKERS, None, "As a daemon: drain all workers, but keep the sockets."
        ),
        Row(Sig.SIGCHLD, Order.REAP, None, "A child has ended."),
        Row(Sig.SIGABRT, None, Order.ABORT, "Sent by the arbiter to a worker whose heartbeat has stopped."),
    )
}

ARBITER_SIGNALS: tuple[Sig, ...] = tuple(row.number for row in TABLE.values() if row.arbiter is not None)
WORKER_SIGNALS: tuple[Sig, ...] = tuple(
    row.number for row in TABLE.values() if row.worker is not None and row.worker is not Order.ABORT
)
# Their default action would end an arbiter that boots. WINCH is ignored by default.
ARBITER_EARLY: tuple[Sig, ...] = (Sig.SIGHUP, Sig.SIGTTIN, Sig.SIGTTOU, Sig.SIGUSR1, Sig.SIGUSR2)
# `pkill -HUP threadcorn` reaches the workers too and must not kill them. CHLD is not here: an application
# that starts subprocesses needs the default.
WORKER_IGNORED: tuple[Sig, ...] = tuple(
    row.number for row in TABLE.values() if row.worker is None and row.number is not Sig.SIGCHLD
)


#: Twice is not the same as once.
_COUNTED = {Sig.SIGTTIN, Sig.SIGTTOU}


def _handler(number: int, frame: FrameType | None) -> None:
    """Nothing: the byte in the wake-up descriptor is the event."""


class SignalReader:
    """Receives `numbers` as bytes on a descriptor. In the main thread, else BootError; one in a process.

    `early`: until `listen` is called these are only remembered, and the others do what they did before. A
    server that boots must not be ended by a HUP or USR1 that came a moment too soon, but TERM ends an import
    that hangs. Without a descriptor: what the application forks meanwhile would write its own signals to it.
    """

    def __init__(self, numbers: Iterable[int], *, early: Iterable[int] = ()) -> None:
        self._numbers = tuple(Sig(number) for number in numbers)
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._came = bytearray()
        altstack.widen()
        self._old_wakeup: int | None = None
        try:
            self._old = {Sig(number): signal.signal(number, self._remember) for number in early}
        except ValueError:
            self._reader.close()
            self._writer.close()
            raise BootError(
                "the server must be run in the main thread of its process: signals come to no other",
                "Beside other code it can be a process of its own, multiprocessing.Process(target=...).",
            ) from None
        if not self._old:
            self.listen()
        elif os.getpid() == 1:
            # To the first process of a container the kernel does not even deliver what it has no handler for:
            # TERM would be lost, and KILL come some seconds later. So it ends an import as Ctrl-C does.
            for ends in (Sig.SIGTERM, Sig.SIGQUIT):
                self._old[ends] = signal.signal(ends, signal.default_int_handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if number in _COUNTED or number not in self._came:
            self._came.append(number)

    def listen(self) -> None:
        altstack.widen()  # once more: faulthandler may have come meanwhile
        # A full pair means that thousands of bytes wait unread: dropping more loses nothing, see above,
        # and a warning printed from a handler helps nobody.
        self._old_wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in self._numbers:
            self._old.setdefault(number, signal.signal(number, _handler))
            signal.siginterrupt(number, False)
        # Whoever started us may have blocked them (a mask survives exec).
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._numbers)
        if self._came:
            self._writer.send(self._came)

    def fileno(self) -> int:
        return self._reader.fileno()

    def read(self) -> list[int]:
        """The numbers that came, oldest first; empty if none did. Never waits.

        Each is told once, unless it counts: somebody who sends TERM again and again until the process is gone
        would otherwise keep it from going.
        """
        numbers: list[int] = []
        while True:
            try:
                data = self._reader.recv(4096)
            except BlockingIOError:
                return numbers
            for number in data:
                if number not in self._numbers:
                    continue  # the interpreter writes those for which the application has a handler, too
                if number in _COUNTED or number not in numbers:
                    numbers.append(number)
            if len(data) < 4096:
                return numbers

    def close(self, *, deaf: bool = False) -> None:
        """Put back what was there before. `deaf`: the process is about to end, and a second TERM or Ctrl-C in
        its last moments must not make a death of it."""
        for number, old in self._old.items():
            ignored = deaf and number is not Sig.SIGCHLD
            signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL if old is None else old)
        self._old = {}
        if self._old_wakeup is not None:
            signal.set_wakeup_fd(self._old_wakeup)
        self._reader.close()
        self._writer.close()

    def forget(self) -> None:
        """In a forked child: close the inherited pair without touching what it means to the parent.

        A child that kept it would write its own signals into its parent's loop.
        """
        self._old = {}
        self._reader.close()
        self._writer.close()


def block_all() -> set[signal.Signals | int]:
    """Hold all signals back, and return the mask to give to `restore`. Used around fork."""
    return set(signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()))


def restore(mask: Iterable[int]) -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def become_child(*, executes_us: bool = False) -> None:
    """In a forked child, signals still blocked: make every inherited disposition harmless, then unblock.

    Until the worker installs its own reader, a signal to stop ends it by default action, and the others do
    nothing, so that an early HUP or USR1 to the whole process group does not kill a booting worker. They have
    a handler for that: what the application executes would go on ignoring what we ignore, and a shell script
    cannot even set a trap for it. `executes_us`: what this child executes is meant to ignore them.
    """
    signal.set_wakeup_fd(-1)
    nothing = signal.SIG_IGN if executes_us else _handler
    for row in TABLE.values():
        ignored = row.number in WORKER_IGNORED or row.worker is Order.REOPEN_LOGS
        signal.signal(row.number, nothing if ignored else signal.SIG_DFL)
        if ignored:
            signal.siginterrupt(row.number, False)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def send_by_pidfd(fd: int, number: Sig) -> bool:
    """Signal the process behind a pidfd. False where the system cannot; ProcessLookupError if it is gone."""
    try:
        signal.pidfd_send_signal(fd, number)
    except ProcessLookupError:
        raise
    except (AttributeError, OSError):  # a sandbox that lets pidfd_open through and not this
        return False
    return True


def name_of(number: int) -> str:
    """SIGTERM for 15; "signal 63" for what has no name."""
    try:
        return Sig(number).name
    except ValueError:
        return f"signal {number}"
