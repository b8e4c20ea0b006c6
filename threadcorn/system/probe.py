"""Readings of processes and of the machine: psutil, the control group, pressure. Judges nothing.

The only door to psutil. Whatever it raises (the process is gone, access is denied, /proc is hidden, the
library itself is broken) means "not known", never the end of the arbiter: None is the answer, and memory and
descriptors are read from /proc directly where that works.

psutil knows no control groups and no pressure: those files are read here, and done without where there are
none.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Machine", "Probe", "Usage", "descriptor_limit", "machine", "open_descriptors"]

_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Usage:
    """One process at one moment. None: not known."""

    rss: int | None = None
    pss: int | None = None
    uss: int | None = None
    cpu: float | None = None  # seconds, user and system
    fds: int | None = None
    threads: int | None = None
    voluntary: int | None = None  # context switches
    involuntary: int | None = None
    status: str = ""


class Probe:
    """One process. Made once: psutil guards against a process id that was given to somebody else."""

    __slots__ = ("_process", "pid")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._process: Any = _try(lambda: _process(pid))

    def look(self) -> Usage:
        """The cheap readings: 140 microseconds."""
        usage: Usage | None = _try(self._cheap)
        if usage is None:
            return Usage(rss=_rss(self.pid), fds=open_descriptors(self.pid))
        return usage

    def _cheap(self) -> Usage:
        process = self._process
        with process.oneshot():
            cpu = process.cpu_times()
            switches = process.num_ctx_switches()
            return Usage(
                rss=process.memory_info().rss,
                cpu=cpu.user + cpu.system,
                fds=process.num_fds(),
                threads=process.num_threads(),
                voluntary=switches.voluntary,
                involuntary=switches.involuntary,
                status=process.status(),
            )

    def rss(self) -> int | None:
        """Resident memory alone: 20 microseconds."""
        found: int | None = _try(lambda: self._process.memory_info().rss)
        return found if found is not None else _rss(self.pid)

    def memory(self) -> tuple[int | None, int | None]:
        """PSS and USS. The kernel walks every page: 150 microseconds for a small process, milliseconds for a
        large one."""
        found = _try(self._full)
        return found if found is not None else (None, None)

    def _full(self) -> tuple[int | None, int | None]:
        full = self._process.memory_full_info()
        return getattr(full, "pss", None), full.uss


def _process(pid: int) -> Any:
    import psutil

    return psutil.Process(pid)


def _try(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except Exception:  # noqa: BLE001 - psutil reads what other programs write: anything may come
        return None


def _rss(pid: int) -> int | None:
    fields = _read(f"/proc/{pid}/statm").split()
    return int(fields[1]) * _PAGE if len(fields) > 1 and fields[1].isdigit() else None


def open_descriptors(pid: int) -> int | None:
    """How many descriptors a process has; None where that is not told."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return None


def descriptor_limit(pid: int) -> int | None:
    """How many descriptors the process may have open."""
    for line in _read(f"/proc/{pid}/limits").splitlines():
        if line.startswith("Max open files"):
            word = line.split()[3]
            return int(word) if word.isdigit() else None
    return None


# -- the machine -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Machine:
    """What our control group may use and uses, and how much it is held up. None where nobody tells."""

    memory_limit: int | None = None
    memory_used: int | None = None
    cpu_limit: float | None = None  # processors
    oom_kills: int | None = None
    throttled_seconds: float | None = None
    cpu_pressure: float | None = None  # percent of the last ten seconds, "some"
    memory_pressure: float | None = None
    io_pressure: float | None = None


def machine(root: str = "/") -> Machine:
    """Read it now: about ten small files."""
    group = _group(root)
    events = _table(_read(f"{group}/memory.events"))
    cpu = _table(_read(f"{group}/cpu.stat"))
    return Machine(
        memory_limit=_number(_read(f"{group}/memory.max")),
        memory_used=_number(_read(f"{group}/memory.current")),
        cpu_limit=_quota(_read(f"{group}/cpu.max")),
        oom_kills=events.get("oom_kill"),
        throttled_seconds=cpu["throttled_usec"] / 1e6 if "throttled_usec" in cpu else None,
        cpu_pressure=_pressure(group, root, "cpu"),
        memory_pressure=_pressure(group, root, "memory"),
        io_pressure=_pressure(group, root, "io"),
    )


def _group(root: str) -> str:
    for line in _read(os.path.join(root, "proc/self/cgroup")).splitlines():
        hierarchy, _, rest = line.partition(":")
        if hierarchy == "0":
            inside = rest.partition(":")[2].strip("/")
            place = os.path.join(root, "sys/fs/cgroup", inside)
            if ".." not in inside.split("/") and os.path.isdir(place):
                return place
    # In a container the path may be the host's: the mount itself is then our group.
    return os.path.join(root, "sys/fs/cgroup")


def _pressure(group: str, root: str, kind: str) -> float | None:
    for path in (f"{group}/{kind}.pressure", os.path.join(root, "proc/pressure", kind)):
        for line in _read(path).splitlines():
            words = line.split()
            if words[:1] == ["some"]:
                return _float(dict(word.partition("=")[::2] for word in words[1:]).get("avg10", ""))
    return None


def _table(text: str) -> dict[str, int]:
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _number(text: str) -> int | None:
    text = text.strip()
    return int(text) if text.isdigit() else None  # "max" is no limit


def _quota(text: str) -> float | None:
    """cpu.max: microseconds a period, and the period."""
    words = text.split()
    if len(words) != 2 or not (words[0].isdigit() and words[1].isdigit() and int(words[1])):
        return None  # "max" is no limit
    return int(words[0]) / int(words[1])


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
