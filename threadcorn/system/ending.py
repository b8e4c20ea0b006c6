"""The end of a process that others have started threads in."""

from __future__ import annotations

import logging
import os
import threading

__all__ = ["PATIENCE", "end_without"]

#: Seconds that the others have to end by themselves.
PATIENCE = 3.0


def end_without(code: object, log: logging.Logger | None) -> None:
    """The process is about to leave by `sys.exit(code)`. The interpreter waits for threads that are no
    daemons: for ever, where one does not end. After `PATIENCE` it is ended without them, and `log` told."""
    others = [t for t in threading.enumerate() if not t.daemon and t is not threading.main_thread()]
    if not others:
        return

    def leave() -> None:
        names = ", ".join(thread.name for thread in others if thread.is_alive())
        if log is not None:
            log.warning("Not waiting any longer for threads that were started here: %s", names)
        os._exit(code if isinstance(code, int) else 1)

    last = threading.Timer(PATIENCE, leave)
    last.daemon = True
    last.start()
