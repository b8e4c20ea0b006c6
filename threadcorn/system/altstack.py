"""Room for signals that come all at once.

faulthandler, which every worker has and which PYTHONFAULTHANDLER or -X dev gives the arbiter, makes the
kernel run handlers on a small stack of their own, so that a stack overflow can be reported. Python's handlers
go there as well. Signals that are pending when a process is next run, after a fork or because the machine was
busy, are delivered one inside of the other, each with a frame of 3 to 11 kB: the fourth or so does not fit,
and the kernel kills the process without a word.
"""

from __future__ import annotations

import ctypes
import mmap
import sys

__all__ = ["widen"]

#: For a frame of each signal in the table, with the registers of the largest processors. Pages that are never
#: touched cost nothing.
SIZE = 1 << 18
_SS_DISABLE = 2


class _Stack(ctypes.Structure):
    """stack_t as Linux has it."""

    _fields_ = (("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


_rooms: list[mmap.mmap] = []  # for ever: the kernel writes there


def widen() -> None:
    """If this thread has a small stack for signals, give it a large one. Does nothing elsewhere."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    now = _Stack()
    if libc.sigaltstack(None, ctypes.byref(now)) or now.flags & _SS_DISABLE or now.size >= SIZE:
        return
    if not _rooms:
        # Private: a child that is forked has a stack of its own.
        _rooms.append(mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    address = ctypes.addressof(ctypes.c_char.from_buffer(_rooms[0]))
    libc.sigaltstack(ctypes.byref(_Stack(address, 0, SIZE)), None)
