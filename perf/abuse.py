"""Clients that mean no good, for as long as wanted: does the server stay what it was?

    python perf/abuse.py --requests 1000000            bad requests of tests/corpus, each answered and counted
    python perf/abuse.py --duration 3600 --rate 100    everything at once, 100 events a second

Memory, descriptors and threads of every process are printed as time goes by. Memory is compared with what it
was after a tenth of the run, descriptors and threads with what they were before the first client. Exit code 1
when memory grew by more than 5 %, anything else grew at all, a process was replaced, or an answer was wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import resource
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from running import ROOT, Running, running
from world import SERVERS, environment, free

GOOD = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
HELLO = b"Hello, World!"
BIG = b"x" * 30_000_000
GET_BIG = b"GET /big HTTP/1.1\r\nHost: t\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n999\r\n"
STATUS = re.compile(rb"HTTP/1\.[01] ([2-9][0-9][0-9]) ")
#: Nobody whom the server trusts; many, because one address has some 28,000 ports.
SOURCES = [f"127.0.1.{n}" for n in range(1, 65)]
ADDRESS_NO_PORT = 24  # IP_BIND_ADDRESS_NO_PORT: the port is chosen when the whole pair is known
GROWTH = 0.05


def app(environ: dict[str, Any], start_response: Any) -> Any:
    """What is abused: /, /big, /raise, /cut."""
    path = environ["PATH_INFO"]
    environ["wsgi.input"].read()
    if path == "/raise":
        raise ValueError("on purpose")
    body = BIG if path == "/big" else HELLO
    length = len(body) + (path == "/cut")
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(length))])
    return [body]


@dataclass(frozen=True)
class Case:
    name: str
    wire: bytes
    statuses: list[int]


def cases(*, bad: bool) -> list[Case]:
    """What of the corpus holds for the default limits; `bad`: what ends in a refusal."""
    found = []
    for path in sorted((ROOT / "tests" / "corpus").rglob("*.json")):
        told = json.loads(path.read_text("utf-8"))
        refused = "refused" in told["outcomes"][-1]
        if "limits" in told or (bad and not refused):
            continue
        statuses = [one.get("refused", 200) for one in told["outcomes"] if "waits" not in one]
        name = path.relative_to(ROOT / "tests" / "corpus").with_suffix("").as_posix()
        found.append(Case(name, path.with_suffix(".http").read_bytes(), statuses))
    return found


# --- one client


class Raw:
    """A connection that is used by a coroutine."""

    def __init__(self, port: int, dice: random.Random, buffer: int = 0) -> None:
        self.loop = asyncio.get_running_loop()
        self.port = port
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_IP, ADDRESS_NO_PORT, 1)
        if buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.sock.bind((dice.choice(SOURCES), 0))

    async def __aenter__(self) -> Raw:
        try:
            await self.loop.sock_connect(self.sock, ("127.0.0.1", self.port))
        except BaseException:
            self.sock.close()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        self.sock.close()

    async def send(self, data: bytes) -> None:
        await self.loop.sock_sendall(self.sock, data)

    async def rest(self) -> bytes:
        """All that comes until the server closes; what came before a reset is kept."""
        got = bytearray()
        with contextlib.suppress(ConnectionError):
            while piece := await self.loop.sock_recv(self.sock, 65536):
                got += piece
        return bytes(got)

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class Abuser:
    """All the clients. `wrong` tells what was not as it should be."""

    def __init__(self, port: int, seed: int) -> None:
        self.port = port
        self.dice = random.Random(seed)
        self.done: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        self.wrong: Counter[str] = Counter()
        self.waits: list[float] = []  # seconds that good requests took
        self.bad = cases(bad=True)
        self.all = cases(bad=False)
        self.kinds: dict[str, Callable[[], Awaitable[None]]] = {
            name[4:]: getattr(self, name) for name in dir(self) if name.startswith("ill_")
        }

    def raw(self, buffer: int = 0) -> Raw:
        return Raw(self.port, self.dice, buffer)

    async def play(self, case: Case) -> None:
        """A case of the corpus, whole or in two pieces."""
        wire = case.wire
        ours = case.statuses[-1:] < [400]  # to end it; else it is the server that does
        async with self.raw() as raw:
            with contextlib.suppress(ConnectionError):
                if self.dice.random() < 0.1:
                    cut = self.dice.randrange(len(wire))
                    await raw.send(wire[:cut])
                    await asyncio.sleep(0.001)
                    wire = wire[cut:]
                await raw.send(wire)
                if ours:
                    raw.sock.shutdown(socket.SHUT_WR)
            got = [int(status) for status in STATUS.findall(await raw.rest())]
        self.statuses.update(got)
        if ours and not got:
            self.done["half, taken for one that gave up while it waited"] += 1
        elif got != case.statuses:
            self.wrong[f"{case.name}: {got} in place of {case.statuses}"] += 1

    async def good(self) -> None:
        began = time.monotonic()
        async with self.raw() as raw:
            await raw.send(GOOD)
            got = await raw.loop.sock_recv(raw.sock, 65536)
        self.waits.append(time.monotonic() - began)
        if not got.startswith(b"HTTP/1.1 200 ") or not got.endswith(HELLO):
            self.wrong[f"a good request got {got[:60]!r}"] += 1

    # -- kinds of abuse, by name

    async def ill_case(self) -> None:
        await self.play(self.dice.choice(self.all))

    async def ill_noise(self) -> None:
        async with self.raw() as raw:
            await raw.send(self.dice.randbytes(self.dice.randrange(1, 5000)))
            raw.sock.shutdown(socket.SHUT_WR)
            await raw.rest()

    async def ill_reset(self) -> None:
        """At any point of a request and of its answer."""
        wire = self.dice.choice((GOOD, POST % 9 + b"123456789", GET_BIG))
        async with self.raw() as raw:
            await raw.send(wire[: self.dice.randrange(len(wire) + 1)])
            if self.dice.random() < 0.5:
                await asyncio.sleep(self.dice.random() * 0.05)
            raw.reset()

    async def ill_silent(self) -> None:
        async with self.raw():
            await asyncio.sleep(self.dice.random() * 20)

    async def ill_drip(self) -> None:
        """Heads and bodies by the byte, until one of the two sides has had enough."""
        begin = self.dice.choice((b"GET / HTTP/1.1\r\nX: ", POST % 999, CHUNKED))
        async with self.raw() as raw:
            with contextlib.suppress(ConnectionError):
                await raw.send(begin)
                for _ in range(self.dice.randrange(1, 40)):
                    await raw.send(b"x")
                    await asyncio.sleep(0.5)

    async def ill_reader(self) -> None:
        async with self.raw(4096) as raw:
            with contextlib.suppress(ConnectionError):
                await raw.send(GET_BIG)
                for _ in range(self.dice.randrange(1, 40)):
                    await raw.loop.sock_recv(raw.sock, 5000)
                    await asyncio.sleep(0.5)

    async def ill_half(self) -> None:
        async with self.raw() as raw:
            await raw.send(GOOD)
            raw.sock.shutdown(socket.SHUT_WR)
            got = await raw.rest()
        if not got:
            self.done["half, taken for one that gave up while it waited"] += 1
        elif not got.endswith(HELLO):
            self.wrong["half an answer to a client that closed its half"] += 1

    async def ill_upload(self) -> None:
        """A body that goes to a file, whole or not."""
        size = self.dice.choice((300_000, 1_000_000))
        async with self.raw() as raw:
            with contextlib.suppress(ConnectionError):
                await raw.send(POST % size)
                await raw.send(b"y" * self.dice.choice((size, size // 2)))
                raw.sock.shutdown(socket.SHUT_WR)
            await raw.rest()

    async def ill_pipeline(self) -> None:
        """Its end comes with it; what waits for too long then may be dropped, but not in the middle."""
        async with self.raw() as raw:
            with contextlib.suppress(ConnectionError):
                await raw.send(GOOD * 200)
                if self.dice.random() < 0.5:
                    raw.reset()
                    return
                raw.sock.shutdown(socket.SHUT_WR)
            got = await raw.rest()
        if got and not got.endswith(HELLO):
            self.wrong["a pipeline ended in the middle of an answer"] += 1

    async def ill_failure(self) -> None:
        """The application's own."""
        path = self.dice.choice((b"/raise", b"/cut"))
        async with self.raw() as raw:
            await raw.send(b"GET %b HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n" % path)
            got = await raw.rest()
        if path == b"/raise" and not got.startswith(b"HTTP/1.1 500 "):
            self.wrong[f"{path.decode()} was answered with {got[9:12].decode() or 'nothing'}"] += 1

    # -- many of them

    async def run_one(self, kind: str, what: Callable[[], Awaitable[None]]) -> None:
        try:
            await asyncio.wait_for(what(), 60)
        except asyncio.TimeoutError:
            self.wrong[f"{kind}: no end within 60 s"] += 1
        except OSError as error:
            if kind == "good" or not isinstance(error, ConnectionError):
                self.wrong[f"{kind}: {error}"] += 1
        self.done[kind] += 1

    async def bad_requests(self, count: int, connections: int) -> None:
        """`count` cases that are refused, over and over, so many at a time."""
        numbers = iter(range(count))

        async def client() -> None:
            for number in numbers:
                case = self.bad[number % len(self.bad)]
                await self.run_one("bad", lambda case=case: self.play(case))  # type: ignore[misc]
                if number % 1000 == 0:
                    await self.run_one("good", self.good)

        await asyncio.gather(*(client() for _ in range(connections)))

    async def mixture(self, duration: float, rate: float, only: list[str]) -> None:
        """Everything, or `only` these kinds, `rate` events a second; every tenth is a good request."""
        began = time.monotonic()
        tasks: set[asyncio.Task[None]] = set()
        sent = 0
        names = only or list(self.kinds)
        while (now := time.monotonic() - began) < duration:
            while sent < now * rate:
                sent += 1
                kind = "good" if sent % 10 == 0 else self.dice.choice(names)
                what = self.good if kind == "good" else self.kinds[kind]
                task = asyncio.create_task(self.run_one(kind, what))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await asyncio.sleep(1 / rate)
        await asyncio.gather(*tasks)


