"""Shards: the listeners of one address, made once, in slot order, and never closed while serving.

Why never: closing one of several SO_REUSEPORT listeners resets what waits in its queue, and every handshake
under way, and renumbers the others. So the arbiter makes all of them before it forks, keeps them all, and
workers come and go without the kernel noticing.

Three rungs, one code path, a group being a list of shards:

    FILTER      a classic BPF program chooses the shard by weights (Linux)
    REUSEPORT   the kernel's hash chooses; also what FILTER becomes when attaching fails one day
    SHARED      a list of one: unix sockets, inherited sockets, --no-shard, other systems

A group steps down at run time without touching a socket.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import socket
import struct
import sys
from collections.abc import Sequence
from enum import IntEnum
from functools import partial

from threadcorn.errors import BootError
from threadcorn.policy.steering import LONGEST, SYN_GATE, Program, only, random_by_weight
from threadcorn.system import addresses, binding, gate
from threadcorn.system.addresses import Address, Kind
from threadcorn.system.binding import FileMark, Resolved
from threadcorn.system.depths import UNKNOWN, depth, drops, is_listening
from threadcorn.system.gate import Gate

__all__ = ["SMALLEST_BACKLOG", "UNKNOWN", "Gate", "Rung", "ShardGroup", "close_groups", "depth", "drops",
           "open_groups"]  # fmt: skip

# The configured backlog is for the address, not for each shard: 64 shards of 2048 would hide 131,000 waiting
# clients from everybody. Less than this a shard, and one burst overflows it while its siblings are empty.
SMALLEST_BACKLOG = 64

# Numbers of Linux that Python has no names for. They hold for asm-generic, which these machines use; sparc
# and parisc count differently, so the filter is tried on machines of this list only.
SO_ATTACH_FILTER = 26
SO_ATTACH_REUSEPORT_CBPF = 51
SO_DETACH_REUSEPORT_BPF = 68
_GENERIC = (
    "x86_64",
    "i386",
    "i486",
    "i586",
    "i686",
    "aarch64",
    "arm",
    "riscv",
    "ppc64",
    "s390x",
    "loongarch",
)

_LINUX = sys.platform == "linux"


class Rung(IntEnum):
    """How the kernel chooses a shard, best first."""

    FILTER = 1
    REUSEPORT = 2
    SHARED = 3


class ShardGroup:
    """All shards of one address. Only the arbiter steers, gates and closes; workers accept and look."""

    def __init__(
        self,
        address: Address,
        shards: list[socket.socket],
        rung: Rung,
        *,
        asked: Address | None = None,
        owned: bool = True,
        mark: FileMark | None = None,
        log: logging.Logger | None = None,
    ) -> None:
        # Where it listens, and what the person wrote: a name, or port 0.
        self.address = address
        self.asked = asked or address
        # In listen() order, which is the index that programs return. Append-only while serving.
        self.shards = shards
        self.rung = rung
        # False for sockets that somebody else holds too (fd://, systemd): shutdown() would stop it for them.
        self.owned = owned
        self.mark = mark
        self.gated = Gate.OPEN
        self._maker = os.getpid()
        self._log = log
        self._program: Program = ()
        self._tombstone: list[socket.socket] = []

    def __repr__(self) -> str:
        return f"<ShardGroup {self.address.bind_text} {self.rung.name} shards={len(self.shards)}>"

    # -- making ----------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        address: Address,
        count: int = 1,
        *,
        backlog: int = 2048,
        live: int | None = None,
        top: Rung = Rung.FILTER,
        umask: int | None = None,
        owner: tuple[int, int] | None = None,
        log: logging.Logger | None = None,
        others: Sequence[ShardGroup] = (),
    ) -> ShardGroup:
        """Bind and listen. `count` slots may ever exist, `live` of them will have a worker now.

        `top` is the rung to try first. Raises BootError; `others` are our own groups, should one of them be
        in the way.
        """
        if address.kind is Kind.FD:
            given = [binding.adopt_fd(address.fd)]
            return cls.adopt(given, asked=address, owned=False, backlog=backlog, log=log)
        try:
            if address.kind is Kind.UNIX:
                sock, mark = binding.bind_unix(address, backlog, umask=umask, owner=owner)
                return cls(address, [sock], Rung.SHARED, mark=mark, log=log)
            at = binding.resolve(address)
            live = max(1, count if live is None else live)
            share = _share(backlog, live)
            rung = top if count > 1 and _LINUX else Rung.SHARED  # elsewhere the last one bound gets all
            if rung is Rung.FILTER and not _can_filter(at.family):
                rung = Rung.REUSEPORT
            # listen() before SO_REUSEPORT is set: of two servers that start in the same moment both may get
            # past bind(), but listen() asks again, and only one of them passes.
            first = binding.bind_tcp(at, share, joins=False, prepare=_lead if rung is Rung.FILTER else None)
        except OSError as error:
            mine = next((g.address for g in others if addresses.overlap(g.address, address)), None)
            raise binding.explain(error, address, mine) from None
        group = cls(addresses.of_socket(first), [first], Rung.SHARED, asked=address, log=log)
        if rung is not Rung.SHARED:
            group._grow(at, rung, count, live, share)
        if group.rung is Rung.SHARED:
            first.listen(backlog)  # again, on a listening socket, only sets the backlog
            group._prime(at)
        return group

    def _prime(self, at: Resolved) -> None:
        """Make the kernel take a single listener for a group of one, so that the gate can steer it one day.

        It does when a second member joins, also after that one left. Done here, before anybody was told of
        the address; at the end the newcomer would be given somebody's connection.
        """
        if not _LINUX:
            return
        first = self.shards[0]
        try:
            first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            binding.bind_tcp(at.moved(first.getsockname()), 1, joins=True).close()
        except OSError:
            pass  # then the end has a lesser gate

    def _grow(self, at: Resolved, rung: Rung, count: int, live: int, backlog: int) -> None:
        """The other shards. On any refusal the group stays what it was: one shared listener."""
        # Without a filter the hash would send connections to shards that nobody owns yet. So there are only
        # as many as workers, and a slot beyond them shares the shard of another.
        wanted = count if rung is Rung.FILTER else min(live, count)
        more: list[socket.socket] = []
        try:
            self.shards[0].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            at = at.moved(self.shards[0].getsockname())
            for _ in range(wanted - 1):
                # One after the other: the index is the order of the listen() calls. And into a list that is
                # there when one of them fails.
                more.append(binding.bind_tcp(at, backlog, joins=True))  # noqa: PERF401
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                for sock in (*more, *self.shards):
                    sock.close()
                raise binding.explain(error, self.address) from None
            # A system that knows the name SO_REUSEPORT and not the thing.
            for sock in more:
                sock.close()
            self._note("no shards at %s: %s; all workers share one listener", self.address, error)
            return
        self.shards += more
        self.rung = rung if len(self.shards) > 1 else Rung.SHARED
        if self.rung is Rung.FILTER:
            # Until somebody steers, only shards that will have a worker soon.
            self.steer([1] * live)

    @classmethod
    def adopt(
        cls,
        sockets: Sequence[socket.socket],
        *,
        asked: Address | None = None,
        owned: bool = True,
        backlog: int = 2048,
        mark: FileMark | None = None,
        log: logging.Logger | None = None,
    ) -> ShardGroup:
        """A group from sockets that exist, in index order: of our predecessor, of systemd, of a test.

        They are never bound again. Raises BootError when they are not one group.
        """
        first = addresses.of_socket(sockets[0])
        for sock in sockets:
            sock.setblocking(False)
            os.set_inheritable(sock.fileno(), False)
            here = addresses.of_socket(sock)
            if here != first:
                raise BootError(
                    f"inherited descriptor {sock.fileno()} listens at {here}, not at {first}",
                    "a group of shards has one address; start afresh instead of upgrading",
                )
            if not is_listening(sock):
                try:
                    sock.listen(_share(backlog, len(sockets)))
                except OSError as error:
                    raise binding.explain(error, first) from None
        rung = Rung.SHARED
        if len(sockets) > 1:
            rung = Rung.FILTER if _LINUX and _can_filter(sockets[0].family) else Rung.REUSEPORT
        return cls(first, list(sockets), rung, asked=asked, owned=owned, mark=mark, log=log)

    # -- using -----------------------------------------------------------------------------------------

    def shard(self, slot: int) -> socket.socket:
        """The listener of a slot. Slots share where there are fewer shards than slots."""
        return self.shards[slot % len(self.shards)]

    def depth(self, slot: int) -> int:
        return depth(self.shard(slot))

    def depths(self) -> list[int]:
        return [depth(sock) for sock in self.shards]

    def drops(self) -> list[int]:
        return [drops(sock) for sock in self.shards]

    def set_backlog(self, backlog: int, live: int) -> None:
        """Divide the backlog anew when the number of workers changes. Keeps index and queue."""
        if not self.owned or self.gated:
            return
        share = _share(backlog, live if self.rung is not Rung.SHARED else 1)
        for sock in self.shards:
            sock.listen(share)

    # -- steering --------------------------------------------------------------------------------------

    def steer(self, weights: Sequence[int]) -> bool:
        """Give each slot's shard this share of new connections; 0 none. True if a program was attached.

        Slots beyond the end have none. All zero changes nothing: then every queue waits alike.
        """
        if self.rung is not Rung.FILTER or self.gated:
            return False
        program = random_by_weight(weights[: len(self.shards)])
        if not program or program == self._program:
            return False
        return self.attach(program)

    def attach(self, program: Program) -> bool:
        """Attach a program as it is. On a refusal the group steps down for good, sockets untouched."""
        try:
            _attach(self.shards[0], program, SO_ATTACH_REUSEPORT_CBPF)
        except OSError as error:
            self._step_down(error)
            return False
        self._program = program
        return True

    def detach(self) -> None:
        """Back to the kernel's hash over all shards."""
        self._program = ()
        try:
            self.shards[0].setsockopt(socket.SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, 0)
        except OSError:
            pass  # there was none, or we may not: either way nothing more can be done about it

    def _step_down(self, error: OSError) -> None:
        self.detach()
        self.rung = Rung.REUSEPORT
        self._note("steering at %s is off from now on: %s; the kernel's hash chooses", self.address, error)

    def _note(self, text: str, *args: object) -> None:
        if self._log is not None:
            self._log.warning(text, *args)

    # -- ending ----------------------------------------------------------------------------------------

    def gate(self) -> Gate:
        """Let nobody new in, so that what waits can be accepted to the last one and then closed.

        Closing at once would reset what waits; accepting until nothing waits never ends under load. The best
        gate that works is taken, and which one is returned.
        """
        if not self.gated:
            self.gated = self._gate()
        return self.gated

    def _gate(self) -> Gate:
        if not self.owned:
            return Gate.NOT_OURS
        if self.address.kind is Kind.UNIX:
            if self.mark is not None and binding.unlink_if_ours(self.mark):
                return Gate.UNLINKED
        elif _LINUX:
            if self._bury():
                return Gate.TOMBSTONE
            try:
                for sock in self.shards:
                    _attach(sock, SYN_GATE, SO_ATTACH_FILTER)
                return Gate.SYN_FILTER
            except OSError:
                pass  # newer kernels ask for CAP_NET_ADMIN
        for sock in self.shards:
            sock.listen(0)
        return Gate.BACKLOG

    def _bury(self) -> bool:
        first, index = self.shards[0], len(self.shards)
        running = self._program or random_by_weight([1] * index)
        try:
            # Without a program the hash would give the new member its share at once. Attached before that one
            # is bound: between its bind() and its listen() a program makes listen() fail.
            _attach(first, running, SO_ATTACH_REUSEPORT_CBPF)
        except OSError:
            return False
        self._tombstone = gate.bury(
            first,
            index,
            self.address.v6only,
            running,
            lambda program: _attach(first, program, SO_ATTACH_REUSEPORT_CBPF),
        )
        if not self._tombstone and not (self.rung is Rung.FILTER and self.attach(running)):
            self.detach()
        return bool(self._tombstone)

    def release(self) -> None:
        """Close our copies and nothing else: another process serves on with its own (upgrade)."""
        for sock in (*self.shards, *self._tombstone):
            sock.close()
        self._tombstone = []

    def close(self) -> None:
        """The end of the address. shutdown() first: a copy that leaked into a grandchild of the application
        would otherwise take connections that nobody answers, for as long as it lives.

        In any process but the one that made the group it is release(): a worker that cleans up too much must
        not end the service of all.
        """
        if self.owned and self._maker == os.getpid():
            for sock in (*self.shards, *self._tombstone):
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # not listening any more
            if self.mark is not None:
                binding.unlink_if_ours(self.mark)
        self.release()


