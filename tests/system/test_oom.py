"""The count of processes that the kernel killed for memory, wherever it is kept."""

from __future__ import annotations

import pytest

from threadcorn.system.oom import OomWatch

V2 = ("0::/app.slice/one\n", "sys/fs/cgroup/app.slice/one/memory.events", "low 0\noom 5\noom_kill {}\n")
V2_CONTAINER = ("0::/hosts/name\n", "sys/fs/cgroup/memory.events", "oom_kill {}\noom_group_kill 0\n")
V2_OUTSIDE = ("0::/../../x\n", "sys/fs/cgroup/memory.events", "oom_kill {}\n")
V1 = (
    "3:cpu:/a\n2:memory:/docker/x\n",
    "sys/fs/cgroup/memory/docker/x/memory.oom_control",
    "under_oom 0\noom_kill {}\n",
)
MACHINE = ("", "proc/vmstat", "nr_free_pages 1\noom_kill {}\n")


def write(root, path, text):
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.mark.parametrize(("groups", "path", "text"), [V2, V2_CONTAINER, V2_OUTSIDE, V1, MACHINE])
def test_a_count_that_rises_is_seen_once(tmp_path, groups, path, text):
    """In a control group of either version, or of the machine."""
    write(tmp_path, "proc/self/cgroup", groups)
    write(tmp_path, path, text.format(7))
    watch = OomWatch(str(tmp_path))
    assert not watch.rose()
    write(tmp_path, path, text.format(8))
    assert watch.rose()
    assert not watch.rose()


def test_our_group_goes_before_the_machine(tmp_path):
    """What another container loses is not our matter."""
    write(tmp_path, "proc/self/cgroup", V2[0])
    write(tmp_path, V2[1], V2[2].format(0))
    write(tmp_path, MACHINE[1], MACHINE[2].format(1))
    watch = OomWatch(str(tmp_path))
    write(tmp_path, MACHINE[1], MACHINE[2].format(2))
    assert not watch.rose()


def test_where_nobody_counts(tmp_path):
    """Never."""
    watch = OomWatch(str(tmp_path))
    assert not watch.rose()


def test_nonsense_is_no_count(tmp_path):
    """A file that says something else is as good as none."""
    write(tmp_path, "proc/vmstat", "oom_kill many\noom_kill\n")
    assert not OomWatch(str(tmp_path)).rose()
