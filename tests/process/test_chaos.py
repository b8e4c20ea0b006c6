"""Workers come and go at random, and nobody outside notices. The long form is perf/chaos.py itself."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.kit import ROOT

#: So much happens in a few seconds that many a roll is overtaken by the next.
SHORT = ("--requests", "500", "--events", "18", "--seconds", "40", "--clients", "14", "--sleepers", "3",
         "--sleep", "1.5,4", "--idle", "4", "--streams", "2", "--stream", "1",
         "--recycle", "400")  # fmt: skip


def chaos(*flags: str, within: float = 90) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(ROOT / "perf" / "chaos.py"), *flags],
        capture_output=True,
        text=True,
        timeout=within,
    )
    assert done.stdout, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["exit code"] == 0, report
    assert not report["of the log"]["tracebacks"], report
    return report


@pytest.mark.parametrize("rung", ["filter", "plain", "shared"])
def test_nothing_is_lost_while_workers_come_and_go(rung: str) -> None:
    report = chaos(*SHORT, "--seed", "20", "--rung", rung)
    assert not sum(report["lost"].values()), report
    assert not report["kept connections told to close"], report
    assert report["kept connections that moved"], report


@pytest.mark.parametrize("rung", ["filter", pytest.param("shared", marks=pytest.mark.long)])
def test_kill_loses_only_what_the_killed_worker_had_accepted(rung: str) -> None:
    """No connection that waited in a queue or belonged to another worker is lost."""
    report = chaos(*SHORT, "--seed", "21", "--kinds", "HUP,TTIN,TTOU", "--kill", "--rung", rung)
    assert not sum(report["lost"].values()), report
    assert report["killed"]["connections"], report
    assert report["killed"]["connect"] == report["killed"]["wrong"] == 0, report


@pytest.mark.long
@pytest.mark.limit(3700)
@pytest.mark.parametrize("kill", [False, True], ids=["", "kill"])
@pytest.mark.parametrize("rung", ["filter", "plain", "shared"])
def test_nothing_is_lost_in_a_million_requests(rung: str, kill: bool) -> None:
    """A quarter of an hour each, and 500 events."""
    flags = ["--requests", "1000000", "--events", "500", "--seconds", "3000", "--pace", "5", "--think", "1"]
    report = chaos(*flags, "--seed", "1001", "--rung", rung, *(["--kill"] if kill else []), within=3600)
    print(report)
    assert report["served"] >= 1_000_000, report
    assert not sum(report["lost"].values()), report
    assert not report["kept connections told to close"], report
