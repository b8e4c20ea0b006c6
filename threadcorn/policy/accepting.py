"""Who accepts a connection that waits: the load figure, whom to ring instead, which queue to take from.

Balance is made when a connection is accepted, not when it arrives: a worker that finds a connection waiting
and is not the least loaded rings one that is, and that one takes from the deepest queue of all. Everything
here is arithmetic over what `system/scoreboard.py` shows of the siblings, a moment old and never exact.
"""

from __future__ import annotations

from collections.abc import Sequence

from threadcorn.policy.cells import WorkerState
from threadcorn.policy.steering import SUSPECT_SECONDS

__all__ = ["UNFIT", "deepest", "figure", "to_ring", "worth"]

#: A request that runs or waits weighs as much as this many connections that only stay open.
REQUEST = 4
#: Microseconds of lateness that weigh as much as one connection; and how late everybody is now and then, on a
#: busy machine, without being any worse than the others.
LATE = 2000
USUAL = 10_000
#: The figure of who must not be given anything: booting, draining, stuck.
UNFIT = 1 << 40
#: Above this many, equal is not worth a wake-up: a difference of one in so many is taken for none.
SLACK = 64

_SUSPECT_NS = int(SUSPECT_SECONDS * 1e9)
_READY = int(WorkerState.READY)


def figure(busy: int, waiting: int, opened: int, lag_us: int) -> int:
    """What siblings compare: the smaller, the sooner it is given work."""
    return REQUEST * (busy + waiting) + opened + max(0, lag_us - USUAL) // LATE


def worth(state: int, silence_ns: int, load: int) -> int:
    """The figure as a sibling takes it: what a stuck worker wrote last says nothing any more."""
    return load if state == _READY and silence_ns <= _SUSPECT_NS else UNFIT


def to_ring(mine: int, others: Sequence[int], waiting: int) -> list[int]:
    """Instead of accepting: whom of the others to ring, least loaded first. Empty: accept it yourself.

    One for each connection that waits, but only those with less to do than we have.
    """
    least = min(others, default=UNFIT)
    if mine <= least + (least // SLACK if least < UNFIT else 0):
        return []
    less = sorted((load, index) for index, load in enumerate(others) if load < mine and load < UNFIT)
    return [index for _, index in less[: max(1, waiting)]]


def deepest(depths: Sequence[int]) -> int | None:
    """The queue to take from; of equals the first, so the own one comes first. None: all are empty."""
    most = max(depths, default=0)
    return depths.index(most) if most > 0 else None
