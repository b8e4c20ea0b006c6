"""CPUs by affinity mask and control groups, read from pretended /proc and /sys."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from threadcorn.system.cpus import capacity, idle_time, usable_cpus

MASK = len(os.sched_getaffinity(0))


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))


def world(root: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


def test_without_control_groups_the_mask_counts(tmp_path: Path) -> None:
    assert usable_cpus(str(tmp_path)) == MASK


@pytest.mark.usefixtures("eight")
@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "300000 100000\n"}, 3),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "9900000 100000\n"}, 8),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "nonsense"}, 8),
        (
            # The tightest from our group up to the root binds us.
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
                "sys/fs/cgroup/a/cpu.max": "200000 100000\n",
            },
            2,
        ),
        (
            # The path is the host's; below the mount there is only our group.
            {"proc/self/cgroup": "0::/docker/abc\n", "sys/fs/cgroup/cpu.max": "400000 100000\n"},
            4,
        ),
        ({"proc/self/cgroup": "0::/../x\n", "sys/fs/cgroup/cpu.max": "400000 100000\n"}, 4),
        (
            {
                "proc/self/cgroup": "5:memory:/x\n4:cpu,cpuacct:/docker/abc\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "250000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            2,
        ),
        (
            {
                "proc/self/cgroup": "4:cpu:/g\n",
                "sys/fs/cgroup/cpu/g/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/g/cpu.cfs_period_us": "100000\n",
            },
            8,
        ),
    ],
)
def test_quota_bounds_the_mask(tmp_path: Path, files: dict[str, str], cpus: int) -> None:
    assert usable_cpus(world(tmp_path, files)) == cpus


@pytest.mark.usefixtures("eight")
def test_capacity_is_not_rounded(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}
    assert capacity(world(tmp_path, files)) == 0.5


def test_idle_time_is_that_of_the_cpus_that_we_may_run_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 10})
    lines = ["cpu  9 9 9 900000 9 0", "cpu0 1 1 1 4000 1 0", "cpu1 1 1 1 500 25 0", "cpu10 1 1 1 300 0 0"]
    root = world(tmp_path, {"proc/stat": "\n".join([*lines, "intr 1 2 3", "cpu1 0 0 0 7 7 0"])})
    assert idle_time(root) == 825 / os.sysconf("SC_CLK_TCK")


def test_idle_time_that_nobody_tells(tmp_path: Path) -> None:
    assert idle_time(str(tmp_path)) == 0.0


def test_idle_time_of_this_machine_goes_on_and_is_no_more_than_there_is() -> None:
    before, began = idle_time(), time.monotonic()
    until = time.thread_time() + 0.05
    while time.thread_time() < until:
        pass
    after = idle_time()
    tick = 1 / os.sysconf("SC_CLK_TCK")
    assert 0 <= after - before <= (time.monotonic() - began) * MASK + MASK * tick - 0.05
