"""threadcornctl: the other end of the control socket.

    threadcornctl [-s SOCKET] [--json] COMMAND

Exit codes: 0 done; 1 the server says no (not ready, reload failed, refused); 2 the command line is wrong;
3 nobody answers at the socket; 130 a Ctrl-C before it was done.
"""

from __future__ import annotations

import argparse
import errno
import io
import json
import os
import socket
import stat
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from threadcorn.logs import printable
from threadcorn.system.poller import Waiter
from threadcorn.system.signals import Sig, SignalReader

__all__ = ["main"]

OK, NO, USAGE, NOBODY = 0, 1, 2, 3
INTERRUPTED = 130  # as the shell has it for SIGINT
#: Seconds to wait for an answer, and for the workers' reports.
PATIENCE = 10.0
REPORTS = 3.0
PAUSE = 0.05

Facts = dict[str, Any]

_WHY_NOBODY = {
    errno.ENOENT: "there is no such socket; does the server run, and with this --control-socket?",
    errno.ECONNREFUSED: "no server is behind it (any more)",
    errno.EACCES: "permission denied; only root and the server's own user may ask",
}


class Trouble(Exception):
    """What to say, and the exit code."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


class Server:
    """A connection to the control socket."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(PATIENCE)
        self._rest = b""
        try:
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            why = _WHY_NOBODY.get(error.errno or 0, error.strerror or str(error))
            if os.path.exists(path) and not stat.S_ISSOCK(os.stat(path).st_mode):
                why = "it is not a socket"
            raise Trouble(f"nobody answers at {path}: {why}", NOBODY) from error

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, command: str, **args: Any) -> Any:
        """The data of the answer. Raises Trouble."""
        try:
            self._socket.sendall(json.dumps({"command": command, "args": args}).encode() + b"\n")
            while b"\n" not in self._rest:
                data = self._socket.recv(65536)
                if not data:
                    raise ConnectionResetError
                self._rest += data
        except ConnectionError as error:
            who = "it has ended, or you are neither root nor its user"
            raise Trouble(f"the server at {self._path} has closed the connection: {who}", NOBODY) from error
        except OSError as error:
            raise Trouble(f"the server at {self._path} does not answer: {error}", NOBODY) from error
        line, _, self._rest = self._rest.partition(b"\n")
        try:
            answer = json.loads(line)
            if answer["ok"]:
                return answer["data"]
            refusal = str(answer["error"])
        except (ValueError, LookupError, TypeError) as error:
            text = f"what answers at {self._path} is not threadcorn's control socket"
            raise Trouble(text, NOBODY) from error
        raise Trouble(refusal, NO)

    def reports(self) -> list[Facts]:
        """What the threads of all workers do. One that is wedged has an `error` in place of `threads`."""
        asked, until = self.ask("ask"), time.monotonic() + REPORTS
        found: list[Facts] = []
        while len(found) < len(asked["asked"]) and time.monotonic() < until:
            time.sleep(PAUSE)
            found = self.ask("report", token=asked["token"])
        heard = {report["pid"] for report in found}
        found += [who | {"error": "does not answer"} for who in asked["asked"] if who["pid"] not in heard]
        return sorted(found, key=lambda report: (report["slot"], report["pid"]))


