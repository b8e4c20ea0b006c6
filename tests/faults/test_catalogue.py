"""Every fault has a test, or a reason why there is none."""

from __future__ import annotations

import re

from tests.faults.catalogue import FAULTS
from tests.kit import ROOT


def test_every_fault_has_its_tests() -> None:
    assert list(FAULTS) == list(range(1, 61))
    missing = []
    for number, (_, tests) in FAULTS.items():
        if isinstance(tests, str):
            continue
        for named in tests:
            file, _, name = named.partition("::")
            text = (ROOT / "tests" / file).read_text("utf-8")
            if not re.search(rf"def {name}\b", text):
                missing.append((number, named))
    assert not missing
