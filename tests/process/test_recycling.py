"""Workers that leak, crash, stop or hold the GIL: replaced, told, and nobody outside loses a request."""

from __future__ import annotations

import ctypes.util

import psutil
import pytest

from tests.kit.admin import ADMIN, facts
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
import ctypes
libc = ctypes.PyDLL(None)
def app(environ, start):
    if environ["PATH_INFO"] == "/wedge":
        libc.sleep(30)
    start("200 OK", [("Content-Length", "2")])
    return [b"ok"]
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
        assert "killed by SIGSEGV while it ran POST /export; " in line
        assert text.splitlines()[0].strip().startswith("POST /export from 127.0.0.1:")
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
            assert (
                f"(pid: {worker}, slot: 0) exited with code {code} while it ran GET /exit/{code};"
                in server.log
            )


def test_a_stopped_worker_is_replaced_and_gets_nothing_meanwhile() -> None:
    """SIGSTOP: its heart stops, steering avoids it, it is replaced; fresh connections are answered."""
    with ServerProcess(
        "tests.kit.apps:pid", *ADMIN, "--workers", "2", "--timeout", "3", check_descriptors=False
    ) as server:
        stopped, other = server.workers()
        freeze(stopped)
        eventually(
            lambda: facts(server, "/livez")["silent_workers"] == [stopped] or stopped not in server.workers(),
            within=20,
        )
        eventually(lambda: stopped not in server.workers() and len(server.workers()) == 2, within=20)
        assert {int(server.get("/").body) for _ in range(20)} <= {other, *server.workers()}
        assert "no heartbeat for" in server.log


@pytest.mark.skipif(ctypes.util.find_library("c") is None, reason="no C library to hold the GIL with")
def test_a_worker_that_holds_the_gil_is_dumped_and_replaced() -> None:
    """C code that never gives the GIL back: the stacks are in the log, and another worker serves."""
    with ServerProcess(
        None,
        *ADMIN,
        "--timeout",
        "4",
        source=WEDGE,
        check_descriptors=False,
        tolerate=("Fatal Python error",),
    ) as server:
        (wedged,) = server.workers()
        connection = server.connect()
        connection.request("/wedge")
        eventually(lambda: "Timeout (0:00:02)!" in server.log, within=20)
        assert "in app" in server.log.split("Timeout (0:00:02)!")[1]
        eventually(lambda: wedged not in server.workers() and server.workers(), within=20)
        eventually(lambda: facts(server)["server"]["workers_ready"] == 1)
        assert server.get("/").status == 200
        assert "GET /wedge from" in server.log.split("It was running:\n")[1].splitlines()[0]
