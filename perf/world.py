"""What slow.py, victims.py, overload.py and threads.py share: the servers, their options, one application.

The peers live in the environment that compare.py makes; every server runs on its Python.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import random
from typing import Any

from running import HERE, ROOT, free_port, machine

__all__ = [
    "HELLO",
    "SERVERS",
    "Seen",
    "Server",
    "app",
    "compare_servers",
    "environment",
    "free",
    "goal",
    "prepare",
    "questions",
]

free = free_port
HELLO = b"Hello, World!"
SIZE = 10_000_000
BIG = b"x" * SIZE
BLOCK = 65536


def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Many kinds of work by path: /, /big, /fresh, /blocks, /cpu/MS, /sleep/MS, /mix."""
    _, kind, *rest = environ["PATH_INFO"].split("/")
    body = HELLO
    if kind == "big":  # the same object for everybody
        body = BIG
    elif kind == "fresh":  # ten megabytes of memory for each
        body = b"x" * SIZE
    elif kind == "blocks":
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(SIZE))])
        return (b"x" * min(BLOCK, SIZE - done) for done in range(0, SIZE, BLOCK))
    elif kind == "cpu":
        burn(float(rest[0]) / 1000)
    elif kind == "sleep":
        time.sleep(float(rest[0]) / 1000)
    elif kind == "mix":
        dice = random()
        if dice < 0.02:
            time.sleep(0.2)
        elif dice < 0.03:
            burn(0.05)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def burn(seconds: float) -> None:
    """Use the processor, by the thread's own clock: a busy machine does not make the work less."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        sum(range(100))


@dataclass(frozen=True)
class Server:
    """How a server is started: (bin directory of the peers, target, threads, port) to a command."""

    name: str
    make: Callable[[str, str, int, int], list[str]]

    def command(self, bin_: Path | None, target: str, threads: int, port: int) -> list[str]:
        return self.make(f"{bin_}/" if bin_ else "", target, threads, port)


def _threadcorn(bin_: str, target: str, threads: int, port: int) -> list[str]:
    count = str(threads) if threads else "auto"
    return [f"{bin_}python", "-m", "threadcorn", "-b", f"127.0.0.1:{port}", "--threads", count,
            "--worker-connections", "20000", target]  # fmt: skip


def _gunicorn(bin_: str, target: str, threads: int, port: int) -> list[str]:
    return [f"{bin_}python", "-m", "gunicorn", "-b", f"127.0.0.1:{port}", "-k", "gthread", "--threads",
            str(threads or 8), "--worker-connections", "20000", "--keep-alive", "75", target]  # fmt: skip


def _granian(bin_: str, target: str, threads: int, port: int) -> list[str]:
    return [f"{bin_}granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(port), "--workers",
            "1", "--blocking-threads", str(threads or 8), "--backpressure", "20000", target]  # fmt: skip


def _waitress(bin_: str, target: str, threads: int, port: int) -> list[str]:
    return [f"{bin_}python", str(HERE / "serve_waitress.py"), target, str(threads or 8), str(port), "20000"]


SERVERS = {
    server.name: server
    for server in (
        Server("threadcorn", _threadcorn),
        Server("gunicorn", _gunicorn),
        Server("granian", _granian),
        Server("waitress", _waitress),
    )
}


def environment(server: Server) -> dict[str, str]:
    """Nothing of the person's own settings."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "THREADCORN_", "GUNICORN_"))}
    own = [str(ROOT)] if server.name == "threadcorn" else []
    env["PYTHONPATH"] = os.pathsep.join([str(HERE), *own])
    return env


# --- what the commands have in common


def questions(doc: str | None, **defaults: Any) -> argparse.ArgumentParser:
    """The options of every command. `defaults` are those of --rounds and --duration."""
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    parser.add_argument("--servers", default=",".join(SERVERS), help=f"of {', '.join(SERVERS)} (all)")
    parser.add_argument("--rounds", type=int, default=defaults["rounds"], help="%(default)s")
    parser.add_argument("--duration", type=float, default=defaults["duration"], help="seconds (%(default)s)")
    parser.add_argument("--python", default=sys.executable, help="the Python that all servers run on")
    parser.add_argument("--peers", type=Path, help="directory of the peers' environment (a cache directory)")
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--client-core", type=int, default=1)
    return parser


def prepare(options: argparse.Namespace) -> None:
    """Make the peers' environment and say where the numbers were taken."""
    from compare import make_peers

    options.bin = make_peers(options.peers, options.python)
    about = machine()
    print(f"{about['cores']} cores, {about['processor']}, load {about['load']:.2f}, {options.rounds} rounds")


def turns(names: Sequence[str], rounds: int) -> Iterable[tuple[int, str]]:
    """(round, name): all in turn, another one first in each round."""
    for number in range(rounds):
        first = number % len(names)
        for name in (*names[first:], *names[:first]):
            yield number, name


@dataclass
class Seen:
    """What one run showed: by name, so that runs can be compared."""

    text: str
    numbers: dict[str, float] = field(default_factory=dict)


def compare_servers(
    title: str,
    options: argparse.Namespace,
    run: Callable[[Server, argparse.Namespace], Seen],
    judge: Callable[[list[Seen], argparse.Namespace], None],
) -> None:
    """Run a scenario with every server in turn, tell each, and judge ours."""
    own = []
    for number, name in turns(options.servers.split(","), options.rounds):
        seen = run(SERVERS[name], options)
        print(f"{title} round {number + 1} {name}: {seen.text}", flush=True)
        if name == "threadcorn":
            own.append(seen)
    if own:
        judge(own, options)


def goal(reached: bool, text: str) -> bool:
    """Say whether a goal was reached."""
    print(f"{'reached' if reached else 'MISSED':<8} {text}", flush=True)
    return reached
