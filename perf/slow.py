"""Clients that do nothing, little, or too much, beside an honest load: what do the honest ones notice?

    python perf/slow.py                             idle, drip and descriptors; a few minutes
    python perf/slow.py --scenario drip --servers threadcorn,gunicorn

* idle: thousands of keep-alive connections that are silent, and what each costs in memory.
* drip: heads that arrive by the byte, bodies that arrive by the byte, answers that are read slowly.
* descriptors: more connections than the server may open files.

Every server has one worker and four threads. The rate and the p99 with the slow clients are compared with
those of the same server a moment before, without them.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from running import HERE, Load, Running, drive, running
from world import SERVERS, Server, environment, free

REQUEST = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
THREADS = 4


# --- the clients, in a process of their own


def connect(port: int, buffer: int = 0) -> socket.socket:
    sock = socket.socket()
    if buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    sock.settimeout(20)
    # One address has some 28,000 ports: clients of several addresses do not run out of them.
    sock.bind((f"127.0.0.{1 + len(_ALL) % 8}", 0))
    sock.connect(("127.0.0.1", port))
    _ALL.append(sock)
    return sock


_ALL: list[socket.socket] = []


def idle(port: int, count: int) -> None:
    """Connections with one request behind them; then silence until standard input ends."""
    for _ in range(count):
        sock = connect(port)
        sock.sendall(REQUEST)
        sock.recv(65536)
    print("ready", flush=True)
    sys.stdin.read()
    open_ = 0
    for sock in _ALL:
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            if not sock.recv(1):
                continue
        open_ += 1
    print(open_, flush=True)


def silent(port: int, count: int) -> None:
    """Connections without a request, as many as can be made."""
    for _ in range(count):
        try:
            connect(port)
        except OSError:
            break
    print("ready", flush=True)
    sys.stdin.read()
    print(len(_ALL), flush=True)


def drip(port: int, heads: int, bodies: int, readers: int) -> None:
    """A byte a second of heads and bodies, ten kilobytes a second of answers. Prints how many were cut."""
    chooser = selectors.DefaultSelector()
    head = [connect(port) for _ in range(heads)]
    body = [connect(port) for _ in range(bodies)]
    reader = [connect(port, 4096) for _ in range(readers)]
    for sock in head:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: test\r\nX-Slow: ")
    for sock in body:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\n")
    for sock in reader:
        sock.sendall(b"GET /big HTTP/1.1\r\nHost: test\r\n\r\n")
    for sock in head + body:
        sock.setblocking(False)
        chooser.register(sock, selectors.EVENT_READ)
    for sock in reader:
        sock.setblocking(False)
    inbox = selectors.DefaultSelector()
    inbox.register(sys.stdin, selectors.EVENT_READ)
    cut: set[socket.socket] = set()
    lost = turns = 0
    while not inbox.select(0):
        began = time.monotonic()
        turns += 1
        if turns == 3:  # the burst of their arrival is not what is asked about
            print("ready", flush=True)
        for key, _ in chooser.select(0):
            cut.add(key.fileobj)  # type: ignore[arg-type]
            chooser.unregister(key.fileobj)
        for sock in head + body:
            if sock not in cut:
                with contextlib.suppress(OSError):
                    sock.send(b"x")
        for sock in list(reader):
            try:
                if not sock.recv(10_000):
                    raise ConnectionResetError
            except BlockingIOError:
                continue
            except OSError:
                lost += 1
                reader.remove(sock)
        time.sleep(max(0.0, began + 1.0 - time.monotonic()))
    print(len(cut & set(head)), len(cut & set(body)), lost, flush=True)


@contextlib.contextmanager
def clients(*arguments: object, core: int | None) -> Iterator[subprocess.Popen[str]]:
    """This file as a client, ready; its last line is what it saw."""
    command = [
        *(["taskset", "-c", str(core)] if core is not None else []),
        sys.executable,
        __file__,
        "--client",
    ]
    process = subprocess.Popen(
        [*command, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HERE
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


def result(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate(timeout=60)
    return out.strip()


def resident(server: Running) -> int:
    """Bytes of memory of all its processes, shared pages counted once for each."""
    total = 0
    for pid in server.pids():
        with contextlib.suppress(OSError):
            total += int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * 4096
    return total


# --- the scenarios


def run_idle(server: Server, options: argparse.Namespace) -> str:
    with start(server, options) as process:
        load(process, options, 1)
        before = load(process, options)
        memory = resident(process)
        with clients("idle", process.port, options.idle, core=options.client_core) as silent_ones:
            grown = resident(process) - memory
            beside = load(process, options)
            open_ = result(silent_ones)
        after = load(process, options)
        base = max(before.rate, after.rate)
        return (
            f"{before.rate:8.0f}/s alone, {beside.rate:8.0f}/s beside {open_} idle, "
            f"{after.rate:8.0f}/s after: {beside.rate / base:.0%}; "
            f"{grown / options.idle:.0f} bytes a connection"
        )


def run_drip(server: Server, options: argparse.Namespace) -> str:
    with start(server, options) as process:
        load(process, options, 1)
        before = load(process, options)
        memory = resident(process)
        many = (options.heads, options.bodies, options.readers)
        with clients("drip", process.port, *many, core=options.client_core) as slow_ones:
            beside = load(process, options)
            grown = resident(process) - memory
            # What is too slow must be gone when its time-outs are over (20 s for heads, 30 s for bodies).
            load(process, options, options.wait)
            cut = result(slow_ones)
        return (
            f"{before.rate:8.0f}/s, p99 {before.p99 * 1e3:.1f} ms alone; {beside.rate:8.0f}/s, p99 "
            f"{beside.p99 * 1e3:.1f} ms beside {many}, {beside.errors} errors; "
            f"cut (heads bodies readers): {cut}; {grown / 1e6:.0f} MB more"
        )


def run_descriptors(server: Server, options: argparse.Namespace) -> str:
    with start(server, options, files=256) as process:
        with clients("silent", process.port, 600, core=options.client_core) as crowd:
            before, said = process.cost(), process.text().count("\n")
            time.sleep(options.full)
            cost, said = process.cost() - before, process.text().count("\n") - said
            result(crowd)
        until = time.monotonic() + 30
        began = time.monotonic()
        while True:
            try:
                process.get("/", within=1)
                break
            except (OSError, ValueError):
                if time.monotonic() > until:
                    return (
                        f"{(cost.user + cost.kernel) / options.full:.1%} of a processor; NOT back after 30 s"
                    )
        back = time.monotonic() - began
        share = (cost.user + cost.kernel) / options.full
        return (
            f"{share:.1%} of a processor and {said} lines in {options.full:g} s while full; "
            f"back after {back:.2f} s"
        )


SCENARIOS = {"idle": run_idle, "drip": run_drip, "descriptors": run_descriptors}


def start(
    server: Server, options: argparse.Namespace, files: int = 0
) -> contextlib.AbstractContextManager[Running]:
    port = free()
    command = server.command(options.bin, "world:app", THREADS, port)
    if files:
        command = ["prlimit", f"--nofile={files}:{files}", *command]
    return running(command, port=port, env=environment(server), core=options.server_core)


def load(server: Running, options: argparse.Namespace, seconds: float = 0) -> Load:
    return drive(server, seconds=seconds or options.duration, connections=32, core=options.client_core)


def main() -> int:
    if sys.argv[1:2] == ["--client"]:
        what, *numbers = sys.argv[2:]
        behave: dict[str, Callable[..., None]] = {"idle": idle, "silent": silent, "drip": drip}
        behave[what](*map(int, numbers))
        return 0
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--scenario", default=",".join(SCENARIOS))
    parser.add_argument("--servers", default=",".join(SERVERS))
    parser.add_argument("--bin", type=Path, help="bin directory of the peers' environment")
    parser.add_argument("--duration", type=float, default=5.0)
    parser.add_argument("--full", type=float, default=5.0, help="seconds without descriptors (5)")
    parser.add_argument("--wait", type=float, default=35.0, help="seconds until drippers must be cut (35)")
    parser.add_argument("--idle", type=int, default=10_000)
    parser.add_argument("--heads", type=int, default=2000)
    parser.add_argument("--bodies", type=int, default=500)
    parser.add_argument("--readers", type=int, default=500)
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--client-core", type=int, default=1)
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for scenario in options.scenario.split(","):
        for name in options.servers.split(","):
            print(f"{scenario} {name}: {SCENARIOS[scenario](SERVERS[name], options)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
