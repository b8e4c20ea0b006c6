"""Clients that look closely while workers come and go: is anything lost?

    python perf/chaos.py --seconds 30 --seed 7 [--kill] [--rung plain] [--workers 3] [-- further flags]
    python perf/chaos.py --requests 1000000 --events 500 --seconds 3600 --rung filter

A real server gets HUP, TTIN, TTOU, USR2, worker TERM and, with --kill, SIGKILL of workers, at random but
seeded times, and recycles its workers (--max-requests). Clients keep connections and open new ones, send GET
and POST with bodies in several packets, read 1 byte, 64 kB or a stream of 2 s, and stay silent for longer
than any drain lasts. Every failure is counted by the phase it came in. Exit code 1 when something was lost,
or a kept connection ended by the server. With --kill, what the killed worker had accepted may be lost: which
connections that were is found out just before. Events are counted as they are sent; one that comes during a
reload or an upgrade may be put off or refused.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import random
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent

#: Where a request, or a connection, was lost: not connected; connected, no byte sent; sent, no byte back; cut
#: in the middle; reset after the last byte; a kept connection between two requests; answered with 502, or
#: with 503; a wrong answer.
PHASES = ("connect", "unsent", "unanswered", "cut", "reset", "idle closed", "502", "503", "wrong")
RUNGS = {"filter": [], "plain": ["--no-steering"], "shared": ["--no-shard"]}
#: A loss this long after a kill (seconds) may be the kill's.
AFTERWARDS = 3.0
PIDFD_GETFD = 438  # one number on all architectures


class Server:
    """`python -m threadcorn`, and what it is told. The pid file names it: an upgrade changes its number."""

    def __init__(self, flags: list[str], log: Path | None, prefix: list[str], stream: float) -> None:
        ready, told = os.pipe()
        self._directory = tempfile.TemporaryDirectory(prefix="chaos-")
        self._pid_file = Path(self._directory.name) / "pid"
        self.log = log or Path(self._directory.name) / "log"
        flags = ["--pid", str(self._pid_file), "--ready-fd", str(told), *flags]
        with open(self.log, "ab") as err:
            self.process = subprocess.Popen(
                [
                    *prefix,
                    sys.executable,
                    "-m",
                    "threadcorn",
                    "--ready-fd",
                    str(told),
                    *flags,
                    "chaos_app:app",
                ],
                cwd=HERE,
                env={**os.environ, "PYTHONPATH": f"{HERE.parent}:{HERE}", "CHAOS_STREAM": str(stream)},
                pass_fds=[told],
                stderr=err,
            )
        os.close(told)
        with os.fdopen(ready) as pipe:
            host, _, port = pipe.readline().split()[1].rpartition(":")
        self.address = (host.strip("[]"), int(port))

    @property
    def pid(self) -> int:
        with contextlib.suppress(OSError, ValueError):
            return int(self._pid_file.read_text())
        return self.process.pid

    def tell(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def workers(self) -> list[int]:
        """Children of who serves; a successor that boots is among them."""
        pid = self.pid
        with contextlib.suppress(OSError):
            return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return []

    def logged(self) -> dict[str, int]:
        """What came of the events, by the server's own words."""
        words = {
            "reloaded": b"Reloaded: ",
            "upgraded": b"Upgraded: ",
            "recycled": b"Worker to be replaced ",
            "workers started": b"Worker ready ",
            "tracebacks": b"Traceback",
        }
        text = self.log.read_bytes()
        found = {what: text.count(word) for what, word in words.items()}
        # After a crash: what its threads were doing.
        blocks = re.findall(rb"killed by SIGKILL.*\n  It was running:\n((?:    .*\n)+)", text)
        found["running when killed"] = sum(block.count(b"\n") for block in blocks)
        return found

    def stop(self) -> int:
        last = self.pid
        self.tell(signal.SIGTERM)
        code = self.process.wait(60)
        until = time.monotonic() + 60
        while last != self.process.pid and Path(f"/proc/{last}").exists():
            if time.monotonic() > until:
                os.kill(last, signal.SIGKILL)
                return -9
            time.sleep(0.05)
        return code

    def forget(self) -> None:
        self._directory.cleanup()


