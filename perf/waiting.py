"""How long does a new connection wait for a thread, beyond what the application takes?

    python perf/waiting.py [--workers 4 --threads 4] [--load 0.7] [--rounds 3] [--seconds 8] [--stops 1]

Connections arrive at random (Poisson), whatever becomes of those before them; each request sleeps for an
exponential time, 20 ms in the mean, so that the processor is not what is waited for. Rounds of all three
rungs alternate. On one listener for all (`shared`) waiting is as short as it can be; the others are compared
with it. `hash` is what SO_REUSEPORT alone would do: the kernel chooses a worker, and no other one ever
helps; for it each worker is made to see no siblings. Then the same while a worker is stopped for two seconds
(SIGSTOP), `--stops` times, and while threads of the application take the GIL of one: who waits for more than
300 ms, and was not accepted by that worker?

Exit code 1 when the p99 of a rung is more than 1.5 times the shared listener's or half of the hash's, or when
such a connection waited.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import random
import select
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from chaos import RUNGS, Kills, Server, state

#: A configuration with which each worker believes that it is alone.
ALONE = """
def post_fork(server, worker):
    from threadcorn.worker.neighbours import Neighbours
    Neighbours.look = lambda self: False
"""
HASH = "hash"
MEAN = 0.020
LATE = 0.300
EVENTS = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET


class Arrival:
    """One connection with one request."""

    __slots__ = ("answer", "began", "nap", "port", "sent", "sock")

    def __init__(self, address: tuple[str, int], nap: float, now: float) -> None:
        self.nap = nap
        self.began = now
        self.sent = False
        self.answer = b""
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.sock.connect_ex(address)
        self.port = self.sock.getsockname()[1]

    def hear(self, mask: int) -> bool:
        """True: it is over."""
        if not self.sent and mask & select.EPOLLOUT:
            self.sent = True
            text = f"GET /nap?{self.nap:.6f} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            self.sock.send(text.encode())
        try:
            while part := self.sock.recv(4096):
                self.answer += part
        except BlockingIOError:
            return self.answer.endswith(b"\r\n\r\nn")
        except OSError:
            pass
        return True


class Waited:
    """What a round found."""

    def __init__(self) -> None:
        self.waits: list[tuple[float, int]] = []  # seconds beyond the nap, the client's port
        self.failed = 0
        self.lag = 0.0  # how late this program itself was at most

    def share(self, part: float) -> float:
        ordered = sorted(wait for wait, _ in self.waits)
        return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0

    def words(self) -> dict[str, Any]:
        return {
            "requests": len(self.waits),
            "failed": self.failed,
            "p50 ms": round(self.share(0.5) * 1e3, 1),
            "p99 ms": round(self.share(0.99) * 1e3, 1),
            "most ms": round(self.share(1.0) * 1e3, 1),
            "we were late by ms": round(self.lag * 1e3, 1),
        }


def load(address: tuple[str, int], rate: float, seconds: float, seed: int, at: list[Plan]) -> Waited:
    """Let connections arrive, and do what is planned at its time."""
    dice = random.Random(seed)
    found = Waited()
    poller = select.epoll()
    there: dict[int, Arrival] = {}
    begin = time.monotonic()
    arrives = begin
    plans = [(begin + when, n, do) for n, (when, do) in enumerate(at)]
    heapq.heapify(plans)
    while True:
        now = time.monotonic()
        if now - begin > seconds + 10:
            break
        while arrives <= now and arrives < begin + seconds:
            found.lag = max(found.lag, now - arrives)
            # From when it was to arrive: if we are late, that is not its fault, but it is its time.
            arrival = Arrival(address, dice.expovariate(1 / MEAN), now)
            there[arrival.sock.fileno()] = arrival
            poller.register(arrival.sock.fileno(), EVENTS)
            arrives += dice.expovariate(rate)
        while plans and plans[0][0] <= now:
            heapq.heappop(plans)[2]()
        if arrives >= begin + seconds and not there:
            break
        next_time = min(
            arrives if arrives < begin + seconds else now + 0.1, plans[0][0] if plans else now + 1
        )
        for fd, mask in poller.poll(max(0.0, next_time - time.monotonic())):
            arrival = there[fd]
            if arrival.hear(mask):
                del there[fd]
                if arrival.answer.endswith(b"n"):
                    wait = time.monotonic() - arrival.began - arrival.nap
                    found.waits.append((max(0.0, wait), arrival.port))
                else:
                    found.failed += 1
                arrival.sock.close()
    found.failed += len(there)
    for arrival in there.values():
        arrival.sock.close()
    poller.close()
    return found


Plan = tuple[float, Callable[[], None]]


def server_of(rung: str, asked: argparse.Namespace) -> Server:
    flags = ["--bind", "127.0.0.1:0", "--workers", str(asked.workers), "--threads", str(asked.threads)]
    if rung != HASH:
        return Server([*flags, *RUNGS[rung]], None, [], 2.0)
    with tempfile.NamedTemporaryFile("w", prefix="alone-", suffix=".py") as config:
        config.write(ALONE)
        config.flush()
        return Server([*flags, *RUNGS["plain"], "--config", config.name], None, [], 2.0)


def quiet(rung: str, asked: argparse.Namespace, seed: int) -> Waited:
    rate = asked.load * asked.workers * asked.threads / MEAN
    server = server_of(rung, asked)
    try:
        load(server.address, rate / 4, 1.5, seed, [])  # warm
        return load(server.address, rate, asked.seconds, seed, [])
    finally:
        server.stop()
        server.forget()


def disturbed(how: str, rung: str, asked: argparse.Namespace, seed: int) -> dict[str, Any]:
    """One worker is stopped, or loses its GIL to the application, for two seconds."""
    rate = 0.5 * asked.workers * asked.threads / MEAN
    server = server_of(rung, asked)
    held: set[int] = set()
    victim = server.workers()[0]

    def stop() -> None:
        os.kill(victim, signal.SIGSTOP)
        while any(state(task) not in "Tt" for task in Path(f"/proc/{victim}/task").iterdir()):
            pass  # kill() returns before that, and a connection or two more may be accepted
        held.update(Kills().peers(victim))

    def go_on() -> None:
        os.kill(victim, signal.SIGCONT)

    def take_the_gil() -> None:
        ask(server.address, "/spin?2")

    try:
        load(server.address, rate / 4, 1.5, seed, [])
        plans: list[Plan] = [(1.0, take_the_gil)] if how == "gil" else [(1.0, stop), (3.0, go_on)]
        found = load(server.address, rate, 5.0, seed, plans)
    finally:
        server.stop()
        server.forget()
    late = [(wait, port) for wait, port in found.waits if wait > LATE]
    others = [wait for wait, port in late if port not in held]
    return {
        **found.words(),
        "late": len(late),
        "it had accepted": len(held),
        "late, and not its": len(others),
    }


def ask(address: tuple[str, int], path: str) -> None:
    with socket.create_connection(address, 5) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        while sock.recv(4096):
            pass


def rounds(asked: argparse.Namespace) -> Iterator[tuple[str, Waited]]:
    for seed in range(asked.rounds):
        for rung in (*RUNGS, HASH):
            yield rung, quiet(rung, asked, seed)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--load", type=float, default=0.7)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stops", type=int, default=1)
    asked = parser.parse_args()
    p99: dict[str, list[float]] = {rung: [] for rung in (*RUNGS, HASH)}
    for rung, found in rounds(asked):
        p99[rung].append(found.share(0.99))
        print(rung, json.dumps(found.words()), flush=True)
    middle = {rung: sorted(values)[len(values) // 2] for rung, values in p99.items()}
    ratios = {rung: round(value / max(middle["shared"], 1e-6), 2) for rung, value in middle.items()}
    print("median p99, in terms of the shared listener's:", json.dumps(ratios), flush=True)
    bad = any(ratios[rung] > min(1.5, ratios[HASH] / 2) for rung in RUNGS)
    for how, seed in (*(("stopped", 7 + n) for n in range(asked.stops)), ("gil", 7)):
        for rung in RUNGS:
            result = disturbed(how, rung, asked, seed)
            print(how, rung, json.dumps(result), flush=True)
            bad = bad or (how == "stopped" and result["late, and not its"] > 0)
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
