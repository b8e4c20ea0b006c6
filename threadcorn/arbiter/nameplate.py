"""What tells the outside who we are and that we are ready: the pid file, and the ready descriptor."""

from __future__ import annotations

import os
from collections.abc import Sequence

from threadcorn.system import announce

__all__ = ["Nameplate"]


class Nameplate:
    """`succeeds`: a predecessor serves, and its pid file is right until we are ready."""

    def __init__(self, pidfile: str | None, ready_fd: int | None, *, succeeds: bool) -> None:
        self._path = pidfile
        self._ready_fd = ready_fd
        self._succeeds = succeeds
        self._file: announce.PidFile | None = None

    def open(self) -> None:
        """Raises BootError when another server has the pid file."""
        if not self._succeeds and self._path is not None:
            announce.PidFile(self._path).refuse()

    def hang(self) -> None:
        """A signal ends us by way of `close` from here on. Raises BootError when the file cannot be made."""
        if not self._succeeds:
            self._write()

    def ready(self, addresses: Sequence[str]) -> None:
        """All workers are. Raises BootError when the pid file cannot be taken over."""
        if self._succeeds and self._file is None:
            self._write()
        if self._ready_fd is not None:
            announce.write_ready(self._ready_fd, addresses)
            self._ready_fd = None

    def stay(self) -> None:
        """We serve on: a successor that had put its name there has failed. Raises BootError when ours cannot
        be put back."""
        if self._file is not None:
            self._file.restore()

    def leave_to_parent(self) -> None:
        """In a child."""
        if self._file is not None:
            self._file.forget()
        if self._ready_fd is not None:
            os.close(self._ready_fd)
            self._ready_fd = None

    def close(self) -> None:
        """We leave. A successor's name stays, where it has put it in the place of ours."""
        if self._file is not None:
            self._file.remove()

    def _write(self) -> None:
        if self._path is not None:
            file = announce.PidFile(self._path)
            file.create(takes_over=self._succeeds)
            self._file = file
