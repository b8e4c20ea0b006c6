"""The command line, and the order of all sources."""

from __future__ import annotations

import pytest

from threadcorn.settings import Config, Section
from threadcorn.settings.flags import build_parser, parse_argv
from threadcorn.settings.namespace import namespace_layer
from threadcorn.settings.resolve import Sources
from threadcorn.settings.sources import Layer, Source, environment


def resolved(
    argv: str = "", environ: dict[str, str] | None = None, file: dict[str, object] | None = None
) -> Config:
    cfg = Config()
    cfg.apply(environment(environ or {}))
    Sources(environ or {}, argv.split()).fill(
        cfg, lambda named: namespace_layer(file or {}, lambda name: named or "conf.py")
    )
    return cfg


def test_the_stronger_source_wins() -> None:
    environ = {
        "THREADCORN_WORKERS": "2",
        "THREADCORN_THREADS": "2",
        "THREADCORN_BACKLOG": "2",
        "THREADCORN_UMASK": "2",
    }
    file: dict[str, object] = {"workers": 3, "threads": 3, "backlog": 3}
    args = {"THREADCORN_CMD_ARGS": "--workers 4 --threads 4", "GUNICORN_CMD_ARGS": "--umask 7"}
    cfg = resolved("--workers 5", {**environ, **args}, file)
    assert (cfg.workers, cfg.threads, cfg.backlog, cfg.umask, cfg.timeout) == (5, 4, 3, 2, 30.0)
    assert [str(cfg.origins[name]) for name in ("workers", "threads", "backlog", "umask", "timeout")] == [
        "command line",
        "arguments in THREADCORN_CMD_ARGS",
        "config file conf.py",
        "environment THREADCORN_UMASK",
        "default",
    ]


def test_gunicorns_arguments_count_where_ours_are_not_set() -> None:
    cfg = resolved("", {"GUNICORN_CMD_ARGS": "--workers 4 'mod:create_app(1, 2)'"})
    assert (cfg.workers, cfg.wsgi_app) == (4, "mod:create_app(1, 2)")


def test_lists_are_replaced_and_repeated_flags_collect() -> None:
    cfg = resolved("-b :1 --bind=:2 -e A=1 --env B=x,y", file={"bind": ":9", "raw_env": ["C=3"]})
    assert cfg.bind == (":1", ":2")
    assert cfg.raw_env == ("A=1", "B=x,y")


def test_the_last_of_a_repeated_flag_counts() -> None:
    assert resolved("-w 1 -w 2").workers == 2
    assert resolved("--preload --no-preload").preload_app is False


def test_a_flag_turns_off_what_the_file_turned_on() -> None:
    assert (
        resolved("--no-preload --sendfile", file={"preload_app": True, "sendfile": False}).preload_app
        is False
    )


@pytest.mark.parametrize(
    ("argv", "environ", "named"),
    [
        ("-c a.py", {"THREADCORN_CMD_ARGS": "-c b.py", "THREADCORN_CONFIG": "c.py"}, "a.py"),
        ("", {"THREADCORN_CMD_ARGS": "-c b.py", "THREADCORN_CONFIG": "c.py"}, "b.py"),
        ("", {"THREADCORN_CONFIG": "c.py"}, "c.py"),
        ("", {}, None),
    ],
)
def test_one_config_file_is_read_the_one_named_by_the_strongest(
    argv: str, environ: dict[str, str], named: str | None
) -> None:
    asked: list[str | None] = []
    cfg = Config()
    cfg.apply(environment(environ))
    Sources(environ, argv.split()).fill(cfg, lambda name: asked.append(name) or Layer())
    assert asked == [named]


@pytest.mark.parametrize("argv", ["mod:app -w 2", "-w 2 mod:app", "-w 2 mod:app -b :1", "-w 2 -- mod:app"])
def test_the_application_stands_anywhere(argv: str) -> None:
    cfg = resolved(argv, file={"wsgi_app": "other:app"})
    assert (cfg.wsgi_app, cfg.workers, cfg.problems) == ("mod:app", 2, [])


def test_one_application_at_a_time() -> None:
    assert resolved("a:b c:d").problems == ["one application at a time, got a:b and c:d (command line)"]


def problems(argv: str) -> list[str]:
    return parse_argv(argv.split(), Source.COMMAND_LINE).layer.problems


def test_mistakes_are_named_with_the_nearest_flag() -> None:
    assert problems("--wrokers 3 --nothing-like-it") == [
        "unknown option --wrokers; did you mean --workers? (command line)",
        "unknown option --nothing-like-it; see threadcorn --help (command line)",
    ]
    assert problems("--workers") == [
        "-w/--workers: its value is missing (see threadcorn --help) (command line)"
    ]
    assert problems("--preload=yes") == ["--preload: it takes no value; leave 'yes' out (command line)"]
    assert problems("--work 3")[0].startswith("unknown option --work;")


def test_after_an_unknown_flag_no_word_is_taken_for_the_application() -> None:
    assert parse_argv(["--wrokers", "3"], Source.COMMAND_LINE).positional is None


def test_arguments_that_do_not_split_are_a_problem() -> None:
    assert resolved("", {"THREADCORN_CMD_ARGS": "--bind 'x"}).problems == [
        "THREADCORN_CMD_ARGS: cannot be split into words: No closing quotation"
    ]


def test_flags_of_gunicorns_are_understood_with_their_values() -> None:
    cfg = resolved(
        "-k gevent --reload --worker-tmp-dir /dev/shm --proxy-protocol --no-control-socket mod:app"
    )
    assert cfg.wsgi_app == "mod:app"
    assert [warning.partition(" ")[0] for warning in sorted(cfg.warnings)] == [
        "--reload",
        "--worker-tmp-dir",
        "-k",
    ]
    assert (cfg.problems, cfg.proxy_protocol) == ([], "auto")
    assert resolved("-k gthread --threads 4 mod:app").warnings == []


def test_help_has_every_section_in_order() -> None:
    text = build_parser().format_help()
    places = [text.find(f"\n{section.value}:\n") for section in Section if section is not Section.HOOKS]
    assert -1 not in places and places == sorted(places)
    assert text.startswith("usage: threadcorn [OPTIONS] [MODULE:APP]\n")
    assert "==SUPPRESS==" not in text
    assert "--asgi-loop" not in text and "--ready-fd" not in text
    assert all(len(line) <= 110 for line in text.splitlines())
