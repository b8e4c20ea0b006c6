"""Bytes of the wire are judged by explicit ASCII tables: what must not be called in http1/ and wsgi/.

`int()` takes signs, spaces, underscores and the digits of every script; `strip()` takes \\x0b, \\x0c and, of
text, \\x85 and \\xa0; `\\d`, `\\s`, `\\w` and `isdigit()` know Unicode; `$` lets a line feed pass;
`splitlines()` ends lines at a dozen characters; `urlsplit()` repairs. Each was somebody's advisory.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import threadcorn

PACKAGE = Path(threadcorn.__file__).parent
FILES = sorted(
    [*(PACKAGE / "http1").rglob("*.py"), *(PACKAGE / "wsgi").rglob("*.py"), PACKAGE / "policy" / "trust.py"]
    + [PACKAGE / "worker" / f"{name}.py" for name in ("announcement", "intake", "serve", "streaming")]
)

#: Functions and methods that must not be named at all, called or handed on (`map(int, ...)`).
BANNED = frozenset(
    (
        "capitalize", "casefold", "eval", "expandtabs", "float", "int", "isalnum", "isalpha", "isdecimal",
        "isdigit", "isidentifier", "isnumeric", "isspace", "literal_eval", "parse_qs", "parse_qsl",
        "splitlines", "swapcase", "title", "unquote", "unquote_plus", "upper", "urlparse", "urlsplit",
    )
)  # fmt: skip
#: Methods that are right only with an argument that says what they mean.
EXPLICIT = frozenset(("strip", "lstrip", "rstrip", "split", "rsplit"))
#: Where one of them may stand, and why.
ALLOWED = {
    ("http1/rules.py", "proven_digits", "int"): "the one helper for numbers: a pattern has proven the digits",
    ("http1/rules.py", "key_of", "upper"): "a token, which is ASCII",
    ("http1/rules.py", "", "upper"): "spellings of names that are in the source",
    ("http1/rules.py", "", "title"): "the same",
    ("http1/response.py", "learn_length", "int"): "what the application says, proven to be ASCII digits",
    ("http1/response.py", "learn_length", "isdecimal"): "together with isascii()",
    ("http1/response.py", "refresh", "int"): "a clock",
    ("wsgi/forwarded.py", "__init__", "upper"): "names from the configuration",
    ("wsgi/forwarded.py", "_said", "upper"): "a name of a head that has been accepted, so a token",
    ("worker/intake.py", "renew", "float"): "a setting",
    ("worker/serve.py", "__init__", "int"): "int() as a clock that stands still",
}
CLASSES = re.compile(r"\\[dDsSwWbB]|(?<!\\)\$(?!&)")


class Checker(ast.NodeVisitor):
    """Looks at names and not at calls: `map(int, parts)` and `digits = int` are calls to come."""

    def __init__(self, tree: ast.Module, name: str) -> None:
        self.found: list[str] = []
        self._file = name
        self._function = ""
        #: Texts of the module's own names, of which patterns may be put together.
        self._texts: dict[str, ast.expr] = {
            target.id: node.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        self._patterns = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module == "re"
            for alias in node.names
        }
        self.visit(tree)

    def _say(self, node: ast.expr, what: str) -> None:
        if (self._file, self._function, what) not in ALLOWED:
            self.found.append(f"{self._file}:{node.lineno}: {what}")

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        outer, self._function = self._function, node.name
        for part in [*node.decorator_list, *node.args.defaults, *node.body]:  # no annotations
            self.visit(part)
        self._function = outer

    visit_AsyncFunctionDef = visit_FunctionDef  # type: ignore[assignment]  # noqa: N815

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        self.visit(node.value)
        if not (isinstance(node.value, ast.Name) and node.value.id in ("dict", "list", "tuple", "Callable")):
            self.visit(node.slice)

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in BANNED:
            self._say(node, node.id)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if node.attr in BANNED:
            self._say(node, node.attr)
        self.visit(node.value)

    def visit_Call(self, node: ast.Call) -> None:
        called = node.func
        word = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        owner = getattr(called.value, "id", "") if isinstance(called, ast.Attribute) else ""
        if isinstance(called, ast.Attribute) and word in EXPLICIT and owner != "os":
            # str.strip(x) has its argument one later.
            given = node.args[1:] if owner in ("str", "bytes", "bytearray") else node.args
            if not given or getattr(given[0], "value", "") is None:
                self._say(node, f"{word}() without saying what it takes")
        if word == "getattr" and getattr(node.args[1], "value", None) in BANNED | EXPLICIT:
            self._say(node, "getattr() for one of them")
        if owner == "re" or (isinstance(called, ast.Name) and word in self._patterns):
            self._pattern(node)
        self.generic_visit(node)

    def _pattern(self, call: ast.Call) -> None:
        waiting: list[ast.AST] = [*call.args, *(keyword.value for keyword in call.keywords)]
        known = set()
        while waiting:
            part = waiting.pop()
            for node in ast.walk(part):
                if isinstance(node, ast.Attribute) and node.attr in (
                    "I",
                    "IGNORECASE",
                    "U",
                    "UNICODE",
                    "M",
                    "MULTILINE",
                ):
                    self._say(call, f"re.{node.attr}")
                if isinstance(node, ast.Name) and node.id in self._texts and node.id not in known:
                    known.add(node.id)
                    waiting.append(self._texts[node.id])
                if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
                    text = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
                    # In a class of characters a dollar sign is itself.
                    outside = re.sub(r"\[(?:\\.|[^\]\\])*\]", "", text)
                    if (
                        CLASSES.search(outside)
                        or re.search(r"\\[dDsSwW]", text)
                        or re.search(r"\(\?[a-z]*i", text)
                    ):
                        self._say(
                            call, "a pattern with a class of Unicode's, without regard to case, or with $"
                        )


def faults(source: str, name: str) -> list[str]:
    found = Checker(ast.parse(source), name).found
    if "isprintable" in source and "isascii" not in source:
        found.append(f"{name}: isprintable() without isascii()")
    return found


@pytest.mark.parametrize("path", FILES, ids=[path.relative_to(PACKAGE).as_posix() for path in FILES])
def test_no_careless_function_touches_wire_bytes(path: Path) -> None:
    assert faults(path.read_text("utf-8"), path.relative_to(PACKAGE).as_posix()) == []


@pytest.mark.parametrize(
    "line",
    [
        "int(x)",
        "x.strip()",
        "x.rstrip()",
        "x.split()",
        "x.splitlines()",
        "x.isdigit()",
        "x.isprintable()",
        "urlsplit(x)",
        "re.compile(r'[0-9]+$')",
        r"re.compile(rb'\d+\Z')",
        r"re.compile('[\\s]')",
        "re.match('a$', x)",
        "y = map(int, x)",
        "digits = int",
        "sorted(x, key=int)",
        "x.strip(None)",
        "x.split(None, 1)",
        "str.strip(x)",
        "bytes.split(x)",
        "getattr(x, 'strip')()",
        "x.upper()",
        "x.title()",
        "from re import compile\ncompile(r'\\d')",
        "from re import compile as c\nc('a$')",
        "D = r'\\d+'\nre.compile(D + r'\\Z')",
        "D = r'\\d+'\nE = D + 'x'\nre.compile(rf'{E}\\Z')",
        "re.compile('a', re.IGNORECASE)",
        "re.compile('(?i)a')",
        "re.sub(pattern='a$', repl='', string=x)",
    ],
)
def test_the_checker_finds(line: str) -> None:
    assert faults(line, "http1/x.py")


@pytest.mark.parametrize(
    "line",
    [
        "x.strip(b' \\t')",
        "x.split(',')",
        "re.compile(rb'[!#$%&]+\\Z')",
        "def proven_digits(x):\n    return int(x)",
        "def f(x: int = 1) -> int:\n    y: dict[str, int] = {}\n    return x",
    ],
)
def test_the_checker_lets_pass(line: str) -> None:
    assert not faults(line, "http1/rules.py")
