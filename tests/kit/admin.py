"""Talking to the admin address and the control socket of a server under test."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.kit.client import Reply, connect
from tests.kit.server import Finished, ServerProcess, run_cli

__all__ = ["ADMIN", "CONTROL", "ctl", "facts", "look", "metrics", "read_metrics"]

#: Options of a server with both, as sockets in its own directory.
ADMIN = ("--admin-bind", "unix:admin.sock")
CONTROL = ("--control-socket", "control.sock")


def look(server: ServerProcess, path: str, headers: Mapping[str, str] | None = None) -> Reply:
    """GET at the admin address."""
    with connect(f"unix:{server.directory}/admin.sock") as connection:
        return connection.get(path, headers=dict(headers or {}))


def facts(server: ServerProcess, path: str = "/status") -> Any:
    return json.loads(look(server, path).body)


def metrics(server: ServerProcess) -> dict[str, dict[str, float]]:
    """Samples by name: label text to value."""
    return read_metrics(look(server, "/metrics").body.decode())


def read_metrics(text: str) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        name, _, rest = line.partition("{")
        if rest:
            labels, _, value = rest.rpartition("} ")
        else:
            name, _, value = line.partition(" ")
            labels = ""
        found.setdefault(name, {})[labels] = float(value)
    return found


def ctl(server: ServerProcess, *args: str, within: float = 20.0) -> Finished:
    """threadcornctl, as a process of its own."""
    assert sys.executable
    return run_cli(
        "-s", str(Path(server.directory) / "control.sock"), *args, module="threadcorn.ctl", within=within
    )
