"""A new client beside many slow ones of each kind: what does it wait?

    python perf/victims.py                      300 of each kind
    python perf/victims.py --count 10000 --kinds "silent drip-head"

One worker, four threads. The victim makes a new connection for each request, one after the other; its p99
beside the slow ones is compared with that of the same server a moment before. The kinds:

    silent     connected, and nothing more         drip-head    a byte of a head every five seconds
    one-byte   one byte, and nothing more          drip-body    the same of a body
    reader     asks for 30 MB and reads nothing    half         asks, closes its half, stays
    reset      resets its connection at every point of a request, over and over: COUNT in five seconds
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from running import HERE, Running, running
from world import SERVERS, environment, free

KINDS = ("silent", "drip-head", "drip-body", "one-byte", "reader", "half", "reset")
GET = b"GET / HTTP/1.1\r\nHost: t\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\n0123456789"
BEGIN = {
    "silent": b"",
    "one-byte": b"G",
    "drip-head": b"GET / HTTP/1.1\r\nHost: t\r\nX-Slow: ",
    "drip-body": b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 9999\r\n\r\n",
    "reader": b"GET /big HTTP/1.1\r\nHost: t\r\n\r\n",
    "half": GET,
}
DRIP = 5.0
MUCH = b"x" * 30_000_000


def app(environ: dict[str, object], start_response: object) -> list[bytes]:
    """/big and everything else."""
    body = MUCH if environ["PATH_INFO"] == "/big" else b"hello"
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])  # type: ignore[operator]
    return [body]


# --- the slow ones, in a process of their own


def connect(port: int, number: int, buffer: int = 0) -> socket.socket:
    sock = socket.socket()
    if buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    sock.settimeout(20)
    sock.bind((f"127.0.0.{1 + number % 16}", 0))
    sock.connect(("127.0.0.1", port))
    return sock


def slow(kind: str, port: int, count: int) -> None:
    """Be `count` of them, until somebody ends this process."""
    if kind == "reset":
        resets(port, count)
        return
    socks = []
    for number in range(count):
        sock = connect(port, number, 4096 if kind == "reader" else 0)
        sock.sendall(BEGIN[kind])
        if kind == "half":
            sock.shutdown(socket.SHUT_WR)
        socks.append(sock)
        if kind == "reader" and number % 50 == 49:
            time.sleep(0.05)  # their arrival is not what is asked about
    print("ready", flush=True)
    while True:
        began = time.monotonic()
        if kind.startswith("drip"):
            for number, sock in enumerate(socks):
                with contextlib.suppress(OSError):
                    sock.send(b"x")
                time.sleep(max(0.0, began + DRIP * number / count - time.monotonic()))
        time.sleep(max(0.01, began + DRIP - time.monotonic()))


def resets(port: int, count: int) -> None:
    began = time.monotonic()
    number = 0
    while True:
        sock = connect(port, number)
        sock.sendall(POST[: number % (len(POST) + 1)])
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
        number += 1
        if number == 10:
            print("ready", flush=True)
        time.sleep(max(0.0, began + DRIP * number / count - time.monotonic()))


@contextlib.contextmanager
def crowd(kind: str, port: int, count: int) -> Iterator[None]:
    command = [sys.executable, __file__, "--slow", kind, str(port), str(count)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=HERE)
    assert process.stdout is not None
    try:
        if process.stdout.readline().strip() != "ready":
            sys.exit(f"the {count} clients of kind {kind} did not get ready")
        yield
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


# --- the victim


def victim(port: int, seconds: float) -> list[float]:
    """Seconds of each request, connection included, in order of size. A failure is an end of the run."""
    waits = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
            sock.sendall(GET)
            got = sock.recv(65536)
        waits.append(time.monotonic() - began)
        if not got.endswith(b"hello"):
            sys.exit(f"the victim got {got!r}")
        time.sleep(0.002)
    return sorted(waits)


def p99(waits: list[float]) -> float:
    return waits[len(waits) * 99 // 100] * 1e3


def measure(server: Running, kind: str, count: int, seconds: float) -> str:
    victim(server.port, 0.5)
    idle = victim(server.port, seconds)
    with crowd(kind, server.port, count):
        time.sleep(1)
        beside = victim(server.port, seconds)
    ratio = p99(beside) / p99(idle)
    return (
        f"{count:6d} {kind:10s} p99 {p99(idle):7.2f} ms alone, {p99(beside):7.2f} beside: x {ratio:.2f}; "
        f"p50 {idle[len(idle) // 2] * 1e3:.2f} and {beside[len(beside) // 2] * 1e3:.2f}, "
        f"greatest {beside[-1] * 1e3:.1f}, {len(beside)} requests"
    )


def main() -> int:
    if sys.argv[1:2] == ["--slow"]:
        slow(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
        return 0
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--kinds", default=" ".join(KINDS))
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for kind in options.kinds.split():
        port = free()
        command = [sys.executable, "-m", "threadcorn", "-b", f"127.0.0.1:{port}", "--threads", "4"]
        command += ["--worker-connections", "20000", "victims:app"]
        with running(command, port=port, env=environment(SERVERS["threadcorn"]), core=None) as server:
            print(measure(server, kind, options.count, options.seconds), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
