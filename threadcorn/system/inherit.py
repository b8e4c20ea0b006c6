"""Descriptors that cross an exec: from systemd, and from an arbiter to its successor.

A descriptor is only a number, and a wrong one is somebody else's file. So what we hand down says for each
what it is called and which inode it is, and what we take over is compared before it is used. A variable that
was left in the environment by accident then does no harm.

Nothing here reads the environment; the entry layer passes it in and removes what is in it for us alone, so
that programs which the application starts do not believe they were meant.
"""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from threadcorn.errors import BootError, ConfigError
from threadcorn.settings.sources import INHERIT
from threadcorn.system.addresses import Address, Kind, parse
from threadcorn.system.binding import FileMark
from threadcorn.system.listeners import ShardGroup

__all__ = ["Activated", "Inheritance", "activated", "hand_down", "let_through", "take_over",
           "tell_predecessor"]  # fmt: skip

VARIABLE = INHERIT

FIRST_FD = 3  # of sd_listen_fds(3)
_VERSION = 1


# -- socket activation -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Activated:
    """One descriptor that systemd (or something that speaks like it) opened for us."""

    fd: int
    name: str

    @property
    def address(self) -> Address:
        """To be listened at like any other: `fd://N`."""
        return Address(Kind.FD, fd=self.fd)


def activated(environ: Mapping[str, str], pid: int) -> list[Activated]:
    """What LISTEN_FDS gives to process `pid`, in order. Empty when it is meant for another, or for nobody."""
    if environ.get("LISTEN_PID") != str(pid):
        # Inherited through a shell or an application that did not clean up: they were meant for that one.
        return []
    count = environ.get("LISTEN_FDS", "")
    if not (count.isascii() and count.isdigit()):
        raise BootError(
            f"LISTEN_FDS is {count!r}, not a number", "it is set by systemd; unset it when starting by hand"
        )
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    found: list[Activated] = []
    for fd in range(FIRST_FD, FIRST_FD + int(count)):
        try:
            os.set_inheritable(fd, False)  # they arrive open for everybody whom we fork and exec
        except OSError:
            raise BootError(
                f"LISTEN_FDS promises {count} descriptors, and descriptor {fd} is not open",
                "something between systemd and threadcorn closed it; exec threadcorn directly in ExecStart=",
            ) from None
        index = fd - FIRST_FD
        found.append(Activated(fd, names[index] if index < len(names) else ""))
    return found


# -- from arbiter to successor -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Inheritance:
    """What a successor gets: whole groups, ready to serve, and single descriptors by name."""

    groups: list[ShardGroup]
    named: dict[str, int]

    def close(self) -> None:
        """Nothing of it is wanted: our copies go, the predecessor serves on with its own."""
        for group in self.groups:
            group.release()
        for fd in self.named.values():
            os.close(fd)


def hand_down(groups: Sequence[ShardGroup], named: Mapping[str, int]) -> tuple[dict[str, str], list[int]]:
    """(environment to add, descriptors to let through) for a successor that will be exec'd."""
    paper = {
        "version": _VERSION,
        "groups": [
            {
                "asked": group.asked.bind_text,
                "v6only": group.asked.v6only,
                "owned": group.owned,
                "mark": group.mark and [group.mark.path, group.mark.device, group.mark.inode],
                "shards": [_identity(sock.fileno()) for sock in group.shards],
            }
            for group in groups
        ],
        "named": {name: _identity(fd) for name, fd in named.items()},
    }
    fds = [sock.fileno() for group in groups for sock in group.shards] + list(named.values())
    return {VARIABLE: json.dumps(paper, separators=(",", ":"))}, fds


def let_through(fds: Iterable[int]) -> None:
    """To be called in the child, just before exec: everywhere else our descriptors close on exec."""
    for fd in fds:
        os.set_inheritable(fd, True)


def take_over(environ: Mapping[str, str]) -> Inheritance | None:
    """What the predecessor handed down, checked piece by piece, or None when there is no predecessor.

    Raises BootError when anything is not what it is said to be: then this successor must not serve, and the
    predecessor goes on.
    """
    text = environ.get(VARIABLE)
    if not text:
        return None
    try:
        paper = json.loads(text)
        if paper["version"] != _VERSION:
            raise BootError(
                f"the predecessor hands down in form {paper['version']!r}, this version reads {_VERSION}",
                "stop and start instead of upgrading",
            )
        entries = [_entry(raw) for raw in paper["groups"]]
        named = {str(name): (int(fd), int(inode)) for name, (fd, inode) in paper["named"].items()}
    except (ValueError, TypeError, KeyError, AttributeError, ConfigError) as error:
        raise BootError(
            f"{VARIABLE} cannot be read ({type(error).__name__}: {error})",
            "it is set by an arbiter for its successor; unset it when starting by hand",
        ) from None
    # Everything is looked at before anything is taken: a Python socket made of a wrong number would close
    # somebody else's file when it is thrown away.
    for entry in entries:
        for fd, inode in entry.shards:
            _check(f"shard of {entry.asked.bind_text}", fd, inode, a_socket=True)
    for name, (fd, inode) in named.items():
        _check(name, fd, inode, a_socket=False)
    for fd, _ in named.values():
        os.set_inheritable(fd, False)
    groups = [
        ShardGroup.adopt(
            [socket.socket(fileno=fd) for fd, _ in entry.shards],
            asked=entry.asked,
            owned=entry.owned,
            mark=entry.mark,
        )
        for entry in entries
    ]
    return Inheritance(groups, {name: fd for name, (fd, _) in named.items()})


def tell_predecessor(papers: str, text: str) -> None:
    """Say why there will be no successor, on the wire on which "ready" was expected. Only the descriptor
    is checked: this is also said when the rest of the papers cannot be read."""
    try:
        fd, inode = json.loads(papers)["named"]["ready"]
        if os.fstat(fd).st_ino == inode:
            os.write(fd, f"failed\n{text}".encode("utf-8", "replace"))
    except (OSError, ValueError, TypeError, KeyError):
        pass  # then our exit code has to do


@dataclass(frozen=True, slots=True)
class _Entry:
    asked: Address
    owned: bool
    mark: FileMark | None
    shards: list[tuple[int, int]]


def _entry(raw: dict[str, Any]) -> _Entry:
    asked = parse(raw["asked"])
    if raw["v6only"]:
        asked = Address(asked.kind, asked.host, asked.port, asked.path, asked.fd, v6only=True)
    mark = raw["mark"]
    shards = [(int(fd), int(inode)) for fd, inode in raw["shards"]]
    if not shards:
        raise ValueError(f"a group without shards at {raw['asked']}")
    ours = None if mark is None else FileMark(str(mark[0]), int(mark[1]), int(mark[2]))
    return _Entry(asked, bool(raw["owned"]), ours, shards)


def _identity(fd: int) -> tuple[int, int]:
    return fd, os.fstat(fd).st_ino


def _check(name: str, fd: int, inode: int, *, a_socket: bool) -> None:
    hint = "start afresh: the predecessor and this process do not share what they think they share"
    try:
        found = os.fstat(fd)
    except OSError:
        raise BootError(f"inherited {name}: descriptor {fd} is not open", hint) from None
    if found.st_ino != inode:
        raise BootError(f"inherited {name}: descriptor {fd} is something else now", hint)
    if a_socket and not stat.S_ISSOCK(found.st_mode):
        raise BootError(f"inherited {name}: descriptor {fd} is not a socket", hint)
