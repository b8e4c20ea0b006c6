"""An access log format, compiled once into a function that builds one line.

Laws:

1. Only what the format uses is computed. The function is Python source made from the format, so a line
   costs what somebody who wrote it by hand for this one format would pay.
2. Nothing that came from a client can end a line, end a quoted field or look like another one: control
   characters, quotes, backslashes and bytes above 0x7E are written as \\xNN.
3. Values are judged together: take the harmless characters out of a line, and what is left must be exactly
   what is left of the format's own text. That holds for nearly every line and costs one pass in C; the
   others are built again, value by value.

gunicorn's atoms are all here, and mean the same. Two that the field gets wrong are deliberate: the user
name of `u` has its spaces escaped too (it is the only free text that formats do not quote), and JSON is
made by an encoder, not by a format string that a referer with a quote in it can break.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import functools
import re
from collections.abc import Callable, Iterable, Mapping
from json.encoder import encode_basestring_ascii
from typing import Any, NamedTuple

from threadcorn.errors import ConfigError

__all__ = ["ATOMS", "Line", "Stamp", "Timings", "compile_json", "compile_text", "escape", "one_atom"]

Environ = Mapping[str, Any]


class Stamp(NamedTuple):
    """One second in the notations that a line may need."""

    second: int
    clf: str  # [24/Nov/2026:02:33:07 +0100]
    iso: str  # 2026-11-24T02:33:07
    zone: str  # +01:00


class Timings(NamedTuple):
    """Where the time of a request went, in seconds: `%({waited}t)s` and so on."""

    waited: float  # from the last byte of the request to the application's first line
    ran: float  # inside the application
    accept: float = 0.0  # from the connection's first bytes to accept(); the first request's only
    cpu: float = 0.0  # processor time inside the application
    write: float = 0.0  # from the application's end to the last byte that the kernel or a buffer took


#: environ, status, response headers, body bytes sent, stamp, now, duration, timings -> the line
Line = Callable[[Environ, str, Iterable[tuple[str, str]], int, Stamp, float, float, "Timings | None"], bytes]


class Atom(NamedTuple):
    """One row: how the value is computed, and what it is called in JSON."""

    code: str  # a Python expression; None or "" where there is nothing to say
    json: str
    help: str
    number: bool = False  # an int: no quotes in JSON, and %(X)d works
    missing: str = "-"


# Written out: a call of a Python function would cost as much as the rest of the line's values.
_REQUEST_LINE = (
    """f'{get("REQUEST_METHOD") or "-"} {get("RAW_URI") or target(get)} {get("SERVER_PROTOCOL") or "-"}'"""
)
_USER = """(None if (x := get("HTTP_AUTHORIZATION")) is None else basic_user(x))"""

# The expressions see the parameters of `Line`, `get` (environ.get), and the helpers of _NAMES.
ATOMS: dict[str, Atom] = {
    "h": Atom('get("REMOTE_ADDR")', "remote_addr", "address of the client"),
    "l": Atom("None", "logname", "always '-'"),
    "u": Atom(
        '(None if (x := get("HTTP_AUTHORIZATION")) is None else basic_user(x))',
        "user",
        "user name of Basic authentication",
    ),
    "t": Atom("stamp.clf", "time", "when the line was written, [24/Nov/2026:02:33:07 +0100]"),
    "r": Atom(_REQUEST_LINE, "request", "request line: method, target, protocol"),
    "s": Atom("status[:3]", "status", "status code of the response"),
    "m": Atom('get("REQUEST_METHOD")', "method", "request method"),
    "U": Atom('get("PATH_INFO")', "path", "path without the query, percent-decoded"),
    "q": Atom('get("QUERY_STRING")', "query", "query string, without '?'", missing=""),
    "H": Atom('get("SERVER_PROTOCOL")', "protocol", "protocol, HTTP/1.1"),
    "b": Atom("str(sent)", "bytes", "bytes of the response's body"),
    "B": Atom("sent", "bytes", "bytes of the response's body, as a number", number=True),
    "f": Atom('get("HTTP_REFERER")', "referer", "Referer header"),
    "a": Atom('get("HTTP_USER_AGENT")', "user_agent", "User-Agent header"),
    "T": Atom("int(duration)", "duration_s", "time of the request in seconds", number=True),
    "M": Atom("int(duration * 1000)", "duration_ms", "time of the request in milliseconds", number=True),
    "D": Atom("int(duration * 1000000)", "duration_us", "time of the request in microseconds", number=True),
    "L": Atom("'%.6f' % duration", "duration", "time of the request in seconds, with six decimals"),
    "p": Atom("f'<{getpid()}>'", "pid", "process id of the worker"),
}

# In JSON some atoms have a better form than the one that a column of text has.
_JSON_CODE = {
    "t": "'%s.%03d%s' % (stamp.iso, int(now % 1 * 1000), stamp.zone)",
    "s": "int(status[:3])",
    "b": "sent",
    "L": "round(duration, 6)",
    "p": "getpid()",
}
_JSON_NUMBERS = frozenset("sbBTMDLp")

#: The atoms of a JSON line when the format is not the user's own.
JSON_DEFAULT = "%(t)s %(h)s %(u)s %(m)s %(U)s %(q)s %(H)s %(s)s %(b)s %(D)s %(f)s %(a)s %(p)s %({host}i)s"

_DIRECTIVE = re.compile(r"%(?:(%)|\((\{[^{}]*\}[a-z]|[^()]*)\)([-#0 +]*[0-9]*(?:\.[0-9]+)?)([a-zA-Z]))")
_IN, _OUT, _ENV, _TIMING = "i", "o", "e", "t"
# Printable ASCII but for the quote and the backslash, which the notation itself is made of.
_HARMLESS = bytes(code for code in range(0x20, 0x7F) if code not in b'"\\')
_UNSAFE = re.compile(r"[^ !#-\[\]-~]")
_HEAD = (
    "def build(environ, status, headers, sent, stamp, now, duration, timings):",
    " get = environ.get",
)


class _Piece(NamedTuple):
    """One directive of the format, understood."""

    name: str
    atom: Atom
    spec: str  # width and precision, "" nearly always
    kind: str  # s or d


def compile_text(text: str, getpid: Callable[[], int]) -> Line:
    """The function for a line of text. Raises ConfigError with every problem of the format."""
    literals, pieces = _parse(text)
    fast, fast_line = _assignments(literals, pieces, safe=False)
    slow, slow_line = _assignments(literals, pieces, safe=True)
    encode = "encode('utf-8', 'backslashreplace')"
    own = "".join([*literals, "\n"]).encode("utf-8", "backslashreplace").translate(None, _HARMLESS)
    source = [
        *_HEAD,
        *fast,
        f" line = {fast_line}.{encode}",
        f" if line.translate(None, HARMLESS) == {own!r}:",
        "  return line",
        *slow,
        f" return {slow_line}.{encode}",
    ]
    return _build(source, getpid)


def compile_json(text: str, getpid: Callable[[], int]) -> Line:
    """The function for a line that is one JSON object. The atoms that `text` names are its members."""
    _, pieces = _parse(text)
    source = [*_HEAD]
    members: dict[str, str] = {}
    for index, piece in enumerate(pieces):
        code = _JSON_CODE.get(piece.name, piece.atom.code)
        number = piece.atom.number or piece.name in _JSON_NUMBERS
        source.append(f" v{index} = {code}")
        members[piece.atom.json] = f"{{v{index}}}" if number else f"{{text(v{index})}}"
    body = ",".join(f"{encode_basestring_ascii(key)}:{value}" for key, value in members.items())
    # In the f-string the outer braces are doubled; names in the keys have none, the parser saw to that.
    line = "{{" + body + "}}\n"
    source.append(f" return f{line!r}.encode()")
    return _build(source, getpid)


@functools.lru_cache(256)
def one_atom(name: str, getpid: Callable[[], int]) -> Callable[..., Any] | None:
    """The function for one atom by itself, with the parameters of `Line`; None when there is no such atom.

    It answers what would stand in the line: text escaped, numbers as they are.
    """
    if name.startswith("{"):
        # gunicorn compares these names without regard to case.
        name = name[:-1] + name[-1:].lower()
    atom = _atom(name) if len(name) == 1 or name[-2:-1] == "}" else None
    if atom is None:
        return None
    lines, _ = _assignments(["", ""], [_Piece(name, atom, "", "s")], safe=True)
    return _build([*_HEAD, *lines, " return v0"], getpid)


def _build(source: list[str], getpid: Callable[[], int]) -> Line:
    names: dict[str, Any] = {**_NAMES, "getpid": getpid}
    # Our own source: no text of the format gets into it but through repr().
    exec(compile("\n".join(source), "<access log format>", "exec"), names)  # noqa: S102
    build: Line = names["build"]
    return build


def _assignments(literals: list[str], pieces: list[_Piece], safe: bool) -> tuple[list[str], str]:
    """One local variable for every directive, and the f-string that puts them between the literals."""
    lines = []
    template = literals[0].replace("{", "{{").replace("}", "}}")
    for index, (piece, after) in enumerate(zip(pieces, literals[1:], strict=True)):
        atom = piece.atom
        if atom.number:
            value = atom.code
        elif safe:
            value = f"{'escape_user' if piece.name == 'u' else 'escape'}({atom.code} or {atom.missing!r})"
        elif piece.name == "u":
            # A space makes the line unfit, so that it is built again by way of escape_user().
            value = f"('-' if not (x := {atom.code}) else '\\\\' if ' ' in x else x)"
        else:
            value = f"{atom.code} or {atom.missing!r}"
        if piece.spec or piece.kind != "s":
            value = f"{'%' + piece.spec + piece.kind!r} % ({value},)"
        lines.append(f" v{index} = {value}")
        template += f"{{v{index}}}" + after.replace("{", "{{").replace("}", "}}")
    return lines, "f" + repr(template + "\n")


def _parse(text: str) -> tuple[list[str], list[_Piece]]:
    """The literals (one more than directives) and the directives."""
    literals, pieces, problems = [""], [], []
    at = 0
    while (mark := text.find("%", at)) >= 0:
        literals[-1] += text[at:mark]
        match = _DIRECTIVE.match(text, mark)
        if match is None:
            problems.append(f"{text[mark : mark + 12]!r} is no directive; write %(h)s, or %% for a percent")
            break
        at = match.end()
        percent, name, spec, kind = match.groups()
        if percent:
            literals[-1] += "%"
            continue
        atom = _atom(name)
        if atom is None:
            problems.append(f"%({name})s is unknown; {_suggestion(name)}")
        elif kind not in ("s", "d") or (kind == "d" and not atom.number):
            problems.append(f"%({name}){spec}{kind} does not fit; write %({name}){spec}s")
        else:
            pieces.append(_Piece(name, atom, spec, kind))
            literals.append("")
    literals[-1] += text[at:]
    if "\n" in text or "\r" in text:
        problems.append("a format is one line; take the line break out")
    if not pieces and not problems:
        problems.append(f"{text!r} has no directive: every line would be the same; write %(h)s and the like")
    if problems:
        raise ConfigError([f"--access-logformat: {problem}" for problem in problems])
    return literals, pieces


def _atom(name: str) -> Atom | None:
    if not name.startswith("{"):
        return ATOMS.get(name)
    inner, kind = name[1:-2], name[-1]
    if not inner:
        return None
    if kind == _IN:
        key = inner.upper().replace("-", "_")
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = "HTTP_" + key
        return Atom(f"get({key!r})", f"request.{inner.lower()}", "")
    if kind == _OUT:
        return Atom(f"header(headers, {inner.lower()!r})", f"response.{inner.lower()}", "")
    if kind == _ENV:
        return Atom(f"variable(environ, {inner!r})", f"environ.{inner}", "")
    if kind == _TIMING and inner in Timings._fields:
        return Atom(f"seconds(timings, {inner!r})", inner, "")
    return None


def _suggestion(name: str) -> str:
    if name.startswith("{") and name.endswith(f"}}{_TIMING}"):
        return f"the times are {', '.join(f'{{{field}}}{_TIMING}' for field in Timings._fields)}"
    if name.startswith("{"):
        return "write {name}i for a request header, {name}o for one of the response, {NAME}e for the environ"
    near = difflib.get_close_matches(name, [*ATOMS, *(atom.json for atom in ATOMS.values())], 1)
    for letter, atom in ATOMS.items():
        if near and near[0] in (letter, atom.json):
            return f"did you mean %({letter})s, {atom.help}?"
    return f"the atoms are {' '.join(ATOMS)}, {{name}}i, {{name}}o and {{NAME}}e"


# -- what the compiled functions call ----------------------------------------------------------------


def escape(value: str) -> str:
    """Law 2 for one value."""
    return _UNSAFE.sub(_escape_one, value)


def _escape_one(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02X}" if code < 0x100 else f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"


def _escape_user(value: str) -> str:
    return escape(value).replace(" ", "\\x20")


def _basic_user(header: str | None) -> str | None:
    if header is None or header[:6].lower() != "basic ":
        return None
    try:
        pair = base64.b64decode(header[6:].strip().encode("latin-1"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        return None
    return pair.partition(b":")[0].decode("latin-1")


def _target(get: Callable[..., Any]) -> str:
    """The request target where nobody kept it as it was."""
    path, query = f"{get('SCRIPT_NAME', '')}{get('PATH_INFO', '')}" or "-", get("QUERY_STRING")
    return f"{path}?{query}" if query else path


def _header(headers: Iterable[tuple[str, str]], name: str) -> str | None:
    found = [value for key, value in headers if key.lower() == name]
    return ", ".join(found) if found else None


def _variable(environ: Environ, name: str) -> str | None:
    value = environ.get(name)
    if value is None:
        value = environ.get(name.upper())
    if value is None or isinstance(value, str):
        return value
    # The application may have left anything here; its __str__ is not ours to run.
    return str(value) if type(value) in (int, float, bool) else f"<{type(value).__name__}>"


def _seconds(timings: Timings | None, name: str) -> str | None:
    return None if timings is None else f"{getattr(timings, name):.6f}"


def _json_text(value: str | None) -> str:
    if value is None:
        return "null"
    if not value.isascii():
        try:
            # PEP 3333 hands out bytes as latin-1; what people typed was nearly always UTF-8.
            value = value.encode("latin-1").decode("utf-8")
        except UnicodeError:
            pass
    return encode_basestring_ascii(value)


_NAMES: dict[str, Any] = {
    "HARMLESS": _HARMLESS,
    "basic_user": _basic_user,
    "escape": escape,
    "escape_user": _escape_user,
    "header": _header,
    "seconds": _seconds,
    "target": _target,
    "text": _json_text,
    "variable": _variable,
}
