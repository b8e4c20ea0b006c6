"""The vault (`--vault`): connections outlive workers that die without a word.

A copy of each connection's descriptor lies here. While the worker lives it is of no use and is not looked at.
When the worker has died, its marks say how far each connection was:

    between two requests, or before the first     nothing is lost: another worker gets it
    a part of a request had been read, or all     nothing is lost: another worker gets it with what was read,
    of it and no thread had been free             which the worker had sent here
    a request ran, no answer has begun            502, so that a client or proxy knows what to make of it
    an answer had begun                           closed; half of it must not look like the whole
    the kernel has all of the answer              nothing is lost: another worker gets it

A request that has run is never run a second time: the one that killed its worker would kill the next.

While a copy lies here, `close` in the worker ends nothing, so workers shut their connections down first, and
the copy goes at the next look. A connection that a worker gives away has been marked free before, and its new
owner puts a copy of its own here: nobody can get a connection that somebody else has.
"""

from __future__ import annotations

import logging
import os
import socket
from collections import Counter
from collections.abc import Callable
from time import time

from threadcorn.http1.response import STAMP
from threadcorn.policy.parcel import served
from threadcorn.system.custody import (
    ANSWERING,
    COPY,
    FREE,
    FRESH,
    HALF,
    IDLE,
    LAST,
    STATES,
    TAKEN,
    WRAP,
    Custody,
)
from threadcorn.system.poller import Waiter
from threadcorn.system.tcpinfo import written

__all__ = ["Deliver", "Vault"]

#: Seconds between two looks: at the wire while connections come, at the marks, at those that nobody took yet.
SOON, SWEEP = 0.02, 0.25
#: Copies that are taken from the wire in one look.
BATCH = 512
#: Bytes of requests that are kept here, at most.
MOST_BYTES = 64 << 20

#: Without content: nobody knows whether it was a HEAD.
_SORRY = b"HTTP/1.1 502 Bad Gateway%s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

#: Give a connection to a worker: True when it is given, False for later, None when nobody ever will take it.
Deliver = Callable[[bytes, int], bool | None]


