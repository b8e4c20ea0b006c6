"""Nanoseconds of a small piece of work: the best of several runs, because noise only adds."""

from __future__ import annotations

import gc
import platform
import time
from collections.abc import Callable

__all__ = ["header", "measure"]

RUNS = 7
SECONDS = 0.05  # of one run


def measure(name: str, work: Callable[[], object]) -> float:
    """Time `work`, print one line, return nanoseconds a call."""
    number = 1
    while True:  # how many calls fill a run
        begin = time.perf_counter_ns()
        for _ in range(number):
            work()
        took = time.perf_counter_ns() - begin
        if took > SECONDS * 1e9 / 4:
            break
        number *= 4
    number = max(1, int(number * SECONDS * 1e9 / took))
    best = float("inf")
    gc.disable()
    try:
        for _ in range(RUNS):
            begin = time.perf_counter_ns()
            for _ in range(number):
                work()
            best = min(best, (time.perf_counter_ns() - begin) / number)
    finally:
        gc.enable()
    print(f"{name:<58}{best:>9.0f} ns")
    return best


def header(what: str) -> None:
    print(f"{what} ({platform.python_implementation()} {platform.python_version()})")
