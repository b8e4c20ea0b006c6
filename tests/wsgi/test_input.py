"""wsgi.input of a body that arrives while it is read, beside a body that is whole."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from threadcorn.wsgi.input import AHEAD, SpooledBody, StreamedBody


class CutError(OSError):
    pass


class Wire:
    """A `read_some` that gives the pieces as they come, and then ends or is cut."""

    def __init__(self, pieces: list[bytes], *, cut: bool = False) -> None:
        self.pieces = list(pieces)
        self.cut = cut
        self.asked: list[int] = []

    def __call__(self, size: int) -> bytes:
        self.asked.append(size)
        assert size > 0
        if not self.pieces:
            if self.cut:
                raise CutError("the body was cut")
            return b""
        piece = self.pieces[0][:size]
        self.pieces[0] = self.pieces[0][size:]
        if not self.pieces[0]:
            del self.pieces[0]
        return piece


pieces = st.lists(st.text("ab\n", min_size=1, max_size=12).map(str.encode), max_size=8)
calls = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.sampled_from([(), (-1,), (None,), (0,), (1,), (5,), (100,)])),
        st.tuples(st.just("readline"), st.sampled_from([(), (-1,), (0,), (1,), (3,), (100,)])),
        st.tuples(st.just("readlines"), st.just(())),
        st.tuples(st.just("__next__"), st.just(())),
    ),
    max_size=10,
)


@given(pieces, calls)
def test_it_reads_like_a_file_in_memory(arriving: list[bytes], order: list[tuple[str, tuple]]) -> None:
    streamed, whole = StreamedBody(Wire(arriving)), io.BytesIO(b"".join(arriving))
    for name, arguments in order:
        results = []
        for body in (streamed, whole):
            try:
                results.append(getattr(body, name)(*arguments))
            except StopIteration:
                results.append("end")
        assert results[0] == results[1], (name, arguments)
    assert list(streamed) == list(whole)
    for body in (streamed, whole):
        assert body.read() == body.read(10) == body.readline() == b""


@pytest.mark.parametrize(
    "call",
    [
        lambda body: body.read(),
        lambda body: body.read(-1),
        lambda body: body.read(10),
        lambda body: body.readlines(),
        list,
        lambda body: [body.readline(), body.readline()],
    ],
)
def test_a_body_that_was_cut_never_looks_like_a_short_one(call) -> None:
    body = StreamedBody(Wire([b"he\nllo"], cut=True))
    with pytest.raises(CutError):
        call(body)
    with pytest.raises(CutError):
        body.read(1)
    with pytest.raises(CutError):
        body.read()


def test_what_arrived_before_the_cut_can_be_read() -> None:
    body = StreamedBody(Wire([b"hello"], cut=True))
    assert body.read(5) == b"hello"
    with pytest.raises(CutError):
        body.read(1)


def test_a_line_does_not_wait_for_more_than_its_end() -> None:
    body = StreamedBody(Wire([b"first\nsec"], cut=True))
    assert body.readline() == b"first\n"


def test_readlines_takes_a_hint() -> None:
    lines = [b"one\n", b"two\n", b"three\n"]
    assert StreamedBody(Wire(lines)).readlines(0) == lines
    body = StreamedBody(Wire(lines))
    assert body.readlines(5) == lines[:2]
    assert body.readlines(5) == lines[2:]


def test_nothing_is_read_before_it_is_asked_for() -> None:
    wire = Wire([b"hello"])
    StreamedBody(wire)
    assert wire.asked == []


def test_large_reads_do_not_go_through_small_buffers() -> None:
    wire = Wire([bytes(100_000) for _ in range(10)])
    assert len(StreamedBody(wire).read(1_000_000)) == 1_000_000
    assert len(wire.asked) < 30


ANY_SIZE = [AHEAD + 1, 1 << 40, sys.maxsize]


@pytest.mark.parametrize("size", ANY_SIZE)
def test_more_than_there_is_takes_no_memory(tmp_path: Path, size: int) -> None:
    wire = Wire([b"hello", b"world"])
    body = StreamedBody(wire)
    assert (body.read(2), body.read(size), body.read(size)) == (b"he", b"lloworld", b"")
    (tmp_path / "body").write_bytes(b"helloworld")
    with SpooledBody(io.FileIO(tmp_path / "body"), 10) as spooled:
        assert (spooled.read(2), spooled.read(size), spooled.read(size)) == (b"he", b"lloworld", b"")
        spooled.seek(20)
        assert (spooled.read(size), spooled.read()) == (b"", b"")


def test_a_large_read_of_a_body_that_was_cut_raises() -> None:
    body = StreamedBody(Wire([b"hello"], cut=True))
    with pytest.raises(CutError):
        body.read(AHEAD + 1)


def test_a_large_read_takes_no_more_than_it_was_asked_for() -> None:
    body = StreamedBody(Wire([bytes(AHEAD), b"hello world"]))
    assert body.read(AHEAD + 5) == bytes(AHEAD) + b"hello"
    assert body.read() == b" world"


def test_it_is_no_file() -> None:
    body = StreamedBody(Wire([]))
    assert not body.seekable()
    assert not body.writable()
    with pytest.raises(OSError, match="fileno"):
        body.fileno()
