from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys

import pytest

from threadcorn import logs
from threadcorn.errors import ConfigError
from threadcorn.settings import Settings

LINE = re.compile(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}\] \[(\d+)\] \[([A-Z]+)\] (.*)")


def lines(path) -> list[str]:
    return path.read_text("utf-8").split("\n")[:-1]


def test_a_record_is_one_line_in_gunicorns_format(tmp_path):
    log = logs.setup(Settings(errorlog=str(tmp_path / "log")))
    log.info("Booted with %d workers", 3)
    [line] = lines(tmp_path / "log")
    match = LINE.fullmatch(line)
    assert match is not None
    assert match.groups() == (str(os.getpid()), "INFO", "Booted with 3 workers")


@pytest.mark.parametrize(
    ("level", "shown"),
    [("debug", 5), ("info", 4), ("warning", 3), ("error", 2), ("critical", 1)],
)
def test_the_level_decides_what_is_shown(tmp_path, level, shown):
    log = logs.setup(Settings(errorlog=str(tmp_path / "log"), loglevel=level))
    for method in (log.debug, log.info, log.warning, log.error, log.critical):
        method("x")
    assert len(lines(tmp_path / "log")) == shown


def test_nothing_in_a_message_can_look_like_a_record(tmp_path):
    """A path with a line feed, a terminal's escape and every line end that some reader knows."""
    log = logs.setup(Settings(errorlog=str(tmp_path / "log")))
    log.warning("bad path %s", "/x\n[2026-01-01 00:00:00 +0000] [1] [INFO] forged\r\x1b[2J\x85\u2028end")
    first, second = lines(tmp_path / "log")
    assert first.endswith("bad path /x")
    assert second == "  [2026-01-01 00:00:00 +0000] [1] [INFO] forged\\x0D\\x1B[2J\\x85\\u2028end"


def test_a_traceback_is_one_record_with_indented_lines(tmp_path):
    log = logs.setup(Settings(errorlog=str(tmp_path / "log")))
    try:
        raise ValueError("of the\napplication")
    except ValueError:
        log.exception("Error handling request")
    first, *rest = lines(tmp_path / "log")
    assert first.endswith("[ERROR] Error handling request")
    assert rest[0] == "  Traceback (most recent call last):"
    assert all(line.startswith("  ") for line in rest)
    assert rest[-1] == "  application"


def test_text_that_is_no_unicode_is_written_all_the_same(tmp_path):
    """A file name may hold lone surrogates."""
    log = logs.setup(Settings(errorlog=str(tmp_path / "log")))
    log.error("caf\u00e9 \udcff")
    assert lines(tmp_path / "log")[0].endswith("café \\udcff")


def test_a_message_whose_arguments_do_not_fit_is_reported_and_not_raised(tmp_path):
    log = logs.setup(Settings(errorlog=str(tmp_path / "log")))
    log.error("%d of %d", *[1])
    assert "could not be formatted: '%d of %d' (TypeError" in lines(tmp_path / "log")[0]


def test_the_log_says_how_many_lines_were_lost_when_it_can_write_again(tmp_path):
    log = logs.setup(Settings(errorlog=str(tmp_path / "log")))
    [handler] = log.handlers
    number = handler.file.fileno()
    good, full = os.dup(number), os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, number)
    for _ in range(3):
        log.error("nobody will read this")
    os.dup2(good, number)
    log.error("back again")
    log.error("and on")
    assert lines(tmp_path / "log")[1] == f"  (3 lines of this log were lost: {os.strerror(28)})"
    assert len(lines(tmp_path / "log")) == 3
    os.close(good)
    os.close(full)


def test_a_setup_that_fails_leaves_the_old_one_at_work(tmp_path):
    """A reload with a mistake in it must not cost the log that would tell about it."""
    log = logs.setup(Settings(errorlog=str(tmp_path / "log")))
    for bad in (
        Settings(errorlog=str(tmp_path / "no" / "log")),
        Settings(errorlog=str(tmp_path / "log"), logconfig_dict={"handlers": {"x": {"class": "no.Such"}}}),
    ):
        with pytest.raises(ConfigError):
            logs.setup(bad)
    log.info("still here")
    assert lines(tmp_path / "log")[-1].endswith("still here")


