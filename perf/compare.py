"""threadcorn and its peers, side by side in one run: ratios with their spread.

    python perf/compare.py                                    everything: about ten minutes
    python perf/compare.py --scenario hello --rounds 5 --duration 4
    python perf/compare.py --servers threadcorn,granian --scenario django --json result.json

Each server has one worker and the scenario's number of threads, runs alone on one core and is driven by
wrk from another, in rounds that go through all servers in turn: what the machine does meanwhile hits
them all, and a ratio is always taken within a round. Rates depend on the machine; ratios hardly do, and
processor time per request even less.

The peers live in an environment of their own, which is made at the first run (pip, about a minute) and
kept in a cache directory. threadcorn itself comes from the checkout.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from running import HERE, ROOT, Cost, Load, drive, free_port, machine, need, running
from scenarios import SCENARIOS, Scenario

PEERS = (
    "gunicorn==27.0.1",
    "granian==2.8.7",
    "waitress==3.0.2",
    "flask==3.1.3",
    "django==5.2.19",
    # for threadcorn, which is run from the checkout
    "httptools==0.9.0",
    "psutil==7.2.2",
)

CONNECTIONS = 64


# --- servers: how each is started with one worker


def _threadcorn(bin_: Path, target: str, threads: int, port: int) -> list[str]:
    bind = f"127.0.0.1:{port}"
    return [
        str(bin_ / "python"),
        "-m",
        "threadcorn",
        "-b",
        bind,
        "-w",
        "1",
        "--threads",
        str(threads),
        target,
    ]


def _gunicorn(bin_: Path, target: str, threads: int, port: int) -> list[str]:
    flags = ["-b", f"127.0.0.1:{port}", "-w", "1", "-k", "gthread", "--threads", str(threads)]
    return [str(bin_ / "python"), "-m", "gunicorn", *flags, target]


def _granian(bin_: Path, target: str, threads: int, port: int) -> list[str]:
    flags = ["--interface", "wsgi", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    # Its back-pressure default admits fewer requests than there are threads to run them in a sleep.
    return [str(bin_ / "granian"), *flags, "--blocking-threads", str(threads), target]


def _waitress(bin_: Path, target: str, threads: int, port: int) -> list[str]:
    # Its default of 100 connections is above ours; a queue warning per request would be measured.
    return [str(bin_ / "python"), str(HERE / "serve_waitress.py"), target, str(threads), str(port)]


SERVERS: dict[str, Callable[[Path, str, int, int], list[str]]] = {
    "threadcorn": _threadcorn,
    "gunicorn": _gunicorn,
    "granian": _granian,
    "waitress": _waitress,
}


# --- goals: what the README promises


@dataclass(frozen=True)
class Goal:
    """threadcorn reaches at least `least` times `against` (or of what can be reached) in a scenario."""

    scenario: str
    against: str | None
    least: float


GOALS = (
    Goal("hello", "gunicorn", 9.0),
    Goal("hello", "granian", 0.7),
    Goal("django", "granian", 1.05),
    Goal("sleep", None, 0.95),
)


@dataclass(frozen=True)
class Result:
    """One server in one round of one scenario."""

    scenario: str
    server: str
    round: int
    load: Load
    cost: Cost

    @property
    def user(self) -> float:
        """Microseconds of processor time a request, outside the kernel."""
        return self.cost.user / max(self.load.requests, 1) * 1e6

    @property
    def kernel(self) -> float:
        return self.cost.kernel / max(self.load.requests, 1) * 1e6

    @property
    def switches(self) -> float:
        return (self.cost.voluntary + self.cost.involuntary) / max(self.load.requests, 1)


def make_peers(where: Path | None, python: str) -> Path:
    """The bin directory of the environment with the peers; made when it is not there."""
    version = subprocess.run(
        [python, "-c", "import sys; print(sys.version)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    ).stdout
    if where is None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        key = hashlib.sha256("\n".join([version, *PEERS]).encode()).hexdigest()[:12]
        where = cache / "threadcorn-perf" / key
    done = where / "complete"
    if not done.exists():
        print(f"making the peers' environment in {where}", file=sys.stderr)
        shutil.rmtree(where, ignore_errors=True)
        subprocess.run([python, "-m", "venv", str(where)], check=True, timeout=300)
        pip = [str(where / "bin" / "python"), "-m", "pip", "install", "--quiet", *PEERS]
        subprocess.run(pip, check=True, timeout=900)
        done.write_text("\n".join(PEERS), encoding="utf-8")
    return where / "bin"


def one(
    scenario: Scenario,
    name: str,
    round_: int,
    bin_: Path,
    *,
    seconds: float,
    cores: tuple[int | None, int | None],
) -> Result:
    """Start one server, see that it answers right, warm it, drive it, end it."""
    port = free_port()
    command = SERVERS[name](bin_, f"scenarios:{scenario.app}", scenario.threads, port)
    env = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("PYTHON", "THREADCORN_", "GUNICORN_"))
    }
    env["PYTHONPATH"] = os.pathsep.join([str(HERE), *([str(ROOT)] if name == "threadcorn" else [])])
    env["PATH"] = f"{bin_}{os.pathsep}{env.get('PATH', '')}"
    with running(command, port=port, env=env, core=cores[0], path=scenario.path) as server:
        body = server.get(scenario.path)
        if body != scenario.expect:
            sys.exit(f"{name} answers {body!r} to {scenario.name}, not {scenario.expect!r}")
        work = partial(
            drive,
            server,
            scenario.path,
            scenario.headers,
            connections=CONNECTIONS,
            core=cores[1],
            script=scenario.script,
        )
        work(seconds=1)
        before = server.cost()
        load = work(seconds=seconds)
        return Result(scenario.name, name, round_, load, server.cost() - before)


def ratios(results: Sequence[Result], scenario: str, server: str, against: str) -> list[float]:
    """Rate over rate, within each round."""
    rates = {(r.server, r.round): r.load.rate for r in results if r.scenario == scenario}
    rounds = sorted({round_ for _, round_ in rates})
    return [
        rates[server, n] / rates[against, n] for n in rounds if (server, n) in rates and (against, n) in rates
    ]


def spread(values: Sequence[float]) -> str:
    """The median, and the least and most beside it."""
    return f"{statistics.median(values):.2f} [{min(values):.2f}..{max(values):.2f}]" if values else "-"


def table(results: Sequence[Result], scenario: Scenario, servers: Sequence[str], baseline: str) -> str:
    """One scenario, one row a server."""
    lines = [
        f"{scenario.name}: {scenario.what}",
        (
            f"  {'server':<11}{'req/s':>9}  {'x ' + baseline:<21}{'user us':>8}{'kernel us':>10}"
            f"{'switches':>9}{'p50 ms':>8}{'p99 ms':>8}{'errors':>7}"
        ),
    ]
    for server in servers:
        mine = [r for r in results if r.scenario == scenario.name and r.server == server]
        if not mine:
            continue

        def middle(read: Callable[[Result], float], mine: Sequence[Result] = mine) -> float:
            return statistics.median(read(result) for result in mine)

        rate = middle(lambda r: r.load.rate)
        lines.append(
            f"  {server:<11}{rate:>9.0f}  {spread(ratios(results, scenario.name, server, baseline)):<21}"
            f"{middle(lambda r: r.user):>8.1f}{middle(lambda r: r.kernel):>10.1f}"
            f"{middle(lambda r: r.switches):>9.2f}{middle(lambda r: r.load.p50) * 1e3:>8.2f}"
            f"{middle(lambda r: r.load.p99) * 1e3:>8.2f}{sum(r.load.errors for r in mine):>7}"
        )
        if scenario.nap:
            lines[-1] += f"   {rate / (scenario.threads / scenario.nap):.1%} of threads / nap"
    return "\n".join(lines)


def judge(results: Sequence[Result]) -> list[str]:
    """The goals that this run can speak about."""
    lines = []
    for goal in GOALS:
        if goal.against is not None:
            values = ratios(results, goal.scenario, "threadcorn", goal.against)
            what = f"{goal.scenario}: threadcorn / {goal.against}"
        else:
            scenario = SCENARIOS[goal.scenario]
            best = scenario.threads / scenario.nap
            values = [
                r.load.rate / best
                for r in results
                if r.scenario == goal.scenario and r.server == "threadcorn"
            ]
            what = f"{goal.scenario}: threadcorn / what the threads can do"
        if values:
            word = "reached" if statistics.median(values) >= goal.least else "MISSED"
            lines.append(f"{word:<8} {what}: {spread(values)}, goal {goal.least:g}")
    return lines


def _names(text: str, known: Sequence[str]) -> list[str]:
    names = list(known) if text == "all" else text.split(",")
    for name in names:
        if name not in known:
            sys.exit(f"{name} is not one of {', '.join(known)}")
    return names


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--scenario", default="all", help=f"comma-separated: {', '.join(SCENARIOS)} (all)")
    parser.add_argument("--servers", default="all", help=f"comma-separated: {', '.join(SERVERS)} (all)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each pair is run (3)")
    parser.add_argument("--duration", type=float, default=3.0, help="seconds of load a run, whole ones (3)")
    parser.add_argument("--baseline", default="gunicorn", help="the server that is 1.0 (gunicorn)")
    parser.add_argument("--python", default=sys.executable, help="the Python that all servers run on")
    parser.add_argument("--peers", type=Path, help="directory of the peers' environment (a cache directory)")
    parser.add_argument("--server-core", type=int, default=0, help="core of the server; -1 for any (0)")
    parser.add_argument("--client-core", type=int, default=1, help="core of wrk; -1 for any (1)")
    parser.add_argument("--json", type=Path, help="write all results to this file")
    options = parser.parse_args()
    need("wrk", "wrk")
    scenarios = [SCENARIOS[name] for name in _names(options.scenario, list(SCENARIOS))]
    servers = _names(options.servers, list(SERVERS))
    cores: tuple[int | None, int | None] = (None, None)
    if options.server_core >= 0 and options.client_core >= 0 and (os.cpu_count() or 1) > 1:
        need("taskset", "util-linux")
        cores = (options.server_core, options.client_core)
    baseline = options.baseline if options.baseline in servers else servers[0]
    bin_ = make_peers(options.peers, options.python)
    about = {**machine(), "python": platform.python_version(), "connections": CONNECTIONS, "peers": PEERS}
    print(f"{about['cores']} cores, {about['processor']}, load {about['load']:.2f}, {options.rounds} rounds")
    results: list[Result] = []
    for scenario in scenarios:
        for round_ in range(options.rounds):
            # A different one begins each round: what comes first finds a cooler machine.
            turn = round_ % len(servers)
            for name in servers[turn:] + servers[:turn]:
                result = one(scenario, name, round_, bin_, seconds=options.duration, cores=cores)
                results.append(result)
                print(
                    f"  {scenario.name} round {round_ + 1} {name}: {result.load.rate:.0f}/s"
                    f"{f', {result.load.errors} ERRORS' if result.load.errors else ''}",
                    file=sys.stderr,
                )
        print(table(results, scenario, servers, baseline), flush=True)
    for line in judge(results):
        print(line)
    if options.json:
        runs = [{**asdict(r), "load": r.load.plain()} for r in results]
        options.json.write_text(
            json.dumps({"machine": about, "runs": runs}, indent=1) + "\n", encoding="utf-8"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
