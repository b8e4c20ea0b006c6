"""A keep-alive request from its event to the next one, without the kernel: what the interpreter alone costs.

    python perf/micro/leader.py

The real leader runs real connections of a real worker; only `recv` and `send` of a connection are replaced,
by C functions that cost next to nothing, and the poller is asked once at the end of each batch.
"""

from __future__ import annotations

import gc
import socket
import sys
import time
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent.parent)]

from scenarios import BROWSER, hello  # noqa: E402 -- after the path
from timing import header  # noqa: E402

from threadcorn.http1.memory import Memory  # noqa: E402
from threadcorn.http1.parser import HeadParser, Limits  # noqa: E402
from threadcorn.settings import Config  # noqa: E402
from threadcorn.worker.connection import Connection  # noqa: E402
from threadcorn.worker.intake import FIRST, Intake  # noqa: E402
from threadcorn.worker.limits import WorkerLimits  # noqa: E402
from threadcorn.worker.pool import Pool  # noqa: E402
from threadcorn.worker.reactor import Reactor  # noqa: E402
from threadcorn.worker.serve import Hooks, Service  # noqa: E402
from threadcorn.worker.thread import PoolThread  # noqa: E402
from threadcorn.wsgi.environ import template  # noqa: E402

CONNECTIONS = 64
BATCHES = 150
RUNS = 9


def never(*_: object) -> None:
    raise AssertionError("not in this measurement")


class Bench:
    def __init__(self, app: Any, head: bytes) -> None:
        settings = Config().freeze()
        limits = WorkerLimits.of(settings)
        http_limits = Limits()
        self.reactor = reactor = Reactor(limits)
        self.intake = Intake(reactor, http_limits, never)  # type: ignore[arg-type]
        listener = SimpleNamespace(address=SimpleNamespace(host="127.0.0.1", port=8000))
        access = SimpleNamespace(enabled=False)
        service = Service(app, reactor, access=access, log=never, hooks=Hooks(None, None, None))  # type: ignore[arg-type]
        memory = Memory(template(settings, listener), limits.forwarding.keys)
        make = lambda: [HeadParser(http_limits, memory)]  # noqa: E731
        self.pool = Pool(reactor, self.intake, service, make, never, never)
        self.pool.inline = True
        self.thread = PoolThread(self.pool)
        self.pairs = []
        for number in range(CONNECTIONS):
            ours, theirs = socket.socketpair()
            conn = Connection(ours, "127.0.0.1", str(40000 + number), 0, reactor)
            conn.trusted = True
            conn.recv = {FIRST: head}.__getitem__  # type: ignore[assignment]
            conn.send = len  # type: ignore[assignment]
            reactor.connections[conn.fd] = conn
            self.pairs.append((ours, theirs))
        self.events = [(fd, 1) for fd in reactor.connections]

    def run(self) -> float:
        """Nanoseconds a request."""
        pool, reactor = self.pool, self.reactor
        left = deque([self.events] * BATCHES)

        def poll(_timeout: float) -> list[tuple[int, int]]:
            if not left:
                pool.leader = None
                return []
            return left.popleft()

        reactor.poller.poll = poll  # type: ignore[assignment]
        pool.leader = self.thread
        begin = time.perf_counter_ns()
        self.thread._lead()  # noqa: SLF001 -- what is measured
        return (time.perf_counter_ns() - begin) / (BATCHES * CONNECTIONS)


def main() -> None:
    header("the leader, inline")
    plain = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n\r\n"
    browser = plain[:-2] + "".join(f"{k}: {v}\r\n" for k, v in BROWSER).encode() + b"\r\n"
    for name, head in (("hello", plain), ("browser", browser)):
        bench = Bench(hello, head)
        gc.collect()
        gc.freeze()
        print(f"{name:<58}{min(bench.run() for _ in range(RUNS)):>9.0f} ns")


if __name__ == "__main__":
    main()