def test_a_second_setup_replaces_the_first(tmp_path):
    logs.setup(Settings(errorlog=str(tmp_path / "one")))
    log = logs.setup(Settings(errorlog=str(tmp_path / "two"), loglevel="error"))
    log.info("not shown")
    log.error("shown")
    assert lines(tmp_path / "one") == []
    assert len(lines(tmp_path / "two")) == 1


def test_reopen_finds_the_logs_and_foreign_file_handlers(tmp_path):
    """USR1 after logrotate: ours, and every FileHandler that a config has put anywhere."""
    log = logs.setup(Settings(errorlog=str(tmp_path / "log")))
    foreign = logging.getLogger("tests.foreign")
    handler = logging.FileHandler(tmp_path / "foreign")
    foreign.addHandler(handler)
    foreign.warning("before")
    for name in ("log", "foreign"):
        (tmp_path / name).rename(tmp_path / f"{name}.1")
    logs.reopen()
    log.info("after")
    foreign.warning("after")
    assert lines(tmp_path / "log")[0].endswith("after")
    assert lines(tmp_path / "foreign") == ["after"]
    assert lines(tmp_path / "foreign.1") == ["before"]
    foreign.removeHandler(handler)
    handler.close()


def test_reopen_tells_which_log_it_could_not_open(tmp_path):
    (tmp_path / "logs").mkdir()
    log = logs.setup(Settings(errorlog=str(tmp_path / "logs" / "log")))
    (tmp_path / "logs").rename(tmp_path / "gone")
    logs.reopen()
    log.info("next")
    first, second = lines(tmp_path / "gone" / "log")
    assert "cannot be opened again: No such file or directory" in first
    assert second.endswith("next")


def test_the_names_that_gunicorns_users_know_lead_to_the_same_log(tmp_path):
    """`logging.getLogger("gunicorn.error").handlers` is how Flask applications find our log."""
    early = logging.getLogger("gunicorn.error")
    log = logs.setup(Settings(errorlog=str(tmp_path / "log"), loglevel="warning"))
    assert logging.getLogger("gunicorn.error") is log
    assert early.handlers == log.handlers
    for logger in (early, logging.getLogger("gunicorn.error")):
        logger.info("not shown")
        logger.error("from an application")
    assert len(lines(tmp_path / "log")) == 2


def test_a_dict_config_says_where_the_error_log_goes(tmp_path):
    """Written for gunicorn, with its logger's name."""
    log = logs.setup(
        Settings(
            errorlog=str(tmp_path / "unused"),
            logconfig_dict={
                "loggers": {"gunicorn.error": {"handlers": ["mine"], "level": "DEBUG"}},
                "handlers": {
                    "mine": {
                        "class": "logging.FileHandler",
                        "filename": str(tmp_path / "mine"),
                        "formatter": "brief",
                    },
                },
                "formatters": {"brief": {"format": "%(levelname)s %(message)s"}},
                "root": {"handlers": []},
            },
        )
    )
    log.debug("hello")
    assert lines(tmp_path / "mine") == ["DEBUG hello"]
    assert lines(tmp_path / "unused") == []


def test_a_dict_config_that_is_silent_about_us_leaves_our_log(tmp_path):
    log = logs.setup(
        Settings(
            errorlog=str(tmp_path / "log"), logconfig_dict={"loggers": {"mine": {}}, "root": {"handlers": []}}
        )
    )
    log.info("hello")
    assert len(lines(tmp_path / "log")) == 1


def test_a_dict_config_that_disables_existing_loggers_does_not_mean_ours(tmp_path):
    """Also not the second time, when both of our names exist."""
    settings = Settings(
        errorlog=str(tmp_path / "log"),
        logconfig_dict={"disable_existing_loggers": True, "loggers": {"mine": {}}, "root": {"handlers": []}},
    )
    for _ in range(2):
        logs.setup(settings).info("hello")
    assert len(lines(tmp_path / "log")) == 2


