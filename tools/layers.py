"""Layers, the wall and the doors: the architecture as data, and a checker that reads the source.

    python tools/layers.py [PACKAGE_DIRECTORY]

A module may import from lower layers and from its own package; never upwards, never through the wall,
and sideways only where SIDEWAYS says why. Each facility of the kernel or of a library has one door.
Everything is found in the syntax tree, so an import inside a function counts, and so does one under
TYPE_CHECKING: what a type names is a dependency too, unless TYPE_ONLY says why not. Prints one line
(file, line number, message) a fault; the exit code is 1 if there is any.
"""

from __future__ import annotations

import ast
import fnmatch
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Fault", "check", "main"]

PACKAGE = "threadcorn"

# Room (a module or a package directly under threadcorn/) to layer. A room that is not here is a fault.
LAYERS: dict[str, int] = {
    # 4 entry: compose, parse argv
    "__main__": 4,
    "app": 4,
    "cli": 4,
    "ctl": 4,
    "demo": 4,  # a WSGI application like any other: it may use nothing of the server's inside
    # 3 processes
    "arbiter": 3,
    "worker": 3,
    # 2 system: one kernel facility each
    "accesslog": 2,
    "logs": 2,
    "system": 2,
    # 1 pure: no I/O, no clock
    "accessformat": 1,
    "http1": 1,
    "messages": 1,
    "metrics": 1,
    "policy": 1,
    "settings": 1,
    "wsgi": 1,
    # 0 ground
    "clock": 0,
    "errors": 0,
    "__init__": 0,
}

# Two rooms of one layer that may meet, importer first, and why.
SIDEWAYS: dict[tuple[str, str], str] = {
    ("messages", "settings"): "a worker's boot paper carries the Settings",
    ("policy", "settings"): "a policy is made from the rows it obeys",
    ("policy", "messages"): "the supervisor hears what workers say and orders what they are told",
    ("http1", "settings"): "limits are made from rows",
    ("wsgi", "settings"): "the environ template is made from rows",
    ("wsgi", "http1"): "the gateway frames what the application says; the environ comes from a parsed head",
    ("metrics", "policy"): "a metric is made from a cell of the scoreboard's table",
    ("accesslog", "logs"): "both reopen their files in one way",
    ("accesslog", "system"): "the log's file is opened by the system layer",
    ("logs", "system"): "same",
}

# Rooms that may be named in types, under `if TYPE_CHECKING:` and nowhere else, and why.
TYPE_ONLY: dict[tuple[str, str], str] = {
    ("messages", "accesslog"): "WorkerBoot is the list of what a worker is given; it calls none of it",
    ("messages", "system"): "same",
}

# Rooms that must not see each other, in either direction. They share messages.
WALL = ("worker", "arbiter")

# A facility (a module, or an attribute of one) and the files under threadcorn/ that may use it.
DOORS: dict[str, tuple[str, ...]] = {
    "httptools": ("http1/parser.py",),
    "psutil": ("system/probe.py",),
    "ssl": ("system/tls.py",),
    "signal": ("system/signals.py",),
    "select": ("system/poller.py",),
    "selectors": ("system/poller.py",),
    # The demo is an application: it shows the thread that runs it. The transport has locks, no threads; the
    # ending of a process has to do with the threads of others.
    "threading": ("worker/*", "system/transport.py", "system/ending.py", "demo.py"),
    "_thread": ("worker/*", "system/logfile.py"),  # the number of a thread, to count without a lock
    "mmap": ("system/scoreboard.py", "system/altstack.py"),
    "ctypes": ("system/listeners.py", "system/interrupt.py", "system/altstack.py"),
    "os.fork": ("system/spawn.py", "system/daemon.py"),
    "os.forkpty": (),
    "os.wait": (),
    "os.wait3": (),
    "os.wait4": (),
    "os.waitid": ("system/spawn.py",),
    "os.waitpid": ("system/spawn.py",),
    "os.exec*": ("system/spawn.py",),
    "os.spawn*": (),
    "os.posix_spawn*": (),
    "os.system": (),
    "os.popen": (),
    "os.kill": ("system/spawn.py",),
    "os.killpg": ("system/spawn.py",),
    "os.environ": ("cli.py", "ctl/__init__.py", "__main__.py", "app/*"),
    "os.environb": (),
    "os.getenv": ("cli.py", "ctl/__init__.py", "__main__.py", "app/*"),
    "os.putenv": (),
    # No door at all: the arbiter has no event-loop framework, and nothing here starts a second
    # kind of process or thread beside ours.
    "asyncio": (),
    "concurrent.futures": (),
    "multiprocessing": (),
    "subprocess": (),
}

# What layers 0 and 1 must not import: with these a module can no longer be tested by calling it.
IMPURE = ("socket", "time", "tempfile", "fcntl", "resource", "random", "secrets", "shutil", "pwd", "grp")
IMPURE_ALLOWED: dict[str, tuple[str, ...]] = {
    "clock.py": ("time",),  # the one clock of the house
    "settings/values.py": ("pwd", "grp"),  # a user's name is judged where all values are judged
}
# What of `time` only reckons with a moment that it is given.
PURE_TIME = ("time.gmtime", "time.strftime", "time.struct_time")

# Lines at which a second noun is looked for, and the files that have one noun all the same.
LONGEST = 450
LONG_ALLOWED: dict[str, str] = {
    "settings/table.py": "one table, one row after the other",
}


@dataclass(frozen=True)
class Fault:
    """One thing that must not be, and where."""

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}"


def _matches(path: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)


