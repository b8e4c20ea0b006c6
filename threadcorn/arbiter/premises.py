"""What slots own, made before the first fork: shards, berths, scoreboard. And who gets new connections.

Nothing here is closed while we serve: a worker comes and goes, its slot's queue stays.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from threadcorn.arbiter.vault import Vault
from threadcorn.arbiter.worker_handle import WorkerHandle
from threadcorn.logs import owner
from threadcorn.policy.cells import (
    ACCEPTED,
    ARBITER_DRAINING,
    ARBITER_HEARTBEAT,
    ARBITER_PID,
    ARBITER_STEERER,
    ARBITER_SUCCESSOR,
    ARBITER_WANTED,
    HEARTBEAT,
    LAG,
    LOAD,
)
from threadcorn.policy.steering import SlotView, Steering
from threadcorn.settings import Settings
from threadcorn.system import addresses, berths, binding, listeners
from threadcorn.system.custody import Custody
from threadcorn.system.inherit import Inheritance
from threadcorn.system.poller import Waiter
from threadcorn.system.scoreboard import Page, Scoreboard

__all__ = ["Premises", "slots_of"]

# Processes that may live beside one for each slot: successors, those that drain, those that will not die.
SPARE_CELLS = 32

# Seconds between two looks at heartbeats and lags, for steering: while connections come in, and else.
EAGER, LAZY = 0.02, 0.25
FILES_LOOK = 2.0  # seconds between two looks at the files of unix sockets
GATE_LOOK = 0.02  # seconds between two looks at the accept queues behind the gate


def slots_of(settings: Settings, inheritance: Inheritance | None = None) -> int:
    """How many workers there may ever be. No shard and no inbox that we inherit may be left without a slot:
    what waits there is looked after by slot."""
    workers = int(settings.workers)
    least = [workers]
    if inheritance is not None:
        least += [len(group.shards) for group in inheritance.groups]
        least.append(berths.handed_down(inheritance.named))
    return max(settings.max_workers or max(2 * workers, 16), *least)


def _top(settings: Settings) -> listeners.Rung:
    """The rung of the ladder to try first."""
    if not settings.shard:
        return listeners.Rung.SHARED
    return listeners.Rung.FILTER if settings.steering else listeners.Rung.REUSEPORT


class Premises:
    """Open them once; workers inherit them.

    `lease` is the right to steer, to gate and to shut the shards, which are one and the same for two arbiters
    during an upgrade. Who does not have it only lets go of its own copies.
    """

    def __init__(
        self,
        settings: Settings,
        log: logging.Logger,
        pid: int,
        inheritance: Inheritance | None = None,
        waiter: Waiter | None = None,
    ) -> None:
        """Raises BootError or ConfigError, and then nothing new is left open."""
        slots = slots_of(settings, inheritance)
        uid, gid = owner(settings)
        self._log = log
        self.lease = inheritance is None
        self._inherited = [] if inheritance is None else inheritance.groups
        self.groups = listeners.open_groups(
            addresses.parse_all(settings.bind),
            slots,
            backlog=settings.backlog,
            live=int(settings.workers),
            top=_top(settings),
            umask=settings.umask,
            owner=None if uid == gid == -1 else (uid, gid),
            log=log,
            kept=self._inherited,
        )
        named = {} if inheritance is None else inheritance.named
        try:
            self.berths = berths.open_berths(self.groups, slots, named)
        except BaseException:
            listeners.close_groups([group for group in self.groups if group not in self._inherited])
            raise
        threads = settings.threads_max if settings.threads == "auto" else int(settings.threads)
        # The caretaker has a place as well, and threads that leave keep theirs until they are gone. Generous:
        # a reload or threadcornctl may want more threads, and places that nobody takes cost nothing.
        self.board = Scoreboard(2 * slots + SPARE_CELLS, slots, max(128, 2 * threads + 2))
        self.board.arbiter.cells[ARBITER_PID] = pid
        self.board.arbiter.cells[ARBITER_STEERER] = pid if self.lease else 0
        self._steering = Steering()
        self._owners: tuple[WorkerHandle | None, ...] = (None,) * slots
        self._ready_since: dict[int, float] = {}  # by age
        self._accepted = 0
        self._next_look = 0.0
        self._next_files = 0.0
        self._cut_off: list[listeners.ShardGroup] = []  # unix sockets without their file, as has been told
        self._gated = False
        self._given = 0
        self.vault: Vault | None = None
        if settings.vault and waiter is not None:
            # For as many processes as there may ever be: TTIN may follow, and old ones live on in a reload.
            most = self.board.count * settings.worker_connections
            self.vault = Vault(self.board.count, most, waiter, log)

    # -- what is there -----------------------------------------------------------------------------------

    def addresses(self) -> list[str]:
        """Bind strings of what we really listen at: port 0 has become a number."""
        return [group.address.bind_text for group in self.groups]

    @property
    def custody(self) -> Custody | None:
        """What workers share with the vault, if there is one."""
        return None if self.vault is None else self.vault.custody

    def leave_to_parent(self) -> None:
        """In a child. What slots own stays, it is everybody's. Of what we are about to give up, a copy there
        would let clients in that nobody answers."""
        for group in self._given_up():
            group.release()
        if self.vault is not None:
            self.vault.leave_to_parent()

    def names(self) -> str:
        return ", ".join(group.address.name for group in self.groups)

    def claim(self, slot: int, generation: int) -> Page:
        """A page for a process that is about to be forked. Raises LookupError when there is none."""
        return self.board.claim(slot, generation)

    # -- steering ----------------------------------------------------------------------------------------

    def steer(self, owners: Sequence[WorkerHandle | None], now: float, *, wanted: int) -> None:
        """These serve the slots from now on."""
        page = self.board.arbiter
        page.cells[ARBITER_WANTED] = wanted
        for slot, handle in enumerate(owners):
            index = 0 if handle is None else handle.page.index + 1
            if page.owner[slot] != index:
                page.owner[slot] = index
        self._owners = tuple(owners)
        ages = {handle.age for handle in owners if handle is not None}
        self._ready_since = {age: self._ready_since.get(age, now) for age in ages}
        self._weigh(now, at_once=True)
        self._cut_off = []  # told again at a reload
        # Whoever serves looks at once after the shards that nobody owns any more.
        for berth, handle in zip(self.berths, self._owners, strict=True):
            if handle is not None:
                berth.ring()

    def tick(self, now: float) -> None:
        """Look at heartbeats and lags, when it is time."""
        page = self.board.arbiter
        page.cells[ARBITER_HEARTBEAT] = int(now * 1e9)
        if self.vault is not None:
            self.vault.look(now, self._deliver)
        if now >= self._next_files and self.lease and not self._gated:
            self._next_files = now + FILES_LOOK
            self._look_for_files()
        if now < self._next_look:
            return
        accepted = sum(h.page.cells[ACCEPTED] for h in self._owners if h is not None)
        self._next_look = now + (EAGER if accepted != self._accepted and self._steerable else LAZY)
        self._accepted = accepted
        self._weigh(now)

    def _look_for_files(self) -> None:
        """Who cleans up in /tmp, or puts another server there, cuts us off, and nothing else would tell."""
        for group in self.groups:
            mark = group.mark
            if mark is not None and group not in self._cut_off and not binding.is_there(mark):
                self._cut_off.append(group)
                self._log.error(
                    "The socket file %s is gone or has been replaced: nobody can connect there any more. An "
                    "upgrade (USR2) or a restart makes it anew; a reload does not",
                    mark.path,
                )

    def next_tick(self, now: float) -> float | None:
        """When `tick` is due; None while there is nothing to look at."""
        due = [
            now + GATE_LOOK if self._gated else None,
            self._next_look if self._steerable else None,
            self.vault.next() if self.vault is not None else None,
        ]
        return min((at for at in due if at is not None), default=None)

    @property
    def _steerable(self) -> bool:
        if self._gated or not self.lease or sum(handle is not None for handle in self._owners) < 2:
            return False
        return any(group.rung is listeners.Rung.FILTER for group in self.groups)

    def _weigh(self, now: float, *, at_once: bool = False) -> None:
        if self._gated or not self.lease:
            return  # the program that keeps everybody out must stay; another arbiter's as well
        weights = self._steering.decide([self._view(h, now) for h in self._owners], now, at_once=at_once)
        if weights is None:
            return
        for slot, weight in enumerate(weights):
            self.board.arbiter.weight[slot] = weight
        for group in self.groups:
            group.steer(weights)

    def _view(self, handle: WorkerHandle | None, now: float) -> SlotView:
        if handle is None:
            return SlotView()
        cells = handle.page.cells
        beat = cells[HEARTBEAT] / 1e9
        since = self._ready_since[handle.age]
        return SlotView(
            ready=True,
            # A worker that has just become ready may not have beaten yet.
            heartbeat_age=max(0.0, now - max(beat, since)),
            lag=cells[LAG] / 1e6,
            ready_for=now - since,
        )

    # -- the dead ----------------------------------------------------------------------------------------

    def rescue(self, handle: WorkerHandle) -> None:
        """The process is gone: what it had may not be."""
        if self.vault is not None:
            self._owners = tuple(None if owner is handle else owner for owner in self._owners)
            self.vault.rescue(handle.page.index, handle.pid, self._deliver)

    def _deliver(self, packet: bytes, fd: int) -> bool | None:
        """Give a connection of a dead worker to one that lives, by its inbox. See vault.Deliver."""
        cells = self.board.arbiter.cells
        wanted = int(cells[ARBITER_WANTED])
        if self._gated or not wanted:
            return None
        if cells[ARBITER_SUCCESSOR]:
            slots = list(range(wanted))  # its workers look after the inboxes of all slots
        else:
            ready = [(h.page.cells[LOAD], n) for n, h in enumerate(self._owners) if h is not None]
            # Nobody: whoever will be the next in the first slot finds them there.
            slots = [slot for _, slot in sorted(ready)] or [0]
        # One after the other: the load of who was given one is not known to have risen yet.
        self._given += 1
        return self.berths[slots[self._given % len(slots)]].give(packet, fd)

    # -- two arbiters --------------------------------------------------------------------------------------

    def hand_down(self) -> dict[str, int]:
        """Bells and inboxes, for a successor."""
        return berths.hand_down(self.berths)

    def yield_lease(self, successor: int) -> None:
        """The successor steers from now on, and its workers take what ours hand over."""
        self.lease = False
        cells = self.board.arbiter.cells
        cells[ARBITER_STEERER] = cells[ARBITER_SUCCESSOR] = successor

    def take_lease(self, now: float) -> None:
        """The predecessor has left the steering to us, or is gone."""
        self.lease = True
        cells = self.board.arbiter.cells
        cells[ARBITER_STEERER] = cells[ARBITER_PID]
        self._weigh(now, at_once=True)
        for group in self._inherited:
            if group.rung is listeners.Rung.REUSEPORT:
                group.detach()  # we do not steer; what our predecessor wanted last must not stay for ever
        for group in self._given_up():
            if all(group.address.name != other.address.name for other in self.groups):
                self._log.info("No longer listening at: %s", group.address.name)
            if group.mark is not None:
                binding.unlink_if_ours(group.mark)
            group.release()
        self._inherited = []

    def _given_up(self) -> list[listeners.ShardGroup]:
        """Our predecessor's addresses that were not asked for again; its own until it has yielded."""
        return [group for group in self._inherited if group not in self.groups]

    # -- the end -----------------------------------------------------------------------------------------

    def gate(self) -> None:
        """Nobody new gets in from now on."""
        self._gated = True
        self.board.arbiter.cells[ARBITER_DRAINING] = 1
        for group in self.groups if self.lease else ():
            self._log.debug("Gate at %s: %s", group.address.name, group.gate().name.lower())

    @property
    def gated(self) -> bool:
        return self._gated

    def queues_empty(self) -> bool:
        """Whether nobody waits to be accepted. A queue that cannot be seen is taken for empty."""
        return not self.lease or all(depth <= 0 for group in self.groups for depth in group.depths())

    def close(self, *, ours: bool) -> None:
        """The listeners: for good if they are ours, else only our copies of them."""
        for group in self.groups:
            if ours and (self.lease or group not in self._inherited):
                group.close()
            else:
                group.release()
        berths.close_all(self.berths)
        if self.vault is not None:
            self.vault.close()
            self.vault = None
        self.groups, self.berths = [], []
