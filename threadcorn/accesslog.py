"""The access log: one request, one line, one write.

The format is compiled once (`accessformat`), the date is rendered once a second, and the line leaves with
one `write` that takes no lock and waits for nobody (`system.logfile`). Where somebody has given the logger
`threadcorn.access` handlers or filters, a record goes through `logging`, as it does in gunicorn: the atoms
are its `args`, so that a formatter or a filter can read `record.args["h"]`.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from threadcorn.accessformat import (
    ATOMS,
    JSON_DEFAULT,
    Line,
    Stamp,
    Timings,
    compile_json,
    compile_text,
    one_atom,
)
from threadcorn.logs import ACCESS, ERROR, owner
from threadcorn.settings import Settings
from threadcorn.settings.table import ACCESS_LOG_FORMAT
from threadcorn.system.logfile import LogFile, open_log

__all__ = ["AccessLog", "Atoms", "Timings", "stamp"]

# Not strftime's %b: an application that sets a locale would change the language of the log.
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

# A disk that is full stays full for a while: one warning in so many seconds says enough.
_QUIET = 60.0


class AccessLog:
    """See the module. Made by the arbiter, used by every thread of every worker.

    `enabled` is False where there is no access log; the caller then does not call `record` at all.
    """

    __slots__ = ("_build", "_file", "_format", "_gate", "_log", "_stamp", "_warn_at", "_warned", "enabled")

    def __init__(self, settings: Settings) -> None:
        """Raises ConfigError for a format that says nothing, or a file that cannot be opened."""
        text = settings.access_log_format
        if settings.access_log_json:
            self._build: Line = compile_json(JSON_DEFAULT if text == ACCESS_LOG_FORMAT else text, os.getpid)
        else:
            self._build = compile_text(text, os.getpid)
        self._format = text
        self._log = logging.getLogger(ERROR)
        self._stamp = Stamp(-1, "", "", "")
        self._file: LogFile | None = None
        self._warned = 0
        self._warn_at = 0.0
        self._gate = logging.getLogger(ACCESS)
        # logs.setup() has emptied it; only a log config can have put something there since.
        if settings.accesslog is not None and not self._gate.handlers:
            self._file = open_log(settings.accesslog, 1, "--access-logfile", owner(settings))
        self.enabled = self._file is not None or bool(self._gate.handlers)

    @property
    def dropped(self) -> int:
        """Lines that this process could not write."""
        return 0 if self._file is None else self._file.dropped

    def record(
        self,
        environ: Mapping[str, Any],
        status: str,
        response_headers: Iterable[tuple[str, str]],
        sent: int,
        started: float,
        duration: float,
        timings: Timings | None = None,
    ) -> None:
        """Write the line of one request. `started` is wall time; `sent` counts bytes of the body."""
        now = started + duration
        second = int(now)
        rendered = self._stamp
        if rendered.second != second:
            rendered = self._stamp = stamp(second)
        gate = self._gate
        if (gate.handlers or gate.filters) and not self._by_logging(
            Atoms(environ, status, response_headers, sent, rendered, now, duration, timings)
        ):
            return
        file = self._file
        if file is None:
            return
        line = self._build(environ, status, response_headers, sent, rendered, now, duration, timings)
        if not file.write(line) and now >= self._warn_at:
            self._warn(file, now)

    def _by_logging(self, atoms: Atoms) -> bool:
        """What people have added to the logger: filters (no health checks), handlers. False: filtered out."""
        gate = self._gate
        if not gate.isEnabledFor(logging.INFO):
            return False
        record = gate.makeRecord(ACCESS, logging.INFO, "", 0, self._format, (atoms,), None)
        accepted = gate.filter(record)
        if accepted and gate.handlers:
            # Since Python 3.12 a filter may answer another record.
            gate.callHandlers(accepted if isinstance(accepted, logging.LogRecord) else record)  # type: ignore[redundant-expr]
        return bool(accepted)

    def _warn(self, file: LogFile, now: float) -> None:
        self._warn_at = now + _QUIET
        lost, self._warned = file.dropped - self._warned, file.dropped
        self._log.error("access log: %d lines were lost: %s", lost, file.reason)

    def tell_losses(self) -> None:
        """Say what has been lost since the last warning: this process ends."""
        if self._file is not None and self._file.dropped > self._warned:
            self._warn(self._file, 0.0)

    def reopen(self) -> None:
        """Open the file by its name again: it was rotated. A failure is logged, and the old one stays."""
        if self._file is None:
            return
        try:
            self._file.reopen()
        except OSError as error:
            self._log.error("access log %r cannot be opened again: %s", error.filename, error.strerror)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def stamp(second: int) -> Stamp:
    """A second in the notations that lines need, in local time."""
    at = time.localtime(second)
    offset = at.tm_gmtoff // 60
    sign, hours, minutes = "-" if offset < 0 else "+", abs(offset) // 60, abs(offset) % 60
    clock = f"{at.tm_hour:02d}:{at.tm_min:02d}:{at.tm_sec:02d}"
    return Stamp(
        second,
        f"[{at.tm_mday:02d}/{_MONTHS[at.tm_mon - 1]}/{at.tm_year}:{clock} {sign}{hours:02d}{minutes:02d}]",
        f"{at.tm_year}-{at.tm_mon:02d}-{at.tm_mday:02d}T{clock}",
        f"{sign}{hours:02d}:{minutes:02d}",
    )


class Atoms(dict[str, Any]):
    """gunicorn's atoms of one request: what a `logging` formatter finds in `record.args`.

    The letters are there from the start. `{name}i`, `{name}o` and `{name}e` are looked up when somebody
    asks, without regard to case; what is not there is '-'. Text is escaped as in the line.
    """

    def __init__(
        self,
        environ: Mapping[str, Any],
        status: str,
        headers: Iterable[tuple[str, str]],
        sent: int,
        rendered: Stamp,
        now: float,
        duration: float,
        timings: Timings | None,
    ) -> None:
        sources = (environ, status, headers, sent, rendered, now, duration, timings)
        super().__init__(_letters(*sources))
        self._sources = sources

    def __missing__(self, key: str) -> Any:
        build = one_atom(key, os.getpid)
        value = "-" if build is None else build(*self._sources)
        self[key] = value
        return value

    def get(self, key: str, default: Any = None) -> Any:
        """As in gunicorn: an atom that is not there is '-', unless another default is given."""
        value = self[key]
        return default if value == "-" and default is not None else value


def _letters(*sources: Any) -> Iterator[tuple[str, Any]]:
    for letter in ATOMS:
        build = one_atom(letter, os.getpid)
        if build is not None:
            yield letter, build(*sources)
