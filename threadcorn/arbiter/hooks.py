"""Calling the callables that the user gave us. What they raise is logged and stops nothing.

A typing error in a hook must not end a server that serves. gunicorn lets most of them kill its arbiter. Where
that is meant, it is said by `sys.exit()` in `on_starting`, when nothing serves yet (another server may hold a
lock): that refuses the start.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from threadcorn.errors import BootError, traceback_text

__all__ = ["call"]


def call(log: logging.Logger, name: str, hook: Callable[..., Any] | None, *args: Any) -> None:
    """Call a hook if there is one. Raises BootError where `on_starting` refuses the start."""
    if hook is None:
        return
    try:
        hook(*args)
    except (Exception, SystemExit) as error:
        # It is the user's code: anything may come.
        if name == "on_starting" and isinstance(error, SystemExit):
            what = f"the server hook on_starting refuses the start (sys.exit({error.code!r}))"
            raise BootError(what, "Its reason is what it has printed or logged before.") from error
        log.error("The server hook %s raised; it is ignored\n%s", name, traceback_text(error))