def test_a_json_config_is_a_dict_config(tmp_path):
    handler = {"class": "logging.FileHandler", "filename": str(tmp_path / "mine")}
    config = {
        "loggers": {"threadcorn.error": {"handlers": ["mine"], "level": "INFO"}},
        "handlers": {"mine": handler},
        "root": {"handlers": []},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    logs.setup(Settings(logconfig_json=str(tmp_path / "config.json"))).info("hello")
    assert lines(tmp_path / "mine") == ["hello"]


def test_an_ini_config_written_for_gunicorn_works(tmp_path):
    (tmp_path / "log.ini").write_text(
        "[loggers]\nkeys=root, gunicorn.error\n"
        "[handlers]\nkeys=mine\n"
        "[formatters]\nkeys=brief\n"
        "[logger_root]\nlevel=ERROR\nhandlers=\n"
        "[logger_gunicorn.error]\nlevel=INFO\nhandlers=mine\npropagate=0\nqualname=gunicorn.error\n"
        "[handler_mine]\nclass=FileHandler\nformatter=brief\nargs=('%(here)s/mine',)\n"
        "[formatter_brief]\nformat=%(levelname)s %(message)s\n"
    )
    logs.setup(Settings(logconfig=str(tmp_path / "log.ini"))).info("hello")
    assert lines(tmp_path / "mine") == ["INFO hello"]


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            {"logconfig_dict": {"handlers": {"x": {"class": "no.Such"}}}},
            "logconfig_dict: Unable to configure",
        ),
        ({"logconfig_json": "/nowhere.json"}, "--log-config-json '/nowhere.json': No such file"),
        ({"logconfig": "/nowhere.ini"}, "--log-config '/nowhere.ini': No such file"),
    ],
)
def test_a_mistake_in_a_log_config_is_one_sentence(settings, text):
    with pytest.raises(ConfigError) as caught:
        logs.setup(Settings(**settings))
    [problem] = caught.value.problems
    assert problem.startswith(text)


@pytest.mark.parametrize(("text", "said"), [("{", "this is not JSON"), ("[]", "expected a JSON object")])
def test_a_json_config_that_is_none_is_named(tmp_path, text, said):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=said):
        logs.setup(Settings(logconfig_json=str(tmp_path / "config.json")))


def test_capture_output_sends_prints_and_what_c_code_says_to_the_log(tmp_path):
    """In a process of its own: descriptors 1 and 2 are changed."""
    program = (
        "import os, sys\n"
        "from threadcorn import logs\n"
        "from threadcorn.settings import Settings\n"
        f"log = logs.setup(Settings(errorlog={str(tmp_path / 'log')!r}, capture_output=True))\n"
        "print('printed')\n"
        "os.write(2, b'from C\\n')\n"
        "log.info('logged')\n"
        f"os.rename({str(tmp_path / 'log')!r}, {str(tmp_path / 'log.1')!r})\n"
        "logs.reopen()\n"
        "print('after')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    printed, from_c, logged = lines(tmp_path / "log.1")
    assert (printed, from_c) == ("printed", "from C")
    assert logged.endswith("logged")
    assert lines(tmp_path / "log") == ["after"]


def test_capture_output_without_a_file_changes_nothing():
    """As in gunicorn: '-' is where the output goes already."""
    program = (
        "from threadcorn import logs\n"
        "from threadcorn.settings import Settings\n"
        "logs.setup(Settings(capture_output=True)).info('logged')\n"
        "print('printed')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert done.stdout == "printed\n"
    assert LINE.fullmatch(done.stderr.rstrip("\n"))


def test_a_full_standard_error_does_not_stop_the_process():
    """Somebody starts the server with 2>&1 | and never reads: the process ends by itself, lines are lost."""
    program = (
        "from threadcorn import logs\n"
        "from threadcorn.settings import Settings\n"
        "log = logs.setup(Settings())\n"
        "for _ in range(3000): log.info('x' * 1000)\n"
        "print(log.handlers[0].file.dropped > 0)\n"
    )
    read, write = os.pipe()
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=write) as process:
        os.close(write)
        assert process.communicate(timeout=30)[0] == b"True\n"
    os.close(read)