# -- text ----------------------------------------------------------------------------------------------


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in (heads, *rows)) for i in range(len(heads))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
                     for row in (heads, *rows))  # fmt: skip


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    if 0 < value < 0.001:
        return f"{value * 1e6:.0f}us"
    if value < 1:
        return f"{value * 1000:.0f}ms"
    if value < 120:
        return f"{value:.1f}s"
    minutes, seconds = divmod(int(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{seconds:02}s"


def _size(value: int | None) -> str:
    return "-" if value is None else f"{value / (1 << 20):.0f}M"


# -- commands: each answers (exit code, data, text) ---------------------------------------------------------

Outcome = tuple[int, Any, str]


def _status(server: Server, args: argparse.Namespace) -> Outcome:
    facts = server.ask("server")
    ready = "ready" if facts["ready"] else "NOT READY: " + "; ".join(facts["reasons"])
    workers = f"{facts['workers_ready']} of {facts['workers_wanted']} workers ready"
    where = ", ".join(facts["addresses"])
    lines = [
        f"threadcorn {facts['version']}: {facts['phase']}, {workers}, {ready}",
        f"up {_seconds(facts['uptime'])}, generation {facts['generation']}, at {where}",
        f"{facts['requests']} requests, {facts['errors']} errors",
        _recent(facts["recent"]),
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


def _recent(facts: Facts) -> str:
    app, wait = facts["app"], facts["ready_wait"]
    return (
        f"last {_seconds(facts['seconds'])}: {app['count'] / max(0.1, facts['seconds']):.1f} requests/s, "
        f"application p50 {_seconds(app['p50'])} p99 {_seconds(app['p99'])}, "
        f"wait p50 {_seconds(wait['p50'])} p99 {_seconds(wait['p99'])}"
    )


_WORKER_COLUMNS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("SLOT", "slot", str),
    ("PID", "pid", str),
    ("GEN", "generation", str),
    ("STATE", "state", str),
    ("UP", "uptime", _seconds),
    ("MODE", "mode", str),
    ("THR", "threads", str),
    ("RUN", "running", str),
    ("WAIT", "waiting", str),
    ("OPEN", "open", str),
    ("REQS", "requests", str),
    ("ERR", "errors", str),
    ("OLDEST", "oldest", _seconds),
    ("CPU", "cpu_share", lambda v: "-" if v is None else f"{v * 100:.0f}%"),
    ("RSS", "rss", _size),
    ("PSS", "pss", _size),
    ("FDS", "fds", lambda v: "-" if v is None else str(v)),
    ("HEALTH", "verdict", lambda v: str(v or "-")),
)


def _workers(server: Server, args: argparse.Namespace) -> Outcome:
    return OK, (rows := server.ask("workers")), _worker_table(rows)


def _worker_table(rows: Sequence[Facts]) -> str:
    cells = [[show(row.get(key)) for _, key, show in _WORKER_COLUMNS] for row in rows]
    return _table([name for name, _, _ in _WORKER_COLUMNS], cells)


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
    return OK, rows, _request_table(rows)


def _request_table(rows: Sequence[Facts]) -> str:
    if not rows:
        return "nothing runs"
    heads = ["AGE", "SLOT", "PID", "THREAD", "REQUEST", "PEER"]
    cells = [
        [_seconds(row["age"]), str(row["slot"]), str(row["pid"]), str(row["thread"]),
         f"{row['method']} {row['path']}", row["peer"]]
        for row in rows
    ]  # fmt: skip
    if "verdict" in rows[0]:  # the workers were asked
        heads += ["IS", "AT"]
        for cell, row in zip(cells, rows, strict=True):
            cell += [row["verdict"], row["top"]]
    return _table(heads, cells)


def _who(report: Facts) -> str:
    trouble = f": {report['error']}" if "error" in report else ""
    return f"worker {report['pid']} (slot {report['slot']}){trouble}"


def _stacks(server: Server, args: argparse.Namespace) -> Outcome:
    reports = server.reports()
    lines = []
    for report in reports:
        lines.append(_who(report))
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
        lines.append(_who(report))
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
        return OK, facts, _screen(facts, None, 0.0)
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
                live.update(Text(_screen(facts, before, args.interval)), refresh=True)
                before = facts
                if waiter.wait(args.interval):
                    break
    finally:
        signals.close()
    return OK, None, ""


def _screen(facts: Facts, before: Facts | None, seconds: float) -> str:
    whole = facts["server"]
    rate = ""
    if before is not None and seconds > 0:
        rate = f", {(whole['requests'] - before['server']['requests']) / seconds:.0f} requests/s"
    head = f"threadcorn {whole['version']}  {whole['phase']}  up {_seconds(whole['uptime'])}"
    workers = f"{whole['workers_ready']}/{whole['workers_wanted']} workers"
    lines = [
        f"{head}  {workers}  {whole['requests']} requests{rate}",
        _recent(whole["recent"]),
        "" if whole["ready"] else "NOT READY: " + "; ".join(whole["reasons"]),
        *(f"NOTE: {note}" for note in whole["notes"]),
        _worker_table(facts["workers"]),
        "",
        _request_table(facts["requests"][:20]),
    ]
    return "\n".join(lines)


# -- the command line ----------------------------------------------------------------------------------

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


def _pause(text: str) -> float:
    """Seconds. Less than a tenth would be a load on a server that most likely has trouble already."""
    if not 0.1 <= float(text) <= 3600:
        raise argparse.ArgumentTypeError(f"{text} s; least is 0.1, most is 3600")
    return float(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="threadcornctl", description="Look into a running threadcorn, and steer it."
    )
    parser.add_argument("-s", "--socket", metavar="PATH", help="the control socket (--control-socket of the "
                        "server); default: $THREADCORN_CONTROL_SOCKET")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="answer as JSON")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    made = {
        name: commands.add_parser(name, help=text, description=text) for name, (_, text) in COMMANDS.items()
    }
    for one in made.values():
        # Behind the command as well: that is where people add it.
        one.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="answer as JSON")
    made["scale"].add_argument("workers", type=int)
    made["threads"].add_argument("threads", type=int)
    made["recycle"].add_argument("slot", type=int)
    made["reload"].add_argument("--wait", action="store_true", help="until it serves, or has failed (code 1)")
    made["reload"].add_argument("--timeout", type=float, default=300.0, help="seconds to wait at most")
    made["stop"].add_argument("--quick", action="store_true", help="do not let running requests finish")
    made["top"].add_argument("--once", action="store_true", help="print it once, as plain text")
    made["top"].add_argument("--interval", type=_pause, default=1.0, help="seconds between two looks")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The console command. The exit code."""
    args = _parser().parse_args(argv)
    path = args.socket or os.environ.get("THREADCORN_CONTROL_SOCKET", "")
    if not path:
        print("threadcornctl: name the control socket: -s PATH or THREADCORN_CONTROL_SOCKET", file=sys.stderr)
        return USAGE
    try:
        with Server(path) as server:
            code, data, text = COMMANDS[args.command][0](server, args)
    except Trouble as trouble:
        print(f"threadcornctl: {printable(str(trouble))}", file=sys.stderr)
        if args.json:
            _print(json.dumps({"error": str(trouble)}))
        return trouble.code
    except KeyboardInterrupt:
        return INTERRUPTED
    said = not text or _print(json.dumps(data) if args.json else text)
    return code if said else code or NO


def _print(text: str) -> bool:
    """False if it was not. An output may not know the letters of an application, a terminal obey them."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        print(printable(text), flush=True)
    except OSError as error:
        # Python would try again at its end, and say so in a way of its own.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # that is `| head`, who has seen enough
            print(f"threadcornctl: standard output: {error.strerror}", file=sys.stderr)
            return False
    return True


if __name__ == "__main__":
    sys.exit(main())
