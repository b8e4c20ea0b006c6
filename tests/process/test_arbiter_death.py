"""The arbiter is killed: its workers notice, finish and leave, and the port is free for the next server."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.kit import ServerProcess, connect, eventually, run_cli
from tests.process.line import RUNGS, Line, lives, reach

GATE = "tests.kit.apps:gate"
KILLED = -signal.SIGKILL


@pytest.mark.parametrize(("bind", "options"), RUNGS)
def test_workers_leave_at_once_and_the_address_is_free(bind: str, options: tuple[str, ...]) -> None:
    """Without anything to finish; a pid file that was left behind does not matter."""
    with Line("--workers", "3", *options, bind=bind, exit_code=KILLED) as server:
        workers = server.children()
        began = time.monotonic()
        server.tell(signal.SIGKILL)
        server.wait()
        eventually(lambda: not any(lives(pid) for pid in workers), within=10)
        assert time.monotonic() - began < 5
        if bind == "fd":
            return  # the listener is the test's, and nobody else may open it
        where = server.address if bind != "unix" else reach(server)
        pid = str(server.directory / "pid")
        with ServerProcess(None, "--pid", pid, bind=where) as after:
            assert after.get(address=reach(after)).status == 200


def test_what_runs_is_finished_and_the_address_is_free_before() -> None:
    """Orphans let go of the port while the last request still runs: a new server does not wait for it."""
    with Line("--workers", "2", app=GATE, exit_code=KILLED) as server:
        client, idle = server.connect(), server.connect()
        assert idle.get("/").body == b"free"
        client.request("/hold/a")
        eventually((server.directory / "a.in").exists)
        worker = int((server.directory / "a.in").read_text())
        server.tell(signal.SIGKILL)
        server.logged("The arbiter is gone", 2)
        assert idle.end() == "closed"

        def free() -> None:
            with pytest.raises(OSError, match="refused"):
                connect(server.address)

        eventually(free)
        with ServerProcess(bind=server.address) as after:
            assert after.get().body == b"Hello, World!"
        assert lives(worker)
        (server.directory / "a.go").touch()
        reply = client.reply()
        assert reply.body == b"held"
        assert not reply.keeps
        eventually(lambda: not lives(worker))


def test_orphans_may_go_on() -> None:
    """With --orphan-timeout they serve on; a new server says that the address is taken, and what to do. They
    still obey a TERM."""
    with Line("--workers", "2", "--orphan-timeout", "60", exit_code=KILLED) as server:
        workers = server.children()
        server.tell(signal.SIGKILL)
        server.logged("serving on for 60 s", 2)
        late = run_cli("--bind", server.address, "tests.kit.apps:hello")
        assert late.code == 3
        assert "in use" in late.err
        assert "Traceback" not in late.err
        assert server.get().status == 200
        for pid in workers:
            os.kill(pid, signal.SIGTERM)
        eventually(lambda: not any(lives(pid) for pid in workers), within=10)
        with ServerProcess(bind=server.address) as after:
            assert after.get().status == 200


def test_orphans_leave_when_their_time_is_over() -> None:
    """Not before, and without being asked."""
    with Line("--workers", "2", "--orphan-timeout", "1", exit_code=KILLED) as server:
        workers = server.children()
        began = time.monotonic()
        server.tell(signal.SIGKILL)
        eventually(lambda: not any(lives(pid) for pid in workers), within=10)
        assert time.monotonic() - began >= 1


def test_a_worker_that_boots_does_not_stay_behind() -> None:
    """It hangs in an import and hears nothing; its time to boot is its bound, whoever lives."""
    source = "import os, time\nopen(f'boots{os.getpid()}', 'w').close()\ntime.sleep(60)\napp = None\n"
    server = Line("--workers", "1", "--boot-timeout", "1", source=source, ready_within=0.5)
    try:
        with pytest.raises(AssertionError, match="not ready"):
            server.start()
        found = eventually(lambda: [name for name in os.listdir(server.directory) if "boots" in name])
        worker = int(found[0].removeprefix("boots"))
        server.signal(signal.SIGKILL)
        server.wait()
        eventually(lambda: not lives(worker), within=15)
    finally:
        server._kill_session()
