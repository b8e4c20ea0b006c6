"""Whether the kernel killed somebody because memory was used up: the one death that leaves no other trace.

The count of our own control group where there is one, else the machine's. A worker that was killed while
the count rose was most likely the one; a person who reads it knows where to look.
"""

from __future__ import annotations

import os

__all__ = ["OomWatch"]


class OomWatch:
    """`rose()` compares with the last look."""

    __slots__ = ("_last", "_path")

    def __init__(self, root: str = "/") -> None:
        self._path = next((path for path in _candidates(root) if _count(path) is not None), None)
        self._last = self._look()

    def rose(self) -> bool:
        """Whether somebody was killed since the last call."""
        now = self._look()
        before, self._last = self._last, now
        return now > before

    def _look(self) -> int:
        return (None if self._path is None else _count(self._path)) or 0


def _candidates(root: str) -> list[str]:
    found = []
    for line in _read(os.path.join(root, "proc/self/cgroup")).splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        inside = group.strip("/")
        if ".." in inside.split("/"):
            inside = ""  # we sit outside of the namespace's root
        # In a container the path may be the host's: the mount itself is then our group.
        for place in (inside, ""):
            if hierarchy == "0":
                found.append(os.path.join(root, "sys/fs/cgroup", place, "memory.events"))
            elif "memory" in controllers.split(","):
                found.append(os.path.join(root, "sys/fs/cgroup/memory", place, "memory.oom_control"))
    return [*found, os.path.join(root, "proc/vmstat")]


def _count(path: str) -> int | None:
    for line in _read(path).splitlines():
        name, _, value = line.partition(" ")
        if name == "oom_kill" and value.isascii() and value.isdigit():
            return int(value)
    return None


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
