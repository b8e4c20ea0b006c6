"""Mutated inputs through a seam, each verdict compared with those of oracles.

    python tools/fuzz/mutate.py --seconds 60 --state /tmp/fuzz.json
    python tools/fuzz/mutate.py --seam announcements --count 100000

Seams: `requests` (heads and bodies; oracles: the patterns of the tests, and h11), `tiny` (the same with
limits that a short input breaks), `announcements` (PROXY protocol), `fields` (X-Forwarded-For, Forwarded).

Resumable: the state file keeps the seed, how many inputs have been tried, and by which rules h11 and we
differ; the next run goes on behind them. Input number N of a seed is always the same, so a finding is
repeated by `--seed S --from N --count 1`. Findings are written beside the state, and the run goes on until
there are too many. An input that takes longer than `HANG` seconds ends the run with the stack of where it
hangs.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tools.fuzz import peers, requests  # noqa: E402 -- after the path
from tools.fuzz.inputs import mutated  # noqa: E402 -- after the path

#: A run that is killed has to try so many again.
SAVED = 20_000
#: Inputs between two looks at the clock.
BATCH = 200
HANG = 30
ENOUGH = 20


class Seam(Protocol):
    differs: Counter[str]

    def difference(self, wire: bytes, cuts: Sequence[int]) -> str: ...


def seam(name: str) -> tuple[Seam, Sequence[bytes], Sequence[bytes]]:
    """A seam, what its inputs are made of, and the pieces that are put into them."""
    if name == "announcements":
        return peers.Announcements(), peers.ANNOUNCED, peers.ANNOUNCED_WORDS
    if name == "fields":
        return peers.Fields(), peers.FORWARDED, peers.FORWARDED_WORDS
    limits = requests.TINY if name == "tiny" else requests.LIMITS
    return requests.Seam(limits), requests.seeds(), requests.WORDS


def one_input(
    start: Sequence[bytes], words: Sequence[bytes], seed: int, number: int
) -> tuple[bytes, list[int]]:
    """Input `number` of a seed, and where it is cut: mostly once, sometimes often."""
    rng = random.Random(seed << 40 | number)
    wire = mutated(start, words, rng)
    many = rng.choice((1, 1, 1, 2, 6))
    return wire, [rng.randrange(len(wire) + 1) for _ in range(many)]


def run(
    name: str, seed: int, first: int, *, seconds: float, count: int, state: Path | None, told: Counter[str]
) -> int:
    """Try inputs from number `first` on; how many differ."""
    tested, start, words = seam(name)
    tested.differs.update(told)
    number, found = first, 0
    until = time.monotonic() + seconds

    def save() -> None:
        if state is not None:
            kept = {
                "seam": name,
                "seed": seed,
                "tried": number,
                "differs": dict(tested.differs.most_common()),
            }
            state.write_text(json.dumps(kept, indent=1), "utf-8")

    while found < ENOUGH and time.monotonic() < until and not (count and number - first >= count):
        faulthandler.dump_traceback_later(HANG, exit=True)
        for _ in range(min(BATCH, count - (number - first)) if count else BATCH):
            wire, cuts = one_input(start, words, seed, number)
            wrong = tested.difference(wire, cuts)
            if wrong:
                found += 1
                print(f"input {number}: {wire!r} cut at {cuts}\n{wrong}", flush=True)
                if state is not None:
                    state.with_suffix(f".{number}.http").write_bytes(wire)
            number += 1
            if number % SAVED == 0:
                save()
    faulthandler.cancel_dump_traceback_later()
    save()
    print(f"{name}, seed {seed}: {number - first} inputs, {number} in all, {found} differences")
    for reason, times in tested.differs.most_common():
        print(f"  {times:9} h11 differs, {reason}")
    return found


def main() -> int:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument(
        "--seam", choices=("requests", "tiny", "announcements", "fields"), default="requests"
    )
    options.add_argument("--seconds", type=float, default=60.0)
    options.add_argument("--count", type=int, default=0, help="inputs at most (0: as many as time allows)")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--from", dest="first", type=int, default=0)
    options.add_argument("--state", type=Path, help="file to go on from, and to write how far this run came")
    told = options.parse_args()
    name, seed, first = told.seam, told.seed, told.first
    differs: Counter[str] = Counter()
    if told.state is not None and told.state.exists():
        state = json.loads(told.state.read_text("utf-8"))
        name, seed, first, differs = state["seam"], state["seed"], state["tried"], Counter(state["differs"])
    found = run(name, seed, first, seconds=told.seconds, count=told.count, state=told.state, told=differs)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
