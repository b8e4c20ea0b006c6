"""How many CPUs this process may use: the affinity mask, bounded by the quota of its control groups.

`os.cpu_count()` counts the machine's, which in a container with half a CPU means dozens of workers
that take turns on it.
"""

from __future__ import annotations

import os

__all__ = ["capacity", "idle_time", "usable_cpus"]


def usable_cpus(root: str = "/") -> int:
    """At least 1. `root` is where /proc and /sys are looked for."""
    # Rounded down: a worker that gets no CPU of its own only adds thread switches and latency.
    return max(1, int(capacity(root)))


def capacity(root: str = "/") -> float:
    """Seconds of processor time that we may use in a second."""
    count = len(_cpus())
    quota = _quota(root)
    return count if quota is None else min(count, quota)


def _cpus() -> set[int]:
    try:
        return os.sched_getaffinity(0)
    except AttributeError:  # not Linux
        return set(range(os.cpu_count() or 1))


def idle_time(root: str = "/") -> float:
    """Seconds for which the CPUs that we may run on had nothing to do, all together, since the system
    started; in steps of 10 ms. 0.0 where the kernel does not tell."""
    names = {f"cpu{number}" for number in _cpus()}
    ticks = 0
    for line in _read(os.path.join(root, "proc/stat")).splitlines():
        fields = line.split(None, 6)
        if len(fields) > 5 and fields[0] in names:
            ticks += int(fields[4]) + int(fields[5])  # idle, and idle while a disk is waited for
        elif fields[:1] == ["intr"]:
            break
    return ticks / os.sysconf("SC_CLK_TCK")


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
