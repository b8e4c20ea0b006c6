"""Settings: one table, and everything that can be derived from it."""

from __future__ import annotations

from threadcorn.settings.rows import Reload, Row, Section
from threadcorn.settings.table import ALIASES, ROWS, Settings

__all__ = ["ALIASES", "ROWS", "Reload", "Row", "Section", "Settings"]
