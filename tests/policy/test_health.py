"""Verdicts from samples: hysteresis, reasons, flapping, readiness."""

from __future__ import annotations

import pytest

from threadcorn.policy.health import (
    FINE,
    FlapGuard,
    Health,
    Judgement,
    Limits,
    Sample,
    Verdict,
    growth,
    readiness,
    size,
)

MIB = 1 << 20


def sample(now: float, **fields: object) -> Sample:
    return Sample(**{"now": now, "ready_for": now, "requests": int(now * 100), **fields})  # type: ignore[arg-type]


def judge(samples: list[Sample], limits: Limits) -> list[Verdict]:
    health = Health()
    return [health.judge(one, limits).verdict for one in samples]


def test_one_peak_of_memory_is_no_reason() -> None:
    """Two samples of five above the limit replace nobody; the third does."""
    limits = Limits(memory=100 * MIB)
    sizes = [90, 120, 90, 120, 90, 90, 90, 120, 120, 120]
    verdicts = judge([sample(i, memory=s * MIB) for i, s in enumerate(sizes)], limits)
    assert verdicts[:9] == [Verdict.FINE] * 9
    assert verdicts[9] is Verdict.RECYCLE


def test_the_hard_limit_acts_at_once() -> None:
    limits = Limits(memory=100 * MIB, memory_hard=200 * MIB, measure="uss")
    health = Health()
    judgement = health.judge(sample(1, memory=201 * MIB), limits)
    assert judgement.verdict is Verdict.KILL
    assert judgement.reason == "memory_hard"
    assert "201 MiB of memory (uss), above the hard limit 200 MiB" in judgement.text


def test_memory_that_is_not_known_is_never_above() -> None:
    assert judge([sample(i, memory=None) for i in range(9)], Limits(memory=1)) == [Verdict.FINE] * 9


def test_growth_is_a_reason_before_the_limit_is_reached() -> None:
    """A megabyte a second at 80 of 100: it would be there in twenty seconds."""
    limits = Limits(memory=100 * MIB)
    verdicts = judge([sample(i, memory=(55 + i) * MIB) for i in range(26)], limits)
    assert verdicts[:19] == [Verdict.FINE] * 19
    assert Verdict.RECYCLE in verdicts


def test_slow_growth_far_from_the_limit_is_fine() -> None:
    limits = Limits(memory=1000 * MIB)
    assert judge([sample(i, memory=(55 + i) * MIB) for i in range(60)], limits) == [Verdict.FINE] * 60


def test_a_peak_does_not_pull_the_slope() -> None:
    points = [(float(i), 10.0 * i) for i in range(20)]
    points[7] = (7.0, 1e9)
    assert growth(points) == pytest.approx(10.0)
    assert growth([]) == growth([(1.0, 5.0)]) == growth([(1.0, 5.0), (1.0, 9.0)]) == 0.0


def test_descriptors_near_their_limit_are_a_leak() -> None:
    limits = Limits()
    verdicts = judge([sample(i, descriptors=900, descriptor_limit=1024) for i in range(3)], limits)
    assert verdicts == [Verdict.FINE, Verdict.FINE, Verdict.RECYCLE]
    assert (
        judge([sample(i, descriptors=700, descriptor_limit=1024) for i in range(9)], limits)[-1]
        is Verdict.FINE
    )


def test_lifetime_and_cpu_time() -> None:
    assert judge([sample(59), sample(61)], Limits(lifetime=60)) == [Verdict.FINE, Verdict.RECYCLE]
    assert judge([sample(1, cpu=9.0), sample(2, cpu=11.0)], Limits(cpu=10)) == [Verdict.FINE, Verdict.RECYCLE]


def test_busy_without_progress_is_saturated() -> None:
    """All threads busy and nothing finished for two seconds; one that finishes ends it."""
    busy = {"running": 4, "threads": 4}
    health = Health()
    limits = Limits()
    assert health.judge(sample(0, requests=7, **busy), limits) is FINE
    assert health.judge(sample(1, requests=7, **busy), limits) is FINE
    stuck = health.judge(sample(2.5, requests=7, **busy), limits)
    assert (stuck.verdict, stuck.reason) == (Verdict.SATURATED, "busy")
    assert health.judge(sample(3, requests=8, **busy), limits) is FINE
    assert health.judge(sample(9, requests=8, running=3, threads=4), limits) is FINE


def test_requests_that_wait_long_are_saturation_too() -> None:
    health = Health()
    stuck = health.judge(sample(1, running=2, threads=2, waiting=9, waited=1.5), Limits())
    assert (stuck.verdict, stuck.reason) == (Verdict.SATURATED, "waiting")


def test_a_limit_that_no_worker_can_keep_is_given_up() -> None:
    """Three in a row that had served nothing; a worker that had served starts the count anew."""
    guard = FlapGuard()
    memory, growing, life, cpu = (
        Judgement(Verdict.RECYCLE, reason, "its size") for reason in ("memory", "growth", "lifetime", "cpu")
    )
    assert [guard.recycled(memory, n, 1.0) for n in (3, 0, 5000, 1, 2)] == [""] * 5
    assert guard.recycled(life, 0, 1.0) == "", "a short life is what somebody wanted"
    assert guard.recycled(cpu, 0, 1.0) == "", "each limit is judged by itself"
    assert guard.recycled(growing, 7, 1.0).startswith("memory limit not applied any more: ")
    assert guard.off == {"memory"}


def test_few_large_requests_in_a_long_time_are_no_flapping() -> None:
    guard = FlapGuard()
    judgement = Judgement(Verdict.RECYCLE, "memory", "its size")
    assert [guard.recycled(judgement, 4, 3600.0) for _ in range(9)] == [""] * 9


def test_a_silent_heart_is_stuck_and_the_worst_verdict_holds() -> None:
    """Not a fault of memory: it is not replaced twice. Beyond the hard limit it is ended all the same."""
    health = Health()
    assert health.judge(sample(1, silent=1.9), Limits()).verdict is Verdict.FINE
    judgement = health.judge(sample(2, silent=2.5, status="stopped"), Limits(lifetime=1))
    assert (judgement.verdict, judgement.text) == (
        Verdict.STUCK,
        "no heartbeat for 2.5 s, it is stopped by a signal",
    )
    hard = Limits(memory_hard=MIB)
    assert health.judge(sample(3, silent=2.5, memory=2 * MIB), hard).verdict is Verdict.KILL


@pytest.mark.parametrize(
    ("state", "ready", "reason"),
    [
        ({"ready": 2, "saturated": 0, "wanted": 1, "draining": False}, True, ""),
        ({"ready": 2, "saturated": 1, "wanted": 1, "draining": False}, True, ""),
        ({"ready": 2, "saturated": 2, "wanted": 1, "draining": False}, False, "all 2 workers are saturated"),
        (
            {"ready": 1, "saturated": 0, "wanted": 2, "draining": False},
            False,
            "1 workers are ready, 2 are wanted",
        ),
        ({"ready": 2, "saturated": 0, "wanted": 1, "draining": True}, False, "the server is leaving"),
        ({"ready": 0, "saturated": 0, "wanted": 0, "draining": False}, True, ""),
    ],
)
def test_readiness(state: dict[str, int], ready: bool, reason: str) -> None:
    answer = readiness(**state)  # type: ignore[arg-type]
    assert answer.ready is ready
    assert "; ".join(answer.reasons) == reason


def test_sizes_are_readable() -> None:
    assert [size(n) for n in (2048, 5 * MIB, 20 << 30)] == ["2 KiB", "5 MiB", "20.0 GiB"]
