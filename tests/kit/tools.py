"""Programs that some tests need beside Python."""

from __future__ import annotations

import os
import shutil

import pytest

__all__ = ["need"]

_ALSO = ("/usr/sbin", "/sbin", "/usr/local/sbin")  # where servers are, and a user's PATH is not


def need(program: str) -> str:
    """The path of a program; without it the test is skipped, and fails where CI is set.

    A test that vanishes from CI with its tool would be missed by nobody.
    """
    path = shutil.which(program) or shutil.which(program, path=os.pathsep.join(_ALSO))
    if path is not None:
        return path
    if os.environ.get("CI"):
        pytest.fail(f"{program} is not installed, and CI is set: .ci/run must install it")
    pytest.skip(f"{program} is not installed")
