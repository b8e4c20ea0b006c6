"""What tests are made with: real servers, a raw client, waiting with a deadline."""

from __future__ import annotations

from tests.kit.client import Connection, CutShort, Ended, Reply, connect
from tests.kit.eventually import Deadline, NotInTime, eventually
from tests.kit.server import ROOT, Finished, ServerProcess, StartFailed, environment, run_cli
from tests.kit.tools import need

__all__ = [
    "ROOT",
    "Connection",
    "CutShort",
    "Deadline",
    "Ended",
    "Finished",
    "NotInTime",
    "Reply",
    "ServerProcess",
    "StartFailed",
    "connect",
    "environment",
    "eventually",
    "need",
    "run_cli",
]
