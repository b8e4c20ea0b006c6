"""Sockets that are not for clients: what cannot be made is told in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from threadcorn.errors import BootError
from threadcorn.system.doorway import open_private


def test_a_path_too_long_for_a_socket(tmp_path: Path) -> None:
    with pytest.raises(BootError, match="cannot be made: AF_UNIX path too long"):
        open_private(str(tmp_path / ("x" * 120)))
