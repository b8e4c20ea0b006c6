"""`--threads auto` against fixed sizes, for kinds of work that want different ones; the mix against peers.

    python perf/threads.py                           every kind of work, sizes 1 to 32 and auto
    python perf/threads.py --work mix --servers threadcorn,gunicorn,granian,waitress
    python perf/threads.py --work changing           ten seconds of each kind, one after the other

Every run is told as requests a second; a size is compared with the best fixed one of the same round.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from running import Load, Running, drive, running
from world import SERVERS, environment, free

WORK = {
    "cpu": "/cpu/2",
    "sleep1": "/sleep/1",
    "sleep10": "/sleep/10",
    "sleep100": "/sleep/100",
    "mix": "/mix",
}
SIZES = (1, 2, 4, 8, 16, 32)
AUTO = 0
CONNECTIONS = 32


def load(server: Running, work: str, options: argparse.Namespace, seconds: float) -> Load:
    return drive(server, WORK[work], seconds=seconds, connections=CONNECTIONS, core=options.client_core)


def measure(name: str, size: int, works: list[str], options: argparse.Namespace, warm: bool) -> list[Load]:
    """One server, one size, one kind of work after the other."""
    server = SERVERS[name]
    port = free()
    command = server.command(options.bin, "world:app", size, port)
    if name == "threadcorn":
        # A fixed size may be far too small on purpose; what waits must not be refused here.
        command[-1:-1] = ["--queue-target", "0"]
    with running(command, port=port, env=environment(server), core=options.server_core) as process:
        if warm:
            load(process, works[0], options, 3)
        return [load(process, work, options, options.duration) for work in works]


def label(size: int) -> str:
    return "auto" if size == AUTO else str(size)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--work", default=",".join(WORK), help=f"{', '.join(WORK)}, changing")
    parser.add_argument("--servers", default="threadcorn")
    parser.add_argument("--sizes", default=",".join(map(label, (*SIZES, AUTO))))
    parser.add_argument("--bin", type=Path, help="bin directory of the peers' environment")
    parser.add_argument("--duration", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--client-core", type=int, default=1)
    options = parser.parse_args()
    sizes = [AUTO if text == "auto" else int(text) for text in options.sizes.split(",")]
    for work in options.work.split(","):
        works = list(WORK) if work == "changing" else [work]
        found: dict[tuple[str, int], list[list[Load]]] = {}
        for _ in range(options.rounds):
            for name in options.servers.split(","):
                for size in sizes if name == "threadcorn" else [s for s in sizes if s != AUTO]:
                    runs = measure(name, size, works, options, warm=work != "changing")
                    found.setdefault((name, size), []).append(runs)
        for index, part in enumerate(works):
            rates = {
                key: statistics.median(runs[index].rate for runs in rounds) for key, rounds in found.items()
            }
            best = max((rate for (_, size), rate in rates.items() if size != AUTO), default=0.0)
            print(f"{work} {part}:" if len(works) > 1 else f"{part}:")
            for (name, size), rate in rates.items():
                rounds = found[name, size]
                p99 = statistics.median(runs[index].p99 for runs in rounds) * 1e3
                errors = sum(runs[index].errors for runs in rounds)
                share = f"{rate / best:.0%} of the best fixed size" if best else ""
                print(
                    f"  {name:<11}{label(size):>5} threads {rate:9.0f}/s  p99 {p99:7.1f} ms  "
                    f"{errors} errors  {share}",
                    flush=True,
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
