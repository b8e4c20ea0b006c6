"""hello for the passes of counted.py that run under strace.

A traced system call stops its thread twice, and the kernel counts that as two voluntary switches: the
worker would take the tracer for an application that blocks and leave inline mode, and what it costs there
is not what is asked. So its judge is switched off here. Whether the worker finds inline mode by itself
is seen in the pass without strace, which uses the plain application.
"""

from __future__ import annotations

from scenarios import hello as app

import threadcorn.worker.pool as judge

__all__ = ["app"]

if not hasattr(judge, "SWITCHES"):
    raise RuntimeError(
        "threadcorn.worker.pool.SWITCHES is gone: counted_app.py must switch the judge off elsewhere"
    )
judge.SWITCHES = float("inf")
