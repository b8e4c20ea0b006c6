"""The error log: set-up, levels, re-opening. One format of record, one write a record.

Everybody logs through the logger that `setup` returns, `threadcorn.error`. Applications and config files
that come from gunicorn know it as `gunicorn.error`; that name leads to the same logger.

A record never takes more than one line at the left edge: what follows the first line of a message or a
traceback is indented, and control characters are written as \\xNN. Without that a client could put a line
of its own into the log by way of a path or a header that an error message repeats.
"""

from __future__ import annotations

import configparser
import json
import logging
import logging.config
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from threadcorn.errors import ConfigError
from threadcorn.settings import Settings
from threadcorn.system.logfile import LogFile, open_log

__all__ = [
    "ACCESS",
    "DATE_FORMAT",
    "ERROR",
    "FORMAT",
    "LineHandler",
    "check",
    "enable",
    "for_stacks",
    "named_file",
    "owner",
    "printable",
    "reopen",
    "setup",
]

ERROR = "threadcorn.error"
ACCESS = "threadcorn.access"
FORMAT = "%(asctime)s [%(process)d] [%(levelname)s] %(message)s"
DATE_FORMAT = "[%Y-%m-%d %H:%M:%S %z]"

#: Names under which applications and config files of gunicorn's users look for our loggers.
ALIASES = {"gunicorn.error": ERROR, "gunicorn.access": ACCESS}

# Newline and tab stay; NEL, LS and PS are line ends to many readers.
_CONTROLS: dict[int, str] = {
    code: f"\\x{code:02X}" for code in (*range(0x20), *range(0x7F, 0xA0)) if code not in (0x09, 0x0A)
}
_CONTROLS |= {0x2028: "\\u2028", 0x2029: "\\u2029"}

# What gunicorn lays under a `logconfig_dict` or a `logconfig_json`: top-level keys of the user's dict
# replace these whole, so that a dict written for it means the same here.
_DICT_DEFAULTS: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "root": {"level": "INFO", "handlers": ["console"]},
    "loggers": {
        ERROR: {"level": "INFO", "handlers": ["error_console"], "propagate": True, "qualname": ERROR},
        ACCESS: {"level": "INFO", "handlers": ["console"], "propagate": True, "qualname": ACCESS},
    },
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "generic", "stream": "ext://sys.stdout"},
        "error_console": {
            "class": "logging.StreamHandler",
            "formatter": "generic",
            "stream": "ext://sys.stderr",
        },
    },
    "formatters": {"generic": {"format": FORMAT, "datefmt": DATE_FORMAT, "class": "logging.Formatter"}},
}


def printable(text: str) -> str:
    """`text` with its control characters as \\xNN; newlines and tabs stay."""
    return text.translate(_CONTROLS)


class LineFormatter(logging.Formatter):
    """One record, one line at the left edge."""

    def __init__(self) -> None:
        super().__init__(FORMAT, DATE_FORMAT)

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record).rstrip()).replace("\n", "\n  ")


class LineHandler(logging.Handler):
    """Writes each record with one write, without a lock, and never fails because of the log."""

    def __init__(self, file: LogFile) -> None:
        super().__init__()
        self.file = file
        self._told = 0
        self.setFormatter(LineFormatter())

    def createLock(self) -> None:  # noqa: N802 -- logging's name
        # One write needs none. A lock would make every thread wait for one that a slow disk holds.
        self.lock = None

    def handle(self, record: logging.LogRecord) -> Any:
        # logging's own version takes the lock that we do not have.
        accepted = self.filter(record)
        if accepted:
            # Since Python 3.12 a filter may answer another record.
            self.emit(accepted if isinstance(accepted, logging.LogRecord) else record)  # type: ignore[redundant-expr]
        return accepted

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception as error:  # noqa: BLE001 -- arguments that do not fit their message, of anybody's
            text = f"a log message could not be formatted: {record.msg!r} ({type(error).__name__}: {error})"
        file = self.file
        if not file.write(text.encode("utf-8", "backslashreplace") + b"\n"):
            return
        lost = file.dropped
        if lost > self._told:
            count, self._told = lost - self._told, lost
            file.write(b"  (%d lines of this log were lost: %s)\n" % (count, file.reason.encode()))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 -- logging's name
        """logging would print to standard error, which may be the very thing that does not work."""


