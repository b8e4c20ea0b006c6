"""Clients that are far away: half of a handshake, and of a request, is under way when a worker leaves.

In network namespaces of the test's own, with a round trip of 50 ms.
"""

from __future__ import annotations

import os
import shlex

import pytest

from tests.kit.distance import NEAR, Distance, possible
from tests.kit.tools import need
from tests.process.test_chaos import chaos

FAR_AWAY = 0.05
SHORT = ("--requests", "500", "--events", "18", "--seconds", "40", "--clients", "40", "--sleepers", "4",
         "--sleep", "1.5,4", "--idle", "4", "--streams", "2", "--stream", "1",
         "--recycle", "200")  # fmt: skip
LONG = ("--requests", "100000", "--events", "300", "--seconds", "1500", "--clients", "200", "--pace", "3",
        "--recycle", "2000")  # fmt: skip
SETTINGS = {
    "plain": {},
    "syncookies": {"net.ipv4.tcp_syncookies": "2"},
    "migrate": {"net.ipv4.tcp_migrate_req": "1"},
}


def not_here() -> None:
    """Leave a test that cannot be run here. In CI, where we are root, that is a failure."""
    if why := possible():
        if os.environ.get("CI") and os.geteuid() == 0:
            pytest.fail(why)
        pytest.skip(why)


def apart(rung: str, settings: dict[str, str], *flags: str) -> dict[str, object]:
    """Chaos with the server here and the clients there."""
    not_here()
    with Distance(need("ip"), round_trip=FAR_AWAY, settings=settings) as way:
        sides = ["--server-prefix", shlex.join(way.near), "--clients-prefix", shlex.join(way.far)]
        report = chaos(*flags, *sides, "--rung", rung, "--bind", f"{NEAR}:0", within=1600)
    assert not sum(report["lost"].values()), report
    assert not report["kept connections told to close"], report
    assert report["ms to the first byte"]["p50"] >= FAR_AWAY * 1000, report
    return report


@pytest.mark.parametrize("settings", SETTINGS)
def test_nothing_is_lost_at_a_distance(settings: str) -> None:
    """T4, T19: also where the choice of a shard is made at the ACK, and where closed shards migrate."""
    rung = {"plain": "filter", "syncookies": "filter", "migrate": "plain"}[settings]
    report = apart(rung, SETTINGS[settings], *SHORT, "--seed", "4")
    assert report["kept connections that moved"], report


@pytest.mark.long
@pytest.mark.limit(1700)
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("rung", ["filter", "plain", "shared"])
def test_nothing_is_lost_at_a_distance_in_many_requests(rung: str, settings: str) -> None:
    report = apart(rung, SETTINGS[settings], *LONG, "--seed", "19")
    print(report)
