"""What the settings claim about this machine, held against the machine.

The table judges a value by itself. Whether a directory is there, whether a user may be changed to, is a
question to the system, and it is asked before anything is opened.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping

from threadcorn.errors import ConfigError
from threadcorn.settings import Settings
from threadcorn.settings.sources import Origin
from threadcorn.settings.table import ACCESS_LOG_FORMAT
from threadcorn.system import addresses

__all__ = ["problems", "warnings"]


# The setting, and what is wrong with it.
Problem = tuple[str, str]


def problems(settings: Settings, origins: Mapping[str, Origin]) -> list[str]:
    """Every claim that does not hold: one sentence, and where the value came from."""
    return [f"{text} ({origins[name]})" for check in _CHECKS for name, text in check(settings)]


def warnings(settings: Settings, origins: Mapping[str, Origin]) -> list[str]:
    """What does not hold and does not matter, or not yet."""
    missing = []
    for part in (settings.pythonpath or "").split(","):
        # Python passes over what is not there, and so does gunicorn: a unit file with a directory that only
        # some machines have must go on working. If it matters, it is the application that is not found.
        place = _seen_from_there(settings, os.path.expanduser(part.strip()))
        if part.strip() and not os.path.exists(place):  # a zip file may be on the path, too
            missing.append(place)
    where = origins["pythonpath"]
    return [f"pythonpath: {place} does not exist and is passed over ({where})" for place in missing]


def _addresses(settings: Settings) -> Iterator[Problem]:
    try:
        addresses.parse_all(settings.bind)
    except ConfigError as error:
        for problem in error.problems:
            yield "bind", problem
    if settings.admin_bind is not None:
        try:
            addresses.parse(settings.admin_bind)
        except ConfigError as error:
            yield "admin_bind", f"admin_{error}"


def _access_log_format(settings: Settings) -> Iterator[Problem]:
    if settings.access_log_format == ACCESS_LOG_FORMAT:
        return
    from threadcorn.accessformat import compile_json, compile_text

    try:
        (compile_json if settings.access_log_json else compile_text)(settings.access_log_format, os.getpid)
    except ConfigError as error:
        for problem in error.problems:
            yield "access_log_format", problem


def _directories(settings: Settings) -> Iterator[Problem]:
    for name in ("chdir", "spool_dir"):
        path = getattr(settings, name)
        if path is None:
            continue
        place = _seen_from_there(settings, path)
        if not os.path.isdir(place):
            state = "is not a directory" if os.path.exists(place) else "does not exist"
            yield name, f"{name}: {place} {state}; make it, or name another"
        elif not os.access(place, os.X_OK):
            yield name, f"{name}: user {os.geteuid()} may not enter {place}; change its mode, or name another"
        elif name == "spool_dir" and not os.access(place, os.W_OK):
            yield name, f"{name}: user {os.geteuid()} may not write to {place}; name another"


def _files(settings: Settings) -> Iterator[Problem]:
    for name in ("logconfig", "logconfig_json"):
        path = getattr(settings, name)
        if path is not None and not os.path.isfile(place := _seen_from_there(settings, path)):
            yield name, f"{name}: there is no file {place}"
    for name in ("pidfile", "accesslog", "errorlog"):
        path = getattr(settings, name)
        if path is None or path == "-":
            continue
        place = _seen_from_there(settings, path)
        folder = os.path.dirname(place) or "."
        if not os.path.isdir(folder):
            yield name, f"{name}: the directory {folder} does not exist; make it, or name another file"
        elif os.path.isdir(place):
            yield name, f"{name}: {place} is a directory; name a file in it"
        elif name == "pidfile" and os.path.exists(place) and not os.path.isfile(place):
            # The pid file takes the place of what was there, and is removed at the end. Root could do that
            # to /dev/null, and the whole machine would be without one.
            yield name, f"{name}: {place} is a device, a pipe or a socket; name a file, or leave it out"


def _seen_from_there(settings: Settings, path: str) -> str:
    """Relative paths are opened after the change of directory."""
    return os.path.join(settings.chdir or "", path)


def _identity(settings: Settings) -> Iterator[Problem]:
    if os.geteuid() == 0:
        return
    for name, wanted, now in (
        ("user", settings.user, os.geteuid()),
        ("group", settings.group, os.getegid()),
    ):
        if wanted is not None and wanted != now:
            yield (
                name,
                f"{name}: only root may change it from {now} to {wanted}; start as root, or leave it out",
            )


_CHECKS: tuple[Callable[[Settings], Iterator[Problem]], ...] = (
    _addresses,
    _access_log_format,
    _directories,
    _files,
    _identity,
)
