"""From all sources to one `Config`. Pure: the environment and the config file come as parameters."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence

from threadcorn.settings.config import Config
from threadcorn.settings.flags import CommandLine, parse_argv
from threadcorn.settings.sources import CMD_ARGS, Given, Layer, Source

__all__ = ["ReadFile", "Sources"]

# Reads the config file that was named, or finds one if the name is None.
ReadFile = Callable[[str | None], Layer]


class Sources:
    """The two command lines: the real one, and the one in the environment."""

    def __init__(self, environ: Mapping[str, str], argv: Sequence[str], prog: str = "threadcorn") -> None:
        self.cmd_args = _cmd_args(environ, prog)
        self.command_line = parse_argv(argv, Source.COMMAND_LINE, prog=prog)

    def fill(self, cfg: Config, read_file: ReadFile, *, words_are_ours: bool = True) -> None:
        """Config file and command lines into `cfg`, which has the environment's values already.

        `words_are_ours`: what stands on a command line without a dash names the application. It does not in
        a program with a command line of its own (`manage.py serve 8000`).
        """
        strong = (self.command_line, self.cmd_args)
        named = next((path for one in strong if (path := one.layer.last("config"))), cfg.config)
        cfg.apply(read_file(named), self.cmd_args.layer, self.command_line.layer)
        named_by = [(one.positional, one.origin) for one in strong if one.positional and words_are_ours]
        for words, origin in reversed(named_by):  # the stronger last
            if len(words) > 1:
                cfg.problems.append(f"one application at a time, got {' and '.join(words)} ({origin})")
            cfg.apply(Layer([Given("wsgi_app", "MODULE:APP", words[0], origin)]))


def _cmd_args(environ: Mapping[str, str], prog: str) -> CommandLine:
    # Ours replaces gunicorn's: a machine that runs both can give each its own.
    name = next((name for name in CMD_ARGS if environ.get(name, "").strip()), CMD_ARGS[0])
    try:
        words = shlex.split(environ.get(name, ""))
    except ValueError as error:
        empty = parse_argv([], Source.CMD_ARGS, name, prog)
        empty.layer.problems.append(f"{name}: cannot be split into words: {error}")
        return empty
    return parse_argv(words, Source.CMD_ARGS, name, prog)
