"""The clients of perf/chaos.py: many connections on one poller, because threads would be the bottleneck.

Orders come as JSON in argv, lines of JSON say how many requests were served so far, the last line is the
report. The end of standard input ends it: what has been sent is still answered, nothing new is begun.
"""

from __future__ import annotations

import errno
import heapq
import json
import os
import random
import select
import socket
import sys
import time
import zlib
from collections import Counter
from enum import IntEnum
from typing import Any

from chaos_app import BLOCK, STREAM

TELL = 0.25  # seconds between two lines about how many were served
WITHIN = 30.0  # seconds for one answer, or for the end of a connection
EVENTS = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
ENDED = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
KINDS = ("/1", "/64k", "/stream", "post")
LENGTHS = {"/1": 1, "/64k": len(BLOCK)}
SIZES = (10, 3000, 200_000)
SLOWEST = 10_000  # milliseconds: the last class of the histogram


class State(IntEnum):
    """Where a client is."""

    RESTING = 0  # between two requests: connected, if it keeps connections
    CONNECTING = 1
    UNSENT = 2  # connected for a request of which nothing was sent yet
    SENDING = 3
    WAITING = 4  # all was sent
    ENDING = 5  # the answer is complete, and was the last one


#: What it is called when the connection ends in that state, and no byte of an answer has come.
PHASE = {
    State.RESTING: "idle closed",
    State.CONNECTING: "connect",
    State.UNSENT: "unsent",
    State.SENDING: "unanswered",
    State.WAITING: "unanswered",
    State.ENDING: "reset",
}


class Clients:
    """All clients of this process, and what became of their requests."""

    def __init__(self, asked: dict[str, Any]) -> None:
        self.asked = asked
        self.address = tuple(asked["address"])
        self.family = socket.AF_INET6 if ":" in self.address[0] else socket.AF_INET
        self.poller = select.epoll()
        self.by_fd: dict[int, Client] = {}
        self.timers: list[tuple[float, int, Client]] = []
        self.over = False
        self.served: Counter[str] = Counter()
        self.told_to_close = 0
        self.moved = 0
        self.lost: list[dict[str, Any]] = []
        self.waits = [0] * (SLOWEST + 1)
        self.slowest: list[tuple[int, float, str]] = []  # milliseconds, when, what
        dice = random.Random(asked["seed"])
        self.bodies = {size: [body(dice, size) for _ in range(8)] for size in SIZES}
        first, last = asked["numbers"]
        self.all = [Client(self, f"{asked['seed']}/{n}", n) for n in range(first, last)]

    def run(self) -> dict[str, Any]:
        told, told_some = time.monotonic(), False
        self.poller.register(0, select.EPOLLIN | select.EPOLLHUP)
        for client in self.all:
            client.rest()
        while not self.over or any(client.busy for client in self.all):
            now = time.monotonic()
            timers = self.timers
            while timers and timers[0][0] <= now:
                _, serial, client = heapq.heappop(timers)
                if serial == client.serial:
                    client.wake(now)
            pause = min(1.0, timers[0][0] - now) if timers else 1.0
            for fd, mask in self.poller.poll(max(0.0, pause)):
                found = self.by_fd.get(fd)
                if found is not None:
                    found.hear(mask)
                elif fd == 0 and not self.over:
                    self._end()
            if now - told >= TELL or (not told_some and self.served):
                told, told_some = now, bool(self.served)
                self._look(now)
                print(json.dumps({"served": sum(self.served.values()), "lost": len(self.lost)}), flush=True)
        for client in self.all:
            client.look_once_more()
        return self._report()

    def waited(self, client: Client) -> None:
        """The first byte of an answer has come."""
        ms = int((time.monotonic() - client.sent_at) * 1000)
        self.waits[min(ms, SLOWEST)] += 1
        if ms > 200:
            kind = f"{client.what} {'kept' if client.pid else 'new'} {client.port} {client.pid}"
            heapq.heappush(self.slowest, (ms, round(time.time(), 3), kind))
            if len(self.slowest) > 10:
                heapq.heappop(self.slowest)

    def _end(self) -> None:
        self.over = True
        self.poller.unregister(0)

    def _look(self, now: float) -> None:
        for client in self.all:
            if client.busy and now - client.since > WITHIN:
                client.lose("nothing came in time")

    def _report(self) -> dict[str, Any]:
        return {
            "served": sum(self.served.values()),
            "kinds": dict(self.served),
            "lost": self.lost,
            "told to close": self.told_to_close,
            "moved": self.moved,
            "slowest": sorted(self.slowest),
            "waits": {ms: count for ms, count in enumerate(self.waits) if count},
        }


