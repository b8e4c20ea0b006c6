"""A new client beside many slow ones of each kind: what does it wait?

    python perf/victims.py                      300 of each kind
    python perf/victims.py --count 10000 --kinds "quiet drip-head"

One worker, four threads. The victim makes a new connection for each request, one after the other; its p99
beside the slow ones is compared with that of the same server a moment before. The kinds:

    quiet      connected, and nothing more         drip-head    a byte of a head every five seconds
    one-byte   one byte, and nothing more          drip-body    the same of a body
    reader     asks for 10 MB and reads nothing    half         asks, closes its half, stays
    reset      resets its connection at every point of a request, over and over: COUNT in five seconds
"""

from __future__ import annotations

import argparse
import resource
import socket
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from running import Running, running
from slow_clients import BEGIN, REQUEST, clients
from world import HELLO, SERVERS, environment, free

KINDS = (*BEGIN, "reset")


def victim(port: int, seconds: float) -> list[float]:
    """Seconds of each request, connection included, in order of size. A failure is an end of the run."""
    waits = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
            sock.sendall(REQUEST)
            got = sock.recv(65536)
        waits.append(time.monotonic() - began)
        if not got.endswith(HELLO):
            sys.exit(f"the victim got {got!r}")
        time.sleep(0.002)
    return sorted(waits)


def p99(waits: list[float]) -> float:
    return waits[len(waits) * 99 // 100] * 1e3


def measure(server: Running, kind: str, count: int, seconds: float) -> str:
    victim(server.port, 0.5)
    idle = victim(server.port, seconds)
    with clients(kind, server.port, count):
        time.sleep(1)
        beside = victim(server.port, seconds)
    ratio = p99(beside) / p99(idle)
    return (
        f"{count:6d} {kind:10s} p99 {p99(idle):7.2f} ms alone, {p99(beside):7.2f} beside: x {ratio:.2f}; "
        f"p50 {idle[len(idle) // 2] * 1e3:.2f} and {beside[len(beside) // 2] * 1e3:.2f}, "
        f"greatest {beside[-1] * 1e3:.1f}, {len(beside)} requests"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--kinds", default=" ".join(KINDS))
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for kind in options.kinds.split():
        port = free()
        command = SERVERS["threadcorn"].command(Path(sys.executable).parent, "world:app", 4, port)
        with running(command, port=port, env=environment(SERVERS["threadcorn"]), core=None) as server:
            print(measure(server, kind, options.count, options.seconds), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
