"""A server and its successors: the pid file says who serves."""

from __future__ import annotations

import os
import signal
from typing import Any

import psutil
import pytest

from tests.kit import ServerProcess, eventually

__all__ = ["APP", "RUNGS", "Line", "lives", "reach"]

#: Says its version and its arbiter. Versions differ in length: two files of one length that were
#: written in the same second have the same compiled module.
APP = """
import os
VERSION = {version!r}
def app(environ, start_response):
    environ["wsgi.input"].read()
    body = (VERSION + " " + str(os.getppid())).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""

#: Every way of listening: (bind, options).
RUNGS = [
    pytest.param("127.0.0.1:0", (), id="filter"),
    pytest.param("127.0.0.1:0", ("--no-steering",), id="plain"),
    pytest.param("127.0.0.1:0", ("--no-shard",), id="shared"),
    pytest.param("unix", (), id="unix"),
    pytest.param("fd", (), id="fd"),
    pytest.param("[::]:0", (), id="dual-stack"),
]


def reach(server: ServerProcess) -> str:
    """The address for a client."""
    return server.address.replace("[::]", "[::1]")


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Line(ServerProcess):
    """`serving` is the arbiter that serves now; the one that was started is `pid`."""

    def __init__(self, *options: str, app: str | None = None, **how: Any) -> None:
        if app is None:
            how.setdefault("source", APP.format(version="one"))
        # What these tests look for is lost connections. A queue that stands because the machine is busy is
        # refused in words, and has tests of its own.
        super().__init__(app, "--pid", "pid", "--queue-target", "0", *options, **how)
        self.serving = 0

    def start(self) -> None:
        super().start()
        self.serving = self.named()

    def named(self) -> int:
        """Who stands in the pid file; 0 for nobody."""
        try:
            return int((self.directory / "pid").read_text())
        except (OSError, ValueError):
            return 0

    def deploy(self, text: str) -> None:
        (self.directory / "application.py").write_text(text)

    def tell(self, number: int) -> None:
        """A signal to whoever serves."""
        os.kill(self.serving, number)

    def upgrade(self) -> int:
        """USR2, and wait until a successor serves alone. Its pid."""
        before = self.serving
        self.tell(signal.SIGUSR2)
        eventually(lambda: self.named() not in (0, before), within=20, what="a successor in the pid file")
        eventually(lambda: not lives(before), within=20, what="the predecessor has left")
        self.serving = self.named()
        return self.serving

    def children(self) -> list[int]:
        """Live children of whoever serves: workers, and a successor that boots."""
        try:
            found = psutil.Process(self.serving).children()
        except psutil.NoSuchProcess:
            return []
        return sorted(child.pid for child in found if lives(child.pid))

    def end(self, number: int = signal.SIGTERM, *, within: float = 20.0) -> None:
        """Stop whoever serves, and wait for it."""
        self.tell(number)
        eventually(lambda: not lives(self.serving), within=within, what="the server has ended")

    def logged(self, text: str, count: int = 1) -> None:
        eventually(lambda: self.log.count(text) >= count, within=20, what=f"{text!r} in the log")
