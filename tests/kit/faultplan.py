"""Faults by counting: the n-th call of one kind fails, in a real process, for n = 1, 2, 3, ...

strace(1) stands between the process and the kernel and answers in the kernel's place (`inject`). So no seam
is needed in the program, and the fault is where it would be: behind the system call, not behind a mock of it.

    for fault in FaultPlan(pid, "accept4", "EMFILE"):
        with fault:
            ...                 # the same clients each time
        assert ...              # what must hold whatever failed

The loop ends with the first run in which no call was left to fail: then every call has failed once. Calls are
counted for each thread. What threads and processes tell each other over pipes and socket pairs of their own
cannot fail in these ways; name the threads whose calls are meant.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

from tests.kit.eventually import eventually
from tests.kit.tools import need

__all__ = ["Fault", "FaultPlan"]

#: Names of one call on different machines and in different versions of the C library.
_ALSO = {
    "accept4": "?accept,?accept4",
    "epoll_wait": "?epoll_wait,?epoll_pwait,?epoll_pwait2",
    "fork": "?fork,?vfork,?clone,?clone3",
    "open": "?open,?openat",
    "poll": "?poll,?ppoll",
    "thread": "?clone,?clone3",
}
_END = 5.0


class FaultPlan:
    """`call` fails with `error` in these threads (a process number stands for its main thread). `only` is a
    path: other files are spared. After `most` runs it is enough."""

    def __init__(
        self, threads: Sequence[int], call: str, error: str, *, only: str = "", most: int = 200
    ) -> None:
        self.threads = threads
        self.call = call
        self.error = error
        self.only = only
        self.most = most

    def __iter__(self) -> Iterator[Fault]:
        for number in range(1, self.most + 1):
            fault = Fault(self.threads, self.call, self.error, str(number), only=self.only)
            yield fault
            if not fault.met:
                return


class Fault:
    """One run. `when` is strace's: N the N-th call alone, N+ that one and all behind it, N+2 every second."""

    def __init__(self, threads: Sequence[int], call: str, error: str, when: str, *, only: str = "") -> None:
        self.threads = threads
        self.only = only
        self.call = call
        self.error = error
        self.when = when
        self.met = 0  # how many calls have failed
        self.trace = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="tc-fault-")

    def __repr__(self) -> str:
        return f"<{self.call} fails with {self.error}, call {self.when}>"

    def __enter__(self) -> Fault:
        calls = _ALSO.get(self.call, self.call)
        what = f"retval={self.error}" if self.error.isdigit() else f"error={self.error}"
        folder = Path(self._folder.name)
        command = [
            need("strace"), *(f"-p{thread}" for thread in self.threads), "-o", str(folder / "trace"),
            *(["-P", self.only] if self.only else []),
            "-e", f"trace={calls}", "-e", f"inject={calls}:{what}:when={self.when}", "-e", "signal=none",
        ]  # fmt: skip
        with (folder / "err").open("wb") as err:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=err, stderr=err)

        def attached() -> None:
            """strace has taken hold of every thread"""
            assert self._process is not None
            assert self._process.poll() is None, (folder / "err").read_text()
            for thread in self.threads:
                status = Path(f"/proc/{thread}/status").read_text(encoding="ascii")
                assert f"TracerPid:\t{self._process.pid}\n" in status

        try:
            eventually(attached)
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()
        if error is not None:
            print(f"{self!r}\n{self.trace}")

    def _leave(self) -> None:
        """Let go of the process. strace writes the rest of its lines before it ends."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        try:
            process.wait(_END)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_END)
        with contextlib.suppress(OSError):
            self.trace = (Path(self._folder.name) / "trace").read_text(encoding="utf-8", errors="replace")
        self.met = self.trace.count("(INJECTED)")
        self._folder.cleanup()
