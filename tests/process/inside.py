"""Servers whose application can see, and steer, the listeners it is served from."""

from __future__ import annotations

from typing import Any

from tests.kit import ServerProcess

__all__ = ["inside"]

CONFIG = """
def post_fork(server, worker):
    import builtins
    builtins.groups = server._premises.groups
"""


def inside(source: str, *flags: str, **how: Any) -> ServerProcess:
    """For the application in `source`, `builtins.groups` are the arbiter's groups of shards."""
    return ServerProcess(None, *flags, source=source, config=CONFIG, **how)
