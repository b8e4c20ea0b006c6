"""Which files the kernel may send by itself: those whose descriptor holds what `read()` would give.

And what is left of an outbox whose disk is full.
"""

from __future__ import annotations

import errno
import gzip
import io
import os
import tarfile
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from threadcorn.system.transport import Budget, Outbox, regular_file

Make = Callable[[Path], Any]
TEXT = b"0123456789" * 1000


class Upper(io.BufferedReader):
    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(size).upper()


class Numbered(io.FileIO):
    def read(self, size: int | None = -1, /) -> bytes:
        return b"1 " + super().read(size)


class Backwards:
    """Has a file, and reads something else than it."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def read(self, size: int = -1) -> bytes:
        data: bytes = self.file.read(size)
        return data[::-1]

    def close(self) -> None:
        self.file.close()


class Holder:
    """Reads what its file reads, as Django's `File`."""

    def __init__(self, file: Any) -> None:
        self.file = file

    @property
    def read(self) -> Any:
        return self.file.read

    def close(self) -> None:
        self.file.close()


def at(file: Any, offset: int) -> Any:
    file.seek(offset)
    return file


def after(file: Any, size: int) -> Any:
    file.read(size)
    return file


def temporary(file: Any) -> Any:
    file.write(TEXT)
    return at(file, 5)


def zipped(folder: Path) -> Any:
    (folder / "gz").write_bytes(gzip.compress(TEXT))
    return gzip.open(folder / "gz")


def member(folder: Path) -> Any:
    """Of an archive: a BufferedReader without a descriptor."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        archive.add(folder / "plain", "plain")
    made.seek(0)
    return tarfile.open(fileobj=made).extractfile("plain")


BY_THE_KERNEL: dict[str, Make] = {
    "plain": lambda folder: open(folder / "plain", "rb"),
    "offset": lambda folder: at(open(folder / "plain", "rb"), 9990),
    "buffered ahead": lambda folder: after(open(folder / "plain", "rb"), 10),
    "raw": lambda folder: at(open(folder / "plain", "rb", buffering=0), 9990),
    "temporary": lambda folder: temporary(tempfile.TemporaryFile()),
    "named temporary": lambda folder: temporary(tempfile.NamedTemporaryFile()),
    "holder": lambda folder: Holder(open(folder / "plain", "rb")),
}
BY_READING: dict[str, Make] = {
    "memory": lambda folder: io.BytesIO(TEXT),
    "gzip": zipped,
    "buffered gzip": lambda folder: io.BufferedReader(zipped(folder)),
    "archive": member,
    "own read": lambda folder: Upper(io.FileIO(folder / "plain")),
    "own raw read": lambda folder: Numbered(folder / "plain"),
    "buffered own raw": lambda folder: io.BufferedReader(Numbered(folder / "plain")),
    "other contents": lambda folder: Backwards(open(folder / "plain", "rb")),
    "text": lambda folder: open(folder / "plain", encoding="ascii"),
    "no length": lambda folder: open("/proc/self/comm", "rb"),
    "at its end": lambda folder: at(open(folder / "plain", "rb"), 10_000),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "plain").write_bytes(TEXT)
    return tmp_path


@pytest.mark.parametrize("name", BY_THE_KERNEL)
def test_what_is_sent_is_what_would_be_read(folder: Path, name: str) -> None:
    with closing(BY_THE_KERNEL[name](folder)) as file:
        span = regular_file(file)
        assert span is not None
        descriptor, offset, count = span
        assert os.pread(descriptor, count + 1, offset) == file.read()


@pytest.mark.parametrize("name", BY_READING)
def test_what_reads_something_else_than_its_descriptor_is_read(folder: Path, name: str) -> None:
    with closing(BY_READING[name](folder)) as file:
        assert regular_file(file) is None


def test_what_is_closed_or_taken_apart_is_left_to_its_own_errors(folder: Path) -> None:
    file = open(folder / "plain", "rb")
    raw = file.detach()
    assert regular_file(file) is None
    raw.close()
    assert regular_file(raw) is None


def test_a_disk_that_is_full_keeps_neither_descriptor_nor_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, room = os.pwrite, 100_000
    opened: list[int] = []

    def full(descriptor: int, data: Any, offset: int) -> int:
        opened.append(descriptor)
        if offset + len(data) > room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", full)
    outbox = Outbox(10, str(tmp_path), Budget(5))
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        outbox.append(b"x" * 200_000)
    outbox.close()
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        os.fstat(opened[0])


def test_what_did_fit_on_the_disk_before_is_closed_with_the_outbox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []

    def full(descriptor: int, data: Any, offset: int) -> int:
        opened.append(descriptor)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    outbox = Outbox(10, str(tmp_path), Budget(5))
    outbox.append(b"x" * 1000)
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        outbox.append(b"x" * 1000)
    os.fstat(opened[0])  # what came before is still to be sent
    outbox.close()
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        os.fstat(opened[0])
