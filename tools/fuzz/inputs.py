"""Inputs of the fuzz runs: mutations of what is known to matter. Input N of a seed is always the same."""

from __future__ import annotations

import random
from collections.abc import Sequence

__all__ = ["LONGEST", "mutated"]

#: Bytes that a parser may take for something else.
ODD = b'\x00\t\n\x0b\x0c\r ",-:;_\x7f\x80\x85\xa0\xad\xff'
#: Longer ones cost time and hold nothing that the short ones do not.
LONGEST = 2000


def mutated(start: Sequence[bytes], words: Sequence[bytes], rng: random.Random) -> bytes:
    """One of `start`, changed in a few places: bits, bytes, pieces doubled, dropped, put in from `words`, the
    end of another one in place of its own."""
    data = bytearray(rng.choice(start))
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 5))):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(9)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[at : at + rng.choice((1, 1, 1, 2, 4))]
        elif kind == 2:
            data[at:at] = data[at : at + rng.choice((1, 2, 8, 30))]
        elif kind == 3:
            data.insert(at, rng.choice(ODD))
        elif kind == 4 and at < len(data):
            data[at] = rng.choice(ODD)
        elif kind == 5:
            data[at:at] = rng.choice(words)
        elif kind == 6:
            data[at : at + rng.choice((1, 4, 8))] = rng.choice(words)
        elif kind == 7:
            other = rng.choice(start)
            cut = rng.randrange(len(other) + 1)
            data[at:] = other[cut:]
        else:
            data += rng.choice(start)
    del data[LONGEST:]
    return bytes(data)
