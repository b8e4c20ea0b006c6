"""The names of a config file: settings, helpers, mistakes."""

from __future__ import annotations

import os
from os import environ

import pytest

from threadcorn.settings import Config
from threadcorn.settings.namespace import namespace_layer


def problems(**names: object) -> list[str]:
    cfg = Config()
    cfg.apply(namespace_layer(names, lambda name: "conf.py, line 3"))
    return cfg.problems


def test_settings_are_taken_with_their_place() -> None:
    cfg = Config()
    cfg.apply(namespace_layer({"workers": "3"}, lambda name: "conf.py, line 3"))
    assert (cfg.workers, str(cfg.origins["workers"])) == (3, "config file conf.py, line 3")


@pytest.mark.parametrize(
    "names",
    [
        {"_cores": 4},
        {"CORES": 4, "cores": 4, "something_else": [1]},
        {"os": os, "environ": environ},
        {"helper": lambda: None, "Thing": type("Thing", (), {})},
        {"reuse_port": True},
        {"worker_class": "gthread"},
    ],
)
def test_what_is_free(names: dict[str, object]) -> None:
    assert problems(**names) == []


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("keep_alive", 5, "keep_alive: there is no such setting; did you mean 'keepalive'?"),
        ("Workers", 5, "Workers: there is no such setting; did you mean 'workers'?"),
        ("gracefultimeout", 5, "did you mean 'graceful_timeout'?"),
        ("post_frok", lambda server, worker: None, "no hook has this name; did you mean 'post_fork'?"),
        ("pre_fork", lambda server: None, "the function must take 2 arguments"),
        ("bind", lambda: None, "bind: expected text or a list of texts"),
        ("certfile", "x.pem", "certfile: this version does not speak TLS"),
    ],
)
def test_what_is_a_mistake(name: str, value: object, said: str) -> None:
    (problem,) = problems(**{name: value})
    assert said in problem
    assert problem.endswith("(config file conf.py, line 3)")


def test_a_name_that_the_file_reads_is_a_helper() -> None:
    names = {"use_bind": ":80", "timeout_str": "120", "my_post_fork": lambda server, worker: None}
    assert len(problems(**names)) == 3
    assert namespace_layer(names, lambda name: "conf.py", free=names).problems == []


def test_all_mistakes_are_reported_together() -> None:
    assert len(problems(wrokers=3, workers="x", timeout=-1)) == 3
