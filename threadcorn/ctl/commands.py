"""What can be asked and ordered. Each command answers its exit code, the data, and the data as text."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from threadcorn.ctl.peer import NO, OK, PAUSE, USAGE, Facts, Server, Trouble
from threadcorn.ctl.words import recent, request_table, screen, seconds, who, worker_table
from threadcorn.system.poller import Waiter
from threadcorn.system.signals import Sig, SignalReader

__all__ = ["COMMANDS", "Outcome"]

Outcome = tuple[int, Any, str]


def _status(server: Server, args: argparse.Namespace) -> Outcome:
    facts = server.ask("server")
    ready = "ready" if facts["ready"] else "NOT READY: " + "; ".join(facts["reasons"])
    workers = f"{facts['workers_ready']} of {facts['workers_wanted']} workers ready"
    where = ", ".join(facts["addresses"])
    lines = [
        f"threadcorn {facts['version']}: {facts['phase']}, {workers}, {ready}",
        f"up {seconds(facts['uptime'])}, generation {facts['generation']}, at {where}",
        f"{facts['requests']} requests, {facts['errors']} errors",
        recent(facts["recent"]),
    ]
    lines += [
        f"{name}: " + ", ".join(f"{what} {n}" for what, n in sorted(facts[name].items()))
        for name in ("exits", "recycles")
        if facts[name]
    ]
    shed = ", ".join(f"{why} {n}" for why, n in facts["shed"].items() if n)
    lines += [f"refused for overload: {shed}"] if shed else []
    lines += [f"NOTE: {note}" for note in facts["notes"]]
    return (OK if facts["ready"] else NO), facts, "\n".join(lines)


def _workers(server: Server, args: argparse.Namespace) -> Outcome:
    rows = server.ask("workers")
    return OK, rows, worker_table(rows)


def _requests(server: Server, args: argparse.Namespace) -> Outcome:
    rows = server.ask("requests")
    known = {
        (report["pid"], thread["number"]): thread
        for report in server.reports()
        for thread in report.get("threads", ())
    }
    for row in rows:
        thread = known.get((row["pid"], row["thread"]), {})
        row["verdict"] = thread.get("verdict", "does not answer" if not thread else "ended")
        row["top"] = thread.get("top", "")
    return OK, rows, request_table(rows)


def _stacks(server: Server, args: argparse.Namespace) -> Outcome:
    reports = server.reports()
    lines = []
    for report in reports:
        lines.append(who(report))
        # Those that run something first: it is what one looks for.
        for thread in sorted(report.get("threads", ()), key=lambda one: not one["running"]):
            what = thread.get("verdict", "leads" if thread["leads"] else "parked")
            lines.append(f"  thread {thread['number']}: {what}")
            lines += [f"    {line}" for entry in thread["stack"] for line in entry.rstrip().splitlines()]
    return OK, reports, "\n".join(lines) or "no worker is ready"


def _why(server: Server, args: argparse.Namespace) -> Outcome:
    reports: list[Facts] = [{"why": []} | report for report in server.reports()]
    for report in reports:
        report.pop("threads", None)
    lines = []
    for report in reports:
        lines.append(who(report))
        lines += [f"  {time.strftime('%H:%M:%S', time.localtime(at))} {text}" for at, text in report["why"]]
        if not report["why"] and "error" not in report:
            lines.append("  no decision so far")
    return OK, reports, "\n".join(lines) or "no worker is ready"


def _scale(server: Server, args: argparse.Namespace) -> Outcome:
    facts = server.ask("scale", workers=args.workers)
    return OK, facts, f"{facts['workers_wanted']} workers (were {facts['before']})"


def _threads(server: Server, args: argparse.Namespace) -> Outcome:
    facts = server.ask("threads", threads=args.threads)
    return OK, facts, f"{facts['threads']} threads in each of {len(facts['told'])} workers"


def _reload(server: Server, args: argparse.Namespace) -> Outcome:
    begun = server.ask("reload")
    generation = begun["generation"]
    if not args.wait:
        return OK, begun, f"reload begun: generation {generation}"
    until = time.monotonic() + args.timeout
    while time.monotonic() < until:
        last = server.ask("reloaded", generation=generation)
        if last:
            if last["ok"]:
                code = ", with the code of the start (preload_app)" if last["preloaded"] else ""
                return OK, last, f"generation {last['generation']} serves{code}"
            text = f"reload to generation {generation} failed: {last['cause']}\n{last['text']}"
            return NO, last, text.rstrip()
        time.sleep(PAUSE)
    return NO, {"ok": False, "cause": "not over in time"}, f"not over within {args.timeout:g} s"


def _recycle(server: Server, args: argparse.Namespace) -> Outcome:
    facts = server.ask("recycle", slot=args.slot)
    return OK, facts, f"worker {facts['pid']} will be replaced"


def _drain(server: Server, args: argparse.Namespace) -> Outcome:
    return OK, server.ask("drain"), "workers drain; the sockets stay open (scale N brings workers back)"


def _stop(server: Server, args: argparse.Namespace) -> Outcome:
    return OK, server.ask("stop", quick=args.quick), "stopping"


def _config(server: Server, args: argparse.Namespace) -> Outcome:
    facts = server.ask("config")
    return OK, facts, "\n".join(f"{name} = {value!r}" for name, value in facts.items())


def _top(server: Server, args: argparse.Namespace) -> Outcome:
    if args.once or args.json or sys.stdout is None or not sys.stdout.isatty():
        facts = server.ask("status")
        return OK, facts, screen(facts, None, 0.0)
    try:
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text
    except ImportError:
        raise Trouble("top needs rich (pip install 'threadcorn[top]'); top --once does not", USAGE) from None
    before: Facts | None = None
    # Not as an exception: one that strikes while Python ends some object would be dropped.
    signals = SignalReader((Sig.SIGINT, Sig.SIGTERM))
    waiter = Waiter()
    waiter.watch(signals.fileno())
    try:
        with Live(console=Console(), screen=True, auto_refresh=False) as live:
            while True:
                facts = server.ask("status")
                live.update(Text(screen(facts, before, args.interval)), refresh=True)
                before = facts
                if waiter.wait(args.interval):
                    break
    finally:
        signals.close()
    return OK, None, ""


COMMANDS: Mapping[str, tuple[Callable[[Server, argparse.Namespace], Outcome], str]] = {
    "status": (_status, "is it well? (exit code 1 if not ready)"),
    "workers": (_workers, "every worker: threads, load, memory, verdict"),
    "requests": (_requests, "what runs now, for how long, where, and whether it burns CPU or waits"),
    "stacks": (_stacks, "the stack of every thread"),
    "why": (_why, "why there are so many threads: the decisions with their numbers"),
    "scale": (_scale, "set the number of workers"),
    "threads": (_threads, "set the number of threads of every worker"),
    "reload": (_reload, "reload configuration and application, as HUP does"),
    "recycle": (_recycle, "replace the worker in a slot; its successor serves first"),
    "drain": (_drain, "drain all workers, but stay"),
    "stop": (_stop, "stop the server"),
    "config": (_config, "the settings in force"),
    "top": (_top, "a live screen"),
}
