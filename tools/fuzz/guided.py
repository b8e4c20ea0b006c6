"""The same comparison as mutate.py, guided by coverage: needs atheris (`pip install atheris`).

    python tools/fuzz/guided.py WORKING_DIRECTORY -max_total_time=60

The working directory is filled with the seeds of tests/corpus at the first start and with what libFuzzer
finds; it is not part of the repository. A finding is kept by adding it to tests/corpus as a case.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris  # type: ignore[import-untyped, import-not-found, unused-ignore]

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
with atheris.instrument_imports(include=["threadcorn.http1"]):
    from tools.fuzz.requests import Seam, seeds

SEAM = Seam()


def one_input(data: bytes) -> None:
    # The first byte says where the rest is cut.
    if data:
        found = SEAM.difference(data[1:], [data[0] * (len(data) - 1) >> 8])
        if found:
            raise AssertionError(found)


def main() -> None:
    for argument in sys.argv[1:2]:
        directory = Path(argument)
        directory.mkdir(parents=True, exist_ok=True)
        if not any(directory.iterdir()):
            for number, wire in enumerate(seeds()):
                (directory / f"seed-{number}").write_bytes(b"\x80" + wire)
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
