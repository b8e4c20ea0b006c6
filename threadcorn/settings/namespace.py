"""A config file's names, judged: which are settings, which are somebody's helpers, which are mistakes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from types import ModuleType
from typing import Any

from threadcorn.settings.config import unknown_name
from threadcorn.settings.foreign import FOREIGN
from threadcorn.settings.sources import Given, Layer, Origin, Source, nearest, nearest_row
from threadcorn.settings.table import ALIASES, ROWS

__all__ = ["namespace_layer"]

_HOOKS = tuple(name for name, row in ROWS.items() if row.arity)

# The types of which settings are made. Anything else under an unknown name was imported or computed.
_PLAIN = (str, bytes, int, float, list, tuple, dict, set, frozenset, type(None))


def namespace_layer(
    names: Mapping[str, Any], place_of: Callable[[str], str], free: Collection[str] = ()
) -> Layer:
    """The layer of a config file. `place_of(name)` says where in the file a name was given its value. What is
    in `free` is nobody's mistake: the file reads it itself, or has it from elsewhere."""
    layer = Layer()
    for name, value in names.items():
        if name.startswith("_") or isinstance(value, ModuleType):
            continue
        origin = Origin(Source.FILE, place_of(name))
        known = name in ROWS or name in ALIASES or name in FOREIGN
        # A helper may have the name of a setting that takes no functions: `def bind(): ...`.
        if known:
            layer.given.append(Given(name, name, value, origin))
        elif name in free:
            # `use_bind = os.getenv("BIND")`, and below it `bind = use_bind`: nobody reads a mistyped setting.
            continue
        elif problem := _mistake(name, value, str(origin)):
            layer.problems.append(problem)
    return layer


def _mistake(name: str, value: Any, where: str) -> str:
    """The sentence about an unknown name, or '' if it may be there."""
    if callable(value):
        # Functions and classes are welcome, except where a hook would silently never be called.
        hook = nearest(name, _HOOKS, 0.8)
        return f"{name}: no hook has this name; did you mean {hook!r}? ({where})" if hook else ""
    if name.isupper() or not isinstance(value, _PLAIN):
        return ""
    if not nearest_row(name):
        # `cores = os.cpu_count()`: a value computed for the settings below it, not a mistyped setting.
        return ""
    problem = unknown_name(name, where)
    return f"{problem[: -len(where) - 3]} A helper's name begins with an underscore. ({where})"
