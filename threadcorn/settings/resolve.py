"""From all sources to one `Config`. Pure: the environment and the config file come as parameters."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence

from threadcorn.settings.config import Config
from threadcorn.settings.flags import CommandLine, parse_argv
from threadcorn.settings.sources import CMD_ARGS, Given, Layer, Origin, Source, environment

__all__ = ["ReadFile", "Sources"]

# Reads the config file that was named, or finds one if the name is None.
ReadFile = Callable[[str | None], Layer]


class Sources:
    """What the sources say, from the weakest to the strongest."""

    def __init__(self, environ: Mapping[str, str], argv: Sequence[str], prog: str = "threadcorn") -> None:
        self.environment = environment(environ)
        self.cmd_args = _cmd_args(environ, prog)
        self.command_line = parse_argv(argv, Source.COMMAND_LINE, prog=prog)

    @property
    def application(self) -> str | None:
        """The positional argument."""
        return next(iter([*self.command_line.positional, *self.cmd_args.positional]), None)

    def fill(self, cfg: Config, read_file: ReadFile) -> None:
        """Apply every source to `cfg` in its order."""
        strong = (self.cmd_args.layer, self.command_line.layer)
        named = next(
            (path for layer in (*reversed(strong), self.environment) if (path := layer.last("config"))), None
        )
        cfg.apply(self.environment, read_file(named), *strong)
        if self.application is not None:
            origin = Origin(Source.COMMAND_LINE)
            cfg.apply(Layer([Given("wsgi_app", "MODULE:APP", self.application, origin)]))


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
