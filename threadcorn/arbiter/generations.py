"""One generation is one `Settings`, one way to the application, one access log.

The arbiter keeps a generation for as long as somebody may still be forked of it.
"""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from threadcorn.accesslog import AccessLog
from threadcorn.policy.events import Rules
from threadcorn.settings import Config, Settings

__all__ = ["Generation", "Generations", "rules_of", "title"]


def rules_of(settings: Settings) -> Rules:
    """What the supervisor needs to know of the settings."""
    return Rules(
        boot_timeout=settings.boot_timeout,
        graceful_timeout=settings.graceful_timeout,
        lame_duck=settings.lame_duck,
        surge=settings.reload_surge,
    )


def title(role: str, settings: Settings) -> str:
    """What ps shows."""
    return f"threadcorn: {role} [{settings.proc_name or settings.wsgi_app or 'app'}]"


@dataclass(frozen=True, slots=True)
class Generation:
    """What its workers are born with."""

    number: int
    settings: Settings
    cfg: Config  # the same for hooks, which know gunicorn's
    load: Callable[[], Callable[..., Any]]
    access: AccessLog

    def preload(self, log: logging.Logger) -> None:
        """Load the application here, for all workers that are forked. Raises what it raises."""
        before = len(sys._current_frames())  # noqa: SLF001 - Python's threads, without making one known
        self.load()
        started = len(sys._current_frames()) - before  # noqa: SLF001
        if started > 0:
            log.warning(
                "preload_app: the application has started %d thread%s; threads do not run on in a forked "
                "worker, and locks that they hold stay locked there: start them in post_fork",
                started,
                "" if started == 1 else "s",
            )
        # What is never written is never copied: the collector would write into every object it visits.
        gc.collect()
        gc.freeze()


class Generations:
    """By number. The newest is not always the one that serves: it may still have to prove itself."""

    def __init__(self) -> None:
        self._made: dict[int, Generation] = {}
        self._last = 0

    def make(self, settings: Settings, load: Callable[[], Callable[..., Any]]) -> Generation:
        """The next one. Raises ConfigError if its access log cannot be opened."""
        access = AccessLog(settings)
        self._last += 1
        generation = self._made[self._last] = Generation(
            self._last, settings, Config.of(settings), load, access
        )
        return generation

    def __getitem__(self, number: int) -> Generation:
        return self._made[number]

    def keep(self, numbers: set[int]) -> None:
        """Let go of all others."""
        for number in self._made.keys() - numbers:
            self._made.pop(number).access.close()

    def reopen_logs(self) -> None:
        for generation in self._made.values():
            generation.access.reopen()
