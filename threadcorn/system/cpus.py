"""How many CPUs this process may use: the affinity mask, bounded by the quota of its control groups.

`os.cpu_count()` counts the machine's, which in a container with half a CPU means dozens of workers
that take turns on it.
"""

from __future__ import annotations

import os

__all__ = ["usable_cpus"]


def usable_cpus(root: str = "/") -> int:
    """At least 1. `root` is where /proc and /sys are looked for."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        count = os.cpu_count() or 1
    quota = _quota(root)
    # Rounded down: a worker that gets no CPU of its own only adds thread switches and latency.
    return max(1, count if quota is None else min(count, int(quota)))


def _quota(root: str) -> float | None:
    """CPUs by the tightest quota from our group up to the root, or None without one."""
    found = []
    for hierarchy, controllers, group in _groups(root):
        if hierarchy == "0":
            found += [_v2(folder) for folder in _upwards(root, "sys/fs/cgroup", group)]
            found += [_v2(folder) for folder in _upwards(root, "sys/fs/cgroup/unified", group)]
        elif "cpu" in controllers:
            for mount in ("cpu", "cpu,cpuacct"):
                found += [_v1(folder) for folder in _upwards(root, f"sys/fs/cgroup/{mount}", group)]
    return min((quota for quota in found if quota is not None), default=None)


def _groups(root: str) -> list[tuple[str, list[str], str]]:
    lines = _read(os.path.join(root, "proc/self/cgroup")).splitlines()
    parts = [line.split(":", 2) for line in lines]
    return [(part[0], part[1].split(","), part[2]) for part in parts if len(part) == 3]


def _upwards(root: str, mount: str, group: str) -> list[str]:
    """The group's folder and all above it. A limit of any of them binds us.

    In a container the path in /proc may be the host's and lead nowhere below the mount; the mount itself
    is then our group, and it is always the last of the list.
    """
    folders = [os.path.join(root, mount)]
    for part in group.split("/"):
        # "..": the process sits outside of the namespace's root; nothing below the mount is about it.
        if part == "..":
            break
        if part:
            folders.append(os.path.join(folders[-1], part))
    return folders[::-1]


def _v2(folder: str) -> float | None:
    quota, _, period = _read(os.path.join(folder, "cpu.max")).strip().partition(" ")
    return _ratio(quota, period)


def _v1(folder: str) -> float | None:
    quota = _read(os.path.join(folder, "cpu.cfs_quota_us")).strip()
    period = _read(os.path.join(folder, "cpu.cfs_period_us")).strip()
    return _ratio(quota, period)


def _ratio(quota: str, period: str) -> float | None:
    try:
        numbers = float(quota), float(period)
    except ValueError:  # "max", or no such file
        return None
    return numbers[0] / numbers[1] if numbers[0] > 0 and numbers[1] > 0 else None


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
