"""Where a value came from: the sources in their order, and the layers that they deliver."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

from threadcorn.settings.table import ALIASES, ROWS

__all__ = ["Given", "Layer", "Origin", "Source", "environment", "nearest"]

ENV_PREFIX = "THREADCORN_"

# Names with our prefix that are words between our own processes, no settings.
CMD_ARGS = ("THREADCORN_CMD_ARGS", "GUNICORN_CMD_ARGS")
INHERIT = "THREADCORN_INHERIT"
# The words of socket activation, of sd_listen_fds(3).
ACTIVATION = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")


class Source(Enum):
    """From the weakest to the strongest. Lists are replaced by the stronger source, never merged."""

    DEFAULT = "default"
    ENVIRONMENT = "environment"
    FILE = "config file"
    CMD_ARGS = "arguments in"
    COMMAND_LINE = "command line"
    EMBEDDED = "set by the program"


@dataclasses.dataclass(frozen=True, slots=True)
class Origin:
    """What --print-config shows beside a value: the source, and what names the place in it."""

    source: Source
    place: str = ""

    def __str__(self) -> str:
        return f"{self.source.value} {self.place}".strip()


@dataclasses.dataclass(frozen=True, slots=True)
class Given:
    """One value as somebody wrote it. `label` is the name they used: a flag, a variable, a key."""

    name: str
    label: str
    value: Any
    origin: Origin


@dataclasses.dataclass(slots=True)
class Layer:
    """All values of one source, with what is wrong with the source itself."""

    given: list[Given] = dataclasses.field(default_factory=list)
    problems: list[str] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)

    def last(self, name: str) -> Any:
        """The value of one row in this layer, or None."""
        return next((one.value for one in reversed(self.given) if one.name == name), None)


def environment(environ: Mapping[str, str]) -> Layer:
    """The rows' own variables; below each of them those that the field knows (PORT, WEB_CONCURRENCY)."""
    layer = Layer()
    for row in ROWS.values():
        for variable, parse in row.env:
            # Set but empty means not set: compose files and unit files write it that way.
            if value := environ.get(variable, "").strip():
                if row.env_name in environ:
                    continue
                origin = Origin(Source.ENVIRONMENT, variable)
                try:
                    layer.given.append(Given(row.name, variable, parse(value), origin))
                except ValueError as error:
                    layer.problems.append(f"{variable}: {error} ({Source.ENVIRONMENT.value})")
        if row.env_name and (value := environ.get(row.env_name, "").strip()):
            origin = Origin(Source.ENVIRONMENT, row.env_name)
            layer.given.append(Given(row.name, row.env_name, value, origin))
    names = {row.env_name for row in ROWS.values() if row.env_name}
    for variable in environ:
        # A warning only: orchestrators invent variables from the names of services (THREADCORN_PORT).
        if variable.startswith(ENV_PREFIX) and variable not in names and variable not in CMD_ARGS:
            close = nearest(variable, names, 0.9)
            if close:
                layer.warnings.append(f"the variable {variable} is not a setting; did you mean {close}?")
    return layer


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The known name that is most like `name`, or ''."""
    import difflib  # only a mistake needs it

    close = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return close[0] if close else ""


def nearest_row(name: str) -> str:
    """The setting that was probably meant: its names are compared with dashes and case put aside."""
    plain = {key.replace("_", ""): key for key in (*ROWS, *ALIASES)}
    close = nearest(name.lower().replace("_", "").replace("-", ""), plain, 0.7)
    return plain[close] if close else ""
