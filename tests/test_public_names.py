"""What a module offers is written in it, exists, and can be imported by itself."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import threadcorn

PACKAGE = Path(threadcorn.__file__).parent


def _modules():
    names = []
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = ["threadcorn", *file.relative_to(PACKAGE).with_suffix("").parts]
        if parts[-1] == "__main__":
            continue  # runs when imported
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


MODULES = _modules()


# What users and their tools import; the rest of the package may change from release to release.
PUBLIC = [
    "threadcorn",
    "threadcorn.app.base",
    "threadcorn.app.wsgiapp",
    "threadcorn.errors",
    "threadcorn.settings",
]


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_module_says_what_it_offers(name):
    """The question "is this public?" is answered in the file itself."""
    assert importlib.import_module(name).__all__


@pytest.mark.parametrize("name", MODULES)
def test_what_a_module_offers_exists(name):
    """Every name in an __all__ is there, once."""
    module = importlib.import_module(name)
    offered = getattr(module, "__all__", [])
    missing = [each for each in offered if not hasattr(module, each)]
    assert not missing, f"{name}.__all__ promises {missing}"
    assert len(set(offered)) == len(offered), f"{name}.__all__ names something twice"


@pytest.mark.parametrize("name", MODULES)
def test_a_module_says_what_it_is_for(name):
    """Every module begins with a sentence."""
    module = importlib.import_module(name)
    assert (module.__doc__ or "").strip() or not Path(module.__file__).read_text().strip(), (
        f"{name} is silent"
    )


@pytest.mark.parametrize(
    "name", ["threadcorn.app.base", "threadcorn.app.wsgiapp", "threadcorn.cli", "threadcorn.demo"]
)
def test_an_entry_can_be_imported_first(name):
    """An entry module imports in a fresh interpreter, with warnings as errors: no import cycle hides."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"import {name}"], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr


def test_the_names_that_users_import_are_there():
    """Embedding has the shape that gunicorn's users know."""
    base = importlib.import_module("threadcorn.app.base")
    wsgiapp = importlib.import_module("threadcorn.app.wsgiapp")
    assert issubclass(base.Application, base.BaseApplication)
    assert issubclass(wsgiapp.WSGIApplication, base.Application)
    assert callable(wsgiapp.run)
    assert callable(importlib.import_module("threadcorn.demo").app)


def test_the_package_is_typed_and_has_a_version():
    """Type checkers need py.typed, and packaging needs a version that is one."""
    assert (PACKAGE / "py.typed").exists()
    assert re.fullmatch(r"\d+\.\d+\.\d+([ab]\d+|rc\d+|\.dev\d+)?", threadcorn.__version__)
