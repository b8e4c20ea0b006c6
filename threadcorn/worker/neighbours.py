"""The other workers, as this one sees them: who serves which slot, and how much each has to do.

Read from the scoreboard, where each writes a page of its own and nobody waits for anybody. The arbiter says
in its page which process serves a slot, and rings when that changes. A slot that nobody serves is
everybody's: its queue and its inbox are looked after by every worker that is ready.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from threadcorn.policy.accepting import UNFIT, figure, worth
from threadcorn.policy.cells import (
    ARBITER_DRAINING,
    ARBITER_SUCCESSOR,
    ARBITER_WANTED,
    BUSY,
    CELLS,
    GENERATION,
    HEARTBEAT,
    LAG,
    LOAD,
    STATE,
    THREADS,
    WAITING,
)
from threadcorn.system.berths import Berth

if TYPE_CHECKING:
    from threadcorn.system.scoreboard import Page

__all__ = ["Neighbours", "Sibling"]


class Sibling:
    """Another worker that serves a slot."""

    __slots__ = ("berth", "cells", "given", "load_then")

    def __init__(self, berth: Berth, cells: Any) -> None:
        self.berth = berth
        self.cells = cells
        self.given = 0  # connections that it got from us since its figure last changed
        self.load_then = 0

    @property
    def generation(self) -> int:
        return int(self.cells[GENERATION])

    def figure(self, now: int) -> int:
        cells = self.cells
        return worth(cells[STATE], now - cells[HEARTBEAT], cells[LOAD])

    def expected(self, now: int) -> int:
        """Its figure, and what we gave it that cannot be in it yet."""
        load = self.figure(now)
        if load != self.load_then:
            self.load_then, self.given = load, 0
        return load + self.given

    def is_idle(self, now: int) -> bool:
        """Whether a thread of it has nothing to do, as far as we know, and with what we gave it."""
        cells = self.cells
        if self.expected(now) >= UNFIT:
            return False
        return int(cells[BUSY]) + int(cells[WAITING]) + self.given < int(cells[THREADS])


class Neighbours:
    """One per worker. Without a page (embedding, tests) there are none."""

    def __init__(self, page: Page | None, berths: Sequence[Berth], slot: int) -> None:
        self.own = berths[slot]
        self.siblings: tuple[Sibling, ...] = ()
        self.orphans: tuple[Berth, ...] = ()  # berths of slots that nobody serves, ours never among them
        self.full = False  # we cannot take what we were given
        self._slot = slot
        self._berths = berths
        self._page = page
        self._table: bytes | None = None
        # Listeners that several slots have in common.
        self._common = {
            fd
            for fd, slots in Counter(sock.fileno() for b in berths for sock in b.listeners).items()
            if slots > 1
        }
        self._mine = page.cells if page is not None else None
        self._inherited: list[Sibling] = []

    def look(self) -> bool:
        """Read who serves what. True when it has changed. Costs a microsecond when it has not."""
        page = self._page
        if page is None:
            return False
        owner = page.board.arbiter.owner
        table = owner.tobytes()
        if table == self._table:
            return False
        self._table = table
        me = page.index + 1
        owners = owner.tolist()
        pages = page.board.pages
        self.siblings = tuple(
            Sibling(berth, pages[index - 1].cells)
            for berth, index in zip(self._berths, owners, strict=False)
            if index and index != me
        )
        self.orphans = tuple(
            berth
            for berth, index in zip(self._berths, owners, strict=False)
            if not index and berth.slot != self._slot
        )
        return True

    def shares(self, fd: int) -> bool:
        """Whether siblings poll this listener as well."""
        return fd in self._common

    @property
    def succeeded(self) -> bool:
        """Another arbiter has taken over, with workers of its own, at our addresses and inboxes."""
        return self._page is not None and bool(self._page.board.arbiter.cells[ARBITER_SUCCESSOR])

    @property
    def stopping(self) -> bool:
        """The whole server is about to end: nobody is to be given anything any more."""
        return self._page is not None and bool(self._page.board.arbiter.cells[ARBITER_DRAINING])

    @property
    def expects_somebody(self) -> bool:
        """The server goes on, so there will be a worker again should there be none now."""
        page = self._page
        if page is None or self.stopping:
            return False
        return bool(page.board.arbiter.cells[ARBITER_WANTED])

    def publish(self, busy: int, waiting: int, opened: int) -> int:
        """Say how much there is to do here; a store."""
        mine = self._mine
        if mine is None:
            return 0
        mine[BUSY] = busy
        mine[WAITING] = waiting
        load = mine[LOAD] = UNFIT if self.full else figure(busy, waiting, opened, mine[LAG])
        return load

    def figures(self) -> list[int]:
        """Of the siblings, in their order."""
        now = monotonic_ns()
        return [sibling.figure(now) for sibling in self.siblings]

    def takers(self) -> list[Sibling]:
        """Siblings that can be given a connection: the newest generation first, which is not about to be
        replaced itself, then the least loaded. After an upgrade, the workers of the successor."""
        if self.succeeded:
            return self._heirs()
        now = monotonic_ns()
        fit = [(-s.generation, s.expected(now), n, s) for n, s in enumerate(self.siblings)]
        return [sibling for _, load, _, sibling in sorted(fit) if load < UNFIT]

    def _heirs(self) -> list[Sibling]:
        """They read the inboxes of all slots. What they have to do stands in a scoreboard that we do not see:
        each gets as many as the others."""
        if not self._inherited and self._page is not None:
            wanted = max(1, int(self._page.board.arbiter.cells[ARBITER_WANTED]))
            self._inherited = [Sibling(berth, _UNSEEN) for berth in self._berths[:wanted]]
        return self._inherited


_UNSEEN = (0,) * CELLS
