"""`BaseApplication` and `Application`: the classes that programs derive from to embed the server.

    BaseApplication   override load_config() and load(); run() serves
    Application       configures itself from environment, config file and command line; override load()

They hold the configuration (`cfg`, the builder) and know how to build it anew; they find the
application; and they compose logs, arbiter and worker, which do not know each other. The loop is the
arbiter's.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from threadcorn import __version__
from threadcorn.app import facts, loader
from threadcorn.app.activation import Activation
from threadcorn.app.configfile import importable, read_config_file
from threadcorn.errors import BootError, ConfigError, ExitCode, ThreadcornError, explain, traceback_text
from threadcorn.settings import Config, Settings
from threadcorn.settings.sources import INHERIT, Given, Layer, Origin, Source, environment

if TYPE_CHECKING:
    from threadcorn.app.loader import WSGIApp
    from threadcorn.system.daemon import Wire
    from threadcorn.system.inherit import Inheritance
    from threadcorn.system.spawn import Program

__all__ = ["Application", "BaseApplication"]


class BaseApplication:
    """A server inside a program. Derive, override `load_config` and `load`, call `run`."""

    def __init__(self, usage: str | None = None, prog: str | None = None) -> None:
        self.usage = usage
        self.prog = prog
        self.cfg = Config(usage, prog)
        self.callable: WSGIApp | None = None
        self.logger: Any = None
        # As they were at the start: raw_env and chdir change both, and a reload must see the same sources.
        # What a predecessor hands down is for us alone, and for nobody whom we start.
        self._activation = Activation(os.environ)
        self._papers = os.environ.pop(INHERIT, "")
        self._environ: Mapping[str, str] = dict(os.environ)
        self._directory = _working_directory()
        self._surroundings = _Surroundings()
        self.do_load_config()

    # ---- To be overridden ----------------------------------------------------------------------------

    def load_config(self) -> None:
        """Fill `self.cfg` by `self.cfg.set(name, value)`. Called again on every reload."""
        raise ConfigError(f"{type(self).__name__} must override load_config(), if only with `pass`")

    def load(self) -> WSGIApp:
        """Return the WSGI callable."""
        raise self._no_application("does not override load()")

    def init(self, parser: argparse.ArgumentParser, opts: argparse.Namespace, args: list[str]) -> Any:
        """Called by `Application` with the parsed command line; may return a dict of settings."""

    # ---- Configuration -------------------------------------------------------------------------------

    def do_load_config(self) -> None:
        """Build the configuration. A mistake is printed, and the process exits."""
        try:
            self._rebuild()
        except ConfigError as error:
            text = str(error) if len(error.problems) == 1 else _listed(error.problems)
            complain(text)
            self._tell_predecessor(text)
            sys.exit(error.exit_code)

    def load_default_config(self) -> None:
        """A new builder with the defaults and what the environment says."""
        self.cfg = Config(self.usage, self.prog)
        self.cfg.apply(environment(self._environ))

    def reload(self) -> Settings:
        """Read the whole configuration again. `ConfigError` leaves everything as it was.

        The answer is not yet in force: `adopt()` makes it so, in the workers of the new generation.
        """
        before = self.cfg
        try:
            return self._rebuild()
        except ThreadcornError:
            raise
        # Whatever a program's load_config() raises: the server it would take down serves well.
        except (Exception, SystemExit) as error:
            raise ConfigError(f"load_config() raised\n{traceback_text(error)}") from error
        finally:
            self.cfg = before

    def _finished(self) -> Settings:
        """The finished settings of the present `cfg`, or `ConfigError` with every problem at once."""
        from threadcorn.system.cpus import usable_cpus

        settings = self.cfg.build()
        if settings.chdir is not None:
            place = os.path.join(self._directory, os.path.expanduser(settings.chdir))
            settings = dataclasses.replace(settings, chdir=place)
        settings = self._activation.apply(settings, self.cfg)
        if problems := [*self.cfg.check(), *facts.problems(settings, self.cfg.origins)]:
            raise ConfigError(problems)
        for warning in facts.warnings(settings, self.cfg.origins):
            if warning not in self.cfg.warnings:
                self.cfg.warnings.append(warning)
        if settings.workers == "auto":
            settings = dataclasses.replace(settings, workers=usable_cpus())
        return settings

    def _rebuild(self) -> Settings:
        self.load_default_config()
        with importable(self._home()):
            self.load_config()
        return self._finished()

    # ---- The WSGI application ------------------------------------------------------------------------

    def wsgi(self) -> WSGIApp:
        """The WSGI callable, loaded once in a process."""
        if self.callable is None:
            made = self.load()
            if self.logger is not None:
                from threadcorn import logs

                logs.enable()
            loader.check_modules()
            if not callable(made):
                raise self._no_application(f"returned {made!r} from load()")
            if loader.is_asynchronous(made):
                what = f"load() of {type(self).__name__} returned an asynchronous (ASGI) application"
                raise BootError(what, loader.ASGI_HINT, ExitCode.APP_NOT_LOADABLE)
            self.callable = made
        return self.callable

    def _no_application(self, what: str) -> BootError:
        hint = "load() must return the WSGI callable, application(environ, start_response)."
        return BootError(f"{type(self).__name__} {what}", hint, ExitCode.APP_NOT_LOADABLE)

    def load_for(self, settings: Settings) -> Callable[[], WSGIApp]:
        """What a worker of the generation of `settings` calls to get its application."""

        def load() -> WSGIApp:
            self.adopt(settings)
            return self.wsgi()

        return load

    def adopt(self, settings: Settings) -> None:
        """Put `settings` in force in this process: directory, Python's path, environment, `cfg`."""
        self.cfg = Config.of(settings, self.usage, self.prog)
        self._surroundings.arrange(settings, self._home())

    def _home(self) -> str | None:
        """The directory to be in where `chdir` is not set; None to stay."""
        return None

    # ---- Running -------------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until told to stop, then exit the process with an `ExitCode`."""
        wire: Wire | None = None
        try:
            settings = self._finished()
            loader.check_modules()  # a config file, too, can have patched them
            if settings.check_config or settings.print_config:
                try:
                    code = self._check(settings)
                except KeyboardInterrupt:
                    code = 130  # as the shell has it for SIGINT: 0 would say that the check had passed
                sys.exit(code)
            self._surroundings.change_directory(settings, self._home())
            inheritance = self._inheritance()
            from threadcorn.system.daemon import fill_standard

            fill_standard()
            if settings.daemon and inheritance is None:
                wire, settings = _to_the_background(settings)
            self._surroundings.arrange(settings, self._home())
            code, text = self._serve(settings, inheritance)
            if code != ExitCode.OK:
                self._tell_predecessor(text)
        except KeyboardInterrupt:
            # Before the arbiter's handlers were in place; afterwards INT is a signal like others.
            code, text = ExitCode.OK, ""
        except Exception as error:  # noqa: BLE001 -- the last line: every error becomes a text and an exit code
            code, text = explain(error)
            complain(text)
            self._tell_predecessor(text)
            if self.logger is not None and self.cfg.errorlog != "-":
                self.logger.error(text)
        if wire is not None:
            if code == ExitCode.OK:
                wire.close()
            else:
                wire.failed(code, text)
        sys.exit(code)

    def _check(self, settings: Settings) -> int:
        for warning in self.cfg.warnings:
            complain(warning)
        if settings.print_config:
            from threadcorn.settings.show import print_config

            sys.stdout.write(print_config(self.cfg) + "\n")
            sys.stdout.flush()
        if not self._has_application():
            return ExitCode.OK
        self._surroundings.arrange(settings, self._home())
        from threadcorn import logs

        logs.check(settings)
        self.wsgi()
        complain("the configuration is valid and the application loads")
        return ExitCode.OK

    def _has_application(self) -> bool:
        return True

    def _inheritance(self) -> Inheritance | None:
        """What a predecessor hands down. Raises BootError."""
        if not self._papers:
            return None
        from threadcorn.system.inherit import take_over

        return take_over({INHERIT: self._papers})

    def _tell_predecessor(self, text: str) -> None:
        """Why we cannot serve. A daemon's standard error leads nowhere, its log may be somewhere else."""
        if self._papers:
            from threadcorn.system.inherit import tell_predecessor

            tell_predecessor(self._papers, text)

    def program(self) -> Program:
        """What a successor arbiter executes: the same command in the same place, whatever is there now."""
        from threadcorn.system.spawn import Program

        # What the interpreter was given, not sys.argv: that one has lost -m, -X and the name of a zip file.
        argv = _packed([sys.executable or sys.orig_argv[0], *sys.orig_argv[1:]], self._environ.get("PEX"))
        return Program(argv, {**self._environ, **self._activation.hand_down()}, self._directory)

    def _serve(self, settings: Settings, inheritance: Inheritance | None = None) -> tuple[int, str]:
        """The exit code, and why, for who waits at a terminal that a daemon has left."""
        # Here, not above: --help and a mistake in the configuration should not wait for the whole server.
        from threadcorn import logs
        from threadcorn.arbiter.arbiter import Arbiter
        from threadcorn.arbiter.systemd import Systemd
        from threadcorn.worker import worker

        self.logger = log = logs.setup(settings)
        for warning in self.cfg.warnings:
            log.warning(warning)
        if not sys.flags.hash_randomization:
            log.warning(
                "PYTHONHASHSEED=0: hashes can be foretold, so a client that sends names of one hash makes "
                "every dictionary of them slow; unset it"
            )
        arbiter = Arbiter(
            app=self,
            settings=settings,
            log=log,
            run_worker=worker.run,
            systemd=Systemd(
                self._environ.get("NOTIFY_SOCKET"),
                self._environ.get("WATCHDOG_USEC"),
                self._environ.get("WATCHDOG_PID"),
            ),
            inheritance=inheritance,
        )
        code: int = arbiter.run()
        return code, arbiter.why or f"the server ended with exit code {code}; see its error log"


