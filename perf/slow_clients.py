"""Clients that do nothing, little, or too much: processes that slow.py and victims.py start.

    python perf/slow_clients.py KIND PORT NUMBERS...

Each prints "ready" and misbehaves until its standard input ends; some print then what they saw.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["BEGIN", "REQUEST", "clients"]

REQUEST = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
LARGE = b"GET /big HTTP/1.1\r\nHost: test\r\n\r\n"
BODY = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\n"
WHOLE = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n0123456789"
HALF = b"GET / HTTP/1.1\r\nHost: test\r\nX-Slow: "
#: The drops of a second fall in so many slices: all at once they would stop the load on the same core.
SLICES = 50
#: Idle connections that are made at once.
BATCH = 250
#: What a slow reader takes in a second.
READ = 10_000
#: What the kinds of `stay` send at first.
BEGIN = {
    "quiet": b"",
    "one-byte": b"G",
    "drip-head": HALF,
    "drip-body": BODY,
    "reader": LARGE,
    "half": REQUEST,
}
#: Seconds between two bytes of theirs.
DRIP = 5.0

_all: list[socket.socket] = []


@contextlib.contextmanager
def clients(*arguments: object, core: int | None = None) -> Iterator[subprocess.Popen[str]]:
    """Such clients in a process of their own, ready; its last line is what it saw."""
    pinned = ["taskset", "-c", str(core)] if core is not None else []
    command = [*pinned, sys.executable, __file__, *map(str, arguments)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent
    )
    assert process.stdout is not None
    try:
        if process.stdout.readline().strip() != "ready":
            sys.exit(f"the clients {arguments} did not get ready")
        yield process
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


def connect(port: int, buffer: int = 0) -> socket.socket:
    sock = socket.socket()
    if buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    sock.settimeout(20)
    # One address has some 28,000 ports: clients of several addresses do not run out of them.
    sock.bind((f"127.0.0.{1 + len(_all) % 16}", 0))
    sock.connect(("127.0.0.1", port))
    _all.append(sock)
    return sock


def wait_for_the_end() -> None:
    print("ready", flush=True)
    sys.stdin.read()


def idle(port: int, count: int) -> None:
    """Connections with one request behind them, as many as are served. Says how many are open in the end."""
    with contextlib.suppress(OSError):
        for _ in range(0, count, BATCH):
            # Many at once: a server that looks at all of its connections each time would need minutes.
            batch = [connect(port) for _ in range(min(BATCH, count - len(_all)))]
            for sock in batch:
                sock.sendall(REQUEST)
            for sock in batch:
                sock.recv(65536)
    wait_for_the_end()
    open_ = 0
    for sock in _all:
        sock.setblocking(False)
        try:
            open_ += bool(sock.recv(1))
        except BlockingIOError:
            open_ += 1
        except OSError:
            pass
    print(open_, flush=True)


def silent(port: int, count: int) -> None:
    """Connections without a request. One that is closed is made again, as impatient clients do."""
    chooser = selectors.DefaultSelector()

    def another() -> None:
        with contextlib.suppress(OSError):
            sock = connect(port)
            sock.setblocking(False)
            chooser.register(sock, selectors.EVENT_READ)

    for _ in range(count):
        another()
    chooser.register(sys.stdin, selectors.EVENT_READ)
    print("ready", flush=True)
    closed = 0
    while True:
        for key, _ in chooser.select():
            if key.fileobj is sys.stdin:
                print(closed, flush=True)
                return
            chooser.unregister(key.fileobj)
            key.fileobj.close()  # type: ignore[union-attr]
            closed += 1
            another()


def burst(port: int, heads: int, kind: int, readers: int) -> None:
    """Half heads, and requests for large answers that nobody reads, as fast as they can be sent."""
    path = ("big", "fresh", "blocks")[kind]
    for _ in range(heads):
        connect(port).sendall(HALF)
    for _ in range(readers):
        connect(port).sendall(f"GET /{path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
    wait_for_the_end()


class Drip:
    """A byte a second of heads and bodies, ten kilobytes a second of answers."""

    def __init__(self, port: int, heads: int, bodies: int, readers: int) -> None:
        self.heads = [connect(port) for _ in range(heads)]
        self.bodies = [connect(port) for _ in range(bodies)]
        self.readers = [connect(port, 4096) for _ in range(readers)]
        self.cut: set[socket.socket] = set()
        self.lost = 0  # readers
        self.chooser = selectors.DefaultSelector()
        for sock in self.heads:
            sock.sendall(HALF)
        for sock in self.bodies:
            sock.sendall(BODY)
        for sock in self.readers:
            sock.sendall(LARGE)
        for sock in _all:
            sock.setblocking(False)
        for sock in self.heads + self.bodies:
            self.chooser.register(sock, selectors.EVENT_READ)

    def slice(self, number: int) -> None:
        """What falls in one of the slices of a second."""
        for key, _ in self.chooser.select(0):
            self.cut.add(key.fileobj)  # type: ignore[arg-type]
            self.chooser.unregister(key.fileobj)
        for sock in (*self.heads[number::SLICES], *self.bodies[number::SLICES]):
            if sock not in self.cut:
                with contextlib.suppress(OSError):
                    sock.send(b"x")
        for sock in self.readers[number::SLICES]:
            try:
                if not sock.recv(READ):
                    raise ConnectionResetError
            except BlockingIOError:
                continue
            except OSError:
                self.lost += 1
                self.readers.remove(sock)


def drip(port: int, heads: int, bodies: int, readers: int) -> None:
    """Says how many heads, bodies and readers were cut."""
    clients = Drip(port, heads, bodies, readers)
    ending = selectors.DefaultSelector()
    ending.register(sys.stdin, selectors.EVENT_READ)
    number = 0
    due = time.monotonic()
    while not ending.select(max(0.0, due - time.monotonic())):
        if time.monotonic() < due:
            continue
        clients.slice(number % SLICES)
        number += 1
        due += 1 / SLICES
        if number == 2 * SLICES:  # the burst of their arrival is not what is asked about
            print("ready", flush=True)
    cut = clients.cut
    print(len(cut & set(clients.heads)), len(cut & set(clients.bodies)), clients.lost, flush=True)


def stay(kind: str, port: int, count: int) -> None:
    """As many connections of one kind of `BEGIN`, which stay."""
    for number in range(count):
        sock = connect(port, 4096 if kind == "reader" else 0)
        sock.sendall(BEGIN[kind])
        if kind == "half":
            sock.shutdown(socket.SHUT_WR)
        elif kind == "reader" and number % 50 == 49:
            time.sleep(0.05)  # their arrival is not what is asked about
    if not kind.startswith("drip"):
        wait_for_the_end()
        return
    print("ready", flush=True)
    while True:
        began = time.monotonic()
        for number, sock in enumerate(_all):
            with contextlib.suppress(OSError):
                sock.send(b"x")
            time.sleep(max(0.0, began + DRIP * number / count - time.monotonic()))
        time.sleep(max(0.01, began + DRIP - time.monotonic()))


def reset(port: int, count: int) -> None:
    """Reset a connection at every point of a request, `count` times in five seconds."""
    began = time.monotonic()
    number = 0
    while True:
        sock = connect(port)
        _all.clear()
        sock.sendall(WHOLE[: number % (len(WHOLE) + 1)])
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
        number += 1
        if number == 10:
            print("ready", flush=True)
        time.sleep(max(0.0, began + DRIP * number / count - time.monotonic()))


def main(kind: str, *numbers: str) -> None:
    kinds: dict[str, Callable[..., None]] = {
        "idle": idle,
        "silent": silent,
        "drip": drip,
        "burst": burst,
        "reset": reset,
    }
    if kind in BEGIN:
        stay(kind, *map(int, numbers))
    else:
        kinds[kind](*map(int, numbers))


if __name__ == "__main__":
    main(*sys.argv[1:])
