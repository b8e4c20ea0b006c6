"""docs/conformance.md names tests that exist, and leaves no point out."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "conformance.md").read_text("utf-8")
FOLDERS = ("tests/http1", "tests/wsgi", "tests/worker", "tests/process")


@pytest.fixture(scope="module")
def collected() -> set[str]:
    """Names as the page has them, with brackets and without."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *FOLDERS]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False).stdout
    names = {line.rpartition("/")[2] for line in said.splitlines() if "::" in line.partition(" ")[0]}
    # A path in brackets has slashes, too.
    names |= {line[line.index("/test_") + 1 :] for line in said.splitlines() if "/test_" in line}
    return names | {name.partition("[")[0] for name in names}


def test_every_test_that_is_named_exists(collected: set[str]) -> None:
    named = re.findall(r"`(test_[^`]+::[^`]+)`", PAGE)
    assert len(named) > 200
    assert [name for name in named if name not in collected] == []


@pytest.mark.parametrize(("section", "points"), [("PEP 3333", 45), ("RFC 9112 and 9110", 50)])
def test_no_point_is_left_out(section: str, points: int) -> None:
    text = PAGE[PAGE.index(f"## {section}") :].partition("\n## ")[0]
    rows = re.findall(r"^\| ([0-9]+) \| [^|]+ \| ([^|]+) \|$", text, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, points + 1))
    assert all(tests.strip() for _, tests in rows)
