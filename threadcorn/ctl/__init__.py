"""threadcornctl: the other end of the control socket.

    threadcornctl [-s SOCKET] [--json] COMMAND

Exit codes: 0 done; 1 the server says no (not ready, reload failed, refused); 2 the command line is wrong;
3 nobody answers at the socket; 130 a Ctrl-C before it was done.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Sequence

from threadcorn.ctl.commands import COMMANDS
from threadcorn.ctl.peer import INTERRUPTED, NO, USAGE, Server, Trouble
from threadcorn.logs import printable

__all__ = ["main", "parser"]


def _pause(text: str) -> float:
    """Seconds. Less than a tenth would be a load on a server that most likely has trouble already."""
    if not 0.1 <= float(text) <= 3600:
        raise argparse.ArgumentTypeError(f"{text} s; least is 0.1, most is 3600")
    return float(text)


def _patience(text: str) -> float:
    """Seconds. What is no number would never be over, or be over at once."""
    if not 0 <= float(text) < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} s; it must be a time")
    return float(text)


def parser() -> argparse.ArgumentParser:
    command_line = argparse.ArgumentParser(
        prog="threadcornctl", description="Look into a running threadcorn, and steer it."
    )
    command_line.add_argument("-s", "--socket", metavar="PATH", help="the control socket (--control-socket "
                              "of the server); default: $THREADCORN_CONTROL_SOCKET")  # fmt: skip
    command_line.add_argument("--json", action="store_true", help="answer as JSON")
    commands = command_line.add_subparsers(dest="command", required=True, metavar="COMMAND")
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
    made["reload"].add_argument("--timeout", type=_patience, default=300.0, help="seconds to wait at most")
    made["stop"].add_argument("--quick", action="store_true", help="do not let running requests finish")
    made["top"].add_argument("--once", action="store_true", help="print it once, as plain text")
    made["top"].add_argument("--interval", type=_pause, default=1.0, help="seconds between two looks")
    return command_line


def main(argv: Sequence[str] | None = None) -> int:
    """The console command. The exit code."""
    args = parser().parse_args(argv)
    path = args.socket or os.environ.get("THREADCORN_CONTROL_SOCKET", "")
    if not path:
        print("threadcornctl: name the control socket: -s PATH or THREADCORN_CONTROL_SOCKET", file=sys.stderr)
        return USAGE
    try:
        with Server(path.removeprefix("unix:")) as server:  # as the log writes it
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