class Application(BaseApplication):
    """Configured like the command: environment, config file, command line. Override `load`."""

    # The words of the command line that are no options name the application; otherwise they are init()'s.
    words_name_application = False

    def __init__(
        self, usage: str | None = None, prog: str | None = None, *, argv: Sequence[str] | None = None
    ) -> None:
        # False: nobody could tell which words of the command line are values and which the application.
        self.words_understood = True
        self.argv = list(sys.argv[1:] if argv is None else argv)
        super().__init__(usage, prog)

    def load_config(self) -> None:
        from threadcorn.settings.flags import build_parser
        from threadcorn.settings.resolve import Sources

        name = self.prog or "threadcorn"
        sources = Sources(self._environ, self.argv, name)
        command = sources.command_line
        if command.help:
            build_parser(name, self.usage).print_help()
            sys.exit(ExitCode.OK)
        if command.version:
            sys.stdout.write(f"threadcorn {__version__}\n")
            sys.exit(ExitCode.OK)
        given = self.init(build_parser(name, self.usage), command.namespace, command.positional or [])
        if given:
            origin = Origin(Source.EMBEDDED)
            self.cfg.apply(Layer([Given(key.lower(), key, value, origin) for key, value in given.items()]))
        self.words_understood = command.positional is not None
        sources.fill(self.cfg, self._read_config_file, words_are_ours=self.words_name_application)

    def load_config_from_module_name_or_filename(self, location: str) -> None:
        """Take a config file (PATH, file:PATH, python:MODULE) into `cfg`, as `-c` would: for `init()`, or for
        a `load_config()` of the program's own. Mistakes are told when the configuration is finished."""
        self.cfg.apply(self._read_config_file(location))

    load_config_from_file = load_config_from_module_name_or_filename

    def _read_config_file(self, named: str | None) -> Layer:
        return read_config_file(named, self._directory)

    def _home(self) -> str | None:
        return self._directory


