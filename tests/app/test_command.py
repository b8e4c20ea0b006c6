"""The command as a person runs it: real processes, exit codes, one clear message."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.kit import environment, run_cli
from threadcorn import __version__

APP = 'def app(environ, start_response):\n    start_response("200 OK", [])\n    return [b"hi"]\n'


WROKERS = (
    "  - wrokers: there is no such setting; did you mean 'workers'? A helper's name begins with an "
    "underscore. (config file {site}/threadcorn.conf.py, line 2)"
)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "tcapp.py").write_text(APP)
    return tmp_path


@pytest.mark.parametrize("module", ["threadcorn", "threadcorn.app.wsgiapp"])
def test_check_config_loads_the_application(site: Path, module: str) -> None:
    done = run_cli("--check-config", "tcapp:app", cwd=site, module=module)
    assert (done.code, done.out) == (0, "")
    assert done.err == "threadcorn: the configuration is valid and the application loads\n"


def test_a_check_that_is_interrupted_has_not_passed(site: Path) -> None:
    ctrl_c = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nsignal.pause()\n"
    (site / "tcinterrupted.py").write_text(ctrl_c)
    # What a shell starts in the background, this test for one, ignores Ctrl-C, and its children with it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        done = run_cli("--check-config", "tcinterrupted:app", cwd=site)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (done.code, done.out, done.err) == (130, "", "")


def test_version_and_help_need_no_valid_configuration(site: Path) -> None:
    (site / "threadcorn.conf.py").write_text("nonsense = (")
    done = run_cli("--version", cwd=site)
    assert (done.code, done.out, done.err) == (0, f"threadcorn {__version__}\n", "")
    done = run_cli("--help", "--workers", "x", cwd=site)
    assert (
        done.code == 0 and done.out.startswith("usage: threadcorn [OPTIONS] [MODULE:APP]") and done.err == ""
    )


def test_print_config_needs_no_application_and_shows_origins(site: Path) -> None:
    (site / "gunicorn.conf.py").write_text("threads = 3")
    done = run_cli("--print-config", "-w", "2", cwd=site, env={"WEB_CONCURRENCY": "9"})
    assert done.code == 0, done.err
    lines = [" ".join(line.split()) for line in done.out.splitlines()]
    assert "workers = 2 # command line" in lines
    assert f"threads = 3 # config file {site}/gunicorn.conf.py, line 1" in lines
    assert "backlog = 2048 # default" in lines


def test_print_config_goes_on_to_the_check(site: Path) -> None:
    done = run_cli("--print-config", "tcapp:nope", cwd=site)
    assert done.code == 4 and "wsgi_app = 'tcapp:nope'" in done.out and "no attribute 'nope'" in done.err


def test_all_mistakes_are_reported_at_once_with_exit_code_2(site: Path) -> None:
    (site / "threadcorn.conf.py").write_text("\nwrokers = 2\n")
    done = run_cli("--timout", "3", "--bind", "a:b", "-w", "0", cwd=site, env={"THREADCORN_THREADS": "x"})
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines() == [
        "threadcorn: 5 mistakes in the configuration:",
        "  - THREADCORN_THREADS: expected a whole number or 'auto', got 'x' (environment THREADCORN_THREADS)",
        WROKERS.format(site=site),
        "  - unknown option --timout; did you mean --timeout? (command line)",
        "  - -w: must be at least 1, got 0 (command line)",
        (
            "  - bind 'a:b': 'b' is not a port; write a number from 1 to 65535, 0 for any free port "
            "(command line)"
        ),
    ]


def test_no_application(site: Path) -> None:
    done = run_cli(cwd=site)
    assert done.code == 2
    assert done.err.startswith("threadcorn: no application is named; write threadcorn MODULE:APP")
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("target", "code", "said"),
    [
        ("tcap:app", 4, "there is no module 'tcap'"),
        ("tcapp:ap", 4, "tcapp has no attribute 'ap'"),
        ("tcsyntax:app", 4, "SyntaxError: "),
        ("tcraises:app", 3, "RuntimeError: own"),
        ("tcsecret:app", 4, "tcsecret.py cannot be read: Permission denied"),
    ],
)
def test_an_application_that_does_not_load(site: Path, target: str, code: int, said: str) -> None:
    (site / "tcsyntax.py").write_text("def app(:\n")
    (site / "tcraises.py").write_text("raise RuntimeError('own')\n")
    (site / "tcsecret.py").symlink_to("/proc/sys/vm/compact_memory")  # to be written only, for root too
    done = run_cli("--check-config", target, cwd=site)
    assert done.code == code
    assert said in done.err
    assert "importlib" not in done.err and "loader.py" not in done.err
    assert ("Traceback" in done.err) is (code == 3)


def test_directory_path_and_environment_are_set_before_the_application_is_loaded(site: Path) -> None:
    (site / "deep" / "lib").mkdir(parents=True)
    (site / "deep" / "lib" / "tclib.py").write_text("")
    (site / "deep" / "tcdeep.py").write_text(
        "import os, tclib\nassert os.environ['TC_X'] == 'a,b'\nassert os.getcwd().endswith('deep')\n" + APP
    )
    done = run_cli(
        "--check-config", "--chdir", "deep", "--pythonpath", "lib", "-e", "TC_X=a,b", "tcdeep:app", cwd=site
    )
    assert done.code == 0, done.err


def test_settings_of_gunicorns_warn_and_go_on(site: Path) -> None:
    done = run_cli("--check-config", "-k", "gevent", "tcapp:app", cwd=site)
    assert done.code == 0
    assert done.err.splitlines()[0] == (
        "threadcorn: -k has no effect: there is one kind of worker here, and it has threads "
        "(--threads) (command line)"
    )


DICT = "import json\nlogconfig_dict = json.load(open('log.json'))\n"


@pytest.mark.parametrize(
    ("options", "origin"), [(("-c", "conf.py"), "logconfig_dict"), (("--log-config-json", "log.json"), None)]
)
def test_a_log_config_is_built_by_the_check(site: Path, options: tuple[str, str], origin: str | None) -> None:
    """What is wrong with it was told by the start only. And to check one changes no file."""
    (site / "conf.py").write_text(DICT)
    (site / "old.log").write_text("what was there\n")
    config: dict[str, Any] = {
        "handlers": {
            "one": {"class": "logging.FileHandler", "filename": "old.log", "mode": "w"},
            "two": {"class": "logging.handlers.WatchedFileHandler", "filename": "new.log"},
        },
        "loggers": {"gunicorn.error": {"handlers": ["one", "two"]}},
        "root": {"handlers": ["one"]},
    }
    (site / "log.json").write_text(json.dumps(config))
    done = run_cli(*options, "--check-config", "tcapp:app", cwd=site)
    assert done.code == 0, done.err
    assert (site / "old.log").read_text() == "what was there\n"
    assert not (site / "new.log").exists()
    config["handlers"]["two"]["filename"] = "nowhere/new.log"
    (site / "log.json").write_text(json.dumps(config))
    done = run_cli(*options, "--check-config", "tcapp:app", cwd=site)
    assert done.code == 2
    assert f"{origin or options[0]}" in done.err
    assert "Unable to configure handler 'two'" in done.err and "No such file or directory" in done.err


def test_who_goes_to_the_background_says_why_it_could_not(site: Path) -> None:
    """The error log of a daemon leads nowhere by default: the reason is told at the terminal."""
    done = run_cli("-D", "-b", "127.0.0.1:0", "tcapp:nope", cwd=site)
    assert done.code == 4
    assert "tcapp has no attribute 'nope'" in done.err


def test_a_pid_file_that_is_a_directory(site: Path) -> None:
    done = run_cli("-p", ".", "tcapp:app", cwd=site)
    assert (done.code, done.err) == (
        2,
        "threadcorn: pidfile: . is a directory; name a file in it (command line)\n",
    )


def test_a_pid_file_never_takes_the_place_of_a_device(site: Path) -> None:
    """Not of a pipe or a socket either. As root, a server with `--pid /dev/null` took that from everybody."""
    os.mkfifo(site / "pipe")
    done = run_cli("-p", "pipe", "--check-config", "tcapp:app", cwd=site)
    said = "pidfile: pipe is a device, a pipe or a socket; name a file, or leave it out (command line)"
    assert (done.code, done.err) == (2, f"threadcorn: {said}\n")
    assert (site / "pipe").is_fifo()


def test_a_config_file_imports_what_lies_beside_the_application(site: Path) -> None:
    """The console script's own directory is the first of Python's path, not the one where we start."""
    (site / "tcmine.py").write_text("number = 3\ndef forked(server, worker): pass\n")
    (site / "gunicorn.conf.py").write_text(
        "from tcmine import number as threads\npost_fork = 'tcmine.forked'\nwsgi_app = 'tcapp:app'\n"
    )
    script = site / "bin" / "threadcorn"
    script.parent.mkdir()
    script.write_text("import sys\nfrom threadcorn.cli import main\nsys.exit(main())\n")
    done = subprocess.run(
        [sys.executable, script, "--print-config"],
        cwd=site,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stderr) == (
        0,
        "threadcorn: the configuration is valid and the application loads\n",
    )
    assert "threads = 3" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("library", "module", "question"),
    [("gevent", "monkey", "is_module_patched"), ("eventlet", "patcher", "is_monkey_patched")],
)
@pytest.mark.parametrize("file", ["gunicorn.conf.py", "tcgreen.py"])
def test_greenlets_in_the_place_of_threads(
    site: Path, library: str, module: str, question: str, file: str
) -> None:
    """It was told as a fault of ours (there is no epoll then), or a worker hung until it was killed."""
    package = site / library
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / f"{module}.py").write_text(
        "import select\npatched = []\n"
        "def patch(*names): patched.extend(names); del select.epoll\n"
        f"def {question}(name): return name in patched\n"
    )
    (site / "tcgreen.py").write_text("from tcapp import app\n")
    with (site / file).open("a") as out:
        out.write(f"from {library}.{module} import patch\npatch('socket', 'select')\n")
    done = run_cli("-b", "127.0.0.1:0", "tcgreen:app", cwd=site)
    assert done.code == 3, done.err
    assert f"{library} has patched Python's select; threadcorn needs the original\n" in done.err
    assert "Traceback" not in done.err


def test_a_configuration_in_a_deleted_directory(tmp_path: Path) -> None:
    script = (
        "import os, sys, tempfile; place = tempfile.mkdtemp(); os.chdir(place); os.rmdir(place);"
        "from threadcorn.cli import main; sys.argv[1:] = ['a:b']; main()"
    )
    (tmp_path / "tcscript.py").write_text(script)
    done = run_cli(cwd=tmp_path, module="tcscript")
    assert done.code == 2
    assert done.err == "threadcorn: the current directory has been deleted; change to one that exists\n"
