"""Calling the callables that the user gave us. What they raise is logged and stops nothing.

A typing error in a hook must not end a server that serves. gunicorn lets most of them kill its arbiter; where
that was used on purpose (a check in `on_starting`), the application's own start is the place to refuse.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from threadcorn.errors import traceback_text

__all__ = ["call"]


def call(log: logging.Logger, name: str, hook: Callable[..., Any] | None, *args: Any) -> None:
    """Call a hook if there is one."""
    if hook is None:
        return
    try:
        hook(*args)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - it is the user's code: anything may come
        log.error("The server hook %s raised; it is ignored\n%s", name, traceback_text(error))
