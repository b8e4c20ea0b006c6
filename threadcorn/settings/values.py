# ruff: noqa: TRY004 -- a wrong type is a wrong value here: one exception for whoever reports it
"""From what a person writes to a value of a row's type.

A value comes as text (command line, environment) or as a Python object (config file, embedding); the
same parser takes both. A parser raises `ValueError` with what it expected; who called it knows the
setting and the place and says so.
"""

from __future__ import annotations

import importlib
import inspect
import math
import re
from collections.abc import Callable, Mapping
from ipaddress import ip_network
from typing import Any

from threadcorn.settings.rows import Parser, Row

__all__ = ["parse_value"]

# ASCII only: \d would also take the digits of every other script.
_NUMBER = re.compile(r"(-?[0-9]+(?:\.[0-9]*)?|\.[0-9]+) ?([a-zA-Z]*)")
_INTEGER = re.compile(r"[+-]?[0-9]+")

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")

_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_BYTES.update({f"{letter}b": _BYTES[letter] for letter in "kmg"})

_TRUE = frozenset({"1", "true", "yes", "y", "on"})
_FALSE = frozenset({"0", "false", "no", "n", "off"})


def parse_value(row: Row, value: Any) -> Any:
    """The row's value out of `value`: type, then bounds, then choices."""
    parser = row.parse or _BY_TYPE.get((row.type, row.unit)) or _BY_TYPE.get((row.type, ""))
    if parser is None:
        raise LookupError(f"no parser for the type {row.type!r} of the row {row.name!r}")
    if row.arity:
        return hook(value, row.arity)
    if value is None and row.type in ("bool", "str") and not row.choices:
        # `capture_output = os.environ.get("CAPTURE")`: gunicorn takes it for "not set", and so do its users.
        return row.default
    parsed = parser(value)
    if isinstance(parsed, (int, float)) and not isinstance(parsed, bool):
        _check_bounds(row, parsed)
    if row.choices and parsed not in row.choices:
        raise ValueError(f"expected one of {', '.join(row.choices)}, got {value!r}")
    return parsed


def _check_bounds(row: Row, number: float) -> None:
    unit = f" {row.unit}" if row.unit else ""
    if row.ge is not None and number < row.ge:
        raise ValueError(f"must be at least {_plain(row.ge)}{unit}, got {_plain(number)}")
    if row.le is not None and number > row.le:
        raise ValueError(f"must be at most {_plain(row.le)}{unit}, got {_plain(number)}")


def _plain(number: float) -> str:
    """Without an exponent: nobody would find their 100000000 in 1e+08."""
    return str(int(number)) if number == int(number) else f"{number:g}"


def seconds(value: Any) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        # NaN compares false with every bound, and infinity breaks poll(): neither is a time.
        if not math.isfinite(value):
            raise ValueError(f"expected a finite number of seconds, got {value!r}")
        return float(value)
    if isinstance(value, str):
        match = _NUMBER.fullmatch(value.strip())
        if match and match[2].lower() in _SECONDS:
            return float(match[1]) * _SECONDS[match[2].lower()]
    raise ValueError(f"expected a time like 30, 30s, 500ms or 5m, got {value!r}")


