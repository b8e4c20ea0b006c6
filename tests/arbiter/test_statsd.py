"""What is sent to statsd, and that the arbiter never waits for it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kit import ServerProcess, eventually
from threadcorn.arbiter.statsd import Statsd
from threadcorn.policy.cells import BUCKETS, Histogram


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(5)
        yield sock


def app_times(**counts: int) -> Histogram:
    row = [0] * BUCKETS
    for index, count in counts.items():
        row[int(index[1:])] = count
    return Histogram("app", tuple(row))


def test_what_was_added_since_the_last_time_under_gunicorns_names(server: socket.socket) -> None:
    statsd = Statsd(f"127.0.0.1:{server.getsockname()[1]}", "site.", "env:x")
    statsd.push(1.0, {"requests": 3, "status_200": 2, "status_5xx": 1, "accepted": 9}, 2, app_times(b7=3))
    first = server.recv(4096).decode().splitlines()
    assert first[:4] == [
        "site.gunicorn.requests:3|c|#env:x",
        "site.gunicorn.request.status.200:2|c|#env:x",
        "site.gunicorn.request.status.5xx:1|c|#env:x",
        "site.gunicorn.workers:2|g|#env:x",
    ]
    assert [line.partition(":")[0] for line in first[4:]] == ["site.gunicorn.request.duration"]
    assert "|ms|@0.333333|" in first[4]
    statsd.push(2.0, {"requests": 4, "status_200": 3, "status_5xx": 1, "accepted": 9}, 2, app_times(b7=3))
    assert server.recv(4096).decode().splitlines() == [
        "site.gunicorn.requests:1|c|#env:x",
        "site.gunicorn.request.status.200:1|c|#env:x",
        "site.gunicorn.workers:2|g|#env:x",
    ]
    statsd.close()


def test_a_name_is_looked_up_once_and_not_by_the_loop(
    server: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resolver that does not answer would hold up the arbiter, and with it all probes."""
    asked = []

    def resolver(host: str, *_: Any, **__: Any) -> Any:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_DGRAM, 17, "", server.getsockname())]

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    statsd = Statsd("stats.invalid:8125", "", "")
    for second in (1.0, 2.0):
        statsd.push(second, {}, 1, app_times())
        assert server.recv(4096) == b"gunicorn.workers:1|g"
    assert asked == ["stats.invalid"]
    statsd.close()


def test_a_name_that_nobody_knows_stops_no_server() -> None:
    config = """
import socket

def on_starting(server):
    known = socket.getaddrinfo
    def resolver(host, *args, **kwargs):
        if host == "stats.invalid":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return known(host, *args, **kwargs)
    socket.getaddrinfo = resolver
"""
    with ServerProcess("tests.kit.apps:hello", "--statsd-host", "stats.invalid", config=config) as server:
        assert server.get("/").status == 200
        words = "[ERROR] Nothing is sent to statsd_host stats.invalid:8125: Name or service not known"
        eventually(lambda: words in server.log)
