"""An application that leaks a megabyte a request, under load, with a memory limit for workers.

    python perf/leak.py
    python perf/leak.py --seconds 60 --limit 200m --rate 150 --workers 2

Clients ask at a fixed rate, most of them on connections that they keep, some on a new one each time. Told
are: answers and failures, recycles by reason, and how much memory the workers had, each and together. The
exit code is 1 if a request failed, or if the memory was not bounded. Run from the project's root.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.kit.admin import ADMIN, facts
from tests.kit.client import Connection, connect
from tests.kit.server import ServerProcess
from threadcorn.settings.values import size

APP = """
kept = []
def app(environ, start):
    kept.append(bytearray(b"x") * (1 << 20))
    start("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""
KEPT, NEW = 6, 2  # clients


class Client(threading.Thread):
    """Asks `rate` times a second until `until`."""

    def __init__(self, address: str, rate: float, until: float, *, keep: bool) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()
        self.times: list[float] = []
        self._address, self._rate, self._until, self._keep = address, rate, until, keep

    def run(self) -> None:
        connection: Connection | None = None
        due = time.monotonic()
        while due < self._until:
            time.sleep(max(0.0, due - time.monotonic()))
            began = time.monotonic()
            try:
                connection = connection or connect(self._address)
                reply = connection.get("/")
                self.seen[str(reply.status)] += 1
                if not (self._keep and reply.keeps):
                    connection.close()
                    connection = None
            except Exception as error:  # noqa: BLE001 - whatever it is, it is counted
                self.seen[repr(error)] += 1
                connection = None
            self.times.append(time.monotonic() - began)
            due += 1 / self._rate
        if connection is not None:
            connection.close()


def memory(pids: list[int]) -> list[int]:
    """Bytes that each process has alone."""
    found = []
    for pid in pids:
        try:
            found.append(psutil.Process(pid).memory_full_info().uss)
        except psutil.Error:
            continue  # it has just left
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--limit", default="200m")
    parser.add_argument("--rate", type=float, default=150.0, help="requests a second")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    limit = size(args.limit)
    options = ("--workers", str(args.workers), "--max-worker-memory", args.limit)
    with ServerProcess(None, *ADMIN, *options, source=APP, check_descriptors=False) as server:
        until = time.monotonic() + args.seconds
        rate = args.rate / (KEPT + NEW)
        clients = [Client(server.address, rate, until, keep=n < KEPT) for n in range(KEPT + NEW)]
        for client in clients:
            client.start()
        each = 0
        together: list[int] = []
        while time.monotonic() < until:
            now = memory(server.workers())
            each, together = max([each, *now]), [*together, sum(now)]
            time.sleep(0.1)
        for client in clients:
            client.join(30)
        server_facts = facts(server)["server"]
    seen: Counter[str] = sum((client.seen for client in clients), Counter())
    times = sorted(t for client in clients for t in client.times)
    failed = seen.total() - seen["200"]
    p50, p99, most = (times[int(q * (len(times) - 1))] * 1e3 for q in (0.5, 0.99, 1.0))
    middle = int(statistics.median(together)) >> 20
    print(f"{args.seconds:g} s, {args.workers} workers, limit {limit >> 20} MiB, {args.rate:g} requests/s")
    print(f"answers           {dict(seen)}; failed: {failed}")
    print(f"latency, ms       p50 {p50:.1f}, p99 {p99:.1f}, most {most:.0f}")
    print(f"recycles          {server_facts['recycles']}; notes: {server_facts['notes']}")
    print(f"largest worker    {each >> 20} MiB")
    print(f"all workers       median {middle} MiB, most {max(together) >> 20} MiB")
    # One more than the wanted number may live, and each may have passed its limit while it drains.
    bounded = each < 2 * limit and max(together) < (args.workers + 1) * 2 * limit
    return 1 if failed or not bounded or not server_facts["recycles"] else 0


if __name__ == "__main__":
    sys.exit(main())
