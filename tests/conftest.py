"""Every test has a hard limit, prints where it hung, and leaves nothing behind."""

from __future__ import annotations

import faulthandler
import signal
import sys
from collections.abc import Generator
from types import FrameType

import pytest
from hypothesis import HealthCheck, settings

# Seconds for a test, and again for its fixtures before and after it. `@pytest.mark.limit(120)` for more.
LIMIT = 60.0

# Deterministic or not at all: the same examples on every machine, and no shared database between the
# parallel processes. No deadline per example: a busy machine would decide about the result.
settings.register_profile(
    "threadcorn",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("threadcorn")


class HardLimitError(BaseException):
    """A test that hangs. Not an Exception: code under test that catches those must not swallow it."""


def _limited(item: pytest.Item, phase: str) -> Generator[None, object, object]:
    mark = item.get_closest_marker("limit")
    limit = float(mark.args[0]) if mark is not None else LIMIT

    def strike(number: int, frame: FrameType | None) -> None:
        faulthandler.dump_traceback(file=sys.__stderr__, all_threads=True)
        raise HardLimitError(f"{item.nodeid}: {phase} did not end within {limit:g} s")

    before = signal.signal(signal.SIGALRM, strike)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    return (yield from _limited(item, "set-up"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    return (yield from _limited(item, "the test"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    return (yield from _limited(item, "tear-down"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "long" in (config.option.markexpr or ""):
        return
    left_out = [item for item in items if item.get_closest_marker("long") is not None]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item.get_closest_marker("long") is None]
