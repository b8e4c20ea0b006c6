"""A life of an arbiter: workers boot, crash, hang, are scaled; the end in all its forms."""

from __future__ import annotations

import os
import signal
import time

import psutil
import pytest

from tests.arbiter.stage import STRANGER
from tests.kit import eventually


def test_a_first_generation(stage):
    """As many as wanted, one a slot, each booted and ready; the ready line has the address."""
    server = stage(settings={"workers": 3})
    assert len(server.workers()) == 3
    assert server.address.startswith("127.0.0.1:")
    seen = {tuple(server.ask("p")[1:3]) for _ in range(60)}
    assert seen <= {(0, 1), (1, 1), (2, 1)}
    assert server.count("Booting worker with pid") == 3
    assert f"Listening at: http://{server.address} ({server.pid})" in server.log
    assert server.count("Worker ready") == 3
    assert server.threads_of_arbiter() == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_the_end(stage, number):
    """Exit code 0, no process left, and the port is free."""
    server = stage(settings={"workers": 2})
    address = server.address
    assert server.stop(number) == 0
    host, _, port = address.rpartition(":")
    again = stage(bind=f"{host}:{port}")
    again.ask("p")


def test_a_graceful_stop_waits_for_what_runs(stage):
    """A worker that needs a while to drain gets it."""
    server = stage("SLOW = 1.0")
    before = time.monotonic()
    assert server.stop(signal.SIGTERM) == 0
    assert time.monotonic() - before >= 1.0
    assert server.count("Killing") == 0


def test_a_graceful_stop_has_an_end(stage):
    """A worker that does not leave is killed soon after graceful_timeout."""
    server = stage("DEAF = True", settings={"graceful_timeout": 0.5})
    assert server.stop(signal.SIGTERM, within=10.0) == 0
    assert "killed by SIGKILL" in server.log


def test_a_quick_stop_waits_for_nobody(stage):
    """A deaf worker costs a second, not graceful_timeout."""
    server = stage("DEAF = True", settings={"graceful_timeout": 60})
    assert server.stop(signal.SIGINT, within=10.0) == 0


def test_a_second_quick_stop_is_quicker(stage):
    """Ctrl-C twice: the deaf one is killed at once."""
    server = stage("DEAF = True", settings={"graceful_timeout": 60})
    server.signal(signal.SIGINT)
    server.logged("Stopping quickly")
    before = time.monotonic()
    server.signal(signal.SIGINT)
    assert server.wait(within=10.0) == 0
    assert time.monotonic() - before < 0.9
    assert "killing what is left" in server.log


def test_a_graceful_stop_can_be_hurried(stage):
    """TERM, then INT."""
    server = stage("SLOW = 60.0", settings={"graceful_timeout": 60})
    server.signal(signal.SIGTERM)
    server.logged("Worker draining")
    server.signal(signal.SIGINT)
    assert server.wait(within=10.0) == 0


def test_a_stop_while_booting(stage):
    """A worker that still loads is ended, not waited for."""
    server = stage(settings={"workers": 1})
    server.application("import time; time.sleep(60)")
    server.signal(signal.SIGTTIN)
    server.settled(2)
    assert server.stop(signal.SIGTERM, within=5.0) == 0


def test_a_killed_worker_is_replaced_in_its_slot(stage):
    """At once; the log names the signal; the others never notice."""
    server = stage(settings={"workers": 2})
    pid, slot, *_ = server.ask("p")
    other = next(p for p in server.workers() if p != pid)
    os.kill(pid, signal.SIGKILL)
    server.logged(f"pid: {pid}", "killed by SIGKILL")
    server.settled(2)
    assert other in server.workers()
    new = next(p for p in server.workers() if p != other)
    eventually(lambda: [new, slot] in [server.ask("p")[:2] for _ in range(20)])


def test_a_worker_that_leaves_unasked(stage):
    """The log tells the exit code."""
    server = stage()
    server.ask("x")
    server.logged("exited with code 7")
    server.settled(1)
    assert server.ask("p")


def test_a_silent_heart(stage):
    """ABRT, and a replacement; the log has gunicorn's words."""
    server = stage("SILENT = True", settings={"timeout": 1})
    [pid] = server.workers()
    server.application("")
    server.logged("WORKER TIMEOUT", f"pid: {pid}")
    eventually(lambda: pid not in server.workers(), within=15.0)
    server.settled(1)
    assert server.ask("p")[0] != pid


def test_a_stopped_worker_is_killed(stage):
    """SIGSTOP: not even ABRT gets through to it."""
    server = stage(settings={"timeout": 1})
    [pid] = server.workers()
    os.kill(pid, signal.SIGSTOP)
    server.logged(f"pid: {pid}", "killed by SIGKILL")
    assert server.ask("p")[0] != pid


