"""`Config`: the mutable builder over the table. It collects, checks and freezes to `Settings`.

Its shape is the one that gunicorn's users know from embedding: `cfg.settings` maps names to rows,
`cfg.set(name, value)` validates at once, attributes read values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from threadcorn.errors import ConfigError
from threadcorn.settings.foreign import FOREIGN, Foreign
from threadcorn.settings.rows import Row
from threadcorn.settings.sources import Given, Layer, Origin, Source, nearest_row
from threadcorn.settings.table import ALIASES, ROWS, Settings
from threadcorn.settings.values import parse_value

__all__ = ["Config", "unknown_name"]

_DEFAULT = Origin(Source.DEFAULT)
_EMBEDDED = Origin(Source.EMBEDDED)

# What `cfg.settings` shows: the rows, also under the names by which gunicorn's users know them, and what only
# gunicorn has: programs leave out what is not here, and a certificate must not be left out silently.
_KNOWN: Mapping[str, Row | Foreign] = {
    **FOREIGN,
    **ROWS,
    **{alias: ROWS[name] for alias, name in ALIASES.items()},
}

# Bytes. An interpreter alone is larger.
_SMALLEST_WORKER = 1 << 20

# Where 0 means "no limit of its own" there is one all the same: what the whole head may be (None), or this.
_UNLIMITED: Mapping[str, int | None] = {
    "limit_request_line": None,
    "limit_request_field_size": None,
    "limit_request_fields": 32768,
}


class Config:
    """Values that are still being collected. Whoever serves takes the `Settings` of `freeze()`."""

    def __init__(self, usage: str | None = None, prog: str | None = None) -> None:
        self.usage = usage
        self.prog = prog
        self.origins: dict[str, Origin] = dict.fromkeys(ROWS, _DEFAULT)
        self.problems: list[str] = []
        self.warnings: list[str] = []
        self._values: dict[str, Any] = {name: row.default for name, row in ROWS.items()}

    @classmethod
    def of(cls, settings: Settings, usage: str | None = None, prog: str | None = None) -> Config:
        """A builder that holds finished settings: `cfg` as hooks and applications read it."""
        cfg = cls(usage, prog)
        cfg._values.update({name: getattr(settings, name) for name in ROWS})
        return cfg

    @property
    def settings(self) -> Mapping[str, Row | Foreign]:
        """Names to rows, also of what only gunicorn has (setting it warns, or is refused with the reason). A
        program that embeds us filters its own options on it."""
        return _KNOWN

    def set(self, name: str, value: Any) -> None:
        """Give a row its value. A wrong name or value raises `ConfigError` and changes nothing."""
        problems = self._take(Given(name, name, value, _EMBEDDED))
        if problems:
            raise ConfigError(problems)

    def __getattr__(self, name: str) -> Any:
        # Only reached for what is not an attribute of the object: the rows' values.
        try:
            return self.__dict__["_values"][ALIASES.get(name, name)]
        except KeyError:
            if name in FOREIGN:
                return None  # it is not in force here, whatever was set
            raise AttributeError(f"no setting {name!r}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        # It would look as if it worked, and the server would never see the value.
        if name in _KNOWN:
            raise AttributeError(f"use cfg.set({name!r}, ...), which checks the value")
        super().__setattr__(name, value)

    def apply(self, *layers: Layer) -> None:
        """Take layers, the weaker first. What is wrong with them is kept for `check()`."""
        for layer in layers:
            self.problems += layer.problems
            self.warnings += layer.warnings
            for given in layer.given:
                self.problems += self._take(given)

    def check(self) -> list[str]:
        """Every problem known so far: those of the layers, and rows that contradict each other."""
        return [*self.problems, *(text for test in _CROSS_CHECKS for text in test(self))]

    def build(self) -> Settings:
        """The values as they are, checked or not."""
        values = dict(self._values)
        for name, none in _UNLIMITED.items():
            if values[name] == 0:
                values[name] = values["limit_request_head"] if none is None else none
        if self.origins["limit_request_head"] == _DEFAULT:
            # Who allows a longer line means it: the whole must not refuse what the part allows.
            parts = values["limit_request_line"], values["limit_request_field_size"]
            values["limit_request_head"] = max(values["limit_request_head"], *parts)
        return Settings(**values)

    def freeze(self) -> Settings:
        """The finished settings, or `ConfigError` with every problem at once."""
        if problems := self.check():
            raise ConfigError(problems)
        return self.build()

    def _take(self, given: Given) -> Iterable[str]:
        name = ALIASES.get(given.name, given.name)
        row = ROWS.get(name)
        if row is None:
            return self._take_foreign(given)
        try:
            value = parse_value(row, given.value)
        except ValueError as error:
            return [f"{given.label}: {error} ({given.origin})"]
        self._values[name] = value
        self.origins[name] = given.origin
        return []

    def _take_foreign(self, given: Given) -> Iterable[str]:
        foreign = FOREIGN.get(given.name)
        if foreign is None:
            return [unknown_name(given.label, str(given.origin))]
        remark = foreign.remark(given.label, given.value)
        if remark and foreign.refused:
            return [f"{remark} ({given.origin})"]
        if remark:
            self.warnings.append(f"{remark} ({given.origin})")
        return []


def unknown_name(name: str, where: str) -> str:
    """The sentence for a name that is no setting."""
    close = nearest_row(name)
    advice = f"did you mean {close!r}?" if close else "see threadcorn --help or docs/settings.md"
    return f"{name}: there is no such setting; {advice} ({where})"


def _threads_in_order(cfg: Config) -> Iterable[str]:
    if cfg.threads_min > cfg.threads_max:
        yield f"threads_min ({cfg.threads_min}) is greater than threads_max ({cfg.threads_max})"


def _room_for_workers(cfg: Config) -> Iterable[str]:
    if isinstance(cfg.workers, int) and 0 < cfg.max_workers < cfg.workers:
        yield f"max_workers ({cfg.max_workers}) is less than workers ({cfg.workers}); raise it"


def _limits_fit_the_head(cfg: Config) -> Iterable[str]:
    for name in ("limit_request_line", "limit_request_field_size"):
        value, head = getattr(cfg, name), cfg.limit_request_head
        # One of them alone is no contradiction: what was left at its default gives way.
        given = _DEFAULT not in (cfg.origins[name], cfg.origins["limit_request_head"])
        if value > head and given:
            yield f"{name} ({value}) is greater than limit_request_head ({head}); raise that, too"


def _room_for_a_process(cfg: Config) -> Iterable[str]:
    # `max_worker_memory = 200  # MB` would replace every worker at each look.
    for name in ("max_worker_memory", "max_worker_memory_hard"):
        value = getattr(cfg, name)
        if 0 < value < _SMALLEST_WORKER:
            yield f"{name}: no worker lives in {value} bytes; write {value}m for MiB ({cfg.origins[name]})"


def _hard_above_soft(cfg: Config) -> Iterable[str]:
    soft, hard = cfg.max_worker_memory, cfg.max_worker_memory_hard
    if 0 < hard <= soft:
        yield f"max_worker_memory_hard ({hard}) is not above max_worker_memory ({soft}); raise it"


_CROSS_CHECKS: tuple[Callable[[Config], Iterable[str]], ...] = (
    _threads_in_order,
    _room_for_workers,
    _limits_fit_the_head,
    _room_for_a_process,
    _hard_above_soft,
)
