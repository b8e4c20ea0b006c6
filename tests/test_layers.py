"""The package keeps to its layers, its wall and its doors."""

from __future__ import annotations

import subprocess
import sys

from tests.kit import ROOT


def test_the_package_is_in_order():
    """No import goes upwards or through the wall, and each facility is used at its door only."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "layers.py")], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stdout + done.stderr
