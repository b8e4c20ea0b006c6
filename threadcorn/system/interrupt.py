"""Looking at another thread of this process, and interrupting it.

`interrupt` has the interpreter raise an exception in a thread the next time it runs Python code; C code that
blocks never sees it. `cancel` takes it back if it has not been raised yet.
"""

from __future__ import annotations

import ctypes

__all__ = ["cancel", "cpu_ns", "interrupt"]

# By item: each look-up is a function of its own, with argument types of its own.
_clear = ctypes.pythonapi["PyThreadState_SetAsyncExc"]
_clear.argtypes = (ctypes.c_ulong, ctypes.c_void_p)
_clear.restype = ctypes.c_int
_set = ctypes.pythonapi["PyThreadState_SetAsyncExc"]
_set.argtypes = (ctypes.c_ulong, ctypes.py_object)
_set.restype = ctypes.c_int


def interrupt(ident: int, error: type[BaseException]) -> bool:
    """False: there is no such thread any more."""
    return bool(_set(ident, error) == 1)


def cancel(ident: int) -> None:
    """Take back what was not raised yet."""
    _clear(ident, None)


def cpu_ns(native_id: int) -> int | None:
    """CPU time of a thread. By /proc, not by pthread_getcpuclockid: that one reads the memory of a thread
    that may have ended meanwhile."""
    try:
        with open(f"/proc/self/task/{native_id}/schedstat", encoding="ascii") as file:
            return int(file.read().split()[0])
    except (OSError, ValueError, IndexError):
        return None
