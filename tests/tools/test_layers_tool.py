"""tools/layers.py finds what it is there to find, and nothing in a house that is in order."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from tests.kit import ROOT

_SPEC = importlib.util.spec_from_file_location("layers", ROOT / "tools" / "layers.py")
layers = importlib.util.module_from_spec(_SPEC)
sys.modules["layers"] = layers  # dataclasses look their module up
_SPEC.loader.exec_module(layers)


def faults(tmp_path, files):
    package = tmp_path / "threadcorn"
    for name, text in files.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return [str(fault) for fault in layers.check(package)]


@pytest.mark.parametrize(
    ("file", "text", "place", "part"),
    [
        ("http1/rules.py", "from threadcorn.worker import pool\n", "http1/rules.py:1", "upwards"),
        ("http1/rules.py", "def f():\n    import threadcorn.logs\n", "http1/rules.py:2", "upwards"),
        ("http1/rules.py", "from threadcorn import worker\n", "http1/rules.py:1", "upwards"),
        ("http1/rules.py", "from ..system import poller\n", "http1/rules.py:1", "upwards"),
        ("http1/rules.py", "from threadcorn.wsgi import gateway\n", "http1/rules.py:1", "beside it"),
        (
            "arbiter/arbiter.py",
            "from threadcorn.worker.worker import run\n",
            "arbiter/arbiter.py:1",
            "the wall",
        ),
        ("worker/pool.py", "import threadcorn.arbiter.arbiter\n", "worker/pool.py:1", "the wall"),
        ("http1/rules.py", "import httptools\n", "http1/rules.py:1", "its door is http1/parser.py"),
        ("worker/pool.py", "import os\n\nos.fork()\n", "worker/pool.py:3", "os.fork"),
        ("worker/pool.py", "import os as o\no.waitpid\n", "worker/pool.py:2", "os.waitpid"),
        ("worker/pool.py", "from os import fork as spoon\n", "worker/pool.py:1", "os.fork"),
        ("worker/pool.py", "from os import *\n", "worker/pool.py:1", "os.fork"),
        ("worker/pool.py", "import os\nos.execve\n", "worker/pool.py:2", "system/spawn.py"),
        ("system/spawn.py", "import os\nos.environ\n", "system/spawn.py:2", "os.environ"),
        ("arbiter/arbiter.py", "import threading\n", "arbiter/arbiter.py:1", "worker/*"),
        (
            "arbiter/arbiter.py",
            "from concurrent.futures import thread\n",
            "arbiter/arbiter.py:1",
            "nothing here",
        ),
        ("app/base.py", "import signal\n", "app/base.py:1", "system/signals.py"),
        ("policy/restart.py", "import socket\n", "policy/restart.py:1", "a pure module"),
        ("policy/restart.py", "import time\n\ntime.monotonic()\n", "policy/restart.py:3", "a pure module"),
        ("policy/restart.py", "from time import time\n", "policy/restart.py:1", "a pure module"),
        ("gadgets.py", "", "gadgets.py:1", "has no layer"),
        ("worker/pool.py", "import threadcorn.gadgets\n", "worker/pool.py:1", "which has no layer"),
        ("messages.py", "from threadcorn.system import berths\n", "messages.py:1", "upwards"),
        ("demo.py", "import threadcorn.settings\n", "demo.py:1", "like any other"),
        ("worker/pool.py", "\n" * 450, "worker/pool.py:450", "a second noun"),
    ],
)
def test_a_planted_violation_is_found(tmp_path, file, text, place, part):
    """Each rule is broken once, and the fault names file, line and rule."""
    found = faults(tmp_path, {file: text})
    assert found, "nothing was found"
    assert all(f.startswith(f"threadcorn/{place}:") for f in found), found
    assert any(part in f for f in found), found


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("worker/pool.py", "import threading\nfrom threadcorn.system.poller import Poller\n"),
        ("worker/pool.py", "from threadcorn.worker.serve import serve\nfrom threadcorn import errors\n"),
        ("http1/parser.py", "import httptools\nfrom httptools import parser\n"),
        ("http1/response.py", "import time\n\ntime.gmtime(0)\n"),
        ("system/spawn.py", "import os\nos.fork()\nos.waitpid\nos.execv\nos.kill\n"),
        (
            "app/base.py",
            "import os\nfrom threadcorn.arbiter import arbiter\nfrom threadcorn import cli\nos.environ\n",
        ),
        ("wsgi/gateway.py", "from threadcorn.http1.response import head\n"),
        ("worker/pool.py", "import signals\nimport mysignal.signal\nself.os.fork()\n"),
        (
            "messages.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from threadcorn.system import berths\n",
        ),
    ],
)
def test_what_is_allowed_is_not_reported(tmp_path, file, text):
    """A checker that cries wolf is switched off: lawful code gives no fault."""
    assert faults(tmp_path, {file: text}) == []


def test_the_command_answers_by_exit_code(tmp_path):
    """Faults are printed with their place and give 1; order gives 0."""
    package = tmp_path / "threadcorn"
    package.mkdir()
    command = [sys.executable, str(ROOT / "tools" / "layers.py"), str(package)]
    assert subprocess.run(command, capture_output=True, timeout=20).returncode == 0
    (package / "logs.py").write_text("import threadcorn.cli\n")
    broken = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert broken.returncode == 1
    assert "threadcorn/logs.py:1: " in broken.stdout


def test_the_tables_name_rooms_that_have_layers():
    """A misspelt room in an exception would silently allow nothing."""
    rooms = {room for pair in [*layers.SIDEWAYS, *layers.TYPE_ONLY] for room in pair} | set(layers.WALL)
    assert rooms <= set(layers.LAYERS)