def size(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        match = _NUMBER.fullmatch(value.strip())
        if match and match[2].lower() in _BYTES:
            number = float(match[1]) * _BYTES[match[2].lower()]
            if number == int(number):
                return int(number)
    raise ValueError(f"expected a size like 65536, 64k or 1m, got {value!r}")


def integer(value: Any) -> int:
    if isinstance(value, bool):
        raise ValueError(f"expected a whole number, got {value!r}")
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
        return int(value)
    raise ValueError(f"expected a whole number, got {value!r}")


def integer_or_auto(value: Any) -> int | str:
    if isinstance(value, str) and value.strip().lower() == "auto":
        return "auto"
    try:
        return integer(value)
    except ValueError:
        raise ValueError(f"expected a whole number or 'auto', got {value!r}") from None


def boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    if isinstance(value, str):
        word = value.strip().lower()
        if word in _TRUE:
            return True
        if word in _FALSE:
            return False
    raise ValueError(f"expected true or false, got {value!r}")


def text(value: Any) -> str:
    if isinstance(value, str):
        # A NUL would be cut off silently by every C function below us.
        if "\0" in value:
            raise ValueError(f"a zero byte cannot be part of it, got {value!r}")
        return value.strip()
    # os.PathLike: config files compute paths with pathlib.
    path = getattr(type(value), "__fspath__", None)
    if path is not None and isinstance(fspath := path(value), str):
        return fspath
    raise ValueError(f"expected text, got {value!r}")


def word(value: Any) -> str:
    return text(value).lower()


def optional_text(value: Any) -> str | None:
    return None if value is None else text(value) or None


def file_name(value: Any) -> str | None:
    """`optional_text`, but who names a file names one: `-c ''` is a variable of a script that was not set."""
    if value is None:
        return None
    name = text(value)
    if not name:
        raise ValueError("expected the name of a file, got nothing; leave it out, or name one")
    return name


def unix_path(value: Any) -> str | None:
    """The path of a Unix socket, with or without the `unix:` that other settings want there."""
    path = optional_text(value)
    return None if path is None else path.removeprefix("unix:")


def optional(parser: Parser) -> Parser:
    return lambda value: None if value is None or value == "" else parser(value)


def texts(value: Any) -> tuple[str, ...]:
    """A list, or text with commas between the members."""
    if value is None:
        return ()
    if isinstance(value, str):
        return tuple(part for part in (part.strip() for part in value.split(",")) if part)
    if isinstance(value, (list, tuple, set, frozenset)) and all(isinstance(part, str) for part in value):
        return tuple(part for one in value for part in texts(one))
    raise ValueError(f"expected text or a list of texts, got {value!r}")


def path_of_url(value: Any) -> str | None:
    """A path as a request names it."""
    path = optional_text(value)
    if path is not None and not path.startswith("/"):
        raise ValueError(f"expected a path that begins with a slash, got {value!r}")
    if path is not None and ("?" in path or "#" in path):
        raise ValueError(f"a path has no query and no fragment, got {value!r}")  # it would match no request
    return path


def paths_of_urls(value: Any) -> tuple[str, ...]:
    return tuple(path for one in texts(value) if (path := path_of_url(one)))


def mount_fields(value: Any) -> tuple[str, ...]:
    """Names of fields by which a proxy may say where the application is mounted."""
    names = tuple(name.upper() for name in texts(value))
    for name in names:
        if name not in ("SCRIPT_NAME", "PATH_INFO"):
            raise ValueError(
                f"only SCRIPT_NAME and PATH_INFO can be let in, got {name!r}; have the proxy send "
                f"{name.replace('_', '-')}, which arrives as HTTP_{name.replace('-', '_')}"
            )
    return names


def statsd_address(value: Any) -> str | None:
    """HOST:PORT or unix:PATH; a host alone is at statsd's own port."""
    address = optional_text(value)
    if address is None or re.fullmatch("unix:.*/.+", address):
        return address
    host, _, port = address.rpartition(":") if re.search(":[^]]*$", address) else (address, "", "8125")
    one = re.fullmatch(r"\[[0-9a-fA-F:.%\w]+\]|[^:/\s\[\]]+", host)
    if not one or not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        raise ValueError(f"expected HOST:PORT or unix:PATH, got {value!r}")
    return f"{host}:{port}"


def peers(value: Any) -> tuple[str, ...]:
    """Addresses and networks of peers, or * for everybody."""
    entries = texts(value)
    for entry in entries:
        if entry != "*":
            try:
                ip_network(entry)
            except ValueError as error:
                raise ValueError(f"expected an address, a network like 10.0.0.0/8, or *: {error}") from None
    return entries


def header_values(value: Any) -> dict[str, str]:
    """Header names and the one value of each that counts."""
    fields = mapping(value)
    for name, content in fields.items():
        if not _TOKEN.fullmatch(name) or not isinstance(content, str) or not content:
            raise ValueError(f"expected header names and texts, got {name!r}: {content!r}")
    return fields


def proxy_protocol(value: Any) -> str:
    """off, v1, v2 or auto; true and false as gunicorn takes them."""
    if value is None:
        return "off"
    if isinstance(value, str) and value.strip().lower() in ("v1", "v2", "auto", "none"):
        return value.strip().lower().replace("none", "off")
    try:
        return "auto" if boolean(value) else "off"
    except ValueError:
        raise ValueError(f"expected off, v1, v2 or auto, got {value!r}") from None


def bind_addresses(value: Any) -> tuple[str, ...]:
    """`texts`, but never nothing, and a zero byte is the mark of an abstract unix socket."""
    addresses = texts(value)
    if not addresses:
        raise ValueError("expected at least one address, like 127.0.0.1:8000 or unix:/run/app.sock")
    return addresses


def assignments(value: Any) -> tuple[str, ...]:
    """NAME=VALUE each. Values may contain commas: nothing is split."""
    if isinstance(value, Mapping):
        value = [f"{name}={content}" for name, content in value.items()]
    entries = [value] if isinstance(value, str) else list(value or ())
    for entry in entries:
        if not isinstance(entry, str) or "=" not in entry[1:] or "\0" in entry:
            # The value may be a secret: show the name at most.
            shown = entry.split("=")[0] if isinstance(entry, str) else type(entry).__name__
            raise ValueError(f"expected NAME=VALUE, got {shown!r}")
    return tuple(entries)


def mode(value: Any) -> int:
    """A file mode: 0o22, '022', '0o22' and 18 are the same."""
    number = value if isinstance(value, int) and not isinstance(value, bool) else -1
    if isinstance(value, str):
        try:
            digits = value.strip().lower()
            number = int(digits, 8 if re.fullmatch("0[0-7]+", digits) else 0)
        except ValueError:
            pass
    if not 0 <= number <= 0o777:
        raise ValueError(f"expected a file mode like 022 or 0o22, at most 0o777, got {value!r}")
    return number


def user(value: Any) -> int | None:
    import pwd

    return _identity(value, "user", lambda name: pwd.getpwnam(name).pw_uid)


def group(value: Any) -> int | None:
    import grp

    return _identity(value, "group", lambda name: grp.getgrnam(name).gr_gid)


def _identity(value: Any, noun: str, by_name: Callable[[str], int]) -> int | None:
    if value is None or value == "":
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        if re.fullmatch("[0-9]+", value.strip()):
            return int(value)
        try:
            return by_name(value.strip())
        except KeyError:
            raise ValueError(f"this machine knows no {noun} named {value!r}") from None
    raise ValueError(f"expected the name or number of a {noun}, got {value!r}")


def mapping(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return dict(value)
    raise ValueError(f"expected a dict with texts as keys, got {value!r}")


def anything(value: Any) -> Any:
    return value


def hook(value: Any, arity: int) -> Callable[..., Any] | None:
    """A callable that takes `arity` arguments, or its dotted name."""
    if value is None:
        return None
    if isinstance(value, str):
        value = _by_dotted_name(value)
    if not callable(value):
        raise ValueError(f"expected a function, got {value!r}")
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):  # a C function does not always tell
        return value  # type: ignore[no-any-return]
    # The field's post_request takes four arguments, and older ones that took fewer are still around.
    for count in (4, 3, 2) if arity == 4 else (arity,):
        try:
            signature.bind(*range(count))
        except TypeError:
            continue
        return value if count == arity else _first_arguments(value, count)
    noun = "argument" if arity == 1 else "arguments"
    raise ValueError(f"the function must take {arity} {noun}, this is {_described(value)}{signature}")


def _first_arguments(function: Callable[..., Any], count: int) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        return function(*arguments[:count])

    return call


def _described(value: Any) -> str:
    return str(getattr(value, "__name__", type(value).__name__))


def _by_dotted_name(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    if not module:
        raise ValueError(f"expected a function or its dotted name module.function, got {name!r}")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"cannot import {name!r}: {error}") from error


# Keys are the annotation of the field as it is written, and the unit where one type has two notations.
_BY_TYPE: dict[tuple[str, str], Parser] = {
    ("Any", ""): anything,
    ("Hook", ""): anything,
    ("Mapping[str, Any]", ""): mapping,
    ("Mapping[str, str]", ""): mapping,
    ("bool", ""): boolean,
    ("float", ""): seconds,
    ("int", ""): integer,
    ("int", "bytes"): size,
    ("int", "bytes/second"): size,
    ("int | Auto", ""): integer_or_auto,
    ("str", ""): text,
    ("str | None", ""): optional_text,
    ("tuple[str, ...]", ""): texts,
}
