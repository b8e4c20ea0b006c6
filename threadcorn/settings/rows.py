"""What a row of the settings table is, apart from its name, type and default.

A row is a dataclass field; `row()` hangs its columns into the field's metadata. Everything else that
somebody might want to know about a setting (flags, environment name, help, documentation) is derived
from here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from enum import Enum
from typing import Any

__all__ = ["Reload", "Row", "Section", "row"]

Parser = Callable[[Any], Any]


class Reload(Enum):
    """What a changed value costs on HUP."""

    LIVE = "applied at once"
    WORKERS = "applied by new workers"
    RESTART = "needs a restart"


class Section(Enum):
    """The chapters of `--help` and of docs/settings.md, in their order."""

    CONFIG = "Config file"
    SOCKET = "Server socket"
    WORKERS = "Worker processes"
    TIMEOUTS = "Time limits"
    BODIES = "Bodies and responses"
    SECURITY = "Security"
    MECHANICS = "Server mechanics"
    HEALTH = "Health and control"
    LOGGING = "Logging"
    NAMING = "Process naming"
    HOOKS = "Server hooks"


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """The columns of one row. `name`, `type` and `default` are the field's own, filled in by `table.ROWS`."""

    section: Section
    reload: Reload
    help: str
    flags: tuple[str, ...] = ()
    unit: str = ""
    ge: float | None = None
    le: float | None = None
    choices: tuple[str, ...] = ()
    metavar: str = ""
    # What the flag means when it stands without a value.
    bare: str = ""
    since: str = "0.1"
    hidden: bool = False
    secret: bool = False
    # Other names by which gunicorn's users know the row, in config files and in `Config.set`.
    aliases: tuple[str, ...] = ()
    # Environment variables of the field (PORT, WEB_CONCURRENCY) that feed the row below its own
    # THREADCORN_ name, each with the function that makes the row's value out of the text.
    env: tuple[tuple[str, Parser], ...] = ()
    # In place of the parser that belongs to the row's type.
    parse: Parser | None = None
    # For hooks: how many arguments the server passes.
    arity: int = 0
    name: str = ""
    type: str = ""
    default: Any = None

    @property
    def env_name(self) -> str:
        return "" if self.arity or not self.text else "THREADCORN_" + self.name.upper()

    @property
    def text(self) -> bool:
        """Whether a value can be written as text: on a command line or in the environment."""
        return not self.arity and not self.type.startswith("Mapping")


def row(default: Any, section: Section, reload: Reload, help: str, *flags: str, **columns: Any) -> Any:
    """One row of the table: the value of a field of `Settings`."""
    spec = Row(section=section, reload=reload, help=help, flags=flags, **columns)
    metadata = {"row": spec}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)
