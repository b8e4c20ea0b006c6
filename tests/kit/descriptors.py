"""Which descriptors this process has open, to see that none is left behind; and how to run out of them."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator

__all__ = ["descriptors", "room_for"]


def descriptors() -> set[int]:
    """Numbers of all open descriptors, without the one that the look itself needs."""
    return {fd for fd in map(int, os.listdir("/dev/fd")) if _open(fd)}


@contextlib.contextmanager
def room_for(count: int) -> Iterator[None]:
    """Inside, `count` descriptors more can be opened, then the system says EMFILE."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The limit is on the number, not on how many there are: gaps below the highest one are filled first.
    highest = max(descriptors())
    filling = [os.dup(0)]
    while filling[-1] <= highest:
        filling.append(os.dup(0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (filling[-1] + 1 + count, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for fd in filling:
            os.close(fd)


def _open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
