"""Half a head, half a body: what is kept of a connection whose request is not whole yet."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from io import BufferedIOBase, BytesIO

from threadcorn.http1.chunked import ChunkedDecoder
from threadcorn.http1.parser import BEGIN, Limits, Request, check_partial, skip_blank
from threadcorn.system.transport import Budget
from threadcorn.worker.limits import WorkerLimits
from threadcorn.wsgi.input import SpooledBody

__all__ = ["Body", "Head"]


class Head:
    """Half a head: the raw bytes, so that the verdict cannot depend on how they were split."""

    __slots__ = ("_limits", "_start", "_state", "buffer")

    def __init__(self, limits: Limits) -> None:
        self.buffer = bytearray()
        self._limits = limits
        self._start = 0
        self._state = BEGIN

    def feed(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Take bytes. The whole head and what came behind it, or None. Raises ProtocolViolation early."""
        buffer = self.buffer
        known = len(buffer)
        buffer += data
        start = skip_blank(buffer)
        if start != self._start:
            self._start, self._state = start, BEGIN
        # The end may have begun in the bytes before these.
        end = buffer.find(b"\r\n\r\n", max(start, known - 3)) + 4
        if end < 4:
            self._state = check_partial(buffer, self._limits, self._state, start)
            return None
        return bytes(buffer[start:end]), bytes(buffer[end:])

    def renew(self, now: float) -> None:
        return None  # absolute: bytes that drip in do not buy time

    def close(self) -> None:
        pass


class Body:
    """A body on its way into memory, and beyond `body_memory` into a temporary file."""

    __slots__ = (
        "_budget", "_chunks", "_counted", "_file", "_limits", "_mark", "_size", "decoder", "left", "request"
    )  # fmt: skip

    def __init__(
        self, request: Request, limits: WorkerLimits, http_limits: Limits, budget: Budget, now: float
    ) -> None:
        self._budget = budget
        self._counted = 0  # bytes of ours in the budget
        self.request = request
        self.left = request.length
        self.decoder = ChunkedDecoder(http_limits) if request.length < 0 else None
        self._limits = limits
        self._chunks: list[bytes] = []
        self._size = 0
        self._file: BufferedIOBase | None = None
        self._mark = (now, 0)

    def feed(self, data: bytes) -> bytes | None:
        """Take bytes. Answers what came behind the body when the body is complete, else None."""
        decoder = self.decoder
        if decoder is None:
            if len(data) < self.left:
                self.left -= len(data)
                self._store(data)
                return None
            self._store(data[: self.left])
            rest = data[self.left :]
            self.left = 0
            return rest
        for block in decoder.feed(data):
            self._store(block)
        return decoder.leftover if decoder.done else None

    def _store(self, block: bytes) -> None:
        self._size += len(block)
        if self._file is not None:
            self._file.write(block)
            return
        self._chunks.append(block)
        if self._size <= self._limits.body_memory and self._budget.take(len(block)):
            self._counted += len(block)
        else:
            self._file = tempfile.TemporaryFile(prefix="threadcorn-body-", dir=self._limits.spool_dir)
            self._file.writelines(self._chunks)
            self._uncount()
            self._chunks.clear()

    def input(self) -> BufferedIOBase:
        """The complete body as `wsgi.input`."""
        if self._file is None:
            whole = BytesIO(b"".join(self._chunks))
            # From here on it is a request that waits or runs, of which there is a bounded number.
            self._uncount()
            self._chunks.clear()
            return whole
        self._file = SpooledBody(self._file.detach(), self._size)
        return self._file

    @property
    def spooled(self) -> bool:
        return self._file is not None

    def _uncount(self) -> None:
        self._budget.give(self._counted)
        self._counted = 0

    @property
    def size(self) -> int:
        return self._size

    def renew(self, now: float) -> float | None:
        """A deadline later when enough has come since the last look (seconds, monotonic)."""
        since, size = self._mark
        if self._size - size < max(1.0, self._limits.body_min_rate * (now - since)):
            return None
        self._mark = (now, self._size)
        return now + float(self._limits.body_timeout)

    def began(self) -> None:
        pass  # all of it is here

    def arrived(self) -> bool:
        return True

    def close(self) -> None:
        self._uncount()
        self._chunks.clear()
        if self._file is not None:
            # It writes its buffer first, and the disk may be full; or the application has detached it.
            with suppress(OSError, ValueError):
                self._file.close()