class _Surroundings:
    """What a process has been given by the settings, so that the next settings can take it back."""

    def __init__(self) -> None:
        self._paths: list[str] = []
        self._replaced: dict[str, str | None] = {}

    def change_directory(self, settings: Settings, home: str | None) -> None:
        place = settings.chdir or home
        if place is not None:
            # Also where we are there already: the path may lead over a link that a deploy has moved.
            try:
                os.chdir(place)
            except OSError as error:
                raise BootError(
                    f"cannot change to the directory {place}: {error.strerror}",
                    "make it, let this user enter it, or name another with --chdir",
                ) from error

    def arrange(self, settings: Settings, home: str | None) -> None:
        self.change_directory(settings, home)
        for path in self._paths:
            if path in sys.path:
                sys.path.remove(path)
        place = settings.chdir or home
        parts = (settings.pythonpath or "").split(",")
        wanted = [os.path.abspath(os.path.expanduser(part.strip())) for part in parts if part.strip()]
        self._paths = [path for path in (*wanted, *([place] if place else [])) if path not in sys.path]
        sys.path[:0] = self._paths
        for name, value in self._replaced.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self._replaced = {}
        for entry in settings.raw_env:
            name, _, value = entry.partition("=")
            self._replaced.setdefault(name, os.environ.get(name))
            os.environ[name] = value


def _packed(argv: list[str], archive: str | None) -> list[str]:
    """PEX unpacks its archive into a directory that is named after what is in it, and runs that. The same
    words would run the old archive again, when a new one is in its place."""
    if archive and os.path.isfile(archive):
        for number, word in enumerate(argv[1:], 1):
            place = word if os.path.isdir(word) else os.path.dirname(word)
            if os.path.isfile(os.path.join(place, "PEX-INFO")):
                python: str = getattr(sys, "_base_executable", argv[0])  # argv[0] may be unpacked, too
                options = [option for option in argv[1:number] if option != "-I"]  # which PEX adds again
                return [python, *options, archive, *argv[number + 1 :]]
    return argv


def _working_directory() -> str:
    """Where we are, by the shell's name for it: a link there may lead elsewhere at the next reload."""
    try:
        here = os.getcwd()
    except FileNotFoundError:
        complain("the current directory has been deleted; change to one that exists")
        sys.exit(ExitCode.USAGE)
    shells = os.environ.get("PWD", "")
    try:
        return shells if os.path.isabs(shells) and os.path.samefile(shells, here) else here
    except OSError:
        return here


def _to_the_background(settings: Settings) -> tuple[Wire, Settings]:
    from threadcorn.system.daemon import daemonise

    wire = daemonise(settings.boot_timeout + 10)
    if settings.ready_fd is None:
        settings = dataclasses.replace(settings, ready_fd=wire.ready_fd)
    else:
        os.write(wire.ready_fd, b"ready\n")
    return wire, settings


def complain(text: str) -> None:
    sys.stderr.write(f"threadcorn: {text}\n")
    sys.stderr.flush()


def _listed(problems: list[str]) -> str:
    return "\n".join([f"{len(problems)} mistakes in the configuration:", *(f"  - {one}" for one in problems)])
