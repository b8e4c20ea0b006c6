"""Where the time went: access log atoms and Server-Timing."""

from __future__ import annotations

import re

from tests.kit import ServerProcess, eventually

APP = """
import time

def app(environ, start):
    if environ["PATH_INFO"] == "/nap":
        time.sleep(0.1)
    if environ["PATH_INFO"] == "/burn":
        until = time.thread_time() + 0.1
        while time.thread_time() < until:
            pass
    start("200 OK", [("Content-Length", "5")])
    if environ["PATH_INFO"] == "/late":
        def body():
            time.sleep(0.1)
            yield b"hello"
        return body()
    return [b"hello"]
"""

FORMAT = "%(U)s waited=%({waited}t)s ran=%({ran}t)s accept=%({accept}t)s cpu=%({cpu}t)s write=%({write}t)s"


def test_access_log_tells_waiting_from_running_from_burning() -> None:
    options = ("--threads", "1", "--access-logfile", "log", "--access-logformat", FORMAT)
    with ServerProcess(None, *options, source=APP) as server:
        first = server.connect()
        second = server.connect()
        first.request("/nap")
        second.request("/burn")
        first.reply()
        second.reply()
        server.get("/late")

        def logged() -> dict[str, dict[str, float]]:
            """three lines are there"""
            lines = (server.directory / "log").read_text().splitlines()
            assert len(lines) == 3
            return {
                line.split()[0]: {key: float(value) for key, value in re.findall(r"(\w+)=([0-9.]+)", line)}
                for line in lines
            }

        lines = eventually(logged)
        assert lines["/nap"]["ran"] >= 0.1
        assert lines["/nap"]["cpu"] < 0.05
        assert lines["/burn"]["cpu"] >= 0.1
        assert lines["/late"]["ran"] >= 0.1
        assert lines["/late"]["waited"] < 5


def test_server_timing_is_said_when_asked_for() -> None:
    with ServerProcess(None, "--server-timing", source=APP) as server, server.connect() as client:
        reply = client.get("/nap")
        found = re.search(r"wait;dur=([0-9.]+), app;dur=([0-9.]+)$", reply.get("Server-Timing") or "")
        assert found
        assert float(found[2]) >= 100
        assert client.get("/").body == b"hello"
        assert client.get("/late").body == b"hello"
    with ServerProcess(None, source=APP) as server:
        assert server.get("/").get("Server-Timing") is None
