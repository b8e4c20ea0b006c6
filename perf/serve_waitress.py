"""Start waitress for compare.py: `python serve_waitress.py MODULE:APP THREADS PORT [CONNECTIONS]`.

Its command line has no flag for silence: it would log one line for every request that waits in its
queue, and the terminal would be measured.
"""

from __future__ import annotations

import importlib
import logging
import sys


def main(target: str, threads: str, port: str, connections: str = "100") -> None:
    import waitress  # type: ignore[import-untyped,import-not-found,unused-ignore]

    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    module, _, name = target.partition(":")
    app = getattr(importlib.import_module(module), name)
    # poll(2): its select(2) cannot have more than 1024 descriptors.
    waitress.serve(
        app,
        listen=f"127.0.0.1:{port}",
        threads=int(threads),
        connection_limit=int(connections),
        asyncore_use_poll=True,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
