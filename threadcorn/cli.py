"""The console entry `threadcorn`."""

from __future__ import annotations

from threadcorn.app.wsgiapp import run

__all__ = ["main"]


def main() -> None:
    """Serve what sys.argv says; never returns."""
    run(prog="threadcorn")
