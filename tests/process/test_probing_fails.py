"""psutil fails in every way it can: the arbiter serves on, and says what it still knows."""

from __future__ import annotations

import pytest

from tests.kit.admin import facts, look, metrics
from tests.kit.eventually import eventually
from tests.kit.server import ServerProcess

# The kit's applications import psutil.
APP = """
def app(environ, start):
    start("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""

# Runs the command with a psutil that is broken from the start, or after the tenth call.
SCRIPT = """
import itertools, os, sys
kind = os.environ["FAULT"]
if kind == "missing":
    sys.modules["psutil"] = None
else:
    import psutil
    errors = {"gone": psutil.NoSuchProcess(1), "denied": psutil.AccessDenied(1),
              "hidden": FileNotFoundError(2, "x"), "broken": RuntimeError("x"),
              "later": psutil.AccessDenied(1)}
    calls = itertools.count()
    first = 10 if kind == "later" else 0
    def failing(real):
        def call(*args, **kwargs):
            if next(calls) >= first:
                raise errors[kind]
            return real(*args, **kwargs)
        return call
    for name in ("__init__", "memory_info", "memory_full_info", "cpu_times", "num_fds", "num_threads",
                 "num_ctx_switches", "status", "oneshot"):
        setattr(psutil.Process, name, failing(getattr(psutil.Process, name)))
from threadcorn.cli import main
sys.argv[1:] = ["--bind", os.environ["BIND"], "--ready-fd", os.environ["READY_FD"], *sys.argv[1:]]
sys.exit(main())
"""


@pytest.mark.parametrize("fault", ["missing", "gone", "denied", "hidden", "broken", "later"])
def test_the_arbiter_outlives_its_monitor(fault: str) -> None:
    with ServerProcess(
        None,
        *("--admin-bind", "unix:admin.sock", "--workers", "2", "--probe-interval", "0.05"),
        *("--max-worker-memory", "1g", "small:app"),
        script=SCRIPT,
        env={"FAULT": fault},
        files={"small.py": APP},
        check_descriptors=False,
    ) as server:
        eventually(lambda: facts(server)["server"]["monitor_cost"] > 0.01)
        assert server.get("/").status == 200
        assert look(server, "/readyz").status == 200
        # Resident memory is read from /proc when psutil does not tell it.
        assert all(row["rss"] > 1 << 20 for row in facts(server)["workers"])
        assert sum(metrics(server)["threadcorn_requests_total"].values()) >= 0
        assert "Traceback" not in server.log
        assert len(server.workers()) == 2
