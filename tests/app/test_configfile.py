"""Finding, reading and running the config file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from threadcorn.app.configfile import MODULE_NAME, read_config_file
from threadcorn.settings.sources import Layer


@pytest.fixture(autouse=True)
def _modules_as_before() -> Iterator[None]:
    before = dict(sys.modules)
    yield
    for name in set(sys.modules) - set(before):
        del sys.modules[name]


def values(layer: Layer) -> dict[str, object]:
    assert layer.problems == []
    return {one.name: one.value for one in layer.given}


def test_none_is_fine(tmp_path: Path) -> None:
    assert values(read_config_file(None, str(tmp_path))) == {}


def test_ours_is_found_before_gunicorns(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text("workers = 2")
    assert values(read_config_file(None, str(tmp_path))) == {"workers": 2}
    (tmp_path / "threadcorn.conf.py").write_text("workers = 3")
    assert values(read_config_file(None, str(tmp_path))) == {"workers": 3}


@pytest.mark.parametrize(
    "form", ["conf.txt", "file:conf.txt", "{tmp_path}/conf.txt", "file:{tmp_path}/conf.txt"]
)
def test_path_forms(tmp_path: Path, form: str) -> None:
    (tmp_path / "conf.txt").write_text("import os\nthreads = 2 * 2\n")
    layer = read_config_file(form.format(tmp_path=tmp_path), str(tmp_path))
    assert values(layer) == {"threads": 4}
    assert layer.given[0].origin.place.endswith("conf.txt, line 2")


def test_module_form_is_executed_anew_each_time(tmp_path: Path) -> None:
    (tmp_path / "tcpkg").mkdir()
    (tmp_path / "tcpkg" / "__init__.py").write_text("")
    path = tmp_path / "tcpkg" / "conf.py"
    for number in (3, 4):
        path.write_text(f"workers = {number}")
        assert values(read_config_file("python:tcpkg.conf", str(tmp_path))) == {"workers": number}


def test_an_edit_within_the_same_second_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "threadcorn.conf.py"
    for number in (3, 4):
        path.write_text(f"workers = {number}")
        os.utime(path, (1_700_000_000, 1_700_000_000))
        assert values(read_config_file(None, str(tmp_path))) == {"workers": number}


def test_helpers_that_are_named_after_settings(tmp_path: Path) -> None:
    # As the config files of well-known container images for gunicorn are written.
    (tmp_path / "gunicorn.conf.py").write_text(
        "import os\n"
        "use_bind = os.environ.get('TC_NOT_SET') or '127.0.0.1:0'\n"
        "max_workers_str = os.environ.get('TC_NOT_SET')\n"
        "timeout_str = '120'\n"
        "def my_post_fork(server, worker): pass\n"
        "bind, timeout, post_fork = use_bind, int(timeout_str), my_post_fork\n"
        "workers = int(max_workers_str or 2)\n"
    )
    given = values(read_config_file(None, str(tmp_path)))
    assert set(given) == {"bind", "timeout", "post_fork", "workers"}


def test_names_that_came_from_elsewhere_are_not_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whether the other file reads them is its own affair; a loop over the environment makes what it finds.
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "tcbase.py").write_text("use_bind = ':80'\nbind = use_bind\n")
    (tmp_path / "gunicorn.conf.py").write_text(
        "from tcbase import *\nlocals()['worker'] = '3'\nthreads = 2\n"
    )
    assert values(read_config_file(None, str(tmp_path))) == {"bind": ":80", "threads": 2}


def test_a_file_in_utf_16_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_bytes("workers = 3".encode("utf-16"))
    (problem,) = read_config_file(None, str(tmp_path)).problems
    assert problem.endswith("gunicorn.conf.py: there is a zero byte in it; save it as text, in UTF-8")


def test_a_mistyped_setting_is_one_that_nobody_reads(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text("timeout_ = 5\nprint(timeout_)\nwrokers = 3\n")
    (problem,) = read_config_file(None, str(tmp_path)).problems
    assert problem.startswith("wrokers: there is no such setting; did you mean 'workers'?")


def test_the_running_file_is_a_module(tmp_path: Path) -> None:
    (tmp_path / "threadcorn.conf.py").write_text(
        "import sys\nraw_env = [f'FILE={__file__}', f'NAME={__name__}', f'IN={__name__ in sys.modules}']\n"
    )
    assert values(read_config_file(None, str(tmp_path))) == {
        "raw_env": [f"FILE={tmp_path}/threadcorn.conf.py", f"NAME={MODULE_NAME}", "IN=True"]
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("workers = 1\ndef f(:\n", "threadcorn.conf.py, line 2: invalid syntax: def f(:"),
        ("workers = 1\n\nnope()\n", "threadcorn.conf.py, line 3: NameError: name 'nope' is not defined"),
        ("import gunicorn.tc_not_there\n", "the file itself imports gunicorn: install that as well, or take"),
        ("import json\njson.loads('{')\n", "threadcorn.conf.py raised\nTraceback"),
        ("import sys\nsys.exit(4)\n", "line 2: it ended the program (sys.exit(4)); a config file must run"),
        ("import no_such_module_at_all\n", "line 1: ModuleNotFoundError: No module named"),
    ],
)
def test_a_failure_names_file_and_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "threadcorn.conf.py").write_text(text)
    (problem,) = read_config_file(None, str(tmp_path)).problems
    assert said in problem
    assert "configfile.py" not in problem
    assert MODULE_NAME not in sys.modules


def test_a_failed_reading_leaves_the_module_of_the_last_good_one(tmp_path: Path) -> None:
    path = tmp_path / "threadcorn.conf.py"
    path.write_text("workers = 1")
    read_config_file(None, str(tmp_path))
    good = sys.modules[MODULE_NAME]
    path.write_text("workers = (")
    assert read_config_file(None, str(tmp_path)).problems
    assert sys.modules[MODULE_NAME] is good


def test_a_file_or_module_that_is_not_there(tmp_path: Path) -> None:
    for named, said in (
        ("nope.py", f"config file {tmp_path}/nope.py: cannot be read: No such file or directory"),
        ("python:tc_nope", f"config python:tc_nope: there is no such module in {tmp_path}"),
        ("python:tc_nope.sub", "config python:tc_nope.sub: cannot be found"),
    ):
        (problem,) = read_config_file(named, str(tmp_path)).problems
        assert problem.startswith(said)


def test_the_line_of_a_hook_is_found(tmp_path: Path) -> None:
    (tmp_path / "threadcorn.conf.py").write_text("\n\ndef pre_fork(server):\n    pass\n")
    layer = read_config_file(None, str(tmp_path))
    assert layer.given[0].origin.place.endswith("line 3")
