"""Socket activation: sockets that systemd opened for us are what we listen at.

    no bind                 all of them, in their order
    bind fd://NAME          the one of that name (FileDescriptorName= in the socket unit)
    bind fd://N             the one of that number, the first being 3

A bind that names none of them is not used, and a warning says so: the addresses are the socket unit's affair,
and a config file that was written for starting by hand need not be changed. A socket that is given and that
nobody wants is a mistake: its clients would connect and wait for ever.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from threadcorn.errors import BootError, ConfigError
from threadcorn.settings import Config, Settings
from threadcorn.settings.sources import ACTIVATION, Origin, Source

if TYPE_CHECKING:
    from threadcorn.system.inherit import Activated

__all__ = ["Activation"]

_DEFAULT = Origin(Source.DEFAULT)
_FD = "fd://"


class Activation:
    """What LISTEN_FDS and its like say, read once. `environ` loses them: they are for us alone, and a program
    that the application starts must not believe that it was meant."""

    def __init__(self, environ: dict[str, str] | os._Environ[str]) -> None:
        said = {name: environ.pop(name) for name in ACTIVATION if name in environ}
        self._said: Mapping[str, str] = said
        self._pid = os.getpid()
        self._given: list[Activated] | None = None

    @property
    def given(self) -> list[Activated]:
        """Empty when we were started by hand. Raises ConfigError when what was said does not hold."""
        if not self._said:
            return []
        if self._given is None:
            from threadcorn.system.inherit import activated  # not for --help

            try:
                self._given = activated(self._said, self._pid)
            except BootError as error:
                raise ConfigError(str(error)) from None
        return self._given

    def apply(self, settings: Settings, cfg: Config) -> Settings:
        """The settings with what was given in `bind`. Raises ConfigError."""
        given = self.given
        wanted = tuple(self._numbered(text) for text in settings.bind)
        if not given:
            return settings
        if not any(text.startswith(_FD) for text in wanted):
            if cfg.origins["bind"] != _DEFAULT:
                text = f"bind {', '.join(settings.bind)} is not used: the socket unit says where to listen"
                if text not in cfg.warnings:
                    cfg.warnings.append(text)
            wanted = tuple(one.address.bind_text for one in given)
        left = [one for one in given if one.address.bind_text not in wanted]
        if left:
            names = ", ".join(f"{one.name or 'without a name'} (descriptor {one.fd})" for one in left)
            raise ConfigError(
                f"bind: the socket unit gives {names}, and no bind takes it; "
                f"add fd://{left[0].name or left[0].fd}, or leave bind out to listen at all that is given"
            )
        return dataclasses.replace(settings, bind=wanted)

    def _numbered(self, text: str) -> str:
        """`fd://NAME` as `fd://N`."""
        name = text.strip()[len(_FD) :]
        if not text.strip().lower().startswith(_FD) or not name or name.isdigit():
            return text
        for one in self.given:
            if one.name == name:
                return one.address.bind_text
        known = ", ".join(one.name for one in self.given if one.name)
        instead = f"there are {known}" if known else "nothing was given a name"
        raise ConfigError(
            f"bind {text!r}: no socket of that name was given by systemd ({instead}); "
            "FileDescriptorName= in the socket unit names it"
        )

    def hand_down(self) -> dict[str, str]:
        """For a successor, which is given the same in the same way. The program that is executed puts its own
        number into LISTEN_PID."""
        return {**self._said, "LISTEN_PID": ""} if self._given else {}
