"""Queues of the kernel and the processes behind them, where a server is more than its parts."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess

import pytest

from tests.kit import eventually
from tests.kit.client import connect
from tests.kit.distance import NEAR, Distance
from tests.kit.processes import freeze
from tests.kit.server import FORKED
from tests.kit.tools import need
from tests.process.crowd import Crowd
from tests.process.inside import inside
from tests.process.line import Line
from tests.process.test_chaos import SHORT, chaos
from tests.process.test_distance import not_here

APP = """
import builtins
import json
import os
import time

def sleep():
    with open("child.new", "w") as file:
        file.write(str(os.getpid()))
    os.rename("child.new", "child")
    time.sleep(300)

def app(environ, start):
    path = environ["PATH_INFO"]
    groups = builtins.groups
    if path == "/drops":
        body = json.dumps([groups[0].drops(), groups[0].depths()]).encode()
    elif path == "/fork":
        if os.fork() == 0:
            sleep()
            os._exit(0)
        body = b"forked"
    else:
        body = str(os.getpid()).encode()
    start("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


def test_a_stopped_workers_queue_does_not_overflow() -> None:
    """T18: five may wait at its shard, and its siblings take them before the sixth comes."""
    with inside(APP, "--workers", "3", "--backlog", "4", check_descriptors=False) as server:
        with Crowd(server.address, keep=0, fresh=4) as crowd:
            stopped = server.workers()[0]
            freeze(stopped)
            crowd.more(200)
            os.kill(stopped, signal.SIGCONT)
            crowd.more(20)
            crowd.end()
            assert not crowd.lost, crowd.lost
        drops, depths = json.loads(server.get("/drops").body)
        assert not any(drops), (drops, depths)


def test_a_child_of_the_application_keeps_no_port() -> None:
    """T15: the application has forked: the child lives on, and after the stop clients are refused."""
    with inside(APP, "--workers", "2", check_descriptors=False, tolerate=FORKED) as server:
        assert server.get("/fork").body == b"forked"
        eventually((server.directory / "child").exists)
        child = int((server.directory / "child").read_text())
        try:
            os.kill(server.pid, signal.SIGTERM)
            assert server.wait(within=20) == 0
            os.kill(child, 0)
            with pytest.raises(ConnectionRefusedError):
                connect(server.address, within=2)
        finally:
            os.kill(child, signal.SIGKILL)


def test_several_addresses_of_all_kinds() -> None:
    """T17: IPv4, IPv6 alone, both in one, and a socket file: a roll, scaling and an upgrade lose nothing."""
    binds = ["127.0.0.1:0", "[::1]:0", "[::]:0", "unix"]
    with Line("--workers", "2", bind=binds) as server:
        addresses = [address.replace("[::]", "[::1]") for address in server.addresses]
        assert len(addresses) == 4
        crowds = [Crowd(address, keep=1, fresh=1) for address in addresses]
        for crowd in crowds:
            crowd.__enter__()
        try:
            server.tell(signal.SIGHUP)
            server.logged("Reloaded: ")
            server.tell(signal.SIGTTIN)
            eventually(lambda: len(server.children()) == 3, within=20)
            server.tell(signal.SIGTTOU)
            eventually(lambda: len(server.children()) == 2, within=20)
            server.upgrade()
            for crowd in crowds:
                crowd.more(10)
        finally:
            for crowd in crowds:
                crowd.end()
        for crowd in crowds:
            assert not crowd.lost, (crowd.address, crowd.lost)
            assert not crowd.closed, (crowd.address, crowd.closed)
        server.end()


def test_workers_that_may_not_bind_serve_a_privileged_port() -> None:
    """T16: the arbiter binds port 81, workers are nobody; they come and go, and nothing is lost."""
    not_here()
    with Distance(need("ip"), round_trip=0.0) as way:
        sides = ["--server-prefix", shlex.join(way.near), "--clients-prefix", shlex.join(way.far)]
        # Nobody may not be allowed to enter where this test lies: the arbiter loads, and all work in /.
        flags = ["--user", "nobody", "--group", "65534", "--preload", "--chdir", "/"]
        report = chaos(*SHORT, *sides, "--seed", "16", "--bind", f"{NEAR}:81", "--", *flags)
    assert not sum(report["lost"].values()), report
    assert report["events"]["TTIN"], report


def test_a_user_namespace_is_no_hindrance() -> None:
    """T16: root in there only, as in many a container; workers come and go, and nothing is lost."""
    prefix = [need("unshare"), "--user", "--map-root-user"]
    possible = subprocess.run([*prefix, "true"], capture_output=True, text=True)
    if possible.returncode:
        assert not (os.environ.get("CI") and os.geteuid() == 0), possible.stderr
        pytest.skip(f"no user namespaces here: {possible.stderr}")
    report = chaos(*SHORT, "--server-prefix", shlex.join(prefix), "--seed", "17", "--rung", "filter")
    assert not sum(report["lost"].values()), report
    assert report["events"]["TTIN"], report
    assert report["kept connections that moved"], report
