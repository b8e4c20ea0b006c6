"""Deadlines of many things, cheap to move later.

A request that ends and a connection that goes idle move a deadline thousands of times a second, so
moving one must cost an attribute and nothing else. The wheel therefore does not know deadlines. It
knows when to *look* at a thing: each thing is in it at least once, not later than its deadline. When
its turn comes its owner says when to look again, or deals with it. Only a deadline that comes nearer
has to be told to the wheel.

Law: a thing that has a deadline is in the wheel, in a bucket not later than that deadline.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")

#: Width of a bucket in seconds. A deadline is met up to this much late.
GRAIN = 0.25


class Deadlines(Generic[T]):
    """A timing wheel. `watch` may be called from any thread, `due` from one at a time."""

    def __init__(self) -> None:
        self._arrivals: deque[tuple[float, T]] = deque()  # append and popleft are safe across threads
        self._buckets: dict[int, list[T]] = {}
        self._next: int | None = None

    def watch(self, thing: T, when: float) -> None:
        """Look at `thing` at the monotonic time `when` or up to a grain later."""
        self._arrivals.append((when, thing))

    def due(self, now: float) -> list[T]:
        """What is to be looked at by `now`, each once, taken out of the wheel."""
        buckets = self._buckets
        arrivals = self._arrivals
        while arrivals:
            when, thing = arrivals.popleft()
            index = int(when / GRAIN) + 1
            bucket = buckets.get(index)
            if bucket is None:
                buckets[index] = [thing]
            else:
                bucket.append(thing)
            if self._next is None or index < self._next:
                self._next = index
        current = int(now / GRAIN)
        if self._next is None or self._next > current:
            return []
        found: list[T] = []
        for index in sorted(index for index in buckets if index <= current):
            found.extend(buckets.pop(index))
        self._next = min(buckets, default=None)
        return found

    def __len__(self) -> int:
        return len(self._arrivals) + sum(map(len, self._buckets.values()))
