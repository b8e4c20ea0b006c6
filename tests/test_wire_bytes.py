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
FILES = sorted([*(PACKAGE / "http1").rglob("*.py"), *(PACKAGE / "wsgi").rglob("*.py")])

#: Functions and methods that must not be called at all.
BANNED = frozenset(
    (
        "casefold", "eval", "float", "int", "isalnum", "isalpha", "isdecimal", "isdigit", "isidentifier",
        "isnumeric", "isspace", "parse_qs", "parse_qsl", "splitlines", "unquote", "unquote_plus", "urlparse",
        "urlsplit",
    )
)  # fmt: skip
#: Methods that are right only with an argument that says what they mean.
EXPLICIT = frozenset(("strip", "lstrip", "rstrip", "split", "rsplit"))
#: Where one of them may stand, and why.
ALLOWED = {
    ("http1/rules.py", "proven_digits"): "the one helper for numbers: a pattern has proven the digits before",
    (
        "http1/response.py",
        "learn_length",
    ): "what the application says, and text that is proven to be ASCII",
    ("http1/response.py", "refresh"): "a clock",
}
CLASSES = re.compile(r"\\[dDsSwWbB]|(?<!\\)\$(?!&)")


def faults(source: str, name: str) -> list[str]:
    found = []

    def visit(node: ast.AST, function: str) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            function = node.name
        if isinstance(node, ast.Call):
            called = node.func
            word = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if word in BANNED and (name, function) not in ALLOWED:
                found.append(f"{name}:{node.lineno}: {word}()")
            if isinstance(called, ast.Attribute) and word in EXPLICIT and not node.args:
                found.append(f"{name}:{node.lineno}: {word}() without saying what it takes")
            if word == "isprintable" and "isascii" not in source:
                found.append(f"{name}:{node.lineno}: isprintable() without isascii()")
            if isinstance(called, ast.Attribute) and getattr(called.value, "id", "") == "re":
                for text in ast.walk(node):
                    if isinstance(text, ast.Constant) and isinstance(text.value, str | bytes):
                        pattern = text.value if isinstance(text.value, str) else text.value.decode("latin-1")
                        # In a class of characters a dollar sign is itself.
                        outside = re.sub(r"\[(?:\\.|[^\]\\])*\]", "", pattern)
                        if CLASSES.search(outside) or re.search(r"\\[dDsSwW]", pattern):
                            found.append(f"{name}:{node.lineno}: a pattern with a class of Unicode's, or $")
        for child in ast.iter_child_nodes(node):
            visit(child, function)

    visit(ast.parse(source), "")
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
    ],
)
def test_the_checker_lets_pass(line: str) -> None:
    assert not faults(line, "http1/rules.py")
