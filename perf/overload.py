"""More requests than a server can answer, from clients that do not wait for each other (an open loop).

    python perf/overload.py
    python perf/overload.py --times 5 --duration 10 --work 10 --servers threadcorn,gunicorn

First the capacity is measured: wrk, a few connections, an application that burns `--work` milliseconds of
processor time. Then new connections are opened at `--times` that rate, each with one request, whatever
becomes of those before. Told are: what the accepted ones waited, how many were refused and how fast, goodput
over capacity, and how long after the end of the load a new client waits.
"""

from __future__ import annotations

import argparse
import json
import selectors
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from running import HERE, drive, running
from world import Seen, Server, compare_servers, environment, free, goal, prepare, questions

THREADS = 4
PATIENCE = 15.0  # seconds after which a client gives up


@dataclass
class Answers:
    """What clients saw: seconds by outcome."""

    served: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    failed: int = 0
    gave_up: int = 0
    late: int = 0  # sent later than planned, for want of descriptors


def open_loop(port: int, path: str, rate: float, seconds: float) -> Answers:
    """Connect, ask, read, close: `rate` times a second."""
    request = f"GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".encode()
    chooser = selectors.DefaultSelector()
    started: dict[socket.socket, float] = {}
    seen = Answers()
    begin = time.monotonic()
    sent, total = 0, int(rate * seconds)
    ended = False
    while sent < total or started:
        now = time.monotonic()
        while sent < total and begin + sent / rate <= now:
            if len(started) > 15_000:
                seen.late += 1
                sent += 1
                continue
            sock = socket.socket()
            sock.setblocking(False)
            sock.bind((f"127.0.0.{1 + sent % 16}", 0))
            sock.connect_ex(("127.0.0.1", port))
            chooser.register(sock, selectors.EVENT_WRITE)
            started[sock] = now
            sent += 1
        if sent >= total and not ended:
            ended = True
            print("ended", flush=True)
        pause = max(0.0, begin + sent / rate - now) if sent < total else 0.05
        for key, events in chooser.select(min(pause, 0.05)):
            sock = key.fileobj  # type: ignore[assignment]
            try:
                if events & selectors.EVENT_WRITE:
                    sock.send(request)
                    chooser.modify(sock, selectors.EVENT_READ)
                    continue
                data = sock.recv(65536)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            took = time.monotonic() - started.pop(sock)
            if data[9:12] == b"200":
                seen.served.append(took)
            elif data[9:12] == b"503":
                seen.refused.append(took)
            else:
                seen.failed += 1
            chooser.unregister(sock)
            sock.close()
        if started and sent >= total:
            first = next(iter(started))
            if time.monotonic() - started[first] > PATIENCE:
                seen.gave_up += 1
                del started[first]
                chooser.unregister(first)
                first.close()
    return seen


def quantile(values: list[float], q: float) -> float:
    return sorted(values)[min(len(values) - 1, int(q * len(values)))] if values else float("nan")


def one(server: Server, options: argparse.Namespace) -> Seen:
    port = free()
    path = f"/cpu/{options.work:g}"
    command = server.command(options.bin, "world:app", THREADS, port)
    with running(command, port=port, env=environment(server), core=options.server_core) as process:
        drive(process, path, seconds=1, connections=8, core=options.client_core)
        capacity = drive(process, path, seconds=3, connections=8, core=options.client_core).rate
        rate = options.times * capacity
        client = [sys.executable, __file__, "--client", str(port), path, str(rate), str(options.duration)]
        pinned = ["taskset", "-c", str(options.client_core)] if options.client_core >= 0 else []
        done = subprocess.Popen([*pinned, *client], stdout=subprocess.PIPE, text=True, cwd=HERE)
        assert done.stdout is not None
        # Just after the load has ended: how long does somebody new wait?
        done.stdout.readline()
        began = time.monotonic()
        while True:
            try:
                process.get(path, within=20)
                break
            except (OSError, ValueError):
                if time.monotonic() - began > 60:
                    break
        back = time.monotonic() - began
        out, _ = done.communicate(timeout=120)
        seen = Answers(**json.loads(out))
        after = drive(process, path, seconds=2, connections=8, core=options.client_core).rate
    # A busy machine may give us less, or more, than it did before.
    capacity = statistics.mean((capacity, after))
    good = len([t for t in seen.served if t <= options.useful]) / options.duration / capacity
    p99 = quantile(seen.served, 0.99)
    refusal = quantile(seen.refused, 0.5)
    return Seen(
        f"capacity {capacity:.0f}/s, asked {rate:.0f}/s; served {len(seen.served)}: "
        f"p50 {statistics.median(seen.served or [0]):.2f} s, p99 {p99:.2f} s; "
        f"refused {len(seen.refused)}: p50 {refusal:.3f} s, p99 {quantile(seen.refused, 0.99):.2f} s; "
        f"failed {seen.failed}, gave up {seen.gave_up}; "
        f"goodput (within {options.useful:g} s) {good:.0%} of capacity; "
        f"new client after the end: {back:.2f} s",
        {"p99": p99, "refusal": refusal, "goodput": good, "back": back},
    )


def judge(runs: list[Seen], options: argparse.Namespace) -> None:
    p99 = statistics.median(run.numbers["p99"] for run in runs)
    goal(p99 < 2 * options.target, f"p99 of those served {p99:.2f} s, goal {2 * options.target:g}")
    refusal = statistics.median(run.numbers["refusal"] for run in runs)
    goal(refusal < 0.1, f"a refusal takes {refusal * 1e3:.0f} ms (median), goal 100")
    good = statistics.median(run.numbers["goodput"] for run in runs)
    goal(good >= 0.9, f"goodput {good:.0%} of capacity, goal 90 %")
    back = statistics.median(run.numbers["back"] for run in runs)
    goal(back <= options.target, f"after the end a new client waits {back:.2f} s, goal {options.target:g}")


def main() -> int:
    if sys.argv[1:2] == ["--client"]:
        port, path, rate, seconds = sys.argv[2:]
        print(json.dumps(open_loop(int(port), path, float(rate), float(seconds)).__dict__))
        return 0
    parser = questions(__doc__, rounds=1, duration=8.0)
    parser.add_argument("--times", type=float, default=5.0, help="load over capacity (5)")
    parser.add_argument(
        "--work", type=float, default=10.0, help="milliseconds of processor time a request (10)"
    )
    parser.add_argument(
        "--useful", type=float, default=2.0, help="an answer later than this is of no use (2)"
    )
    parser.add_argument("--target", type=float, default=1.0, help="threadcorn's queue_target (1)")
    options = parser.parse_args()
    prepare(options)
    compare_servers("overload", options, one, judge)
    return 0


if __name__ == "__main__":
    sys.exit(main())
