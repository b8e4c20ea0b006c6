"""What watching costs: the arbiter's CPU with eight idle workers, with and without the monitor; the time of a
scrape; and the hot path's share of the scoreboard.

    python perf/monitor_cost.py [SECONDS]

CPU is read from /proc, so a busy machine makes it noisy but not wrong by much. Run from the project's root.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.kit.admin import look
from tests.kit.server import ServerProcess
from threadcorn.system.scoreboard import Scoreboard

TICKS = os.sysconf("SC_CLK_TCK")
WORKERS = 8


def cpu(pid: int) -> float:
    """Seconds of CPU by scheduler's account, which counts nanoseconds."""
    return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[0]) / 1e9


def arbiter(seconds: float, *options: str) -> tuple[float, list[float], float]:
    """The arbiter's share of a core, the times of twenty scrapes, the CPU time of one (seconds)."""
    with ServerProcess(
        "tests.kit.apps:hello",
        *("--workers", str(WORKERS), "--admin-bind", "unix:admin.sock"),
        *options,
        check_descriptors=False,
    ) as server:
        for _ in range(100):
            server.get("/")
        time.sleep(1)  # not a wait for anything: the start shall not be measured
        before, began = cpu(server.pid), time.monotonic()
        time.sleep(seconds)
        share = (cpu(server.pid) - before) / (time.monotonic() - began)
        scrapes = []
        before = cpu(server.pid)
        for _ in range(20):
            start = time.perf_counter()
            look(server, "/metrics")
            scrapes.append(time.perf_counter() - start)
        return share, sorted(scrapes), (cpu(server.pid) - before) / 20


def hot_path(count: int = 200_000) -> float:
    """CPU microseconds of `begin` and `end` for one request."""
    desk = Scoreboard(1, 1).claim(0).thread(0)
    best = 1e9
    for _ in range(7):
        start = time.thread_time_ns()
        now = time.monotonic_ns()
        for _ in range(count):
            desk.begin(b"GET / HTTP/1.1", b"127.0.0.1:50000", now)
            now = desk.end("200 OK")
        best = min(best, (time.thread_time_ns() - start) / count / 1000)
    return best


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    without, _, _ = arbiter(seconds, "--probe-interval", "0")
    default, scrapes, each = arbiter(seconds)
    limited, _, _ = arbiter(seconds, "--max-worker-memory", "1g")
    print(f"arbiter, {WORKERS} workers, idle, percent of one core")
    print(f"  without probing          {without * 100:6.2f}")
    print(f"  default (every second)   {default * 100:6.2f}")
    print(f"  with a memory limit      {limited * 100:6.2f}")
    wall = f"best of 20 {scrapes[0] * 1e3:.1f}, median {scrapes[10] * 1e3:.1f}"
    print(f"scrape, ms: CPU {each * 1e3:.1f}, {wall}")
    print(f"hot path: {hot_path():.2f} us a request")


if __name__ == "__main__":
    main()