def open_groups(
    wanted: Sequence[Address],
    count: int,
    *,
    backlog: int = 2048,
    live: int | None = None,
    top: Rung = Rung.FILTER,
    umask: int | None = None,
    owner: tuple[int, int] | None = None,
    log: logging.Logger | None = None,
    kept: Sequence[ShardGroup] = (),
) -> list[ShardGroup]:
    """A group for each address, in order, or a BootError and nothing new left open.

    `kept` are groups that exist (of our predecessor, or from before a reload). One that was asked for in the
    same words is used as it is; what to do with those that nobody asks for any more is the caller's business.
    """
    existing = {group.asked: group for group in kept}
    groups: list[ShardGroup] = []
    made: list[ShardGroup] = []
    create = partial(
        ShardGroup.create, backlog=backlog, live=live, top=top, umask=umask, owner=owner, log=log
    )
    try:
        for address in addresses.separate(list(wanted)):
            group = existing.pop(address, None)
            # Nobody finds the way to a unix socket whose file is gone: it is given up for one that has one.
            if group is None or not (group.mark is None or binding.is_there(group.mark, address.path)):
                group = create(address, count, others=groups)
                made.append(group)
            elif group.rung < top:
                group.rung = Rung.REUSEPORT  # its program is taken off by `detach`, once we may steer
            groups.append(group)
    except BaseException:
        close_groups(made)
        raise
    return groups


