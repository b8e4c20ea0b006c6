"""`--threads auto` against fixed sizes, for kinds of work that want different ones; a mix against the peers.

    python perf/threads.py --work mix                2 % sleep 200 ms, 1 % burn 50 ms: beside the peers
    python perf/threads.py --work cpu                one kind of work: sizes 1 to 32, auto, the peers
    python perf/threads.py --work changing           all kinds, ten seconds each, one after the other

Every run is told as requests a second. auto is compared with the best fixed size of the same round, and its
decisions are counted: one that is taken back and forth in a load that stays the same is an oscillation.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from running import Load, Running, drive, running
from world import SERVERS, environment, free, goal, prepare, questions

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
#: What the peers, which need a number, run with.
PEERS = 8
OWN = "threadcorn"


@dataclass(frozen=True)
class Run:
    """One server with one size: a load for each kind of work, and how the number of threads went."""

    loads: list[Load]
    sizes: list[list[int]]  # after each decision that changed it, for each kind of work


def measure(name: str, size: int, works: list[str], options: argparse.Namespace) -> Run:
    port = free()
    command = SERVERS[name].command(options.bin, "world:app", size, port)
    if name == OWN:
        # A fixed size may be far too small on purpose; what waits must not be refused here.
        command[-1:-1] = ["--queue-target", "0", "--queue-timeout", "0", "--log-level", "debug"]
    with running(command, port=port, env=environment(SERVERS[name]), core=options.server_core) as process:

        def load(work: str, seconds: float) -> Load:
            return drive(
                process, WORK[work], seconds=seconds, connections=CONNECTIONS, core=options.client_core
            )

        if len(works) == 1:
            load(works[0], options.warm)
        loads, sizes = [], []
        for work in works:
            known = len(changes(process))
            loads.append(load(work, options.duration))
            sizes.append(changes(process)[known:])
        return Run(loads, sizes)


def changes(server: Running) -> list[int]:
    found = re.findall(r"threads (\d+) -> (\d+):", server.text())
    return [int(after) for before, after in found if before != after]


def turned(sizes: list[int]) -> int:
    """How often the number began to fall after it had risen, or the other way round."""
    steps = [after - before for before, after in pairwise(sizes)]
    return sum((one > 0) != (two > 0) for one, two in pairwise(steps))


def label(size: int) -> str:
    return "auto" if size == AUTO else str(size)


def tell(title: str, index: int, found: dict[tuple[str, int], list[Run]]) -> None:
    """One kind of work: a line for each server and size."""
    print(title)
    for (name, size), runs in found.items():
        loads = [run.loads[index] for run in runs]
        print(
            f"  {name:<11}{label(size):>5} threads {statistics.median(load.rate for load in loads):9.0f}/s"
            f"  p50 {statistics.median(load.p50 for load in loads) * 1e3:7.1f} ms"
            f"  p99 {statistics.median(load.p99 for load in loads) * 1e3:7.1f} ms"
            f"  {sum(load.errors for load in loads)} errors"
            f"{f'  sizes {[run.sizes[index] for run in runs]}' if size == AUTO else ''}",
            flush=True,
        )


def against_fixed(what: str, index: int, found: dict[tuple[str, int], list[Run]]) -> None:
    """auto over the best fixed size, of the same round."""
    fixed = [runs for (name, size), runs in found.items() if name == OWN and size != AUTO]
    auto = found.get((OWN, AUTO), [])
    if not fixed or not auto:
        return
    # The best by its median: the best of six noisy figures of each round would be noise's own size.
    best = max(fixed, key=lambda runs: statistics.median(run.loads[index].rate for run in runs))
    shares = [
        mine.loads[index].rate / other.loads[index].rate for mine, other in zip(auto, best, strict=True)
    ]
    turns = max(turned(run.sizes[index]) for run in auto)
    goal(
        statistics.median(shares) >= 0.9 and turns <= 1,
        f"{what}: auto reaches {statistics.median(shares):.0%} [{min(shares):.0%}..{max(shares):.0%}] of the "
        f"best fixed size, goal 90 %; it turned {turns} times",
    )


def against_peers(index: int, found: dict[tuple[str, int], list[Run]]) -> None:
    """threadcorn with the peers' number and with auto over the best of the peers, of the same round."""
    peers = [runs for (name, _), runs in found.items() if name != OWN]
    if not peers:
        return
    for size in (PEERS, AUTO):
        own = found.get((OWN, size))
        if own is None:
            continue
        rates, waits = [], []
        for number, run in enumerate(own):
            load = run.loads[index]
            others = [runs[number].loads[index] for runs in peers]
            rates.append(load.rate / max(other.rate for other in others))
            waits.append(load.p99 / min(other.p99 for other in others))
        goal(
            statistics.median(rates) >= 1 and statistics.median(waits) <= 1,
            f"{label(size)} threads: {statistics.median(rates):.2f} "
            f"[{min(rates):.2f}..{max(rates):.2f}] times the rate and {statistics.median(waits):.2f} "
            f"[{min(waits):.2f}..{max(waits):.2f}] times the p99 of the best of the peers, goal 1",
        )


def main() -> int:
    parser = questions(__doc__, rounds=3, duration=4.0)
    parser.add_argument("--work", default="mix", help=f"of {', '.join(WORK)}, changing (mix)")
    parser.add_argument("--sizes", default="", help="threadcorn's (1 to 32 and auto; mix: 8 and auto)")
    parser.add_argument("--warm", type=float, default=3.0, help="seconds of load before (3)")
    options = parser.parse_args()
    prepare(options)
    for work in options.work.split(","):
        works = list(WORK) if work == "changing" else [work]
        names = options.sizes or (f"{PEERS},auto" if work == "mix" else ",".join(map(label, (*SIZES, AUTO))))
        sizes = [AUTO if text == "auto" else int(text) for text in names.split(",")]
        entries = [
            (name, size)
            for name in options.servers.split(",")
            for size in (sizes if name == OWN else [PEERS])
        ]
        found: dict[tuple[str, int], list[Run]] = {entry: [] for entry in entries}
        for number in range(options.rounds):
            first = number * 2 % len(entries)
            for entry in (*entries[first:], *entries[:first]):
                found[entry].append(measure(*entry, works, options))
        for index, part in enumerate(works):
            tell(f"{work} {part}:" if len(works) > 1 else f"{part}:", index, found)
            against_fixed(part, index, found)
            if part == "mix":
                against_peers(index, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