def setup(settings: Settings) -> logging.Logger:
    """Make the loggers as the settings say. Raises ConfigError; what was set up before is then still there.

    May be called again (reload): the new files are open before the old ones are let go.
    """
    file = open_log(settings.errorlog, 2, "--error-logfile", owner(settings))
    logger, access = logging.getLogger(ERROR), logging.getLogger(ACCESS)
    before = {each: list(each.handlers) for each in (logger, access)}
    for each in before:
        each.handlers.clear()
        each.propagate = False
    for theirs in ALIASES:
        # A config that disables existing loggers would disable ours by their second names.
        if logging.root.manager.loggerDict.get(theirs) in before:
            del logging.root.manager.loggerDict[theirs]
    logger.setLevel(settings.loglevel.upper())
    access.setLevel(logging.INFO)
    try:
        _configure(settings)
    except ConfigError:
        for each, handlers in before.items():
            each.handlers[:] = handlers
        file.close()
        raise
    logger.disabled = access.disabled = False
    if logger.handlers:
        file.close()  # the log config says where the error log goes
    else:
        logger.addHandler(LineHandler(file))
        if settings.capture_output and file.path is not None:
            _capture(file)
    for theirs, ours in ALIASES.items():
        _alias(theirs, logging.getLogger(ours))
    for handlers in before.values():
        for handler in handlers:
            if isinstance(handler, LineHandler):
                handler.close()
                handler.file.close()
    return logger


def check(settings: Settings) -> None:
    """Build what a log config says, and put it away again. Raises ConfigError. Of the files it names none
    is cut short, and none that was not there is left behind: it would be the asking user's, not the server's.
    """
    if not (settings.logconfig_dict or settings.logconfig_json or settings.logconfig):
        return
    made: list[str] = []

    # How logging.handlers, too, open theirs.
    opening = logging.FileHandler._open  # noqa: SLF001

    def open_it(handler: logging.FileHandler) -> Any:
        handler.mode = "a"
        if not os.path.lexists(handler.baseFilename):
            made.append(handler.baseFilename)
        return opening(handler)

    logging.FileHandler._open = open_it  # type: ignore[assignment, method-assign]  # noqa: SLF001
    try:
        _configure(settings)
    finally:
        logging.FileHandler._open = opening  # type: ignore[method-assign]  # noqa: SLF001
        for handler in list(_all_handlers()):
            handler.close()
        for logger in (logging.root, *logging.root.manager.loggerDict.values()):
            if isinstance(logger, logging.Logger):
                logger.handlers.clear()
        for path in made:
            with suppress(OSError):
                os.unlink(path)


def enable() -> None:
    """The application has been loaded. A `dictConfig` of its own disables, unless it says otherwise, all
    loggers that it does not name; ours even where it names them, by their other names. Its own errors
    would be lost."""
    for name in (ERROR, ACCESS):
        logging.getLogger(name).disabled = False


def _alias(name: str, logger: logging.Logger) -> None:
    """Let a name lead to a logger that has another one: to its handlers, its level and its filters."""
    known = logging.root.manager.loggerDict
    already = known.get(name)
    known[name] = logger
    if isinstance(already, logging.Logger) and already is not logger:
        # Somebody asked for the name before us and may hold that object: at least its records get through.
        already.handlers[:] = logger.handlers
        already.propagate = logger.propagate
        already.setLevel(logger.level)


def reopen() -> None:
    """Open every log file of this process by its name again: ours, and those of a log config.

    A file for which that fails is written to under its old descriptor, and the log says so.
    """
    problems: list[OSError] = []
    for handler in _all_handlers():
        try:
            if isinstance(handler, LineHandler):
                handler.file.reopen()
            elif isinstance(handler, logging.FileHandler):
                _reopen_foreign(handler)
        except OSError as error:
            problems.append(error)
    for problem in problems:
        logging.getLogger(ERROR).error(
            "log file %r cannot be opened again: %s", problem.filename, problem.strerror
        )


def for_stacks(logger: logging.Logger) -> int:
    """The descriptor for what faulthandler writes, which it keeps: the file of the error log, whose number
    never changes. Else standard error by its number: what the application has made of `sys.stderr` may have
    none, and the stream of a handler of its own may be closed by the next rotation."""
    file = named_file(logger)
    return 2 if file is None else file.fileno()


