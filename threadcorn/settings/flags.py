"""The command line, derived from the table: a parser, the help by section, and argv to a layer.

argparse only takes the words apart. Values are judged by the rows' own parsers, so that the command
line, the environment and the config file know the same notations and are reported on together.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from threadcorn.errors import ConfigError
from threadcorn.settings.foreign import FOREIGN
from threadcorn.settings.rows import Row, Section
from threadcorn.settings.sources import Given, Layer, Origin, Source, nearest
from threadcorn.settings.table import ROWS

__all__ = ["CommandLine", "build_parser", "default_text", "parse_argv"]

# The words of argparse for the two mistakes that it alone can see.
_VALUE_GIVEN = re.compile(r"argument (\S+): ignored explicit argument (.*)")
_VALUE_MISSING = re.compile(r"argument (\S+): expected one argument")

USAGE = "%(prog)s [OPTIONS] [MODULE:APP]"

DESCRIPTION = "Serve a WSGI application."

EPILOG = (
    "Times are written 30, 30s or 5m, sizes 65536, 64k or 1m. Every option has a variable "
    "(THREADCORN_WORKERS for --workers) and a name in the config file (workers). The stronger wins: "
    "command line, THREADCORN_CMD_ARGS, config file, environment."
)


@dataclasses.dataclass(slots=True)
class CommandLine:
    """One argv, taken apart."""

    origin: Origin
    layer: Layer
    positional: list[str] | None
    namespace: argparse.Namespace
    help: bool = False
    version: bool = False


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # argparse would print its usage and exit at the first mistake.
        if match := _VALUE_GIVEN.fullmatch(message):
            raise ConfigError(f"{match[1]}: it takes no value; leave {match[2]} out")
        if match := _VALUE_MISSING.fullmatch(message):
            raise ConfigError(f"{match[1]}: its value is missing (see {self.prog} --help)")
        raise ConfigError(f"{message} (see {self.prog} --help)")


def build_parser(prog: str = "threadcorn", usage: str | None = None) -> argparse.ArgumentParser:
    # Without abbreviations: --work would change its meaning with the next row of the table.
    parser = _Parser(
        prog=prog,
        usage=usage or USAGE,
        description=DESCRIPTION,
        epilog=EPILOG,
        add_help=False,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=30),
    )
    parser.add_argument("args", nargs="*", metavar="MODULE:APP", help=argparse.SUPPRESS, default=[])
    about = parser.add_argument_group("About")
    about.add_argument("-h", "--help", action="store_true", help="Show this help and exit.")
    about.add_argument("-v", "--version", action="store_true", help="Show the version and exit.")
    for section in Section:
        group = parser.add_argument_group(section.value)
        for row in ROWS.values():
            if row.section is section and row.flags:
                _add_row(group, row)
    for name, foreign in FOREIGN.items():
        if foreign.flags:
            action: dict[str, Any] = {"action": "append", "nargs": "?", "const": "true"}
            if foreign.switch:
                action = {"action": "append_const", "const": True}
            parser.add_argument(*foreign.flags, dest=name, help=argparse.SUPPRESS, **action)
    return parser


def _add_row(group: argparse._ArgumentGroup, row: Row) -> None:
    text = argparse.SUPPRESS if row.hidden else f"{row.help}{default_text(row)}".replace("%", "%%")
    if row.type == "bool":
        # The help shows the flag that changes something; the other one undoes what a file or variable set.
        no = [f"--no-{flag[2:]}" for flag in row.flags if flag.startswith("--")]
        for flags, value in ((row.flags, True), (no, False)):
            shown = text if value is not row.default else argparse.SUPPRESS
            if value is False and row.default is True:
                shown = shown.replace(row.help, f"Switch this off: {row.help}", 1)
            group.add_argument(*flags, dest=row.name, action="append_const", const=value, help=shown)
        return
    metavar = row.metavar or _METAVARS.get(row.unit, "N" if "int" in row.type else "TEXT")
    if row.choices:
        metavar = "{" + ",".join(row.choices) + "}"
    # gunicorn's --proxy-protocol may stand alone.
    bare: dict[str, Any] = {"nargs": "?", "const": row.bare} if row.bare else {}
    group.add_argument(*row.flags, dest=row.name, action="append", metavar=metavar, help=text, **bare)


_METAVARS = {"seconds": "TIME", "bytes": "SIZE", "bytes/second": "SIZE"}


def default_text(row: Row) -> str:
    """The default as a person would write it, in brackets; '' where the help's own words say it."""
    if row.type == "bool" or row.default is None or row.default == () or row.arity:
        return ""
    return f" [{written(row, row.default)}]"


def written(row: Row, value: Any) -> str:
    """A value as it would stand on the command line."""
    if row.type.startswith("tuple"):
        return ", ".join(value)
    if row.unit.startswith("bytes") and value:
        for letter, factor in (("g", 1 << 30), ("m", 1 << 20), ("k", 1 << 10)):
            if value % factor == 0:
                return f"{value // factor}{letter}"
    return f"{value:g}s" if isinstance(value, float) else str(value)


def parse_argv(argv: Sequence[str], source: Source, place: str = "", prog: str = "threadcorn") -> CommandLine:
    """argv to a layer. Unknown flags and stray words are problems of the layer."""
    origin = Origin(source, place)
    parser = build_parser(prog)
    layer = Layer()
    try:
        namespace, extra = parser.parse_known_args(list(argv))
    except ConfigError as error:
        layer.problems += [f"{problem} ({origin})" for problem in error.problems]
        return CommandLine(origin, layer, None, argparse.Namespace(args=[]))
    values = vars(namespace)
    for name, row in ROWS.items():
        if name in values:
            layer.given.append(Given(name, _flag_used(argv, row.flags), _one(row, values[name]), origin))
    for name, foreign in FOREIGN.items():
        if name in values:
            layer.given.append(Given(name, _flag_used(argv, foreign.flags), values[name][-1], origin))
    unknown = [word for word in extra if word.startswith("-") and word != "-"]
    layer.problems += [f"{_unknown_flag(word)} ({origin})" for word in unknown]
    # After an unknown flag nobody knows whether a word is its value.
    positional = None if unknown else [*values["args"], *extra]
    return CommandLine(origin, layer, positional, namespace, "help" in values, "version" in values)


def _one(row: Row, given: list[Any]) -> Any:
    return given if row.type.startswith("tuple") else given[-1]


def _flag_used(argv: Sequence[str], flags: tuple[str, ...]) -> str:
    words = {word.partition("=")[0] for word in argv}
    return next((flag for flag in flags if flag in words), flags[-1] if len(flags) == 1 else flags[1])


def _unknown_flag(word: str) -> str:
    flag = word.partition("=")[0]
    rows = (known for row in ROWS.values() if not row.hidden for known in row.flags)
    close = nearest(flag, (known for known in rows if known.startswith("--")), 0.7)
    advice = f"did you mean {close}?" if close else "see threadcorn --help"
    return f"unknown option {flag}; {advice}"