# --- what it does to the server


@dataclass(frozen=True)
class State:
    """Of one process."""

    memory: int  # resident bytes
    files: int
    threads: int


def look(server: Running) -> dict[int, State]:
    found = {}
    for pid in server.pids():
        with contextlib.suppress(OSError):
            memory = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * 4096
            files = len(os.listdir(f"/proc/{pid}/fd"))
            found[pid] = State(memory, files, len(os.listdir(f"/proc/{pid}/task")))
    return found


def shown(seconds: float, events: int, states: dict[int, State]) -> str:
    each = "  ".join(f"{s.memory / 1e6:.1f} MB {s.files} fd {s.threads} thr" for s in states.values())
    return f"{seconds:7.0f} s {events:9d} events  {each}"


def judge(before: dict[int, State], early: dict[int, State], after: dict[int, State]) -> list[str]:
    """What is not as it was."""
    if before.keys() != after.keys():
        return [f"processes were {sorted(before)} and are {sorted(after)}"]
    found = []
    for pid, now in after.items():
        grown = now.memory / early[pid].memory - 1
        if grown > GROWTH:
            found.append(f"memory of {pid} grew by {grown:.1%}")
        if now.files > before[pid].files or now.threads > before[pid].threads:
            found.append(f"{pid} was {before[pid]} and is {now}")
    return found


