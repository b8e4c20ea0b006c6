"""Clients that ask without end, and count what they get."""

from __future__ import annotations

import threading
from collections import Counter

from tests.kit.client import connect
from tests.kit.server import ServerProcess

__all__ = ["Load"]


class Load:
    """Keep-alive clients that ask as fast as they are answered, one path after the other.

    A lost connection or a 5xx is a failure. `done` and `statuses` count answers.
    """

    def __init__(self, server: ServerProcess, clients: int = 2, paths: tuple[str, ...] = ("/",)) -> None:
        self.failures: list[str] = []
        self._server = server
        self._paths = paths
        self._counts = [Counter[int]() for _ in range(clients)]
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(counts,)) for counts in self._counts]

    @property
    def statuses(self) -> Counter[int]:
        """Answers by status, as of now."""
        total = Counter[int]()
        for counts in self._counts:
            total.update(dict(counts))
        return total

    @property
    def done(self) -> int:
        return self.statuses.total()

    def _run(self, counts: Counter[int]) -> None:
        connection = None
        number = 0
        while not self._stop.is_set():
            try:
                if connection is None:
                    connection = connect(self._server.address)
                reply = connection.get(self._paths[number % len(self._paths)])
                number += 1
                if reply.status >= 500:
                    self.failures.append(f"status {reply.status}")
                counts[reply.status] += 1
                if not reply.keeps:
                    connection.close()
                    connection = None
            except Exception as error:
                # An idle connection may be closed between two requests; this client is never idle.
                self.failures.append(repr(error))
                connection = None
        if connection is not None:
            connection.close()

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
