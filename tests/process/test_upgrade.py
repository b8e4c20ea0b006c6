"""USR2 on real servers: a new arbiter takes over, or nothing has happened."""

from __future__ import annotations

import os
import signal
from typing import Any

import psutil
import pytest

from tests.kit import ServerProcess, eventually
from tests.process.crowd import Crowd

APP = """
import os
VERSION = {version!r}
def app(environ, start_response):
    environ["wsgi.input"].read()
    body = (VERSION + " " + str(os.getppid())).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


class Line(ServerProcess):
    """A server with a pid file, and its successors."""

    def __init__(self, *options: str, source: str = APP.format(version="one"), **how: Any) -> None:
        super().__init__(None, "--pid", "pid", *options, source=source, **how)
        self.serving = 0

    def start(self) -> None:
        super().start()
        self.serving = self.named()

    def named(self) -> int:
        """Who stands in the pid file."""
        try:
            return int((self.directory / "pid").read_text())
        except (OSError, ValueError):
            return 0

    def deploy(self, version: str) -> None:
        (self.directory / "application.py").write_text(APP.format(version=version))

    def upgrade(self) -> int:
        """USR2 to whoever serves; wait until a successor serves alone. Its pid."""
        before = self.serving
        os.kill(before, signal.SIGUSR2)
        eventually(lambda: self.named() not in (0, before), within=20, what="a successor in the pid file")
        eventually(lambda: not _lives(before), within=20, what="the predecessor has left")
        self.serving = self.named()
        return self.serving

    def end(self, number: int = signal.SIGTERM) -> None:
        os.kill(self.serving, number)
        eventually(lambda: not _lives(self.serving), within=20, what="the server has ended")

    def logged(self, text: str, count: int = 1) -> None:
        eventually(lambda: self.log.count(text) >= count, within=20, what=f"{text!r} in the log")


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


RUNGS = [
    pytest.param("127.0.0.1:0", (), id="filter"),
    pytest.param("127.0.0.1:0", ("--no-shard",), id="shared"),
    pytest.param("unix", (), id="unix"),
    pytest.param("fd", (), id="fd"),
    pytest.param("[::]:0", (), id="dual-stack"),
]


@pytest.mark.parametrize(("bind", "options"), RUNGS)
def test_a_successor_takes_over_under_load(bind: str, options: tuple[str, ...]) -> None:
    """New code serves, nothing was lost, the old arbiter and its workers are gone, and so a second time."""
    with Line("--workers", "2", *options, bind=bind) as server:
        with Crowd(server.address.replace("[::]", "[::1]")) as crowd:
            for version in ("second", "the third")[: 1 if options else 2]:
                server.deploy(version)
                new = server.upgrade()
                crowd.more(50)
                assert server.get(address=crowd.address).body == f"{version} {new}".encode()
        assert not crowd.lost, crowd.lost
        assert not crowd.refused
        assert server.wait() == 0
        server.end()
        if bind != "fd":
            with pytest.raises(OSError, match=r"refused|No such file"):
                server.get(address=crowd.address)