class Crowd:
    """The processes with the clients."""

    def __init__(self, orders: dict[str, Any], clients: int, processes: int, prefix: list[str]) -> None:
        self._crowds = []
        for n in range(processes):
            mine = {**orders, "numbers": [clients * n // processes, clients * (n + 1) // processes]}
            command = [*prefix, sys.executable, str(HERE / "chaos_clients.py"), json.dumps(mine)]
            self._crowds.append(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=HERE)
            )
        self._lines = [b""] * processes
        self.reports: list[dict[str, Any]] = [{"served": 0, "lost": 0}] * processes

    def look(self) -> int:
        """How many requests were served, as far as they have told."""
        pipes = {crowd.stdout: n for n, crowd in enumerate(self._crowds) if crowd.stdout}
        for pipe in select.select(list(pipes), [], [], 0)[0]:
            self._heard(pipes[pipe], os.read(pipe.fileno(), 1 << 20))
        return sum(report["served"] for report in self.reports)

    def _heard(self, n: int, data: bytes) -> None:
        *lines, self._lines[n] = (self._lines[n] + data).split(b"\n")
        if lines:
            self.reports[n] = json.loads(lines[-1])

    def end(self) -> bool:
        """True: all have reported."""
        for crowd in self._crowds:
            if crowd.stdin:
                crowd.stdin.close()
        codes = []
        for n, crowd in enumerate(self._crowds):
            if crowd.stdout:
                self._heard(n, crowd.stdout.read())
            codes.append(crowd.wait(60))
        return not any(codes) and all("kinds" in report for report in self.reports)


def state(task: Path) -> str:
    """One letter, of a process or a thread in /proc."""
    return (task / "stat").read_text().rpartition(")")[2].split()[0]


class Kills:
    """SIGKILLs, and the connections that went with them."""

    def __init__(self) -> None:
        #: Of clients whose connection it had: when it was stopped, and killed. A port may be used again.
        self.ports: dict[int, list[tuple[float, float]]] = {}
        self.connections = 0
        self._libc = ctypes.CDLL(None, use_errno=True)

    def kill(self, pid: int) -> None:
        """Stop it, see what it has, end it."""
        with contextlib.suppress(ProcessLookupError, FileNotFoundError, PermissionError):
            stopped = time.time()
            os.kill(pid, signal.SIGSTOP)
            while any(state(task) not in "TtZX" for task in Path(f"/proc/{pid}/task").iterdir()):
                pass  # kill() returns before that, and it may accept one more
            held = list(self.peers(pid))
            os.kill(pid, signal.SIGKILL)
            self.connections += len(held)
            now = time.time()
            for port in held:
                self.ports.setdefault(port, []).append((stopped, now))

    def peers(self, pid: int) -> Iterator[int]:
        """Ports of the clients whose connections it has."""
        pidfd = os.pidfd_open(pid)
        try:
            for name in os.listdir(f"/proc/{pid}/fd"):
                fd = self._libc.syscall(PIDFD_GETFD, pidfd, int(name), 0)
                if fd < 0:
                    continue
                try:
                    sock = socket.socket(fileno=fd)
                except OSError:
                    os.close(fd)
                    continue
                with sock, contextlib.suppress(OSError):  # a listener has no peer
                    if sock.family in (socket.AF_INET, socket.AF_INET6):
                        yield sock.getpeername()[1]
        except FileNotFoundError:
            pass
        finally:
            os.close(pidfd)

    def explains(self, loss: dict[str, Any]) -> bool:
        return self._of(loss) is not None

    def late(self, loss: dict[str, Any]) -> bool:
        """It was sent to one that was stopped already: our doing, a kill alone would not have waited."""
        kill = self._of(loss)
        return kill is not None and loss["sent"] > kill[0]

    def _of(self, loss: dict[str, Any]) -> tuple[float, float] | None:
        known = self.ports.get(loss["port"], ())
        return next((kill for kill in known if -0.1 < loss["at"] - kill[1] < AFTERWARDS), None)


def happenings(server: Server, rand: random.Random, asked: argparse.Namespace, kills: Kills) -> Iterator[str]:
    """Do something to the server, again and again; what it was. Empty: nothing, this time."""
    kinds = [kind for kind in asked.kinds.split(",") if kind] + (["KILL"] if asked.kill else [])
    workers = asked.workers
    more = 0
    while True:
        time.sleep(rand.uniform(0.05, 0.3) * asked.pace)
        kind = rand.choice(kinds) if kinds else ""
        if kind == "HUP":
            server.tell(signal.SIGHUP)
        elif kind == "USR2":
            if more:
                kind = ""  # the successor starts with the number of its configuration
            else:
                server.tell(signal.SIGUSR2)
        elif kind in ("TTIN", "TTOU"):
            change = 1 if kind == "TTIN" else -1
            if min(0, 2 - workers) <= more + change < 3:
                more += change
                server.tell(signal.SIGTTIN if change > 0 else signal.SIGTTOU)
            else:
                kind = ""
        elif kind:
            pids = server.workers()
            if not pids:
                kind = ""
            elif kind == "KILL":
                kills.kill(rand.choice(pids))
            else:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(rand.choice(pids), signal.SIGTERM)
        yield kind


def percentile(waits: Counter[int], share: float) -> int:
    left = share * sum(waits.values())
    for ms, count in sorted(waits.items()):
        left -= count
        if left <= 0:
            return ms
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    option = parser.add_argument
    option("--seconds", type=float, default=20.0, help="how long, or with the next two: at most")
    option("--requests", type=int, default=0, help="until so many were served,")
    option("--events", type=int, default=0, help="and so many events were sent")
    option("--seed", type=int, default=int(time.time()))
    option("--rung", choices=RUNGS, default="filter")
    option("--workers", type=int, default=3)
    option("--bind", default="127.0.0.1:0")
    option("--clients", type=int, default=48)
    option("--processes", type=int, default=1, help="that the clients are spread over")
    option("--think", type=float, default=5.0, help="mean pause between two requests (ms)")
    option("--idle", type=float, default=1.0, help="longer pauses of kept connections (percent)")
    option("--sleepers", type=int, default=8, help="clients with a long silence between two requests")
    option("--sleep", default="31,45", help="how long (seconds, from and to); drains end in 30 s")
    option("--streams", type=float, default=0.02, help="share of streamed answers (percent)")
    option("--stream", type=float, default=2.0, help="seconds for one")
    option("--recycle", type=int, default=2000, help="--max-requests of the server")
    option("--kinds", default="HUP,TTIN,TTOU,USR2,TERM")
    option("--pace", type=float, default=1.0, help="more: events less often")
    option("--kill", action="store_true", help="SIGKILL workers as well")
    option("--log", type=Path)
    option("--server-prefix", default="", help="command before the server's, such as ip netns exec NAME")
    option("--clients-prefix", default="", help="the same for the clients")
    option("flags", nargs="*", help="further flags of the server, after --")
    return parser.parse_args()


def main() -> int:
    asked = parse()
    flags = ["--bind", asked.bind, "--workers", str(asked.workers), "--threads", "4", *RUNGS[asked.rung]]
    # A queue that stands because the machine is busy is refused in words; here no connection may be missed.
    flags += ["--queue-target", "0"]
    if asked.recycle:
        flags += ["--max-requests", str(asked.recycle), "--max-requests-jitter", str(asked.recycle // 2)]
    server = Server([*flags, *asked.flags], asked.log, shlex.split(asked.server_prefix), asked.stream)
    orders = {
        "address": server.address,
        "seed": asked.seed,
        "sleepers": min(asked.sleepers, asked.clients // 2),
        "sleep": [float(part) for part in asked.sleep.split(",")],
        "think": asked.think,
        "idle": asked.idle / 100,
        "streams": asked.streams,
    }
    crowd = Crowd(orders, asked.clients, asked.processes, shlex.split(asked.clients_prefix))
    kills = Kills()
    done: Counter[str] = Counter()
    reported = False
    began = time.monotonic()
    try:
        while not crowd.look() and time.monotonic() - began < asked.seconds:
            time.sleep(0.01)  # nothing can be lost before they are there
        for kind in happenings(server, random.Random(asked.seed), asked, kills):
            if kind:
                done[kind] += 1
            served = crowd.look()
            if time.monotonic() - began >= asked.seconds:
                break
            bounded = asked.requests or asked.events
            if bounded and served >= asked.requests and sum(done.values()) >= asked.events:
                break
    finally:
        reported = crowd.end()
        took = time.monotonic() - began
        code = server.stop()
    reports = crowd.reports if reported else []
    losses = [loss for report in reports for loss in report["lost"]]
    elsewhere = [loss for loss in losses if not kills.explains(loss)]
    waits = Counter({int(ms): n for report in reports for ms, n in report["waits"].items()})
    told = sum(report["told to close"] for report in reports)
    result: dict[str, Any] = {
        "seed": asked.seed,
        "rung": asked.rung,
        "seconds": round(took, 1),
        "events": dict(done),
        "of the log": server.logged(),
        "served": sum(report["served"] for report in reports),
        "kinds": dict(sum((Counter(report["kinds"]) for report in reports), Counter[str]())),
        "lost": {phase: sum(loss["phase"] == phase for loss in elsewhere) for phase in PHASES},
        "kept connections told to close": told,
        "kept connections that moved": sum(report["moved"] for report in reports),
        "ms to the first byte": {
            "p50": percentile(waits, 0.5),
            "p99": percentile(waits, 0.99),
            "p99.9": percentile(waits, 0.999),
            "most": max(waits, default=0),
        },
        "slowest": sorted(slow for report in reports for slow in report["slowest"])[-10:],
        "exit code": code,
        "notes": elsewhere[:20],
    }
    if asked.kill:
        theirs = [loss for loss in losses if kills.explains(loss)]
        whole = [loss for loss in theirs if loss["phase"] in ("unanswered", "cut", "502") and loss["whole"]]
        before = [loss for loss in whole if not kills.late(loss)]
        result["killed"] = {
            "connections": kills.connections,
            **{phase: sum(loss["phase"] == phase for loss in theirs) for phase in PHASES},
            # While we looked at what it has, more came. Kept connections could not have been left in a queue.
            "requests that were sent whole": len(whole),
            "of these before it was stopped": len(before),
            "and of these on kept connections": sum(loss["keep"] for loss in before),
        }
    server.forget()
    print(json.dumps(result, indent=1))
    return int(bool(elsewhere or told or not reported) or code != 0)


if __name__ == "__main__":
    sys.exit(main())
