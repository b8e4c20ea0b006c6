"""psutil fails in every way it can: the arbiter serves on, and says what it still knows."""

from __future__ import annotations

import os
import signal

import pytest

from tests.kit.admin import facts, look, metrics
from tests.kit.eventually import eventually
from tests.kit.server import ServerProcess
from tests.kit.tools import need

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
            number = next(calls)
            # Every call of a look in its turn, each time in another way.
            if kind == "season" and number % 7 == 0:
                raise list(errors.values())[number // 7 % 4]
            if kind != "season" and number >= first:
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


@pytest.mark.parametrize("fault", ["missing", "gone", "denied", "hidden", "broken", "later", "season"])
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
        if fault not in ("season", "later"):
            # Whoever relies on a limit must know that it is not the one he asked for.
            note = "pss cannot be read: limits on memory count rss"
            eventually(lambda: note in facts(server)["server"]["notes"])
            assert server.log.count(note) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_server_without_proc() -> None:
    """A mount namespace whose /proc is empty: it serves, replaces who dies, and says what it cannot do."""
    unshare = need("unshare")
    script = f"""
import os, sys
if not os.environ.get("HIDDEN"):
    os.environ["HIDDEN"] = "1"
    mounted = 'mount -t tmpfs none /proc && exec "$@"'
    os.execv({unshare!r}, ["unshare", "-m", "sh", "-c", mounted, "sh", sys.executable, *sys.argv])
from threadcorn.cli import main
sys.argv[1:] = ["--bind", os.environ["BIND"], "--ready-fd", os.environ["READY_FD"], *sys.argv[1:]]
sys.exit(main())
"""
    with ServerProcess(
        None,
        *("--admin-bind", "unix:admin.sock", "--workers", "2", "--max-worker-memory", "1g", "small:app"),
        script=script,
        files={"small.py": APP},
        check_descriptors=False,
    ) as server:
        assert look(server, "/readyz").status == 200
        eventually(lambda: facts(server)["server"]["notes"])
        assert "limits on it have no effect" in server.log
        assert all(row["rss"] is None for row in facts(server)["workers"])
        os.kill(server.workers()[0], signal.SIGKILL)
        eventually(lambda: facts(server)["server"]["exits"] and facts(server)["server"]["workers_ready"] == 2)
        assert server.get("/").status == 200
        assert look(server, "/metrics").status == 200
        assert "Traceback" not in server.log


def test_a_worker_that_nobody_has_looked_at_is_told_with_the_same_names() -> None:
    """Whoever reads /status need not ask first whether a name is there."""
    flags = ("--admin-bind", "unix:admin.sock", "--workers", "2", "--probe-interval")
    with (
        ServerProcess("small:app", *flags, "0.05", files={"small.py": APP}) as looked,
        ServerProcess("small:app", *flags, "0", files={"small.py": APP}) as not_looked,
    ):
        eventually(lambda: all(row["rss"] for row in facts(looked)["workers"]))
        rows = facts(not_looked)["workers"]
        assert rows[0].keys() == facts(looked)["workers"][0].keys()
        assert {row["rss"] for row in rows} == {None}
        assert "threadcorn_worker_rss_bytes" in exported(looked)
        assert "threadcorn_worker_rss_bytes{" not in exported(not_looked)


def exported(server: ServerProcess) -> str:
    return look(server, "/metrics").body.decode()