def body(dice: random.Random, size: int) -> tuple[bytes, bytes]:
    """A body, and the answer to it."""
    data = dice.randbytes(size)
    return data, str(zlib.crc32(data)).encode()


class Client:
    """One after the other, requests on a kept connection or each on a new one."""

    __slots__ = ("all", "dice", "expected", "got", "keep", "need", "number", "out", "pid", "pieces", "sent",
                 "sent_at", "serial", "since", "sleeper", "sock", "state", "what")  # fmt: skip

    def __init__(self, clients: Clients, seed: str, number: int) -> None:
        self.all = clients
        self.dice = random.Random(seed)
        self.number = number
        asked = clients.asked
        self.sleeper = number < asked["sleepers"]  # one request, then a long silence
        self.keep = self.sleeper or self.dice.random() < 0.75
        self.sock: socket.socket | None = None
        self.state = State.RESTING
        self.serial = 0
        self.since = 0.0  # when it began the present request
        self.sent_at = 0.0  # when the last byte of it was sent
        self.pid = ""
        self.what = ""
        self.pieces: list[bytes] = []
        self.out: memoryview | None = None
        self.sent = 0
        self.got = bytearray()
        self.need = -1  # length of the whole answer, 0 for one in chunks, -1: not known yet
        self.expected: bytes | None = None

    @property
    def busy(self) -> bool:
        """It has begun something that is to be answered."""
        return self.state is not State.RESTING

    @property
    def port(self) -> int:
        """Ours, by which others know the connection."""
        try:
            return 0 if self.sock is None else int(self.sock.getsockname()[1])
        except OSError:
            return 0

    # -- time

    def _in(self, seconds: float) -> None:
        self.serial += 1
        heapq.heappush(self.all.timers, (time.monotonic() + seconds, self.serial, self))

    def __lt__(self, other: Client) -> bool:
        return self.number < other.number

    def rest(self) -> None:
        """Until the next request."""
        self.state = State.RESTING
        asked = self.all.asked
        if self.sleeper:
            self._in(self.dice.uniform(*asked["sleep"]))
        elif self.keep and self.dice.random() < asked["idle"]:
            self._in(self.dice.choice((0.2, 0.5, 2.0)))  # longer than a roll
        else:
            self._in(self.dice.expovariate(1000 / asked["think"]))

    def wake(self, now: float) -> None:
        if self.state is State.RESTING:
            if not self.all.over:
                self._begin(now)
        elif self.state in (State.UNSENT, State.SENDING):
            self._next_piece()

    # -- a request

    def _begin(self, now: float) -> None:
        self.since = now
        self.sent = 0
        self.got.clear()
        self.need = -1
        self._compose()
        if self.sock is not None:
            self._next_piece()
            return
        self.pid = ""
        self.sock = sock = socket.socket(self.all.family, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.all.by_fd[sock.fileno()] = self
        self.state = State.CONNECTING
        failed = sock.connect_ex(self.all.address)
        if failed not in (0, errno.EINPROGRESS):
            self.lose(os.strerror(failed))
            return
        self.all.poller.register(sock.fileno(), EVENTS)

    def _compose(self) -> None:
        dice = self.dice
        weights = (60, 15, self.all.asked["streams"], 25)
        self.what = what = dice.choices(KINDS, weights)[0]
        close = b"" if self.keep else b"Connection: close\r\n"
        self.expected = None
        if what == "post":
            data, self.expected = dice.choice(self.all.bodies[dice.choices(SIZES, (6, 3, 1))[0]])
            head = b"POST /p HTTP/1.1\r\nHost: x\r\n%bContent-Length: %d\r\n\r\n" % (close, len(data))
            if dice.random() < 0.3:
                cut, half = dice.randrange(1, len(head)), len(data) // 2
                self.pieces = [data[half:], head[cut:] + data[:half], head[:cut]]
            else:
                self.pieces = [data, head]
            return
        head = b"GET %b HTTP/1.1\r\nHost: x\r\n%b\r\n" % (what.encode(), close)
        cut = dice.randrange(1, len(head)) if dice.random() < 0.2 else len(head)
        self.pieces = [part for part in (head[cut:], head[:cut]) if part]

    def _next_piece(self) -> None:
        self.state = State.SENDING
        self.out = memoryview(self.pieces.pop())
        self._send()

    def _send(self) -> None:
        out, sock = self.out, self.sock
        if out is None or sock is None:
            return
        try:
            done = sock.send(out)
        except BlockingIOError:
            return
        except OSError as error:
            # What has been answered before is still in the buffer, and says more than this error.
            self.out = None
            self._read(error)
            return
        self.sent += done
        if done < len(out):
            self.out = out[done:]
            return
        self.out = None
        if self.pieces:
            self._in(self.dice.random() * 0.02)
        else:
            self.state = State.WAITING
            self.sent_at = time.monotonic()

    # -- events

    def hear(self, mask: int) -> None:
        if self.state is State.CONNECTING:
            if not mask & (select.EPOLLOUT | ENDED) or self.sock is None:
                return
            failed = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if failed:
                self.lose(os.strerror(failed))
                return
            self.state = State.UNSENT
            if not self.keep and self.dice.random() < 0.2:
                self._in(self.dice.random() * 0.1)  # connected, and no byte sent yet
            else:
                self._next_piece()
            if not mask & ENDED:
                return
        if mask & select.EPOLLOUT and self.out is not None:
            self._send()
        if mask & (select.EPOLLIN | ENDED):
            self._read()

    def _read(self, failed: OSError | None = None) -> None:
        while self.sock is not None:
            try:
                data = self.sock.recv(1 << 18)
            except BlockingIOError:
                if failed is not None:
                    self.lose(repr(failed))
                return
            except OSError as error:
                self.lose(repr(failed or error))
                return
            if not data:
                if self.state is State.ENDING:
                    self._drop()
                    self.rest()
                else:
                    self.lose("end")
                return
            if self.state not in (State.SENDING, State.WAITING):
                self.lose(f"{data[:60]!r} came unasked", phase="wrong")
                return
            if not self.got and self.state is State.WAITING:
                self.all.waited(self)
            self.got += data
            if self._complete():
                self._served()

    def _complete(self) -> bool:
        got = self.got
        if self.need < 0:
            end = got.find(b"\r\n\r\n")
            if end < 0:
                return False
            head = bytes(got[: end + 2]).lower()
            at = head.find(b"\r\ncontent-length: ")
            self.need = end + 4 + int(head[at + 18 : head.index(b"\r\n", at + 18)]) if at >= 0 else 0
        return len(got) >= self.need if self.need else got.endswith(b"\r\n0\r\n\r\n")

    def _served(self) -> None:
        head, _, answer = bytes(self.got).partition(b"\r\n\r\n")
        fields = head.lower()
        right = head[9:12] == b"200"
        if self.expected is not None:
            right = right and answer == self.expected
        elif self.what == "/stream":
            right = right and unchunked(answer) == STREAM
        else:
            right = right and len(answer) == LENGTHS[self.what]
        if not right or self.state is not State.WAITING:
            status = head[9:12].decode()
            phase = status if status in ("502", "503") else "wrong"
            self.lose(f"{head[:60]!r} {answer[:60]!r}", phase=phase)
            return
        self.all.served[self.what] += 1
        at = fields.find(b"\r\nx-pid: ") + 9
        pid = fields[at : at + 10].partition(b"\r\n")[0].decode()
        self.all.moved += bool(self.pid and pid != self.pid)
        self.pid = pid
        if b"\r\nconnection: close" in fields:
            self.all.told_to_close += self.keep
            self.state = State.ENDING
            self.since = time.monotonic()
        else:
            self.rest()

    # -- the end

    def lose(self, why: str, phase: str = "") -> None:
        """The request, or the kept connection, is lost."""
        phase = phase or (
            "cut" if self.got and self.busy and self.state < State.ENDING else PHASE[self.state]
        )
        self.all.lost.append(
            {
                "phase": phase,
                "what": self.what,
                "keep": self.keep,
                "whole": not self.pieces and self.out is None,
                "port": self.port,
                "by": self.pid,
                "at": round(time.time(), 3),
                "since": round(time.monotonic() - self.since, 3),
                "sent": round(time.time() - (time.monotonic() - self.sent_at), 4),
                "why": why,
            }
        )
        self._drop()
        self.rest()

    def _drop(self) -> None:
        sock, self.sock = self.sock, None
        if sock is not None:
            del self.all.by_fd[sock.fileno()]
            sock.close()

    def look_once_more(self) -> None:
        """At the end: a kept connection that rests is still there, or was lost unseen."""
        if self.sock is not None:
            self._read()
        self._drop()


def unchunked(data: bytes) -> bytes:
    parts: list[bytes] = []
    while True:
        line, _, data = data.partition(b"\r\n")
        size = int(line, 16)
        if not size:
            return b"".join(parts)
        parts.append(data[:size])
        data = data[size + 2 :]


if __name__ == "__main__":
    print(json.dumps(Clients(json.loads(sys.argv[1])).run()), flush=True)