def _absolute(node: ast.ImportFrom, path: str) -> str:
    """The module named by `from ... import`, relative ones resolved."""
    module = node.module or ""
    if not node.level:
        return module
    here = [PACKAGE, *path.split("/")[:-1]]
    base = here[: len(here) - (node.level - 1)]
    return ".".join([*base, module] if module else base)


def _type_only(tree: ast.AST) -> set[ast.AST]:
    """All nodes under `if TYPE_CHECKING:`."""
    inside: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            for statement in node.body:
                inside.update(ast.walk(statement))
    return inside


def _imports(tree: ast.AST, path: str) -> Iterator[tuple[int, str, str | None, bool]]:
    """(line, module, name or None, for types only) of every import statement at any depth."""
    type_only = _type_only(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, None, node in type_only
        elif isinstance(node, ast.ImportFrom):
            module = _absolute(node, path)
            for alias in node.names:
                yield node.lineno, module, alias.name, node in type_only


def _uses(tree: ast.AST, path: str) -> Iterator[tuple[int, str]]:
    """(line, facility) of everything imported or reached by attribute, with aliases followed.

    `import os as o; o.fork` and `from os import fork as f` are both os.fork; a module is itself and
    each of its parents (`concurrent.futures.thread` is `concurrent.futures` too).
    """
    names: dict[str, str] = {}  # local name to what it stands for
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    for line, module, name, _ in _imports(tree, path):
        parts = module.split(".")
        for end in range(1, len(parts) + 1):
            yield line, ".".join(parts[:end])
        if name == "*" and module == "os":
            yield line, "os.fork"  # a star brings every facility of the module in
        elif name is not None:
            yield line, f"{module}.{name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            stands_for = names.get(node.value.id)
            if stands_for is not None:
                yield node.lineno, f"{stands_for}.{node.attr}"


def _room(dotted: str) -> str | None:
    """The room that a dotted module name of ours is in, or None for a foreign module."""
    parts = dotted.split(".")
    if parts[0] != PACKAGE:
        return None
    return parts[1] if len(parts) > 1 else "__init__"


def _targets(module: str, name: str | None) -> str | None:
    """The room an import reaches: `from threadcorn import settings` reaches settings, not the package."""
    if module == PACKAGE and name in LAYERS:
        return name
    return _room(module)


def _check_imports(tree: ast.AST, path: str, room: str) -> Iterator[tuple[int, str]]:
    layer = LAYERS[room]
    for line, module, name, types in _imports(tree, path):
        target = _targets(module, name)
        if target is None or target in (room, "__init__"):
            continue
        there = LAYERS.get(target)
        if there is None:
            yield line, f"imports {PACKAGE}.{target}, which has no layer"
        elif {room, target} == set(WALL):
            yield line, f"{room}/ imports {target}/ through the wall: they share messages only"
        elif types and (room, target) in TYPE_ONLY:
            continue
        elif there > layer:
            yield line, f"layer {layer} ({room}) imports upwards: {target} is in layer {there}"
        elif there == layer and layer < 4 and (room, target) not in SIDEWAYS:
            yield line, f"{room} imports {target} beside it in layer {layer}; SIDEWAYS has no reason for it"
        elif room == "demo":
            yield (
                line,
                f"the demo application imports {PACKAGE}.{target}: it must be an application like any other",
            )


def _check_doors(tree: ast.AST, path: str, room: str) -> Iterator[tuple[int, str]]:
    layer = LAYERS[room]
    for line, used in _uses(tree, path):
        for facility, doors in DOORS.items():
            if fnmatch.fnmatchcase(used, facility) and not _matches(path, doors):
                only = " or ".join(doors) if doors else "nothing here"
                yield line, f"uses {used}; its door is {only}"
        if layer <= 1 and _impure(used, IMPURE_ALLOWED.get(path, ())):
            yield line, f"layer {layer} uses {used}: a pure module has no I/O, no clock and no chance"


def _impure(used: str, allowed: tuple[str, ...]) -> bool:
    module, _, name = used.partition(".")
    if module not in IMPURE or module in allowed:
        return False
    if module == "time":
        return bool(name) and used not in PURE_TIME  # the import says nothing yet, the use does
    return not name


def _check_file(path: str, text: str, shown: str) -> Iterator[Fault]:
    parts = path.split("/")
    room = parts[0].removesuffix(".py")
    if room not in LAYERS:
        yield Fault(shown, 1, f"{room} has no layer; LAYERS in tools/layers.py must say where it belongs")
        return
    tree = ast.parse(text, filename=shown)
    found = {*_check_imports(tree, path, room), *_check_doors(tree, path, room)}
    lines = text.count("\n")
    if lines >= LONGEST and path not in LONG_ALLOWED:
        found.add((lines, f"{lines} lines; from {LONGEST} on there is a second noun in a file"))
    for line, message in sorted(found):
        yield Fault(shown, line, message)


def check(package: Path) -> list[Fault]:
    """All faults of the package whose directory is given, in the order of files and lines."""
    faults: list[Fault] = []
    for file in sorted(package.rglob("*.py")):
        path = file.relative_to(package).as_posix()
        shown = f"{package.name}/{path}"
        faults.extend(_check_file(path, file.read_text(encoding="utf-8"), shown))
    return faults


def main(argv: list[str]) -> int:
    package = Path(argv[0]) if argv else Path(__file__).resolve().parent.parent / PACKAGE
    faults = check(package)
    for fault in faults:
        print(fault)
    if faults:
        print(f"layers: {len(faults)} faults")
        return 1
    print("layers: in order")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
