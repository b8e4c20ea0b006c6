"""Clients that do nothing, little, or too much, beside an honest load: what do the honest ones notice?

    python perf/slow.py --scenario idle           10,000 silent keep-alive connections, and what each costs
    python perf/slow.py --scenario drip           heads and bodies by the byte, answers read slowly
    python perf/slow.py --scenario burst          half heads and large answers that nobody reads, two threads
    python perf/slow.py --scenario descriptors    more connections than the server may open files

Every server has one worker and four threads. The rate and the p99 with the slow clients are compared with
those of the same server a moment before, without them. A scenario takes one to four minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from running import Load, Running, drive, running
from slow_clients import clients
from world import Seen, Server, compare_servers, environment, free, goal, prepare, questions

THREADS = 4
#: What the answers of a burst are made of: see the application in world.py.
ANSWERS = ("big", "fresh", "blocks")
#: Seconds after which a client of the burst's server gives up.
PATIENCE = 15.0


def result(process: subprocess.Popen[str]) -> list[int]:
    out, _ = process.communicate(timeout=60)
    return [int(word) for word in out.split()]


def resident(server: Running) -> int:
    """Bytes of memory of all its processes, shared pages counted once for each."""
    total = 0
    for pid in server.pids():
        with contextlib.suppress(OSError):
            total += int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * 4096
    return total


def kernel_memory() -> int:
    """Bytes that the kernel holds for TCP, of everybody."""
    for line in Path("/proc/net/sockstat").read_text(encoding="ascii").splitlines():
        if line.startswith("TCP:"):
            return int(line.split()[-1]) * resource.getpagesize()
    return 0


# --- the scenarios


def run_idle(server: Server, options: argparse.Namespace) -> Seen:
    with start(server, options) as process:
        load(process, options, 1)
        memory = resident(process)
        before = load(process, options)
        with clients("idle", process.port, options.idle, core=options.client_core) as silent_ones:
            grown = (resident(process) - memory) / options.idle
            beside = load(process, options)
            (open_,) = result(silent_ones)
        after = load(process, options)
        share = beside.rate / statistics.mean((before.rate, after.rate))
        return Seen(
            f"{before.rate:.0f}/s alone, {beside.rate:.0f}/s beside {open_} idle, {after.rate:.0f}/s after: "
            f"{share:.1%}; {grown:.0f} bytes a connection",
            {"share": share, "bytes": grown, "open": open_},
        )


def judge_idle(runs: list[Seen], options: argparse.Namespace) -> None:
    shares = [run.numbers["share"] for run in runs]
    goal(
        statistics.median(shares) >= 0.95,
        f"rate beside {options.idle} idle connections {statistics.median(shares):.1%} "
        f"[{min(shares):.1%}..{max(shares):.1%}] of that without them, goal 95 %",
    )
    most = max(run.numbers["bytes"] for run in runs)
    all_open = all(run.numbers["open"] == options.idle for run in runs)
    goal(most <= 4096 and all_open, f"{most:.0f} bytes of memory an idle connection, goal 4096; all open")


def run_drip(server: Server, options: argparse.Namespace) -> Seen:
    with start(server, options) as process:
        load(process, options, 1)
        before = load(process, options)
        memory, kernel = resident(process), kernel_memory()
        many = (options.heads, options.bodies, options.readers)
        with clients("drip", process.port, *many, core=options.client_core) as slow_ones:
            beside = load(process, options)
            grown, held = resident(process) - memory, kernel_memory() - kernel
            # What is too slow must be gone when its time-outs are over (20 s for heads, 30 s for bodies).
            load(process, options, options.wait)
            heads, bodies, lost = result(slow_ones)
        worse = beside.p99 / before.p99
        return Seen(
            f"{before.rate:.0f}/s, p99 {before.p99 * 1e3:.2f} ms alone; {beside.rate:.0f}/s, p99 "
            f"{beside.p99 * 1e3:.2f} ms ({worse:.2f} times) beside them, {beside.errors} errors; "
            f"cut: {heads} heads, {bodies} bodies, {lost} readers; "
            f"{grown / 1e6:.0f} MB more, {held / 1e6:.0f} in the kernel",
            {"worse": worse, "cut": heads + bodies, "lost": lost, "memory": grown, "errors": beside.errors},
        )


def judge_drip(runs: list[Seen], options: argparse.Namespace) -> None:
    worse = [run.numbers["worse"] for run in runs]
    goal(
        statistics.median(worse) <= 2 and not any(run.numbers["errors"] for run in runs),
        f"p99 beside {options.heads} dripping heads, {options.bodies} bodies, {options.readers} readers: "
        f"{statistics.median(worse):.2f} [{min(worse):.2f}..{max(worse):.2f}] times that alone, goal 2",
    )
    least = min(run.numbers["cut"] for run in runs)
    drippers = options.heads + options.bodies
    goal(least == drippers, f"{least:.0f} of {drippers} drippers were cut within {options.wait:g} s")
    most = max(run.numbers["memory"] for run in runs)
    goal(most < 300e6, f"{most / 1e6:.0f} MB of memory for them, goal 300 (buffer_limit is 256 MiB)")


def run_burst(server: Server, options: argparse.Namespace) -> Seen:
    numbers: dict[str, float] = {}
    words = []
    for kind, name in enumerate(ANSWERS):
        with start(server, options, threads=2) as process:
            memory = resident(process)
            with clients("burst", process.port, 200, kind, 200, core=options.client_core):
                first = wait(process)
                later = statistics.median(wait(process) for _ in range(5)) if first < PATIENCE else PATIENCE
                grown = resident(process) - memory
        numbers[f"first {name}"], numbers[f"later {name}"] = first, later
        words.append(f"{name}: {first * 1e3:.0f} ms, then {later * 1e3:.1f} ms ({grown / 1e6:.0f} MB)")
    return Seen("; ".join(words), numbers)


def wait(server: Running) -> float:
    """How long a new client waits for its answer (seconds)."""
    began = time.monotonic()
    try:
        server.get("/", within=PATIENCE)
    except (OSError, ValueError):
        return PATIENCE
    return time.monotonic() - began


def judge_burst(runs: list[Seen], _: argparse.Namespace) -> None:
    for name in ANSWERS:
        first = statistics.median(run.numbers[f"first {name}"] for run in runs)
        later = statistics.median(run.numbers[f"later {name}"] for run in runs)
        goal(later <= 0.05, f"{name}: once the 200 requests have run a new client waits {later * 1e3:.1f} ms")
        if name == "big":  # in the others it is the application that takes its time, and the disk
            goal(first <= 0.5, f"{name}: right behind them it waits {first * 1e3:.0f} ms")


def run_descriptors(server: Server, options: argparse.Namespace) -> Seen:
    with start(server, options, files=256) as process:
        lines = process.text().count("\n")
        with clients("silent", process.port, 600, core=options.client_core) as crowd:
            before = process.cost()
            time.sleep(options.full)
            cost = process.cost() - before
            (closed,) = result(crowd)
        share = (cost.user + cost.kernel) / options.full
        lines = process.text().count("\n") - lines
        began = time.monotonic()
        back = PATIENCE
        while time.monotonic() < began + PATIENCE:
            with contextlib.suppress(OSError, ValueError):
                process.get("/", within=1)
                back = time.monotonic() - began
                break
        return Seen(
            f"{share:.1%} of a processor in {options.full:g} s while full ({closed} clients were closed and "
            f"came again), {lines} log lines; "
            f"{f'back after {back:.2f} s' if back < PATIENCE else 'NOT back'}",
            {"share": share, "back": back, "lines": lines / options.full},
        )


def judge_descriptors(runs: list[Seen], options: argparse.Namespace) -> None:
    share = max(run.numbers["share"] for run in runs)
    goal(share < 0.05, f"{share:.1%} of a processor without descriptors for {options.full:g} s, goal 5 %")
    back = max(run.numbers["back"] for run in runs)
    goal(back <= 1, f"service is back after {back:.2f} s, goal 1")
    lines = max(run.numbers["lines"] for run in runs)
    goal(lines <= 1, f"{lines:.2f} log lines a second, goal 1")


SCENARIOS = {
    "idle": (run_idle, judge_idle),
    "drip": (run_drip, judge_drip),
    "burst": (run_burst, judge_burst),
    "descriptors": (run_descriptors, judge_descriptors),
}


def start(
    server: Server, options: argparse.Namespace, files: int = 0, threads: int = THREADS
) -> contextlib.AbstractContextManager[Running]:
    port = free()
    command = server.command(options.bin, "world:app", threads, port)
    if files:
        command = ["prlimit", f"--nofile={files}:{files}", *command]
    return running(command, port=port, env=environment(server), core=options.server_core)


def load(server: Running, options: argparse.Namespace, seconds: float = 0) -> Load:
    return drive(server, seconds=seconds or options.duration, connections=32, core=options.client_core)


def main() -> int:
    parser = questions(__doc__, rounds=1, duration=4.0)
    parser.add_argument("--scenario", default=",".join(SCENARIOS), help=f"of {', '.join(SCENARIOS)} (all)")
    parser.add_argument("--wait", type=float, default=35.0, help="seconds until drippers must be cut (35)")
    parser.add_argument("--full", type=float, default=10.0, help="seconds without descriptors (10)")
    parser.add_argument("--idle", type=int, default=10_000)
    parser.add_argument("--heads", type=int, default=2000)
    parser.add_argument("--bodies", type=int, default=500)
    parser.add_argument("--readers", type=int, default=500)
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    prepare(options)
    for scenario in options.scenario.split(","):
        run, judge = SCENARIOS[scenario]
        compare_servers(scenario, options, run, judge)
    return 0


if __name__ == "__main__":
    sys.exit(main())
