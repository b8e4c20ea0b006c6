"""From the wish to reload to the event that begins it: new settings are built whole, or nothing happens."""

from __future__ import annotations

from typing import Any

from threadcorn.arbiter import hooks
from threadcorn.arbiter.generations import Generations, rules_of
from threadcorn.errors import ThreadcornError
from threadcorn.policy.events import ReloadAsked
from threadcorn.settings import plan_reload

__all__ = ["prepare"]


def prepare(server: Any, generations: Generations) -> tuple[ReloadAsked | None, str]:
    """The event, or why there is none. A mistake is logged, and nothing else has happened."""
    log = server.log
    try:
        settings = server.app.reload()
        plan = plan_reload(server.settings, settings)
        # The ready descriptor is for the first generation, and what --daemon puts there is not repeated.
        restart = [name for name in plan.restart if name != "ready_fd"]
        if restart:
            names = ", ".join(restart)
            log.error("Reload refused, nothing has changed: %s can only change by a restart", names)
            return None, f"{names} can only change by a restart"
        generation = generations.make(settings, server.app.load_for(settings))
    except ThreadcornError as error:
        log.error("Reload refused, nothing has changed: %s", error)
        return None, str(error)
    if settings.preload_app:
        log.warning("preload_app: the workers are replaced, but their code is the arbiter's: restart it")
    hooks.call(log, "on_reload", settings.on_reload, server)
    workers = int(settings.workers)
    changed = workers if workers != server.settings.workers else None
    return ReloadAsked(generation.number, rules_of(settings), changed), ""
