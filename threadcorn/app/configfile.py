"""Finds, reads and runs the Python config file.

It is executed from its source each time, never from a cache: a reload a moment after an edit must see
the edit, also where the file's size and second are the same.
"""

from __future__ import annotations

import ast
import importlib.machinery
import importlib.util
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from threadcorn.errors import InternalError, traceback_text
from threadcorn.settings.namespace import namespace_layer
from threadcorn.settings.sources import Layer

__all__ = ["MODULE_NAME", "importable", "read_config_file"]

# The name under which gunicorn's users know the running config file.
MODULE_NAME = "__config__"

DEFAULT_FILES = ("threadcorn.conf.py", "gunicorn.conf.py")


def read_config_file(named: str | None, directory: str) -> Layer:
    """The layer of the file that was named, or of the first default file in `directory`."""
    if named is None:
        paths = (os.path.join(directory, name) for name in DEFAULT_FILES)
        path = next((path for path in paths if os.path.isfile(path)), None)
        return Layer() if path is None else _read(path, path, MODULE_NAME)
    if named.startswith("python:"):
        return _read_module(named.removeprefix("python:"), directory)
    path = os.path.join(directory, os.path.expanduser(named.removeprefix("file:")))
    return _read(path, path, MODULE_NAME)


@contextmanager
def importable(directory: str | None) -> Iterator[None]:
    """What lies in `directory` can be imported meanwhile.

    Config modules, what a config file imports and hooks by name live beside the application. The path is
    only put up when we run, and a console script begins with its own directory instead.
    """
    if directory is None or directory in sys.path:
        yield
        return
    sys.path.insert(0, directory)
    try:
        yield
    finally:
        if directory in sys.path:
            sys.path.remove(directory)


def _read_module(name: str, directory: str) -> Layer:
    try:
        with importable(directory):
            importlib.invalidate_caches()
            spec = importlib.util.find_spec(name)
    except (ImportError, ValueError) as error:
        return Layer(problems=[f"config python:{name}: cannot be found: {error}"])
    if spec is None or spec.origin is None or not os.path.isfile(spec.origin):
        return Layer(
            problems=[f"config python:{name}: there is no such module in {directory} or on Python's path"]
        )
    return _read(spec.origin, f"python:{name}", name)


def _read(path: str, label: str, module_name: str) -> Layer:
    try:
        with open(path, "rb") as file:
            source = file.read()
    except OSError as error:
        return Layer(problems=[f"config file {label}: cannot be read: {error.strerror}"])
    if b"\0" in source:  # UTF-16: Python's own sentence would have no place in it
        return Layer(problems=[f"config file {label}: there is a zero byte in it; save it as text, in UTF-8"])
    loader = importlib.machinery.SourceFileLoader(module_name, path)
    spec = importlib.util.spec_from_file_location(module_name, path, loader=loader)
    if spec is None:
        raise InternalError(f"no module can be made of {path}")
    module = importlib.util.module_from_spec(spec)
    previous = sys.modules.get(module_name)
    # In its place before it runs: dataclasses and pickle look a class's module up there.
    sys.modules[module_name] = module
    try:
        tree = ast.parse(source, path)
        exec(compile(tree, path, "exec", dont_inherit=True), module.__dict__)  # noqa: S102 -- its purpose
    except (Exception, SystemExit) as error:  # noqa: BLE001 -- whatever the file raises is to be reported
        # A failed reload must leave everything as it was.
        if previous is not None:
            sys.modules[module_name] = previous
        else:
            del sys.modules[module_name]
        return Layer(problems=[_failure(error, path, label)])
    lines = _Lines(source.decode("utf-8", "replace"), label)
    names = _own_names(module)
    read, given = _names_in(tree)
    return namespace_layer(names, lines.place_of, read | (set(names) - given))


def _own_names(module: ModuleType) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if not name.startswith("__")}


def _names_in(tree: ast.AST) -> tuple[set[str], set[str]]:
    """The names that a file reads, and those that it gives a value itself."""
    read: set[str] = set()
    given: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (read if isinstance(node.ctx, ast.Load) else given).add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            given.add(node.name)
        elif isinstance(node, ast.alias):
            given.add(node.asname or node.name)
    return read, given


def _failure(error: Exception | SystemExit, path: str, label: str) -> str:
    if isinstance(error, SyntaxError) and error.filename == path:
        return f"config file {label}, line {error.lineno}: {error.msg}: {(error.text or '').strip()}"
    frames = []
    step = error.__traceback__
    while step is not None:
        frames.append((step.tb_frame.f_code.co_filename, step.tb_lineno))
        step = step.tb_next
    if frames and frames[-1][0] == path:
        where = f"config file {label}, line {frames[-1][1]}"
        if isinstance(error, SystemExit):
            return (
                f"{where}: it ended the program (sys.exit({error.code!r})); a config file must run to its end"
            )
        return f"{where}: {type(error).__name__}: {error}{_hint(error)}"
    # It came from further down: there the traceback is what helps.
    return f"config file {label} raised\n{traceback_text(error)}"


def _hint(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == "gunicorn":
        return "; the file itself imports gunicorn: install that as well, or take the import out"
    return ""


class _Lines:
    """Where a name got its value, as far as the text shows it."""

    def __init__(self, source: str, label: str) -> None:
        self._label = label
        self._lines: dict[str, int] = {}
        for number, line in enumerate(source.splitlines(), 1):
            match = re.match(r"\s*(?:def\s+|class\s+)?([^\W0-9]\w*)\s*(?:[(=:+]|$)", line)
            if match:
                self._lines[match[1]] = number

    def place_of(self, name: str) -> str:
        line = self._lines.get(name)
        return self._label if line is None else f"{self._label}, line {line}"
