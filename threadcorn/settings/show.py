"""The table for readers: --print-config and docs/settings.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from threadcorn.errors import ExitCode
from threadcorn.settings.config import Config
from threadcorn.settings.flags import written
from threadcorn.settings.foreign import FOREIGN
from threadcorn.settings.rows import Row, Section
from threadcorn.settings.table import ROWS

__all__ = ["masked", "page", "print_config"]


INTRODUCTION = """\
# Settings

This page is made from the table in `threadcorn/settings/table.py` by `tools/derive.py`.

A setting is known by its name in a config file, by its flag on the command line, and by its
variable in the environment. The stronger source wins, and lists are replaced, never merged:
default, environment, config file, `THREADCORN_CMD_ARGS` (or `GUNICORN_CMD_ARGS` where that is not
set), command line. Times are written `30`, `30s`, `500ms` or `5m`, sizes `65536`, `64k` or `1m`. A
flag that switches something on has a `--no-` twin. `threadcorn --print-config` shows every value
with its origin.

The config file is Python: `-c FILE`, `-c file:FILE` or `-c python:MODULE`; without `-c`,
`./threadcorn.conf.py` or else `./gunicorn.conf.py` is read if it is there. A name in it that is
nearly a setting's, and whose value the file itself reads nowhere, is an error; all other names are free.

On `HUP` everything is read again. A change applies at once (*live*), with the next generation of
workers (*workers*), or needs a *restart*: then the reload is refused and the setting is named."""


def print_config(cfg: Config) -> str:
    """Every row with its value and its origin, as Python that a config file could hold."""
    settings = cfg.build()
    shown = {name: _python(row, getattr(settings, name)) for name, row in ROWS.items() if not row.hidden}
    width = min(44, max(len(name) + 3 + len(value) for name, value in shown.items()))
    lines: list[str] = []
    for section in Section:
        lines += ["", f"# {section.value}"]
        for name, value in shown.items():
            if ROWS[name].section is section:
                lines.append(f"{f'{name} = {value}':<{width}}  # {cfg.origins[name]}")
    return "\n".join(lines[1:])


def _python(row: Row, value: Any) -> str:
    if row.secret:
        return repr(masked(value))
    if callable(value):
        return f"<{getattr(value, '__module__', '?')}.{getattr(value, '__qualname__', type(value).__name__)}>"
    if row.name == "umask":
        return f"0o{value:o}"
    return repr(list(value) if isinstance(value, tuple) else value)


def masked(value: Any) -> Any:
    """A secret row's value without what may be a password: what shows settings goes into tickets."""
    if isinstance(value, Mapping):
        return dict.fromkeys(value, "***")
    return [f"{entry.partition('=')[0]}=***" for entry in value]


def page() -> str:
    """docs/settings.md."""
    return "\n".join(_page()) + "\n"


def _page() -> Iterator[str]:
    yield INTRODUCTION
    yield ""
    for section in Section:
        yield from (f"## {section.value}", "")
        for row in ROWS.values():
            if row.section is section and not row.hidden:
                yield from _entry(row)
    yield from ("## Settings of gunicorn without effect here", "")
    yield "They are accepted with a warning; those in bold are refused, because going on would be dangerous."
    yield from ("", "| setting | why |", "|---|---|")
    for name, foreign in FOREIGN.items():
        shown = f"**`{name}`**" if foreign.refused else f"`{name}`"
        yield f"| {shown} | {foreign.why} |"
    yield from ("", "## Exit codes", "", "| code | meaning |", "|---|---|")
    for code in ExitCode:
        yield f"| {code.value} | {code.sentence} |"


def _entry(row: Row) -> Iterator[str]:
    facts = []
    flags = [f"`{flag}`" for flag in row.flags]
    if row.type == "bool" and row.default is True:
        flags = [f"`--no-{flag[2:]}`" for flag in row.flags]
    if flags:
        facts.append(", ".join(flags))
    variables = [name for name in (row.env_name, *(name for name, _ in row.env)) if name]
    if variables:
        facts.append("environment " + ", ".join(f"`{name}`" for name in variables))
    if not row.arity:
        facts.append(f"default {_default(row)}")
    if row.ge is not None or row.le is not None:
        facts.append(_bounds(row))
    if row.choices:
        facts.append("one of " + ", ".join(f"`{choice}`" for choice in row.choices))
    facts.append(row.reload.name.lower())
    yield f"### `{row.name}`"
    yield ""
    yield row.help
    yield ""
    yield "; ".join(facts) + "."
    yield ""


def _default(row: Row) -> str:
    if row.default is None or row.default in ((), {}):
        return "none"
    return f"`{written(row, row.default)}`" if row.type != "bool" else f"`{row.default}`"


def _bounds(row: Row) -> str:
    low = "" if row.ge is None else f"at least {row.ge:g}"
    high = "" if row.le is None else f"at most {row.le:.0f}"
    return " and ".join(part for part in (low, high) if part)
