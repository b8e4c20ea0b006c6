"""Readings of processes and of the machine; what cannot be read is None, and nothing is raised."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path
from types import FrameType

import psutil
import pytest

from threadcorn.system.probe import Machine, Probe, Usage, descriptor_limit, machine


def test_a_living_process_is_read() -> None:
    usage = Probe(os.getpid()).look()
    assert usage.rss is not None
    assert usage.rss > 1 << 20
    assert usage.fds == len(os.listdir("/proc/self/fd"))  # both count the one that lists
    assert usage.cpu is not None
    assert usage.threads is not None
    pss, uss = Probe(os.getpid()).memory()
    assert pss is not None
    assert uss is not None
    assert uss <= pss <= usage.rss + (64 << 20)
    assert descriptor_limit(os.getpid()) is not None


def test_a_process_that_is_gone_is_not_known() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    probe = Probe(child.pid)
    assert probe.look().rss
    child.communicate(b"\n")
    assert probe.look() == Usage()
    assert probe.rss() is None
    assert probe.memory() == (None, None)
    assert Probe(child.pid).look() == Usage()
    assert descriptor_limit(child.pid) is None


@pytest.mark.parametrize(
    "error",
    [psutil.NoSuchProcess(1), psutil.AccessDenied(1), psutil.ZombieProcess(1), OSError(13, "x")],
)
def test_whatever_psutil_raises_memory_is_read_from_proc(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    for name in ("memory_info", "memory_full_info", "cpu_times", "num_fds", "num_threads", "oneshot"):
        monkeypatch.setattr(psutil.Process, name, fail)
    probe = Probe(os.getpid())
    usage = probe.look()
    assert usage.rss
    assert usage.fds
    assert usage.cpu is None
    assert probe.rss()
    assert probe.memory() == (None, None)


def _write(root: Path, path: str, text: str) -> None:
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)


def test_the_control_group_and_pressure(tmp_path: Path) -> None:
    _write(tmp_path, "proc/self/cgroup", "0::/service\n")
    _write(tmp_path, "sys/fs/cgroup/service/memory.max", "1048576\n")
    _write(tmp_path, "sys/fs/cgroup/service/memory.current", "4096\n")
    _write(tmp_path, "sys/fs/cgroup/service/memory.events", "low 0\noom 1\noom_kill 3\n")
    _write(tmp_path, "sys/fs/cgroup/service/cpu.stat", "usage_usec 5\nthrottled_usec 2500000\n")
    _write(tmp_path, "sys/fs/cgroup/service/cpu.max", "150000 100000\n")
    _write(tmp_path, "sys/fs/cgroup/service/memory.pressure", "some avg10=12.50 avg60=0.00 total=1\n")
    _write(tmp_path, "proc/pressure/cpu", "some avg10=3.00 avg60=0.00 total=1\n")
    assert machine(str(tmp_path)) == Machine(1048576, 4096, 1.5, 3, 2.5, 3.0, 12.5, None)


def test_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    assert machine(str(tmp_path)) == Machine()
    _write(tmp_path, "proc/self/cgroup", "0::/../../x\nnonsense\n")
    _write(tmp_path, "sys/fs/cgroup/memory.max", "max\n")
    _write(tmp_path, "sys/fs/cgroup/cpu.stat", "throttled_usec soon\n\n")
    _write(tmp_path, "sys/fs/cgroup/cpu.max", "max 100000\n")
    _write(tmp_path, "proc/pressure/cpu", "some avg10=x\nsome\n")
    assert machine(str(tmp_path)) == Machine()


FAULTS = (
    psutil.NoSuchProcess(1),
    psutil.AccessDenied(1),
    psutil.ZombieProcess(1),
    FileNotFoundError(2, "/proc is hidden"),
    OSError(5, "out of season"),
    RuntimeError("a fault of psutil's"),
)


class FailAt:
    """A trace function that raises at call `number` of a Python function inside of psutil."""

    def __init__(self, number: int, fault: Exception) -> None:
        self.left = number
        self.fault = fault

    def __call__(self, frame: FrameType, event: str, arg: object) -> None:
        if "psutil" in frame.f_code.co_filename:
            self.left -= 1
            if self.left < 0:
                raise self.fault


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_whatever_call_inside_of_psutil_fails_it_is_not_known(fault: Exception) -> None:
    """Every call that psutil makes for a look fails once, in every way; each time there is an answer."""
    before = sys.gettrace()
    for number in itertools.count():
        trace = FailAt(number, fault)
        sys.settrace(trace)
        try:
            probe = Probe(os.getpid())
            usage, rss, memory = probe.look(), probe.rss(), probe.memory()
        finally:
            sys.settrace(before)
        assert usage.rss and rss, "resident memory is read from /proc then"
        assert memory == (None, None) or all(memory)
        if trace.left >= 0:
            break  # there were not so many
    assert number > 30, "that many calls have failed, one after the other"
