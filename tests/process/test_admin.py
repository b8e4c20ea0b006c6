"""The admin address: probes that tell the truth, metrics that add up, a page that lives."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import tempfile
import threading
from pathlib import Path

import psutil
import pytest

from tests.kit.admin import ADMIN, facts, look, metrics
from tests.kit.client import connect
from tests.kit.eventually import eventually
from tests.kit.server import ServerProcess
from tests.kit.tools import need

DEADLOCK = """
import threading
lock = threading.Lock()
lock.acquire()
def app(environ, start):
    if environ["PATH_INFO"] == "/dead":
        lock.acquire()
    start("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


def total(name: str, server: ServerProcess) -> float:
    return sum(metrics(server)[name].values())


def test_probes_metrics_and_status_answer() -> None:
    """Each with its type; what is not there is 404; nothing can be changed; HEAD has no body."""
    with ServerProcess("tests.kit.apps:hello", *ADMIN, "--workers", "2") as server:
        live = look(server, "/livez")
        assert (live.status, json.loads(live.body)["alive"]) == (200, True)
        ready = look(server, "/readyz")
        assert (ready.status, json.loads(ready.body)["ready"]) == (200, True)
        assert look(server, "/metrics").get("content-type").startswith("text/plain; version=0.0.4")
        new = look(server, "/metrics", {"Accept": "application/openmetrics-text; version=1.0.0"})
        assert new.get("content-type").startswith("application/openmetrics-text")
        assert new.body.endswith(b"# EOF\n")
        assert look(server, "/nothing").status == 404
        with connect(f"unix:{server.directory}/admin.sock") as connection:
            reply = connection.get("/livez", method="POST", body=b"")
            assert (reply.status, reply.get("Allow")) == (405, "GET, HEAD")
        with connect(f"unix:{server.directory}/admin.sock") as connection:
            reply = connection.get("/status", method="HEAD")
            assert (reply.status, reply.body) == (200, b"")
        refused = {
            b"HEAD / HTTP/1.1\r\n\r\n": 400,
            b"HEAD / HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\n\r\n": 413,
            b"HEAD / HTTP/2.0\r\nHost: t\r\n\r\n": 505,
            b"BREW / HTTP/1.1\r\nHost: t\r\n\r\n": 501,
        }
        for wire, status in refused.items():
            with connect(f"unix:{server.directory}/admin.sock") as connection:
                connection.send(wire)
                assert connection.reply(method=wire[:4].decode()).status == status
                assert connection.to_end() == (b"", "closed")


def test_the_admin_socket_goes_with_the_server() -> None:
    with ServerProcess("tests.kit.apps:hello", *ADMIN) as server:
        path = server.directory / "admin.sock"
        assert path.is_socket()
        server.stop()
        assert not path.exists()


def test_an_admin_address_that_is_open_to_all_is_told() -> None:
    """Nothing but a port is every network; one address is what somebody has chosen."""
    with ServerProcess("tests.kit.apps:hello", "--admin-bind", ":0") as server:
        assert "is open on every network of this machine" in server.log
    with ServerProcess("tests.kit.apps:hello", "--admin-bind", "127.0.0.1:0") as server:
        assert "open on every network" not in server.log


def test_slow_strangers_do_not_stop_the_arbiter() -> None:
    """A hundred connections that say half a request, and one that does not read, lock nobody out."""
    with ServerProcess(
        "tests.kit.apps:hello", "--admin-bind", "127.0.0.1:0", check_descriptors=False
    ) as server:
        strangers = []
        admin = server.log.split("Admin address: ")[1].split()[0]
        for _ in range(100):
            stranger = server.connect(admin)
            stranger.send(b"GET /metrics HT")
            strangers.append(stranger)
        assert server.get("/livez", address=admin).status == 200
        assert server.get("/").status == 200
        for stranger in strangers:
            stranger.close()


def test_an_arbiter_without_descriptors_does_not_spin_and_says_so() -> None:
    """A vault can use them all. A probe waits then, and is answered when there is one again."""
    with ServerProcess("tests.kit.apps:hello", *ADMIN, "--header-timeout", "1") as server:
        limit, used = resource.RLIMIT_NOFILE, {int(name) for name in os.listdir(f"/proc/{server.pid}/fd")}
        before = resource.prlimit(server.pid, limit)
        resource.prlimit(server.pid, limit, (min(set(range(999)) - used), before[1]))
        with connect(f"unix:{server.directory}/admin.sock") as probe:
            probe.request("/livez")
            arbiter = psutil.Process(server.pid)
            begun = arbiter.cpu_times()
            with server.connect() as clock:  # a second, by the server's own clock
                clock.send(b"GET / HT")
                assert clock.reply().status == 408
            ended = arbiter.cpu_times()
            spent = ended.user + ended.system - begun.user - begun.system
            assert spent < 0.4, f"{spent} s of processor time in a second in which nothing could be accepted"
            assert server.log.count("Cannot accept at the admin address or the control socket") == 1
            resource.prlimit(server.pid, limit, before)
            assert probe.reply().status == 200


def test_counts_agree_with_the_client_across_a_crash() -> None:
    """Requests and responses add up to what was sent, also after a worker was killed; nothing ever falls."""
    with ServerProcess("tests.kit.apps:hello", *ADMIN, "--workers", "2", check_descriptors=False) as server:
        seen = 0.0
        sent = 0
        for round_ in range(3):
            for _ in range(50):
                assert server.get("/").status == 200
            sent += 50

            def all_counted(sent: int = sent) -> None:
                """every request is in the metrics"""
                assert total("threadcorn_requests_total", server) == sent

            eventually(all_counted)
            now = total("threadcorn_responses_total", server)
            assert now == sent >= seen
            seen = now
            assert metrics(server)["threadcorn_app_seconds_count"][""] == sent
            if round_ == 1:
                os.kill(server.workers()[0], signal.SIGKILL)
                eventually(lambda: facts(server)["server"]["exits"])
                eventually(lambda: facts(server)["server"]["workers_ready"] == 2)
                assert total("threadcorn_requests_total", server) == sent


def test_a_deadlock_of_all_threads_is_told_and_repaired() -> None:
    """Readiness says no, the health path answers, 504 at the limit, stacks in the log; it serves again."""
    with ServerProcess(
        None, *ADMIN, "--threads", "2", "--request-timeout", "2.5", "--slow-request", "0.5",
        "--health-path", "/healthz", "--graceful-timeout", "5", source=DEADLOCK, check_descriptors=False,
    ) as server:  # fmt: skip
        (worker,) = server.workers()
        replies: list[int] = []
        clients = [
            threading.Thread(target=lambda: replies.append(server.get("/dead").status)) for _ in range(2)
        ]
        for client in clients:
            client.start()
        eventually(lambda: look(server, "/readyz").status == 503, within=20)
        assert "threads are busy, and none has finished" in look(server, "/readyz").body.decode()
        eventually(lambda: "Not ready: all 1 workers are saturated" in server.log)
        assert look(server, "/livez").status == 200
        assert server.get("/healthz").status == 200
        for client in clients:
            client.join(20)
        assert replies == [504, 504]
        assert server.log.count("lock.acquire()") >= 2
        # Each of the two by name, both times.
        assert len(re.findall(r"running for [\d.]+ s and waiting: GET /dead from 127", server.log)) == 2
        assert len(re.findall(r"timed out after .* answered with 504: GET /dead from 127", server.log)) == 2
        eventually(lambda: worker not in server.workers() and server.workers(), within=30)
        assert server.get("/").status == 200
        eventually(lambda: look(server, "/readyz").status == 200)
        eventually(lambda: "Ready again, after " in server.log)
        assert total("threadcorn_requests_timed_out_total", server) == 2


@pytest.mark.limit(120)
def test_the_page_shows_live_numbers_in_a_browser() -> None:
    """Headless Chromium runs the page's own code, and the numbers it shows are the server's."""
    stop = threading.Event()
    chromium = need("chromium")
    with ServerProcess(
        "tests.kit.apps:nap", "--admin-bind", "127.0.0.1:0", "--workers", "2", check_descriptors=False
    ) as server:

        def load() -> None:
            with connect(server.address) as connection:
                while not stop.is_set():
                    connection.get("/?s=0.002")

        loader = threading.Thread(target=load)
        loader.start()
        try:
            address = server.log.split("Admin address: ")[1].split()[0]
            with tempfile.TemporaryDirectory(prefix="tc-chromium-") as profile:
                done = subprocess.run(
                    [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
                     "--no-first-run", "--disable-background-networking", "--disable-component-update",
                     "--disable-sync",
                     f"--user-data-dir={profile}", "--virtual-time-budget=6000", "--dump-dom",
                     f"http://{address}/"],
                    stdin=subprocess.DEVNULL, capture_output=True, timeout=100, check=False,
                )  # fmt: skip
        finally:
            stop.set()
            loader.join()
        dom = done.stdout.decode()
        assert "serving, 2 of 2 workers ready" in dom
        shown = int(dom.split('id="requests">')[1].split("<")[0])
        assert shown > 0
        assert all(f"<td>{pid}</td>" in dom for pid in server.workers())
        assert "GET /?..." in dom
        assert '<polyline points="' in dom


def test_the_page_asks_no_other_host() -> None:
    web = Path(__file__).resolve().parent.parent.parent / "threadcorn" / "web"
    for path in web.iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text, path


def test_the_log_tells_when_readiness_turns() -> None:
    """Once, and why; neither the boot nor the stop is news. What turns again soon is not told again."""
    with ServerProcess("tests.kit.apps:hello") as server:
        assert "Ready again" not in server.log and "Not ready" not in server.log
        for deaths in (1, 2):
            os.kill(server.workers()[0], signal.SIGKILL)
            eventually(lambda deaths=deaths: server.log.count("Worker ready") == 1 + deaths)
            eventually(lambda: "Ready again" in server.log)
        server.stop()
        assert server.log.count("[WARNING] Not ready: 0 workers are ready, 1 are wanted") == 1
        assert server.log.count("[INFO] Ready again, after ") == 1
