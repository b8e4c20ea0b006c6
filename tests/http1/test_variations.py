"""Requests at the edges of every rule (tests/kit/variations), through the parser seam."""

from __future__ import annotations

import pytest

from tests.kit.cases import mismatch, play, splits
from tests.kit.variations import SMUGGLED, variations

CLASSES = sorted({case.name.partition(":")[0] for case in variations()})
#: Longer ones are cut at a few places only.
SHORT = 250


@pytest.mark.parametrize("group", CLASSES)
def test_a_class(group: str) -> None:
    wrong = []
    for case in variations():
        if case.name.partition(":")[0] != group:
            continue
        outcomes = play([case.wire], case.limits)
        fault = mismatch(case.outcomes, outcomes)
        if fault:
            wrong.append(f"{case.name}: {fault}")
        if any(outcome.environ.get("PATH_INFO") == SMUGGLED for outcome in outcomes):
            wrong.append(f"{case.name}: served a request that nobody sent")
        ways = splits(case.wire) if len(case.wire) <= SHORT else _few(case.wire)
        wrong += [f"{case.name} in {parts}" for parts in ways if play(parts, case.limits) != outcomes]
    assert not wrong


def _few(wire: bytes) -> list[list[bytes]]:
    marks = {1, 16, len(wire) // 2, len(wire) - 2, len(wire) - 1}
    return [[wire[:at], wire[at:]] for at in marks]


def test_there_are_many_in_every_class() -> None:
    assert len(CLASSES) == 14
    assert len(variations()) == len({case.name for case in variations()}) >= 478
