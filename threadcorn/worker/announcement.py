"""The announcement of the PROXY protocol that a connection must begin with, when that is switched on."""

from __future__ import annotations

from threadcorn.errors import ProtocolViolation
from threadcorn.http1.proxyline import Announced, announced


class Announcement:
    """What takes the first bytes of a connection, once, before anything else."""

    __slots__ = ("_allowed", "_mode", "buffer")

    def __init__(self, mode: str, allowed: bool) -> None:
        self.buffer = bytearray()
        self._mode = mode
        self._allowed = allowed

    def feed(self, data: bytes) -> tuple[Announced, bytes] | None:
        """Take bytes. What was announced and what came behind it, or None. Raises ProtocolViolation."""
        if not self._allowed:
            raise ProtocolViolation(403, "this peer may not speak the PROXY protocol")
        self.buffer += data
        whole = bytes(self.buffer)
        said = announced(whole, self._mode)
        return None if said is None else (said, whole[said.size :])

    def renew(self, now: float) -> None:
        return None  # absolute, as for a head

    def close(self) -> None:
        pass