class Vault:
    """One per arbiter. `custody` is what it shares with the workers."""

    def __init__(self, pages: int, most: int, waiter: Waiter, log: logging.Logger) -> None:
        self.custody = Custody(pages, most)
        self._waiter = waiter
        self._waiter.watch(self.custody.fileno())
        self._log = log
        #: By page, then by the number in the worker: serial, packet, our copy.
        self._kept: list[dict[int, tuple[int, bytes, int]]] = [{} for _ in range(pages)]
        #: The same way: serial, and what was read of a request.
        self._read: list[dict[int, tuple[int, bytearray]]] = [{} for _ in range(pages)]
        self._bytes = 0
        self._stranded: list[tuple[bytes, int]] = []
        self._count = 0
        self._complained = False
        self._next_sweep = 0.0
        self._next_look = 0.0

    # -- while workers live

    def next(self) -> float | None:
        """When `look` has something to do. None: not before the wire is readable."""
        due = [at for at in (self._next_look, self._next_sweep) if at]
        return min(due, default=None)

    def look(self, now: float, deliver: Deliver) -> None:
        """Take what was put, let go of what has ended."""
        fd = self.custody.fileno()
        if self._take():
            # More will follow. The wire keeps them meanwhile, also those of a worker that dies.
            self._next_look = now + SOON
            self._waiter.forget(fd)
        elif self._next_look:
            self._next_look = 0.0
            self._waiter.watch(fd)
        if self._stranded:
            self._stranded = [one for one in self._stranded if not self._hand_on(*one, deliver)]
        if self._next_sweep and now >= self._next_sweep:
            self._sweep()
            self._next_sweep = 0.0
        if (self._count or self._stranded) and not self._next_sweep:
            self._next_sweep = now + SWEEP

    def _take(self, most: int = BATCH) -> int:
        count = 0
        swept = False
        for page, number, serial, where, packet, fd in self.custody.taken(most):
            count += 1
            if where != COPY:
                self._add(page, number, serial, where, packet)
                continue
            if self._count >= self.custody.room and not swept:
                # A worker that leaves gives all that it has away. Copies of what it had take no place.
                swept = True
                self._sweep()
            if self._count >= self.custody.room:
                os.close(fd)
                if not self._complained:
                    self._complained = True
                    self._log.warning(
                        "The vault is full: %d connections; others are not kept (LimitNOFILE=, ulimit -n)",
                        self._count,
                    )
                continue
            self._drop(page, number)
            self._kept[page][number] = serial, packet, fd
            self._count += 1
        return count

    def _add(self, page: int, number: int, serial: int, where: int, data: bytes) -> None:
        """What was read of a request. The worker sends it in order, from the beginning when one begins."""
        known, read = self._read[page].get(number, (serial, None))
        if not where or read is None or known != serial or len(read) != where:
            self._forget(page, number)
            if where:
                return  # its beginning had no room here
            read = bytearray()
        if self._bytes + len(data) > MOST_BYTES:
            self._forget(page, number)
            return
        read += data
        self._bytes += len(data)
        self._read[page][number] = serial, read

    def _forget(self, page: int, number: int) -> bytes:
        """Have no bytes of it any more. Answers what they were."""
        _, read = self._read[page].pop(number, (0, b""))
        self._bytes -= len(read)
        return bytes(read)

    def _drop(self, page: int, number: int) -> None:
        known = self._kept[page].get(number)
        if known is not None:
            os.close(known[2])
            self._count -= 1

    def _sweep(self) -> None:
        for page, kept in enumerate(self._kept):
            marks = self.custody.marks(page)
            for number in [n for n, (serial, _, _) in kept.items() if marks[n] >> 3 != serial]:
                self._drop(page, number)
                del kept[number]
            # Also while the rest of it is being read: then more of it comes, or it runs.
            for number in [n for n, (serial, _) in self._read[page].items() if not _reads(marks[n], serial)]:
                self._forget(page, number)

    # -- when one has died

    def rescue(self, page: int, pid: int | str, deliver: Deliver) -> None:
        """The worker of this page is dead, to the last thread. What it had goes to others."""
        while self._take():
            pass
        marks, amounts = self.custody.marks(page), self.custody.amounts(page)
        kept, self._kept[page] = self._kept[page], {}
        became: Counter[str] = Counter()
        for number, (serial, packet, fd) in kept.items():
            mark = marks[number]
            state = mark & STATES if mark >> 3 == serial else FREE
            self._count -= 1
            read = self._forget(page, number)
            if state == HALF and len(read) != amounts[number]:
                state = TAKEN  # it was killed before it had sent all of them
            elif state == LAST:
                state = IDLE if _written(fd) == amounts[number] else ANSWERING
            if state in (FRESH, IDLE, HALF):
                became["given to others"] += 1
                packet = served(packet) if state == IDLE else packet + read if state == HALF else packet
                if not self._hand_on(packet, fd, deliver):
                    self._stranded.append((packet, fd))
                continue
            if state == TAKEN:
                became["answered with 502"] += 1
                _apologise(fd)
            elif state == ANSWERING:
                became["cut"] += 1
            os.close(fd)
        for number in list(self._read[page]):
            self._forget(page, number)
        if became:
            words = ", ".join(f"{count} {what}" for what, count in sorted(became.items()))
            self._log.warning("What the worker (pid: %s) had when it ended: connections %s", pid, words)

    def _hand_on(self, packet: bytes, fd: int, deliver: Deliver) -> bool:
        """True: it is not ours any more."""
        if deliver(packet, fd) is False:
            return False
        os.close(fd)  # given, or given up
        return True

    # -- the end

    def leave_to_parent(self) -> None:
        """In a child: copies there would keep connections open that have ended, and what others' clients have
        sent is none of its business."""
        self.custody.leave_to_parent()
        self._close_copies()

    def close(self) -> None:
        self._waiter.forget(self.custody.fileno())
        self._close_copies()
        self.custody.close()

    def _close_copies(self) -> None:
        for kept in self._kept:
            for _, _, fd in kept.values():
                os.close(fd)
            kept.clear()
        for read in self._read:
            read.clear()
        self._bytes = 0
        for _, fd in self._stranded:
            os.close(fd)
        self._stranded.clear()
        self._count = 0


def _reads(mark: int, serial: int) -> bool:
    """Whether the bytes that were read may still be all that is known of a request."""
    return mark >> 3 == serial and mark & STATES in (HALF, TAKEN)


def _written(fd: int) -> int:
    sock = socket.socket(fileno=fd)
    try:
        return written(sock) & WRAP
    finally:
        sock.detach()


def _apologise(fd: int) -> None:
    """502 to a client whose request was read by a worker that died. Nobody waits for it here."""
    STAMP.refresh(time())
    with socket.socket(fileno=os.dup(fd)) as sock:
        try:
            sock.setblocking(False)
            sock.send(_SORRY % STAMP.text.encode())
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass  # what has come of its body; closing over it would reset what we said
        except OSError:
            pass  # it has left, or says no more just now
