"""`python -m threadcorn`."""

from __future__ import annotations

from threadcorn.cli import main

if __name__ == "__main__":
    main()
