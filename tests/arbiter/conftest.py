"""The stage of stage.py, as a fixture."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from tests.arbiter.stage import SCRIPT
from tests.kit import ServerProcess, eventually

FAST = {"timeout": 30, "graceful_timeout": 5, "boot_timeout": 10}


class Stage(ServerProcess):
    """A server whose settings and application are files that a test may change."""

    def __init__(self, app: str = "", *, settings: dict[str, Any] | None = None, **how: Any) -> None:
        self.settings = {**FAST, **(settings or {})}
        files = {"app.py": app, "settings.json": json.dumps(self.settings)}
        super().__init__(script=SCRIPT, files=files, check_descriptors=False, **how)
        os.chmod(self.directory, 0o755)  # for workers that are somebody else

    def configure(self, **settings: Any) -> None:
        self.settings.update(settings)
        (self.directory / "settings.json").write_text(json.dumps(self.settings))

    def application(self, text: str) -> None:
        (self.directory / "app.py").write_text(text)

    def hup(self) -> None:
        self.signal(signal.SIGHUP)

    def ask(self, letter: str = "p") -> list[Any]:
        """One letter to any worker; what it answered, or [] if it died of it."""
        host, _, port = self.address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=10) as client:
            client.sendall(letter.encode())
            answer = b""
            try:
                while part := client.recv(65536):
                    answer += part
            except ConnectionResetError:
                pass
        return json.loads(answer) if answer else []

    def logged(self, *words: str, within: float = 15.0) -> str:
        """Wait until a line of the log has all these words; that line."""

        def line() -> str:
            return next((text for text in self.log.splitlines() if all(w in text for w in words)), "")

        return eventually(line, within=within, what=f"the log says {words}")

    def count(self, text: str) -> int:
        return self.log.count(text)

    def settled(self, workers: int, *, within: float = 15.0, generation: int | None = None) -> list[int]:
        """Wait until so many workers live and no more; their process ids."""

        def right() -> list[int]:
            pids = self.workers()
            assert len(pids) == workers, f"{len(pids)} live"
            if generation is not None:
                assert self.ask("p")[2] == generation
            return pids

        return eventually(right, within=within)

    def hooks(self) -> list[str]:
        return (self.directory / "hooks.log").read_text().splitlines()

    def threads_of_arbiter(self) -> int:
        return psutil.Process(self.pid).num_threads()


@pytest.fixture
def stage() -> Iterator[Callable[..., Stage]]:
    """Makes a stage; at the end it is stopped and nothing of it may be left."""
    made: list[Stage] = []

    def make(*args: Any, **how: Any) -> Stage:
        one = Stage(*args, **how)
        made.append(one)
        one.__enter__()
        return one

    yield make
    for one in made:
        if one.process is not None:
            one.__exit__(None, None, None)
