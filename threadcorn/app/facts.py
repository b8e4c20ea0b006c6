"""What the settings claim about this machine, held against the machine.

The table judges a value by itself. Whether a directory is there, whether a user may be changed to, is a
question to the system, and it is asked before anything is opened.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from threadcorn.errors import ConfigError
from threadcorn.settings import Settings
from threadcorn.settings.table import ACCESS_LOG_FORMAT
from threadcorn.system import addresses

__all__ = ["problems"]


def problems(settings: Settings) -> list[str]:
    """Every claim that does not hold, one sentence each."""
    return [text for check in _CHECKS for text in check(settings)]


def _addresses(settings: Settings) -> Iterator[str]:
    try:
        addresses.parse_all(settings.bind)
    except ConfigError as error:
        yield from error.problems


def _access_log_format(settings: Settings) -> Iterator[str]:
    if settings.access_log_format == ACCESS_LOG_FORMAT:
        return
    from threadcorn.accessformat import compile_json, compile_text

    try:
        (compile_json if settings.access_log_json else compile_text)(settings.access_log_format, os.getpid)
    except ConfigError as error:
        yield from error.problems


def _directories(settings: Settings) -> Iterator[str]:
    for name in ("chdir", "spool_dir"):
        path = getattr(settings, name)
        if path is None:
            continue
        place = _seen_from_there(settings, path)
        if not os.path.isdir(place):
            state = "is not a directory" if os.path.exists(place) else "does not exist"
            yield f"{name}: {place} {state}; make it, or name another"
        elif name == "spool_dir" and not os.access(place, os.W_OK | os.X_OK):
            yield f"{name}: user {os.geteuid()} may not write to {place}"


def _files(settings: Settings) -> Iterator[str]:
    for name in ("logconfig", "logconfig_json"):
        path = getattr(settings, name)
        if path is not None and not os.path.isfile(place := _seen_from_there(settings, path)):
            yield f"{name}: {place} does not exist"
    for name in ("pidfile", "accesslog", "errorlog"):
        path = getattr(settings, name)
        if path is None or path == "-":
            continue
        folder = os.path.dirname(_seen_from_there(settings, path)) or "."
        if not os.path.isdir(folder):
            yield f"{name}: the directory {folder} does not exist; make it, or name another file"


def _seen_from_there(settings: Settings, path: str) -> str:
    """Relative paths are opened after the change of directory."""
    return os.path.join(settings.chdir or "", path)


def _identity(settings: Settings) -> Iterator[str]:
    if os.geteuid() == 0:
        return
    for name, wanted, now in (
        ("user", settings.user, os.geteuid()),
        ("group", settings.group, os.getegid()),
    ):
        if wanted is not None and wanted != now:
            yield f"{name}: only root may change it from {now} to {wanted}; start as root, or leave it out"


_CHECKS: tuple[Callable[[Settings], Iterator[str]], ...] = (
    _addresses,
    _access_log_format,
    _directories,
    _files,
    _identity,
)
