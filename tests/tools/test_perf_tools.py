"""The arithmetic of perf/: ratios are taken within a round, and goals are judged by the median."""

from __future__ import annotations

import importlib
import sys

import pytest

from tests.kit import ROOT


@pytest.fixture
def compare(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "perf"))
    module = importlib.import_module("compare")
    yield module
    for name in ("compare", "running", "scenarios"):
        sys.modules.pop(name, None)


def result(module, server, round_, rate, scenario="hello"):
    load = module.Load(requests=1000, seconds=1.0, rate=rate, p50=0.001, p99=0.002, errors=0)
    return module.Result(scenario, server, round_, load, module.Cost(0.01, 0.005, 10, 2))


def test_a_ratio_is_taken_within_a_round(compare):
    """A machine that is slow in one round does not change the ratio of that round."""
    rates = [("threadcorn", 0, 90), ("gunicorn", 0, 10), ("threadcorn", 1, 45), ("gunicorn", 1, 5)]
    results = [result(compare, *each) for each in rates]
    assert compare.ratios(results, "hello", "threadcorn", "gunicorn") == [9.0, 9.0]


def test_a_round_that_lacks_a_server_gives_no_ratio(compare):
    """What was not measured is left out, not guessed."""
    results = [result(compare, "threadcorn", 0, 90), result(compare, "gunicorn", 1, 5)]
    assert compare.ratios(results, "hello", "threadcorn", "gunicorn") == []
    assert compare.spread([]) == "-"


def test_goals_are_judged_by_the_median(compare):
    """One bad round of three does not miss a goal, two do."""

    def judged(*rates):
        results = [result(compare, "threadcorn", n, rate) for n, rate in enumerate(rates)]
        results += [result(compare, "gunicorn", n, 10.0) for n in range(len(rates))]
        return compare.judge(results)[0].split()[0]

    assert judged(95, 10, 95) == "reached"
    assert judged(95, 10, 80) == "MISSED"


def test_costs_are_per_request(compare):
    """Microseconds of processor time, over the requests of the same stretch."""
    one = result(compare, "threadcorn", 0, 1000)
    assert (one.user, one.kernel, one.switches) == (pytest.approx(10.0), pytest.approx(5.0), 0.012)


def test_a_browser_sends_fourteen_fields():
    """Thirteen of ours and Host, which wrk adds."""
    scenarios = importlib.util.module_from_spec(
        spec := importlib.util.spec_from_file_location("tc_scenarios", ROOT / "perf" / "scenarios.py")
    )
    sys.modules["tc_scenarios"] = scenarios
    spec.loader.exec_module(scenarios)
    assert len(scenarios.BROWSER) == 13
    assert all(scenario.expect for scenario in scenarios.SCENARIOS.values())
