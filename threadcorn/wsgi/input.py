"""`wsgi.input`.

A body that is in memory is an `io.BytesIO`, one that was spooled is a temporary file: both are whole before
the application sees them, have every method of PEP 3333 in C, and end where the body ends. What is left is
the body that is read while it arrives.

The reader of the standard library takes memory for all that is asked for before it looks what there is. What
applications ask for is often what a client has announced, or a bound that nobody reaches.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["SpooledBody", "StreamedBody"]

#: What is asked of the connection at a time when the application asks for a line.
BUFFER = 65536
#: Bytes for which memory is taken before they are there.
AHEAD = 16 << 20


class _Arriving(io.RawIOBase):
    def __init__(self, read_some: Callable[[int], bytes]) -> None:
        super().__init__()
        self._read_some = read_some

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        data = self._read_some(len(view))
        view[: len(data)] = data
        return len(data)


class SpooledBody(io.BufferedReader):
    """A complete body in a file. `size`: its bytes."""

    def __init__(self, file: io.RawIOBase, size: int) -> None:
        super().__init__(file)
        self._size = size
        self.seek(0)

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > AHEAD:
            size = min(size, max(0, self._size - self.tell()))
        return super().read(size)


class StreamedBody(io.BufferedReader):
    """A body that arrives while the application reads it.

    `read_some(n)` gives at least one byte and at most `n`, b"" at the end of the body, and raises when the
    body is cut or malformed, every time again. The reader of the standard library does the rest: `read(n)`
    waits for `n` bytes or the end, `read()`, `read(-1)` and `read(None)` for the end, lines end in a line
    feed, and an exception of `read_some` comes out of the call that met it. So a body that was cut never
    looks like a short one that is whole.
    """

    def __init__(self, read_some: Callable[[int], bytes]) -> None:
        super().__init__(_Arriving(read_some), BUFFER)

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size <= AHEAD:
            return super().read(size)
        pieces = []
        while size > 0 and (piece := super().read(min(size, AHEAD))):
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)
