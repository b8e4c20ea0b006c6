"""`python -m threadcorn.ctl` is `threadcornctl`."""

from __future__ import annotations

import sys

from threadcorn.ctl import main

if __name__ == "__main__":
    sys.exit(main())