def named_file(logger: logging.Logger) -> LogFile | None:
    """The file of --error-logfile; None where that is a standard stream, or a log config decides."""
    for handler in logger.handlers:
        if isinstance(handler, LineHandler) and handler.file.path is not None:
            return handler.file
    return None


def owner(settings: Settings) -> tuple[int, int]:
    """Whom log files belong to: those who will have to open them again."""
    return (
        -1 if settings.user is None else settings.user,
        -1 if settings.group is None else settings.group,
    )


# -- log configs -------------------------------------------------------------------------------------


def _configure(settings: Settings) -> None:
    """gunicorn's order: a dict, else a JSON file, else an INI file."""
    if settings.logconfig_dict:
        _apply_dict(settings.logconfig_dict, "logconfig_dict")
    elif settings.logconfig_json:
        _apply_dict(_read_json(settings.logconfig_json), f"--log-config-json {settings.logconfig_json!r}")
    elif settings.logconfig:
        _apply_ini(settings.logconfig)


def _apply_dict(given: Mapping[str, Any], origin: str) -> None:
    config = {**_DICT_DEFAULTS, **given}
    loggers = config["loggers"]
    if isinstance(loggers, Mapping):
        # A name of ours that is there as well is the more precise one and wins.
        renamed = {ALIASES[name]: value for name, value in loggers.items() if name in ALIASES}
        config["loggers"] = {**renamed, **{k: v for k, v in loggers.items() if k not in ALIASES}}
    try:
        logging.config.dictConfig(config)
    except Exception as error:  # it calls classes and factories that the user named: anything may come
        raise ConfigError([f"{origin}: {_reason(error)}"]) from error


def _read_json(path: str) -> Mapping[str, Any]:
    origin = f"--log-config-json {path!r}"
    try:
        with open(path, encoding="utf-8") as file:
            config = json.load(file)
    except OSError as error:
        raise ConfigError([f"{origin}: {error.strerror}; give the path of a JSON file"]) from error
    except ValueError as error:
        raise ConfigError([f"{origin}: this is not JSON: {error}"]) from error
    if not isinstance(config, dict):
        raise ConfigError([f"{origin}: expected a JSON object, got {type(config).__name__}"])
    return config


def _apply_ini(path: str) -> None:
    origin = f"--log-config {path!r}"
    parser = configparser.ConfigParser(
        {"__file__": os.path.abspath(path), "here": os.path.dirname(os.path.abspath(path))}
    )
    try:
        with open(path, encoding="utf-8") as file:
            parser.read_file(file)
        for section in parser.sections():
            name = parser.get(section, "qualname", raw=True, fallback="")
            if section.startswith("logger_") and name in ALIASES:
                parser.set(section, "qualname", ALIASES[name])
        logging.config.fileConfig(parser, disable_existing_loggers=False)
    except OSError as error:
        raise ConfigError([f"{origin}: {error.strerror}; give the path of a log config"]) from error
    except Exception as error:  # it evaluates what the file says: anything may come
        raise ConfigError([f"{origin}: {_reason(error)}"]) from error


def _reason(error: BaseException) -> str:
    """dictConfig says which part is wrong and hides what is wrong with it in the cause."""
    parts: list[str] = []
    link: BaseException | None = error
    while link is not None and len(parts) < 4:
        parts.append(str(link) or type(link).__name__)
        link = link.__cause__
    return ": ".join(parts)


# -- the process's streams and handlers --------------------------------------------------------------


def _capture(file: LogFile) -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    file.capture(1, 2)
    # To a file, Python would gather 8 KiB of prints before the first one could be read in the log.
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(line_buffering=True)


def _all_handlers() -> Iterator[logging.Handler]:
    seen: set[int] = set()
    named = [each for each in logging.root.manager.loggerDict.values() if isinstance(each, logging.Logger)]
    for logger in (logging.root, *named):
        for handler in logger.handlers:
            if id(handler) not in seen:
                seen.add(id(handler))
                yield handler


def _reopen_foreign(handler: logging.FileHandler) -> None:
    handler.acquire()
    try:
        if handler.stream is not None:
            fresh = handler._open()  # noqa: SLF001 -- how logging.handlers itself opens it again
            handler.stream, old = fresh, handler.stream
            old.close()
    finally:
        handler.release()