def test_workers_leave_when_the_arbiter_is_killed(stage):
    """The end of their channel tells them, and the port is free."""
    server = stage(settings={"workers": 3}, exit_code=-signal.SIGKILL)
    workers = [psutil.Process(pid) for pid in server.workers()]
    server.signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(workers, timeout=10.0)
    assert not alive
    host, _, port = server.address.rpartition(":")
    stage(bind=f"{host}:{port}").ask("p")


def test_more_and_fewer(stage):
    """TTIN and TTOU, to one and no further."""
    server = stage(settings={"workers": 1, "max_workers": 3})
    for wanted in (2, 3):
        server.signal(signal.SIGTTIN)
        server.settled(wanted)
    server.signal(signal.SIGTTIN)
    server.logged("stays 3")
    for wanted in (2, 1):
        server.signal(signal.SIGTTOU)
        server.settled(wanted)
    server.signal(signal.SIGTTOU)
    server.logged("stays 1")
    assert server.ask("p")[1] == 0, "the lowest slots are the ones that stay"


def test_a_worker_told_by_hand_to_leave_is_replaced(stage):
    """TERM to a worker drains it; its slot is filled at once."""
    server = stage("SLOW = 0.5")
    [pid] = server.workers()
    os.kill(pid, signal.SIGTERM)
    server.logged("Worker draining", f"pid: {pid}")
    eventually(lambda: server.ask("p")[0] != pid)
    server.settled(1)


def test_signals_to_everybody_do_not_kill_workers(stage):
    """`pkill -USR2` and its like reach workers as well."""
    server = stage(settings={"workers": 2})
    before = server.workers()
    for number in (
        signal.SIGHUP,
        signal.SIGUSR2,
        signal.SIGTTIN,
        signal.SIGTTOU,
        signal.SIGWINCH,
        signal.SIGUSR1,
    ):
        for pid in before:
            os.kill(pid, number)
    assert server.ask("p")
    assert server.workers() == before


def test_strangers_are_reaped(stage):
    """We may be pid 1: a child that is no worker does not stay a zombie."""
    server = stage(settings={"loglevel": "debug"}, env={STRANGER: "1"})
    server.logged("which is not a worker")
    assert all(child.status() != psutil.STATUS_ZOMBIE for child in psutil.Process(server.pid).children())


def test_winch_without_a_daemon(stage):
    """A terminal that changes its size does not stop the service."""
    server = stage()
    before = server.workers()
    server.signal(signal.SIGWINCH)
    server.logged("Handling signal: winch")
    assert server.ask("p")
    assert server.workers() == before


def test_logs_are_reopened(stage, tmp_path):
    """USR1 after a rotation: new lines are in the new file."""
    file = tmp_path / "error.log"
    server = stage(settings={"errorlog": str(file)})
    file.rename(tmp_path / "error.log.1")
    server.signal(signal.SIGUSR1)
    eventually(file.exists)
    server.signal(signal.SIGTTIN)
    eventually(lambda: "Worker ready" in file.read_text())


def test_a_recycled_worker(stage):
    """It is replaced ready-first: nobody who asks meanwhile is turned away."""
    server = stage()
    pid = server.ask("r")[0]
    server.logged("Worker to be replaced", f"pid: {pid}")
    eventually(lambda: server.ask("p")[0] != pid)
    server.settled(1)
    assert server.count("Worker ready") == 2


def test_a_storm_of_signals(stage):
    """Whatever comes in whatever order, the right number serves afterwards and nobody is a zombie."""
    server = stage(settings={"workers": 2})
    storm = [signal.SIGTTIN, signal.SIGTTIN, signal.SIGHUP, signal.SIGTTOU, signal.SIGUSR1, signal.SIGHUP,
             signal.SIGCHLD, signal.SIGTTOU, signal.SIGHUP]  # fmt: skip
    for number in storm * 5:
        server.signal(number)
        server.ask("p")
    server.signal(signal.SIGHUP)
    eventually(lambda: server.log.rstrip().endswith(("workers", "exited with code 0")), within=20.0)

    def quiet() -> bool:
        children = psutil.Process(server.pid).children()
        try:
            assert all(child.status() != psutil.STATUS_ZOMBIE for child in children)
        except psutil.NoSuchProcess:
            return False  # one of them ended between the two looks, and was reaped
        last = [line for line in server.log.splitlines() if "Number of workers" in line]
        wanted = int(last[-1].split("Number of workers: ")[1].split()[0]) if last else 2
        return len(children) == wanted

    eventually(quiet, within=30.0)
