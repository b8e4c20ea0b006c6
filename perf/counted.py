"""System calls and thread switches of one keep-alive request in inline mode: counted, not timed.

    python perf/counted.py            prints the counts
    python perf/counted.py --check    and fails if one is above its budget

Counts are the same on a slow machine and on a busy one, so this can be enforced where timings cannot.
What is counted are the pool threads of the worker; the main thread (the caretaker) works by the tick,
not by the request, and is shown by the second.

strace changes what it looks at: it is slow, and a traced system call stops the thread (the worker knows that
and does not take it for an application that blocks). So there are three passes over the same work:

* plain: no strace. Context switches, from /proc; they show that the worker is in inline mode by itself.
* quiet: what a request may do is not traced, by a seccomp filter, and runs at full speed. All other
  calls (epoll_ctl, futex, ...) are what must not happen: they are counted.
* loud: what a request may do (recv, send, poll) is traced.

Each pass has several windows of requests and the best one counts: a machine that is busy with other
things can throw the worker out of inline mode for a moment, but it cannot make it do less than it does.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from running import HERE, ROOT, Cost, Running, free_port, need, running

CONNECTIONS = 16
VOLLEYS = 150  # in one window: each connection sends this many requests
WINDOWS = 5
SETTLE = 40.0  # seconds at most

REQUEST = b"GET / HTTP/1.1\r\nHost: test\r\nUser-Agent: counted\r\nAccept: */*\r\n\r\n"

# Calls that a request may make, and how many. A poll is shared by all requests that it finds. The
# rest (clock, getrusage once a batch, memory) together stay under OTHER.
BUDGETS = {
    "recvfrom": 1.05,
    "sendto": 1.05,
    "epoll_wait": 0.25,
    "epoll_ctl": 0.0,
    "futex": 0.02,
    "other": 0.1,
    "voluntary": 0.25,  # switches of a thread that gave up the processor by itself
}
# Another call of the same family does not make it cheaper.
FAMILIES = {
    "recvfrom": ("recvfrom", "recvmsg", "read", "readv"),
    "sendto": ("sendto", "sendmsg", "write", "writev"),
    "epoll_wait": ("epoll_wait", "epoll_pwait", "epoll_pwait2"),
}
# The caretaker looks after the leader in inline mode by the tick and takes the GIL for it: the leader
# wakes it and waits for its turn. This is paid by the second, whatever the rate of requests is.
TICKS = 100.0
FUTEX_A_TICK = 4.0


@dataclass(frozen=True)
class Window:
    """A stretch of the run in which a known number of requests was answered."""

    requests: int
    begin: float  # wall clock, as strace stamps its lines
    end: float


class Clients:
    """Keep-alive connections that send in volleys: all send, then all read.

    More than one request is ready at once, as under load, and the number of requests is exact.
    """

    def __init__(self, port: int) -> None:
        self.socks = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(CONNECTIONS)]
        for sock in self.socks:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.size = 0

    def volley(self) -> None:
        for sock in self.socks:
            sock.sendall(REQUEST)
        for sock in self.socks:
            if not self.size:
                self.size = self._first(sock)
                continue
            got = 0
            while got < self.size:
                piece = sock.recv(self.size - got)
                if not piece:
                    sys.exit("the server closed a keep-alive connection")
                got += len(piece)

    def _first(self, sock: socket.socket) -> int:
        """Size of an answer; all are of one size, because only the date differs."""
        data = b""
        while not data.endswith(b"Hello, World!"):
            piece = sock.recv(4096)
            if not piece:
                sys.exit(f"not the expected answer: {data!r}")
            data += piece
        return len(data)

    def window(self) -> Window:
        begin = time.time()
        for _ in range(VOLLEYS):
            self.volley()
        return Window(VOLLEYS * CONNECTIONS, begin, time.time())

    def close(self) -> None:
        for sock in self.socks:
            sock.close()


def worker(server: Running) -> int:
    """The process number of the one worker, the child of the arbiter."""
    workers = [pid for pid, parent in server.parents().items() if parent == server.main]
    if len(workers) != 1:
        sys.exit(f"expected one worker, found {workers}\n{server.text()}")
    return workers[0]


@contextmanager
def served(trace: list[str]) -> Iterator[tuple[Running, Clients]]:
    """threadcorn with one worker and the clients connected, everything warm."""
    port = free_port()
    flags = ["--bind", f"127.0.0.1:{port}", "--workers", "1", "--threads", "4", "--timeout", "120"]
    # The server shares one core with the clients and does not interrupt them (SCHED_BATCH): it runs when
    # a volley is complete. On a core of its own it would wake for every request, find the next one not
    # yet sent, and sleep: switches that are the clients' doing. strace works on the other cores.
    cores = os.sched_getaffinity(0)
    core = min(cores)
    taskset = [need("taskset", "util-linux"), "-c"]
    command = [*taskset, str(core), need("chrt", "util-linux"), "--batch", "0"]
    command += [sys.executable, "-m", "threadcorn", *flags]
    command.append("scenarios:hello")
    if trace:
        command = [*taskset, ",".join(map(str, cores - {core} or cores)), *trace, *command]
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "THREADCORN_"))}
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(HERE)])
    with running(command, port=port, env=env, core=None, within=60) as server:
        if trace:  # strace was started, and it started the arbiter; it also keeps SIGTERM to itself
            server.main = next(pid for pid, parent in server.parents().items() if parent == server.main)
        clients = Clients(port)
        try:
            os.sched_setaffinity(0, {core})
            clients.window()  # warm: caches, and the probe that finds inline mode good
            yield server, clients
        finally:
            os.sched_setaffinity(0, cores)
            clients.close()


def settle(server: Running, clients: Clients) -> None:
    """Drive until the worker is in inline mode. In hand-off mode there is a thread switch a request.

    A probe of inline mode can fail because of what else the machine does, and the worker then waits up
    to some seconds before the next. A worker that never settles is measured all the same, and is above
    its budgets.
    """
    until = time.monotonic() + SETTLE
    while time.monotonic() < until:
        before = server.cost()
        window = clients.window()
        if (server.cost() - before).voluntary / window.requests < BUDGETS["voluntary"]:
            return


def plain() -> tuple[float, float]:
    """Voluntary and involuntary switches a request, without strace; the best window."""
    found = []
    with served([]) as (server, clients):
        settle(server, clients)
        for _ in range(WINDOWS):
            before = server.cost()
            window = clients.window()
            used: Cost = server.cost() - before
            found.append((used.voluntary / window.requests, used.involuntary / window.requests))
    return min(found)


_LINE = re.compile(r"^(\d+) +(\d+\.\d+) (\w+)\(")


def traced(which: str, windows: int) -> tuple[list[tuple[Window, Counter[str]]], float]:
    """Calls of the pool threads in each window, and calls of the caretaker a second."""
    strace = need("strace", "strace")
    with tempfile.TemporaryDirectory(prefix="tc-strace-") as scratch:
        out = Path(scratch) / "calls"
        command = [strace, "-f", "--seccomp-bpf", "-qq", "-ttt", "-s", "0", "-o", str(out)]
        command += ["-e", "signal=none", "-e", f"trace={which}"]
        with served(command) as (server, clients):
            main = worker(server)
            pool = {int(name) for name in os.listdir(f"/proc/{main}/task")} - {main}
            driven = [clients.window() for _ in range(windows)]
        calls: list[Counter[str]] = [Counter() for _ in driven]
        caretaker = 0
        for line in out.read_text(encoding="ascii", errors="replace").splitlines():
            found = _LINE.match(line)
            if found is None:
                continue  # the second half of a call that was interrupted in the listing
            thread, at, name = int(found[1]), float(found[2]), found[3]
            for window, counter in zip(driven, calls, strict=True):
                if window.begin <= at < window.end:
                    if thread in pool:
                        counter[name] += 1
                    elif thread == main:
                        caretaker += 1
    seconds = sum(window.end - window.begin for window in driven)
    return list(zip(driven, calls, strict=True)), caretaker / seconds


def count() -> tuple[dict[str, float], list[str]]:
    """Counts a request by name, and remarks."""
    remarks = []
    voluntary, involuntary = plain()
    remarks.append(f"involuntary switches, which the machine decides about: {involuntary:.3f} a request")
    allowed = sorted(name for family in FAMILIES.values() for name in family)
    quiet, caretaker = traced("!" + ",".join(allowed), WINDOWS)
    window, calls = min(quiet, key=lambda pair: sum(pair[1].values()) / pair[0].requests)
    seconds = window.end - window.begin
    by_the_tick = FUTEX_A_TICK * TICKS * seconds
    rest = Counter({name: number for name, number in calls.items() if name not in ("epoll_ctl", "futex")})
    counts = {
        "voluntary": voluntary,
        "epoll_ctl": calls["epoll_ctl"] / window.requests,
        "futex": max(0.0, calls["futex"] - by_the_tick) / window.requests,
        "other": sum(rest.values()) / window.requests,
    }
    listed = ", ".join(f"{name} {number}" for name, number in rest.most_common()) or "none"
    remarks.append(
        f"in {window.requests} requests in {seconds:.2f} s: futex {calls['futex']} "
        f"(up to {by_the_tick:.0f} of them by the tick); other: {listed}"
    )
    remarks.append(f"the caretaker beside them: {caretaker:.0f} calls a second")

    loud, _ = traced(",".join(allowed), 1)
    window, calls = loud[0]
    for name, family in FAMILIES.items():
        counts[name] = sum(calls[each] for each in family) / window.requests
    return counts, remarks


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="fail if a count is above its budget")
    options = parser.parse_args()
    counts, remarks = count()
    over = []
    for name, budget in BUDGETS.items():
        mark = "" if counts[name] <= budget else "   ABOVE"
        if mark:
            over.append(name)
        print(f"{name:<12}{counts[name]:>8.3f} a request, budget {budget:g}{mark}")
    for remark in remarks:
        print(remark)
    if over and options.check:
        print(f"counted: above budget: {', '.join(over)}")
        return 1
    print(
        "counted: within the budgets" if not over else "counted: above budget, not enforced without --check"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
