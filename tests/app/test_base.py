"""Embedding: the classes that programs derive from, short of serving."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from threadcorn.app.base import Application, BaseApplication
from threadcorn.app.wsgiapp import WSGIApplication
from threadcorn.errors import BootError, ConfigError, ExitCode


def hello(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    start_response("200 OK", [])
    return [b"hello"]


class Standalone(BaseApplication):
    """The documented example of the field, with only the import changed."""

    def __init__(self, app: Any, options: dict[str, Any] | None = None) -> None:
        self.options = options or {}
        self.application = app
        super().__init__()

    def load_config(self) -> None:
        config = {
            key: value
            for key, value in self.options.items()
            if key in self.cfg.settings and value is not None
        }
        for key, value in config.items():
            self.cfg.set(key.lower(), value)

    def load(self) -> Any:
        return self.application


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PWD", raising=False)
    for name in [name for name in os.environ if name.startswith(("THREADCORN_", "GUNICORN_"))]:
        monkeypatch.delenv(name)
    for name in ("PORT", "WEB_CONCURRENCY"):
        monkeypatch.delenv(name, raising=False)
    path, modules, environ = list(sys.path), set(sys.modules), dict(os.environ)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]
    os.environ.clear()
    os.environ.update(environ)


class TestStandalone:
    def test_takes_its_options_and_loads_its_application(self) -> None:
        def pre_fork(server: object, worker: object) -> None:
            """An option may be a hook."""

        app = Standalone(hello, {"bind": "127.0.0.1:0", "workers": 3, "pre_fork": pre_fork, "what": 1})
        assert (app.cfg.bind, app.cfg.workers, app.cfg.pre_fork) == (("127.0.0.1:0",), 3, pre_fork)
        assert app.wsgi() is hello

    def test_knows_the_environment_but_no_file_and_no_arguments(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "threadcorn.conf.py").write_text("workers = 7")
        monkeypatch.setenv("THREADCORN_CMD_ARGS", "--workers 8")
        monkeypatch.setenv("PORT", "5000")
        cfg = Standalone(hello).cfg
        assert (cfg.workers, cfg.bind) == (1, ("0.0.0.0:5000",))

    def test_a_mistake_is_printed_and_ends_the_program(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as caught:
            Standalone(hello, {"workers": "many"})
        assert caught.value.code == ExitCode.USAGE
        assert capsys.readouterr().err == (
            "threadcorn: workers: expected a whole number or 'auto', got 'many' (set by the program)\n"
        )

    def test_an_asynchronous_application_is_refused(self) -> None:
        async def asgi(scope: object, receive: object, send: object) -> None:
            """Its answer would be a coroutine."""

        with pytest.raises(BootError, match=r"asynchronous \(ASGI\)") as caught:
            Standalone(asgi).wsgi()
        assert caught.value.exit_code == ExitCode.APP_NOT_LOADABLE

    def test_it_cannot_run_beside_other_threads(self, capsys: pytest.CaptureFixture[str]) -> None:
        app = Standalone(hello, {"bind": "127.0.0.1:0"})
        codes: list[object] = []

        def run() -> None:
            with pytest.raises(SystemExit) as caught:
                app.run()
            codes.append(caught.value.code)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join(30)
        said = capsys.readouterr().err
        assert (codes, "Traceback" in said) == ([ExitCode.BOOT_FAILED], False)
        assert "must be run in the main thread" in said

    def test_the_application_is_loaded_once(self) -> None:
        calls: list[int] = []

        class Counting(Standalone):
            def load(self) -> Any:
                calls.append(1)
                return self.application

        app = Counting(hello)
        assert app.wsgi() is app.wsgi() is hello
        assert calls == [1]


class TestReload:
    def test_answers_new_settings_and_leaves_the_present_ones(self) -> None:
        app = Standalone(hello, {"workers": 2})
        app.options["workers"] = 5
        assert app.reload().workers == 5
        assert app.cfg.workers == 2

    def test_a_mistake_changes_nothing(self) -> None:
        app = Standalone(hello, {"workers": 2})
        app.options["workers"] = "many"
        with pytest.raises(ConfigError, match="expected a whole number"):
            app.reload()
        assert app.cfg.workers == 2

    @pytest.mark.parametrize("error", [RuntimeError("oh"), SystemExit(3)])
    def test_an_exception_of_the_program_is_a_config_error(self, error: BaseException) -> None:
        class Raising(Standalone):
            def load_config(self) -> None:
                if self.options:
                    raise error

        app = Raising(hello)
        app.options["x"] = 1
        with pytest.raises(ConfigError, match=type(error).__name__):
            app.reload()

    def test_the_command_reads_its_file_again(self, tmp_path: Path) -> None:
        path = tmp_path / "threadcorn.conf.py"
        path.write_text("workers = 2")
        app = WSGIApplication(argv=["mod:app", "--threads", "3"])
        path.write_text("workers = 4")
        new = app.reload()
        assert (new.workers, new.threads, new.wsgi_app) == (4, 3, "mod:app")

    def test_sources_are_those_of_the_start_whatever_was_changed_since(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "sub").mkdir()
        (tmp_path / "threadcorn.conf.py").write_text(
            "workers = 2\nchdir = 'sub'\nraw_env = ['THREADCORN_THREADS=9']"
        )
        app = WSGIApplication(argv=["mod:app"])
        first = app.reload()
        app.adopt(first)
        assert os.getcwd() == str(tmp_path / "sub")
        assert app.reload() == first
        assert first.threads == "auto"


class TestAdopting:
    def test_directory_path_and_environment_are_put_in_force_and_taken_back(self, tmp_path: Path) -> None:
        for name in ("one", "two"):
            (tmp_path / name / "lib").mkdir(parents=True)
        os.environ["TC_OLD"] = "old"
        app = Standalone(hello, {"chdir": "one", "pythonpath": "lib", "raw_env": ["TC_OLD=x", "TC_NEW=y"]})
        app.adopt(app.reload())
        assert os.getcwd() == str(tmp_path / "one")
        assert sys.path[:2] == [str(tmp_path / "one" / "lib"), str(tmp_path / "one")]
        assert (os.environ["TC_OLD"], os.environ["TC_NEW"]) == ("x", "y")
        app.options = {"chdir": str(tmp_path / "two"), "workers": 7}
        app.adopt(app.reload())
        assert os.getcwd() == str(tmp_path / "two")
        assert sys.path[0] == str(tmp_path / "two")
        assert not any(str(tmp_path / "one") in path for path in sys.path)
        assert (os.environ["TC_OLD"], os.environ.get("TC_NEW")) == ("old", None)
        assert app.cfg.workers == 7

    def test_load_for_gives_a_worker_the_application_of_its_generation(self, tmp_path: Path) -> None:
        (tmp_path / "tcgen1.py").write_text("def app(environ, start_response): return [b'1']")
        (tmp_path / "tcgen2.py").write_text("def app(environ, start_response): return [b'2']")
        (tmp_path / "threadcorn.conf.py").write_text("wsgi_app = 'tcgen1:app'")
        app = WSGIApplication(argv=[])
        (tmp_path / "threadcorn.conf.py").write_text("wsgi_app = 'tcgen2:app'")
        assert app.load_for(app.reload())()({}, None) == [b"2"]

    def test_a_moved_link_is_followed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
        link = tmp_path / "current"
        link.symlink_to("first")
        monkeypatch.chdir(link)
        monkeypatch.setenv("PWD", str(link))
        app = WSGIApplication(argv=["mod:app"])
        link.unlink()
        link.symlink_to("second")
        app.adopt(app.reload())
        assert os.getcwd() == str(tmp_path / "second")


class TestFacts:
    @pytest.mark.parametrize(
        ("argv", "said"),
        [
            (["--chdir", "nope"], "chdir: {tmp_path}/nope does not exist"),
            (["--spool-dir", "a-file"], "spool_dir: {tmp_path}/a-file is not a directory"),
            (["--log-config", "nope"], "logconfig: there is no file nope (command line)"),
            (["--access-logfile", "nope/x.log"], "accesslog: the directory nope does not exist"),
            (["--pid", "nope/x.pid"], "pidfile: the directory nope does not exist"),
            (["-c", ""], "-c: expected the name of a file, got nothing"),
            (["--pid", "."], "pidfile: . is a directory; name a file in it (command line)"),
            (["--admin-bind", "a:b"], "admin_bind 'a:b': 'b' is not a port"),
            (["--access-logformat", "%(nope)s"], "nope"),
            (["--bind", "1:2:3"], "bind '1:2:3': there is more than one colon"),
        ],
    )
    def test_a_claim_that_does_not_hold_is_a_problem(
        self, tmp_path: Path, argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "a-file").write_text("")
        argv = [str(tmp_path / word) if word == "a-file" else word for word in argv]
        with pytest.raises(SystemExit):
            WSGIApplication(argv=["mod:app", *argv])
        assert said.format(tmp_path=tmp_path) in capsys.readouterr().err

    def test_a_directory_of_the_path_that_is_not_there_is_passed_over_with_a_word(self) -> None:
        app = WSGIApplication(argv=["mod:app", "--pythonpath", ".,/nope/x,nope"])
        assert app.cfg.warnings == [
            "pythonpath: /nope/x does not exist and is passed over (command line)",
            "pythonpath: nope does not exist and is passed over (command line)",
        ]

    def test_relative_files_are_looked_for_after_the_change_of_directory(self, tmp_path: Path) -> None:
        (tmp_path / "sub" / "logs").mkdir(parents=True)
        WSGIApplication(argv=["mod:app", "--chdir", "sub", "--access-logfile", "logs/x.log"])

    def test_workers_auto_is_a_number_when_it_is_finished(self) -> None:
        assert isinstance(Standalone(hello, {"workers": "auto"}).reload().workers, int)


def test_init_of_a_derived_application_gives_settings_that_the_command_line_beats() -> None:
    class Derived(Application):
        def init(self, parser: Any, opts: Any, args: list[str]) -> dict[str, Any]:
            self.seen = args
            return {"workers": 4, "threads": 4}

        def load(self) -> Any:
            return hello

    app = Derived(argv=["one", "--threads", "2"])
    assert (app.cfg.workers, app.cfg.threads, app.seen) == (4, 2, ["one"])


def test_the_words_of_a_program_with_a_command_line_of_its_own_are_its_own() -> None:
    class Manage(Application):
        def init(self, parser: Any, opts: Any, args: list[str]) -> dict[str, Any]:
            return {"bind": f"127.0.0.1:{args[1]}"}

        def load(self) -> Any:
            return hello

    app = Manage(argv=["serve", "0"])
    assert (app.cfg.bind, app.cfg.wsgi_app) == (("127.0.0.1:0",), None)


class TestReadingAFile:
    """By gunicorn's name for it, which its users call wherever configuration is collected."""

    class Site(Application):
        def load_config(self) -> None:
            self.load_config_from_module_name_or_filename("conf.txt")

        def load(self) -> Any:
            return hello

    def test_in_load_config(self, tmp_path: Path) -> None:
        (tmp_path / "conf.txt").write_text("workers = 3")
        app = self.Site(argv=[])
        assert (app.cfg.workers, app.cfg.origins["workers"].source.value) == (3, "config file")
        (tmp_path / "conf.txt").write_text("workers = 4")
        assert app.reload().workers == 4

    def test_in_init_it_is_weaker_than_the_command_line(self, tmp_path: Path) -> None:
        class InInit(Application):
            def init(self, parser: Any, opts: Any, args: list[str]) -> None:
                self.load_config_from_file("file:conf.txt")

        (tmp_path / "conf.txt").write_text("workers = 3; threads = 3")
        app = InInit(argv=["--threads", "2"])
        assert (app.cfg.workers, app.cfg.threads) == (3, 2)

    def test_a_mistake_in_it_is_told(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "conf.txt").write_text("workers = 'many'")
        with pytest.raises(SystemExit) as caught:
            self.Site(argv=[])
        assert caught.value.code == ExitCode.USAGE
        said = capsys.readouterr().err
        assert "workers: expected a whole number or 'auto', got 'many' (config file" in said


class Named(WSGIApplication):
    """The usual program that derives from the command's application."""

    def __init__(self, app_uri: str | None, options: dict[str, Any]) -> None:
        self.options = options
        self.app_uri = app_uri
        super().__init__(argv=[])

    def load_config(self) -> None:
        for key, value in self.options.items():
            self.cfg.set(key, value)


def test_a_program_may_name_the_application_in_app_uri(tmp_path: Path) -> None:
    (tmp_path / "tcnamed.py").write_text("def app(environ, start_response): return []")
    app = Named("tcnamed:app", {"workers": 2})
    app.adopt(app.reload())
    assert app.wsgi() is sys.modules["tcnamed"].app
    assert app.load_wsgiapp() is app.wsgi()


def test_a_program_that_names_none_is_told_so() -> None:
    with pytest.raises(BootError, match="no application is named") as caught:
        Named(None, {}).wsgi()
    assert caught.value.exit_code == ExitCode.USAGE
