"""Writes the pages of docs/ that are made from tables.

    python tools/derive.py [--check]

With --check nothing is written; the exit code is 1 if a page is not what its table says.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# As a script this file is outside of the package; the package beside it is meant, not an installed one.
sys.path.insert(0, str(ROOT))

from threadcorn.settings import show  # noqa: E402 -- after the path

__all__ = ["PAGES", "main"]

# Page under docs/ to the function that makes its text.
PAGES: dict[str, Callable[[], str]] = {
    "settings.md": show.page,
}


def main(argv: Sequence[str]) -> int:
    check = list(argv) == ["--check"]
    if argv and not check:
        print(__doc__)
        return 2
    stale = 0
    for name, make in PAGES.items():
        path = ROOT / "docs" / name
        text = make()
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale += 1
        if check:
            print(f"docs/{name} is not what its table says; run python tools/derive.py")
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"docs/{name} written")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