def close_groups(groups: Sequence[ShardGroup]) -> None:
    for group in groups:
        group.close()


def _share(backlog: int, live: int) -> int:
    return min(backlog, max(SMALLEST_BACKLOG, -(-backlog // max(1, live))))


def _can_filter(family: int) -> bool:
    """Try it, on a socket of its own that is never bound. Any refusal means no."""
    if not os.uname().machine.startswith(_GENERIC):
        return False
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            _attach(probe, only(0), SO_ATTACH_REUSEPORT_CBPF)
            probe.setsockopt(socket.SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, 0)
    except OSError:
        return False
    return True


def _lead(sock: socket.socket) -> None:
    """Everything goes to the founder of the group, from before it has a port. Else the hash would give those
    who join it their share at once, and many of their slots have no worker that accepts."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    _attach(sock, only(0), SO_ATTACH_REUSEPORT_CBPF)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)  # exclusive it is all the same


def _attach(sock: socket.socket, program: Program, option: int) -> None:
    if len(program) > LONGEST:
        raise OSError(errno.E2BIG, f"a program of {len(program)} instructions is too long")
    packed = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    # The kernel wants a pointer; ctypes is how Python takes the address of bytes. The buffer lives until the
    # call is over, and the kernel has copied it then.
    buffer = ctypes.create_string_buffer(packed, len(packed))
    sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("@HP", len(program), ctypes.addressof(buffer)))
