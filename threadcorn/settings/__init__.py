"""Settings: one table, and everything that can be derived from it.

    rows, table      the columns and the rows
    values           from what a person writes to a value
    sources          environment; layers and origins
    flags            command line and help
    namespace        config file
    foreign          gunicorn's settings that cannot apply
    config           the builder that embedding programs know
    resolve          all sources to one builder, in their order
    plan             what a reload would change
    show             --print-config and docs/settings.md

The modules for start-up only (flags and what uses it) are imported by who starts, not from here: a
worker needs the values alone.
"""

from __future__ import annotations

from threadcorn.settings.config import Config
from threadcorn.settings.plan import ReloadPlan, plan_reload
from threadcorn.settings.rows import Reload, Row, Section
from threadcorn.settings.table import ALIASES, ROWS, Auto, Hook, Settings

__all__ = [
    "ALIASES",
    "ROWS",
    "Auto",
    "Config",
    "Hook",
    "Reload",
    "ReloadPlan",
    "Row",
    "Section",
    "Settings",
    "plan_reload",
]
