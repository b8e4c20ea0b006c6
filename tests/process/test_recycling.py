"""Workers that leak, crash, stop or hold the GIL: replaced, told, and nobody outside loses a request."""

from __future__ import annotations

import ctypes.util
import re
import time
from collections import Counter
from collections.abc import Callable

import psutil
import pytest

from tests.kit.admin import ADMIN, facts
from tests.kit.client import connect
from tests.kit.eventually import eventually
from tests.kit.load import Load
from tests.kit.processes import freeze
from tests.kit.server import ServerProcess

LEAK = """
import time
kept = []
def app(environ, start):
    time.sleep(0.005)
    kept.append(bytearray(b"x") * (1 << 20))
    start("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""

CRASH = """
import ctypes, faulthandler
def app(environ, start):
    if environ["PATH_INFO"] == "/export":
        faulthandler.disable()
        ctypes.string_at(0)  # this very thread faults; a signal that is sent may hit another one, later
    start("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""

EXIT = """
import os
def app(environ, start):
    if environ["PATH_INFO"].startswith("/exit/"):
        os._exit(int(environ["PATH_INFO"][6:]))
    start("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""

WEDGE = """
import ctypes, os
libc = ctypes.PyDLL(None)
def app(environ, start):
    pid = str(os.getpid())
    if environ["PATH_INFO"] == "/wedge":
        with open("wedged.tmp", "w") as file:
            file.write(pid)
        os.rename("wedged.tmp", "wedged")
        libc.sleep(30)
    start("200 OK", [("Content-Length", str(len(pid)))])
    return [pid.encode()]
"""


@pytest.mark.limit(120)
def test_a_leak_is_recycled_and_no_request_fails() -> None:
    """A megabyte a request, 120 MiB allowed: replaced again and again, memory bounded, none lost."""
    with ServerProcess(
        None,
        *ADMIN,
        *("--workers", "2", "--max-worker-memory", "120m", "--memory-measure", "uss"),
        source=LEAK,
        check_descriptors=False,
    ) as server:
        most = 0
        with Load(server) as load:

            def recycled() -> bool:
                """six workers have been replaced"""
                nonlocal most
                for pid in server.workers():
                    try:
                        most = max(most, psutil.Process(pid).memory_info().rss)
                    except psutil.Error:
                        continue
                reasons = facts(server)["server"]["recycles"]
                return sum(reasons.values()) >= 6

            eventually(recycled, within=60)
        assert load.failures == []
        assert load.done > 500
        assert most < 1200 << 20, f"{most >> 20} MiB"
        assert set(facts(server)["server"]["recycles"]) <= {"memory", "growth"}
        assert facts(server)["server"]["notes"] == []


def test_a_limit_below_the_size_of_an_idle_worker_is_given_up() -> None:
    """Recycling for memory stops loudly instead of going round for ever."""
    with ServerProcess(
        "tests.kit.apps:hello",
        *ADMIN,
        *("--max-worker-memory", "1m", "--memory-measure", "rss", "--probe-interval", "0.1"),
        check_descriptors=False,
    ) as server:
        eventually(lambda: facts(server)["server"]["notes"], within=30)
        assert "FLAPPING: memory limit not applied any more" in server.log
        eventually(lambda: facts(server)["server"]["workers_ready"] == 1)
        assert server.get("/").status == 200


GREEDY = """
def app(environ, start):
    held = bytearray(int(environ["QUERY_STRING"] or 0))
    while held:
        pass
    start("200 OK", [("Content-Length", "0")])
    return []
"""


def test_a_worker_above_the_hard_limit_is_no_timeout_in_the_log() -> None:
    """Whoever looks for timeouts would look for what hangs."""
    with ServerProcess(
        None,
        *("--max-worker-memory-hard", "200m", "--memory-measure", "rss", "--probe-interval", "0.1"),
        source=GREEDY,
        check_descriptors=False,
        tolerate=["Fatal Python error"],
    ) as server:
        (pid,) = server.workers()
        server.connect().request(f"/?{300 << 20}")
        eventually(lambda: f"Worker ended by force (pid: {pid}, slot: 0): " in server.log)
        assert "above the hard limit 200 MiB; aborting it" in server.log
        assert "TIMEOUT" not in server.log
        eventually(lambda: pid not in server.workers() != [])
        assert server.get("/").status == 200


def test_a_worker_lives_for_its_lifetime() -> None:
    with ServerProcess(
        "tests.kit.apps:hello",
        *ADMIN,
        *("--max-worker-lifetime", "1", "--probe-interval", "0.1"),
        check_descriptors=False,
    ) as server:
        (first,) = server.workers()
        eventually(lambda: facts(server)["server"]["recycles"].get("lifetime", 0) >= 1)
        eventually(lambda: first not in server.workers() and server.workers())
        assert server.get("/").status == 200


def test_the_request_that_crashed_a_worker_is_named() -> None:
    """SIGSEGV while serving POST /export: the line in the log names it, and what came before it."""
    with ServerProcess(None, *ADMIN, source=CRASH, check_descriptors=False) as server:
        assert server.get("/before").status == 200
        connection = server.connect()
        connection.request("/export", method="POST", body=b"x")
        connection.end()
        eventually(lambda: "It was running:\n" in server.log)
        text = server.log.split("It was running:\n")[1]
        (line,) = [line for line in server.log.splitlines() if "SIGSEGV" in line]
        assert "[ERROR] Worker (pid: " in line
        # A thread that has answered /before may not have said so yet.
        assert re.search(
            r"killed by SIGSEGV(, core dumped)? while it ran (GET /before, )?POST /export; ", line
        )
        assert "POST /export from 127.0.0.1:" in text.split("Before that:")[0]
        assert "GET /before from" in text
        eventually(lambda: server.workers() and facts(server)["server"]["workers_ready"] == 1)
        assert server.get("/").status == 200


def test_the_request_that_ended_its_process_is_named() -> None:
    """An application that calls os._exit: with a code, and also with 0."""
    with ServerProcess(None, source=EXIT, check_descriptors=False) as server:
        for code in (7, 0):
            (worker,) = server.workers()
            with server.connect() as connection:
                connection.request(f"/exit/{code}")
                connection.end()
            eventually(lambda worker=worker: worker not in server.workers() and server.workers())
            eventually(lambda: server.get("/").status == 200)
            # One that has its answer already may still be on its thread's books.
            told = rf"\(pid: {worker}, slot: 0\) exited with code {code} while it ran [^;]*GET /exit/{code};"
            assert re.search(told, server.log)


def stop(server: ServerProcess) -> int:
    """SIGSTOP. The process that it hit."""
    victim = server.workers()[0]
    freeze(victim)
    return victim


def wedge(server: ServerProcess) -> int:
    """C code that holds the GIL for half a minute. The process that it runs in."""
    server.connect().request("/wedge")
    mark = server.directory / "wedged"
    return int(eventually(lambda: mark.exists() and mark.read_text()))


@pytest.mark.limit(120)
@pytest.mark.skipif(ctypes.util.find_library("c") is None, reason="no C library to hold the GIL with")
@pytest.mark.parametrize("harm", [stop, wedge])
def test_a_stuck_worker_is_found_dumped_and_replaced_and_gets_nobody_meanwhile(
    harm: Callable[[ServerProcess], int],
) -> None:
    """Its heart stops: from then on every new connection is answered by another worker, it is told to be
    stuck, its stacks are in the log where it can write them, and a successor serves."""
    with ServerProcess(
        None,
        *ADMIN,
        *("--workers", "3", "--timeout", "5"),
        source=WEDGE,
        check_descriptors=False,
        tolerate=("Fatal Python error",),
    ) as server:
        victim = harm(server)
        answered: Counter[int] = Counter()
        slowest = 0.0
        said: set[str] = set()
        while victim in server.workers():
            began = time.monotonic()
            with connect(server.address) as connection:
                answered[int(connection.get("/").body)] += 1
            slowest = max(slowest, time.monotonic() - began)
            if answered.total() % 50 == 0:
                live = facts(server, "/livez")
                if live["silent_workers"]:
                    assert live["silent_workers"] == [victim]
                    rows = {row["pid"]: row for row in facts(server, "/readyz")["workers"]}
                    if victim in rows:  # else it died just now
                        said.add(rows[victim]["verdict"])
        assert answered.total() > 20
        assert victim not in answered, answered
        assert slowest < 2.5, "somebody waited for it"
        assert "stuck" in said
        assert re.search(r"WORKER TIMEOUT \(pid: \d+, slot: \d\): no heartbeat for [5-7]\.\d s", server.log)
        if harm is stop:
            assert "it is stopped by a signal (timeout); aborting it" in server.log
        else:
            # It is dead; that it has been buried, and told, comes a moment later.
            eventually(lambda: "killed by SIGABRT" in server.log)
            dump = server.log.split("Timeout (0:00:02.500000)!")[1]
            assert "in app" in dump
            assert f"(pid: {victim}, slot: " in dump
            assert "killed by SIGABRT" in dump
            assert "while it ran GET /wedge\n  It was running:\n    GET /wedge from 127.0.0.1" in dump
        eventually(lambda: facts(server)["server"]["workers_ready"] == 3)
        assert victim not in {int(server.get("/").body) for _ in range(20)}
