"""What a reload would change, by what the change costs."""

from __future__ import annotations

import dataclasses

from threadcorn.settings.rows import Reload
from threadcorn.settings.table import ROWS, Settings

__all__ = ["ReloadPlan", "plan_reload"]


@dataclasses.dataclass(frozen=True, slots=True)
class ReloadPlan:
    """The names of the rows that differ. With anything under `restart` the reload is to be refused."""

    live: tuple[str, ...] = ()
    workers: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()

    @property
    def changed(self) -> tuple[str, ...]:
        return (*self.live, *self.workers, *self.restart)


def plan_reload(old: Settings, new: Settings) -> ReloadPlan:
    changed = [row for name, row in ROWS.items() if getattr(old, name) != getattr(new, name)]
    by_class = {kind: tuple(row.name for row in changed if row.reload is kind) for kind in Reload}
    return ReloadPlan(by_class[Reload.LIVE], by_class[Reload.WORKERS], by_class[Reload.RESTART])
