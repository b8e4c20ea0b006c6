"""Decisions as pure functions and tables: events and readings in, commands and verdicts out."""

from __future__ import annotations
