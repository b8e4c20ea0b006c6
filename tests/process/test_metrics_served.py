"""Metrics of a real server: Prometheus' own programs take them, they add up, and they never fall."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from prometheus_client import parser as plain
from prometheus_client.openmetrics import parser as openmetrics

from tests.kit.admin import ADMIN, CONTROL, ctl, facts, look, metrics
from tests.kit.client import connect
from tests.kit.eventually import eventually
from tests.kit.load import Load
from tests.kit.server import ServerProcess
from tests.kit.tools import need

APP = """
STATUSES = {"/gone": "410 Gone", "/made": "201 Created", "/tea": "418 I'm a teapot"}
def app(environ, start):
    path = environ["PATH_INFO"]
    if path == "/crash":
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)
    start(STATUSES.get(path, "200 OK"), [("Content-Length", "2")])
    return [b"ok"]
"""
PATHS = ("/", "/gone", "/made", "/tea", "/")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
#: Shown where the kernel tells it, or once it has happened.
NOT_ALWAYS = {
    *("threadcorn_memory_limit_bytes", "threadcorn_memory_used_bytes", "threadcorn_cpu_limit"),
    *("threadcorn_throttled_seconds_total", "threadcorn_oom_kills_total", "threadcorn_pressure_percent"),
    *("threadcorn_worker_pss_bytes", "threadcorn_worker_uss_bytes", "threadcorn_worker_recycles_total"),
}
NEW = {"Accept": "application/openmetrics-text; version=1.0.0"}

Counters = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def counters(server: ServerProcess) -> Counters:
    """Everything that must never fall, as Prometheus' own parser reads it."""
    text = look(server, "/metrics", NEW).body.decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in openmetrics.text_string_to_metric_families(text)
        if family.type in ("counter", "histogram")
        for sample in family.samples
    }


def summed(found: Counters, name: str, **labels: str) -> float:
    return sum(value for (known, has), value in found.items()
               if known == name and labels.items() <= dict(has).items())  # fmt: skip


@pytest.mark.limit(120)
def test_counters_never_fall_and_agree_with_the_clients() -> None:
    """Workers are recycled, scaled, reloaded and killed under load; at the end every answer was counted."""
    with ServerProcess(
        None, *ADMIN, *CONTROL, "--workers", "8", source=APP, check_descriptors=False
    ) as server:
        before: Counters = {}

        def not_fallen() -> Counters:
            nonlocal before
            now = counters(server)
            for key, value in before.items():
                assert now.get(key, 0.0) >= value, key
            before = now
            return now

        with Load(server, clients=3, paths=PATHS) as load:
            for slot in range(2):
                (old,) = [row["pid"] for row in facts(server)["workers"] if row["slot"] == slot]
                assert ctl(server, "recycle", str(slot)).code == 0
                eventually(lambda old=old: not_fallen() and old not in server.workers(), within=30)
            assert ctl(server, "scale", "5").code == 0
            eventually(lambda: not_fallen() and len(server.workers()) == 5, within=30)
            assert ctl(server, "reload", "--wait", within=40).code == 0
            not_fallen()
        assert load.failures == []
        # Whoever crashes has lost nothing either, if what it did is older than a tenth of a second.
        sent = load.done

        def all_counted() -> None:
            """every answer is in the metrics, under its status"""
            now = not_fallen()
            assert summed(now, "threadcorn_requests_total") == sent
            assert summed(now, "threadcorn_app_seconds_count") == sent
            for status, count in load.statuses.items():
                code = "4xx" if status == 418 else str(status)
                assert summed(now, "threadcorn_responses_total", code=code) == count

        eventually(all_counted)
        with connect(server.address) as connection:
            connection.request("/crash")
            connection.end()
        eventually(lambda: "killed by SIGKILL" in facts(server)["server"]["exits"])
        all_counted()


def test_prometheus_has_nothing_to_say_about_a_real_scrape() -> None:
    """promtool and both parsers, with every family that a busy server shows, histograms and labels too."""
    promtool = need("promtool")
    flags = (*ADMIN, "--workers", "2", "--probe-interval", "0.05")
    with ServerProcess(None, *flags, source=APP, check_descriptors=False) as server:
        for path in PATHS:
            server.get(path)
        os.kill(server.workers()[0], signal.SIGTERM)
        eventually(lambda: facts(server)["server"]["exits"])
        eventually(lambda: sum(metrics(server)["threadcorn_requests_total"].values()) == len(PATHS))
        eventually(lambda: "threadcorn_worker_cpu_ratio" in metrics(server))  # all are looked at
        text = look(server, "/metrics").body
        done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, timeout=30)
        assert (done.returncode, done.stdout + done.stderr) == (0, b"")
        old = {f.name: f for f in plain.text_string_to_metric_families(text.decode())}
        body = look(server, "/metrics", NEW).body.decode()
        new = {f.name: f for f in openmetrics.text_string_to_metric_families(body)}
        assert new.keys() - {"threadcorn"} == old.keys() - {"threadcorn_info"}
        assert len(new) > 35
        documented = set(re.findall(r"\bthreadcorn_\w+", PAGE.read_text(encoding="utf-8")))
        shown = {name + "_total" if family.type == "counter" else name for name, family in old.items()}
        assert not shown - documented, "not in docs/metrics.md"
        assert not documented - shown - NOT_ALWAYS, "in docs/metrics.md only"
