"""What --vault costs: CPU of worker and arbiter for a request on a kept connection, and for a connection
with one request; without it and with it, in turns.

    python perf/vault_cost.py [SECONDS [ROUNDS]]

CPU is read from /proc, so a busy machine makes it noisy but not wrong by much. Needs wrk. Run from the root.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from running import need

from tests.kit.server import ServerProcess


def cpu(pid: int) -> float:
    """Seconds of CPU of a process, by the scheduler's account."""
    spent = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        spent += int((task / "schedstat").read_text(encoding="ascii").split()[0])
    return spent / 1e9


def load(server: ServerProcess, wrk: str, seconds: int, *options: str) -> tuple[float, float, float]:
    """Requests a second, microseconds of CPU a request in the worker, and in the arbiter."""
    worker = server.workers()[0]
    before = cpu(worker), cpu(server.pid)
    text = subprocess.run(
        [wrk, "-t1", "-c16", f"-d{seconds}s", *options, f"http://{server.address}/"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    after = cpu(worker), cpu(server.pid)
    found = re.search(r"(\d+) requests in", text)
    count = int(found.group(1)) if found else 0
    errors = re.search(r"(Socket errors|Non-2xx).*", text)
    if errors:
        print(f"  {errors.group()}")
    return count / seconds, (after[0] - before[0]) / count * 1e6, (after[1] - before[1]) / count * 1e6


def main() -> None:
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    wrk = need("wrk", "wrk")
    for name, options in (("kept connections", ()), ("a connection a request", ("-H", "Connection: close"))):
        print(name)
        seen: dict[bool, list[tuple[float, float, float]]] = {False: [], True: []}
        for _ in range(rounds):
            for vault in (False, True):
                flags = ["--vault"] if vault else []
                with ServerProcess("tests.kit.apps:hello", *flags, check_descriptors=False) as server:
                    load(server, wrk, 1, *options)
                    seen[vault].append(load(server, wrk, seconds, *options))
        for vault, runs in seen.items():
            rate, worker, arbiter = (statistics.median(column) for column in zip(*runs, strict=True))
            what = "with" if vault else "without"
            print(f"  {what:8} {rate:8.0f}/s   worker {worker:6.1f} us   arbiter {arbiter:5.1f} us")


if __name__ == "__main__":
    main()
