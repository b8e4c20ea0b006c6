"""Workers that die at once, that die often, and that do not want to die."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.kit import ServerProcess, eventually
from tests.kit.processes import freeze
from tests.kit.server import FORKED

ONCE = """
import os
if os.path.exists("die"):
    os._exit(9)
def app(environ, start):
    start("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


def test_f12_a_worker_that_dies_at_every_boot_is_tried_again_ever_later() -> None:
    """The pauses grow, each is told, and the arbiter answers signals meanwhile."""
    with ServerProcess(None, source=ONCE, check_descriptors=False) as server:
        (server.directory / "die").touch()
        os.kill(server.workers()[0], signal.SIGKILL)

        def told() -> list[float]:
            """three failures, each with its pause"""
            found = [float(part.split()[0]) for part in server.log.split("the next try is in ")[1:]]
            assert len(found) >= 3
            return found

        pauses = eventually(told, within=20)
        assert pauses[2] > pauses[0]
        server.signal(signal.SIGUSR1)
        eventually(lambda: "Handling signal: usr1" in server.log)
        assert server.log.count("Booting worker") < 10
        (server.directory / "die").unlink()
        eventually(lambda: len(server.workers()) == 1 and server.get("/").status == 200, within=30)


def deaths(count: int) -> None:
    with ServerProcess("tests.kit.apps:hello", "--workers", "4", check_descriptors=False) as server:
        arbiter = psutil.Process(server.pid)
        before = len(os.listdir(f"/proc/{server.pid}/fd"))
        for _ in range(count):
            victims = server.workers()
            for victim in victims:
                os.kill(victim, signal.SIGKILL)

            def others(gone: list[int] = victims) -> None:
                """others have come"""
                assert len(server.workers()) == 4
                assert not set(server.workers()) & set(gone)

            eventually(others, within=30)
        eventually(lambda: server.get("/").status == 200)

        def none_left() -> None:
            """no zombie, and no descriptor more than before"""
            assert len(arbiter.children()) == 4
            assert len(os.listdir(f"/proc/{server.pid}/fd")) <= before

        eventually(none_left)


def test_f23_many_deaths_leave_no_zombie() -> None:
    deaths(2)


@pytest.mark.long
@pytest.mark.limit(3000)
def test_f23_a_thousand_deaths_leave_no_zombie() -> None:
    deaths(250)


STAYS = """
import threading, time
def for_ever():
    while True:
        time.sleep(60)
for daemon in (True, False):
    threading.Thread(target=for_ever, daemon=daemon).start()
def app(environ, start):
    start("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


def test_f24_threads_of_the_application_do_not_hold_up_the_end() -> None:
    with ServerProcess(None, source=STAYS, stop_within=10) as server:
        assert server.get("/").status == 200
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 5


def test_f33_everybody_stopped_for_longer_than_the_timeout_is_no_reason_to_kill() -> None:
    """A machine that was suspended: after it wakes the workers are the same."""
    with ServerProcess("tests.kit.apps:hello", "--workers", "2", "--timeout", "1") as server:
        workers = server.workers()
        everybody = [server.pid, *workers]
        for pid in everybody:
            freeze(pid)
        until = time.monotonic() + 3
        eventually(lambda: time.monotonic() > until)
        for pid in everybody:
            os.kill(pid, signal.SIGCONT)
        until = time.monotonic() + 2
        while time.monotonic() < until:
            assert server.get("/").status == 200
        assert server.workers() == workers


def test_f56_a_worker_with_a_tenth_of_a_processor_is_not_killed() -> None:
    """Stopped for nine tenths of the time, as a control group's quota does it."""
    with ServerProcess("tests.kit.apps:hello", "--timeout", "1") as server:
        (worker,) = server.workers()
        for _ in range(30):
            freeze(worker)
            until = time.monotonic() + 0.09
            eventually(lambda at=until: time.monotonic() > at)
            os.kill(worker, signal.SIGCONT)
            until = time.monotonic() + 0.01
            eventually(lambda at=until: time.monotonic() > at)
        assert server.get("/").status == 200
        assert server.workers() == [worker]


EATS = """
eaten = []
def app(environ, start):
    if environ["PATH_INFO"] == "/eat":
        while True:
            eaten.append(bytearray(b"x") * (1 << 20))
    start("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""
GROUPS = Path("/sys/fs/cgroup/memory")


@pytest.mark.skipif(not os.access(GROUPS, os.W_OK), reason="no memory controller (v1)")
def test_f04_a_worker_killed_for_memory_is_replaced_and_named() -> None:
    with ServerProcess(None, "--workers", "2", source=EATS) as server:
        score = int(Path(f"/proc/{server.pid}/oom_score_adj").read_text())
        for pid in server.workers():
            assert int(Path(f"/proc/{pid}/oom_score_adj").read_text()) >= score
        group = GROUPS / f"threadcorn-test-{server.pid}"
        group.mkdir()
        try:
            (group / "memory.limit_in_bytes").write_text(str(200 << 20))
            for pid in server.workers():
                (group / "cgroup.procs").write_text(str(pid))
            with server.connect() as client:
                client.request("/eat")
                client.to_end(within=30)

            def killed() -> None:
                """one of the two was killed, and there are two again"""
                assert "killed by SIGKILL" in server.log
                assert len(server.workers()) == 2

            eventually(killed, within=20)
            assert server.get("/").status == 200
        finally:
            for pid in server.workers():
                (GROUPS / "cgroup.procs").write_text(str(pid))
            eventually(lambda: _removed(group))


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except OSError:
        return False
    return True


THREADED = """
import logging, threading, time
def chatter():
    while True:
        logging.getLogger("chatter").warning("x")
threading.Thread(target=chatter, daemon=True).start()
def app(environ, start):
    logging.getLogger("app").warning("served")
    start("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


def test_f60_locks_that_threads_held_at_the_fork_are_free_in_the_workers() -> None:
    """A preloaded application whose thread logs all the time: no worker gets a taken lock."""
    with ServerProcess(
        None, "--preload", "--workers", "4", source=THREADED, tolerate=FORKED, check_descriptors=False
    ) as server:
        for _ in range(40):
            assert server.get("/").body == b"ok"
        assert "preload_app: the application has started 1 thread;" in server.log


def test_f13_a_storm_of_reloads_ends_with_one_generation() -> None:
    with ServerProcess("tests.kit.apps:hello", "--workers", "2") as server:
        for _ in range(100):
            server.signal(signal.SIGHUP)
            until = time.monotonic() + 0.01
            eventually(lambda at=until: time.monotonic() > at)
            assert server.running
        assert server.get("/").status == 200

        def calm() -> None:
            """two workers, for a second"""
            seen = server.workers()
            assert len(seen) == 2
            until = time.monotonic() + 1
            while time.monotonic() < until:
                assert server.workers() == seen

        eventually(calm, within=40)
        server._before = {}  # all workers are new