async def settled(server: Running, abuser: Abuser) -> dict[int, State]:
    """How it is when every worker is there, every thread has run, and nothing changes any more."""
    before: dict[int, State] = {}
    while True:
        for _ in range(100):
            await abuser.good()
        await asyncio.sleep(1.5)
        now = look(server)
        if before.keys() == now.keys() and all(
            (then.files, then.threads) == (now[pid].files, now[pid].threads) for pid, then in before.items()
        ):
            abuser.waits.clear()
            return now
        before = now


async def main_loop(server: Running, options: argparse.Namespace) -> int:
    abuser = Abuser(server.port, options.seed)
    before = await settled(server, abuser)
    print(shown(0, 0, before), flush=True)
    began = time.monotonic()
    if options.requests:
        run = asyncio.create_task(abuser.bad_requests(options.requests, options.connections))
    else:
        run = asyncio.create_task(abuser.mixture(options.duration, options.rate, options.kinds))
    early: dict[int, State] | None = None
    while not run.done():
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(run), options.every)
        now = look(server)
        events = abuser.done.total()
        part = (
            events / options.requests if options.requests else (time.monotonic() - began) / options.duration
        )
        if early is None and part >= 0.1:
            early = now
        print(shown(time.monotonic() - began, events, now), flush=True)
    run.result()
    took = time.monotonic() - began
    until = time.monotonic() + 60  # the last ones have their time-outs
    early = early or before
    bad = judge(before, early, look(server))
    while bad and time.monotonic() < until:
        await asyncio.sleep(0.5)
        bad = judge(before, early, look(server))
    after = look(server)
    print(shown(time.monotonic() - began, abuser.done.total(), after), "at the end", flush=True)
    for pid in before.keys() & early.keys() & after.keys():
        size = after[pid].memory
        print(f"memory of {pid}: {size / before[pid].memory - 1:+.1%} since the first client, "
              f"{size / early[pid].memory - 1:+.1%} since a tenth of the run")  # fmt: skip
    print(f"{took:.0f} s: {dict(abuser.done)}")
    print(f"statuses of cases: {dict(sorted(abuser.statuses.items()))}")
    waits = sorted(abuser.waits)
    print(f"good requests: p50 {waits[len(waits) // 2] * 1e3:.1f} ms, "
          f"p99 {waits[len(waits) * 99 // 100] * 1e3:.1f} ms, greatest {waits[-1] * 1e3:.1f} ms")  # fmt: skip
    log = server.text()
    errors = log.count("Error handling request") - log.count("ValueError: on purpose")
    print(f"log: {len(log)} bytes, {log.count('Traceback')} tracebacks, {errors} not of the application")
    bad += [f"{count} x {what}" for what, count in abuser.wrong.most_common(20)]
    bad += [f"answers of 5xx: {abuser.statuses}"] if abuser.statuses.keys() & {500, 502, 503, 504} else []
    bad += [f"{errors} tracebacks that are not of the application"] if errors else []
    for what in bad:
        print(f"NOT AS IT WAS: {what}")
    return bool(bad)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=0, help="so many bad requests, and nothing else")
    parser.add_argument("--connections", type=int, default=50, help="at a time, with --requests (50)")
    parser.add_argument("--duration", type=float, default=60.0, help="seconds of mixed abuse (60)")
    parser.add_argument("--rate", type=float, default=100.0, help="events a second (100)")
    parser.add_argument("--kinds", type=str.split, default=[], help="in place of all: 'reset upload', ...")
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two lines (10)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("flags", nargs="*", help="behind --: flags for threadcorn")
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    port = free()
    limits = ["--header-timeout", "5", "--body-timeout", "5", "--write-timeout", "5", *options.flags]
    command = [sys.executable, "-m", "threadcorn", "-b", f"127.0.0.1:{port}", "--workers", "2"]
    command += ["--threads", "4", *limits, f"{Path(__file__).stem}:app"]
    with running(command, port=port, env=environment(SERVERS["threadcorn"]), core=None) as server:
        return asyncio.run(main_loop(server, options))


if __name__ == "__main__":
    sys.exit(main())
