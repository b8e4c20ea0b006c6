"""threadcorn: a WSGI server with sharded workers and threads that take turns to lead."""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
