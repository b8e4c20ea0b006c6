"""Clients that look closely while workers come and go: is anything lost?

    python perf/chaos.py --seconds 30 --seed 7 [--kill] [--no-shard] [--workers 3] [-- further flags]

A real server gets HUP, TTIN, TTOU, USR2, worker TERM and, with --kill, SIGKILL of workers, at random but
seeded times. It also recycles its workers (--max-requests). Clients keep connections and open new ones, send
GET and POST with bodies in several packets, and read 1 byte, 64 kB or a stream. Every failure is counted by
the phase it came in. Exit code 1 when something was lost that should not have been. Events are counted as
they are sent; one that comes during a reload or an upgrade may be put off or refused.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
WITHIN = 30.0  # seconds for one answer

#: Where a request, or a connection, was lost.
PHASES = ("connect", "unsent", "unanswered", "cut", "idle closed", "wrong")


class Lost(Exception):
    """A request that got no answer; its argument is the phase."""


class Client(threading.Thread):
    """One client: one kept connection at a time, or a new one for each request."""

    def __init__(
        self, address: tuple[str, int], seed: str, stop: threading.Event, asked: argparse.Namespace
    ) -> None:
        super().__init__(daemon=True)
        self.address = address
        self.random = random.Random(seed)
        self.over = stop
        self.streams = asked.streams
        self.idle = asked.idle / 100
        self.lost: Counter[str] = Counter()
        self.notes: list[str] = []
        self.served: Counter[str] = Counter()
        self.told_to_close = 0
        self.moved = 0  # a kept connection was answered by another process than before
        self.slowest = 0.0
        self.running: tuple[str, float] | None = None
        self._sock: socket.socket | None = None
        self._pid = ""

    def run(self) -> None:
        keep = self.random.random() < 0.75
        while not self.over.is_set():
            what = self.random.choices(("/1", "/64k", "/stream", "post"), (60, 15, self.streams, 25))[0]
            began = time.monotonic()
            try:
                self._request(what, keep=keep)
            except Lost as error:
                phase = str(error)
                self.lost[phase] += 1
                if len(self.notes) < 5:
                    cause = f" ({error.__cause__!r})" if error.__cause__ is not None else ""
                    self.notes.append(
                        f"{phase}: {what} keep={keep} by {self._pid}{cause} at {time.time():.3f}"
                    )
                self._drop()
            else:
                self.served[what] += 1
                if what != "/stream":
                    self.slowest = max(self.slowest, time.monotonic() - began)
            if keep and self.random.random() < self.idle:
                self.over.wait(self.random.choice((0.2, 0.5, 2.0)))  # idle for a while, longer than a roll
        self._drop()

    def _drop(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _connect(self) -> socket.socket:
        if self._sock is not None:
            # A close that came while it was idle: seen before anything is sent.
            if not select.select([self._sock], [], [], 0)[0]:
                return self._sock
            self._drop()
            self.lost["idle closed"] += 1
        try:
            self._sock = socket.create_connection(self.address, timeout=WITHIN)
        except OSError as error:
            raise Lost("connect") from error
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._pid = ""
        return self._sock

    def _request(self, what: str, *, keep: bool) -> None:
        sock = self._connect()
        if not keep and self.random.random() < 0.2:
            self.over.wait(self.random.random() * 0.1)  # connected, and no byte sent yet
        sent = 0
        expected = b""
        pieces = [b""]
        close = b"" if keep else b"Connection: close\r\n"
        if what == "post":
            body = self.random.randbytes(self.random.choice((10, 3000, 200_000)))
            expected = str(zlib.crc32(body)).encode()
            head = b"POST /p HTTP/1.1\r\nHost: x\r\n%bContent-Length: %d\r\n\r\n" % (close, len(body))
            cut = self.random.randrange(1, len(head))
            half = len(body) // 2
            pieces = [head[:cut], head[cut:] + body[:half], body[half:]]
        else:
            target = "/stream?1" if what == "/stream" else what
            head = b"GET %b HTTP/1.1\r\nHost: x\r\n%b\r\n" % (target.encode(), close)
            cut = self.random.randrange(1, len(head)) if self.random.random() < 0.3 else len(head)
            pieces = [head[:cut], head[cut:]]
        try:
            for piece in filter(None, pieces):
                if sent:
                    self.over.wait(self.random.random() * 0.02)
                sock.sendall(piece)
                sent += len(piece)
            status, fields, answer = self._answer(sock)
        except OSError as error:
            raise Lost("unanswered" if sent else "unsent") from error
        if status != 200 or (expected and answer != expected):
            raise Lost("wrong") from ValueError(f"{status} {answer[:50]!r}")
        if not expected and len(answer) != {"/1": 1, "/64k": 65536, "/stream": 20_000}[what]:
            raise Lost("wrong")
        pid = fields.get("x-pid", "")
        self.moved += bool(self._pid and pid != self._pid)
        self._pid = pid
        if fields.get("connection") == "close":
            self.told_to_close += keep
            self._drop()

    def _answer(self, sock: socket.socket) -> tuple[int, dict[str, str], bytes]:
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._more(sock, data)
        head, _, data = data.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        pairs = [line.split(": ", 1) for line in lines[1:]]
        fields = {name.lower(): value.lower() for name, value in pairs}
        if "content-length" in fields:
            size = int(fields["content-length"])
            while len(data) < size:
                data += self._more(sock, head)
            return int(lines[0][9:12]), fields, data
        while not data.endswith(b"\r\n0\r\n\r\n"):
            data += self._more(sock, head)
        answer = b""
        while True:
            line, _, data = data.partition(b"\r\n")
            size = int(line, 16)
            if not size:
                return int(lines[0][9:12]), fields, answer
            answer += data[:size]
            data = data[size + 2 :]

    def _more(self, sock: socket.socket, got: bytes) -> bytes:
        try:
            data = sock.recv(1 << 18)
        except OSError as error:
            raise Lost("cut" if got else "unanswered") from error
        if not data:
            raise Lost("cut" if got else "unanswered")
        return data


class Server:
    """`python -m threadcorn`, and what it is told. The pid file names it: an upgrade changes its number."""

    def __init__(self, flags: list[str], log: Path | None) -> None:
        ready, told = os.pipe()
        self._directory = tempfile.TemporaryDirectory(prefix="chaos-")
        self._pid_file = Path(self._directory.name) / "pid"
        flags = ["--pid", str(self._pid_file), *flags]
        with open(log or os.devnull, "ab") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "threadcorn", "--ready-fd", str(told), *flags, "chaos_app:app"],
                cwd=HERE,
                env={**os.environ, "PYTHONPATH": f"{HERE.parent}:{HERE}"},
                pass_fds=[told],
                stderr=err,
            )
        os.close(told)
        with os.fdopen(ready) as pipe:
            host, _, port = pipe.readline().split()[1].rpartition(":")
        self.address = (host, int(port))

    @property
    def pid(self) -> int:
        with contextlib.suppress(OSError, ValueError):
            return int(self._pid_file.read_text())
        return self.process.pid

    def tell(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def workers(self) -> list[int]:
        pid = self.pid
        with contextlib.suppress(OSError):
            return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return []

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
        self._directory.cleanup()
        return code


def events(
    server: Server, rand: random.Random, workers: int, kinds: list[str], until: float
) -> Iterator[str]:
    """Do something to the server, again and again; what it was."""
    more = 0
    while time.monotonic() < until:
        time.sleep(rand.uniform(0.05, 0.3))
        kind = rand.choice(kinds)
        if kind == "HUP":
            server.tell(signal.SIGHUP)
        elif kind == "USR2":
            if more:
                continue  # the successor starts with the number of its configuration
            server.tell(signal.SIGUSR2)
        elif kind in ("TTIN", "TTOU"):
            change = 1 if kind == "TTIN" else -1
            if not min(0, 2 - workers) <= more + change < 3:
                continue
            more += change
            server.tell(signal.SIGTTIN if change > 0 else signal.SIGTTOU)
        else:
            pids = server.workers()
            if not pids:
                continue
            with contextlib.suppress(ProcessLookupError):
                os.kill(rand.choice(pids), signal.SIGKILL if kind == "KILL" else signal.SIGTERM)
        yield kind


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--idle", type=float, default=5.0, help="pauses of kept connections, in percent")
    parser.add_argument("--streams", type=float, default=2.0, help="share of streamed answers, in percent")
    parser.add_argument("--recycle", type=int, default=400, help="--max-requests of the server")
    parser.add_argument("--events", default="HUP,TTIN,TTOU,USR2,TERM")
    parser.add_argument("--kill", action="store_true", help="SIGKILL workers as well")
    parser.add_argument("--no-shard", action="store_true")
    parser.add_argument("--log", type=Path)
    parser.add_argument("flags", nargs="*", help="further flags of the server, after --")
    asked = parser.parse_args()
    flags = ["--bind", "127.0.0.1:0", "--workers", str(asked.workers), "--threads", "4"]
    if asked.recycle:
        flags += ["--max-requests", str(asked.recycle), "--max-requests-jitter", str(asked.recycle // 2)]
    server = Server([*flags, *(["--no-shard"] if asked.no_shard else []), *asked.flags], asked.log)
    stop = threading.Event()
    seed = asked.seed
    clients = [Client(server.address, f"{seed}/{n}", stop, asked) for n in range(asked.clients)]
    for client in clients:
        client.start()
    kinds = [kind for kind in asked.events.split(",") if kind] + (["KILL"] if asked.kill else [])
    done: Counter[str] = Counter()
    try:
        until = time.monotonic() + asked.seconds
        if kinds:
            done.update(events(server, random.Random(seed), asked.workers, kinds, until))
        else:
            time.sleep(asked.seconds)
    finally:
        stop.set()
        for client in clients:
            client.join(WITHIN + 5)
        code = server.stop()
    lost = sum((c.lost for c in clients), Counter[str]())
    report = {
        "seed": seed,
        "events": dict(done),
        "served": sum(sum(c.served.values()) for c in clients),
        "kinds": dict(sum((c.served for c in clients), Counter[str]())),
        "lost": {phase: lost[phase] for phase in PHASES},
        "kept connections told to close": sum(c.told_to_close for c in clients),
        "kept connections that moved": sum(c.moved for c in clients),
        "slowest": round(max(c.slowest for c in clients), 3),
        "stuck clients": sum(c.is_alive() for c in clients),
        "exit code": code,
        "notes": [note for c in clients for note in c.notes][:20],
    }
    print(json.dumps(report, indent=1))
    return int(bool(sum(lost.values()) and not asked.kill) or code != 0)


if __name__ == "__main__":
    sys.exit(main())
