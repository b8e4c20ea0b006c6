"""ChunkedDecoder beyond the corpus: pieces, what it costs, what it bounds."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from threadcorn.errors import ProtocolViolation
from threadcorn.http1.chunked import EXCESS, LONGEST_LINE, ChunkedDecoder
from threadcorn.http1.parser import Limits

LIMITS = Limits()


def decode(pieces, limits: Limits = LIMITS) -> tuple[int, bytes, bool, bytes]:
    """Status (200 when nothing was refused), the body so far, whether it is done, what was left over."""
    decoder, body = ChunkedDecoder(limits), b""
    for piece in pieces:
        try:
            blocks = decoder.feed(piece)
        except ProtocolViolation as violation:
            refused = violation
            break
        assert all(type(block) is bytes and block for block in blocks)
        body += b"".join(blocks)
    else:
        return 200, body, decoder.done, decoder.leftover
    with pytest.raises(ProtocolViolation) as again:
        decoder.feed(b"0\r\n\r\n")
    assert again.value.status == refused.status
    assert not decoder.done
    return refused.status, body, False, b""


extensions = st.sampled_from([b"", b";a", b";a=b", b';a="b;\\"c"', b" ; a = b", b";a;b"])


@st.composite
def messages(draw) -> tuple[bytes, bytes]:
    blocks = draw(st.lists(st.binary(min_size=1, max_size=40), max_size=6))
    wire = b""
    for block in blocks:
        zeros = b"0" * draw(st.integers(0, 10))
        wire += zeros + (b"%x" % len(block)) + draw(extensions) + b"\r\n" + block + b"\r\n"
    wire += b"0" * draw(st.integers(1, 16)) + draw(extensions) + b"\r\n"
    wire += draw(st.sampled_from([b"", b"X: 1\r\n", b"X: 1\r\nY:2\r\n"])) + b"\r\n"
    return wire, b"".join(blocks)


@given(messages(), st.binary(max_size=20), st.lists(st.integers(0, 300), max_size=8))
def test_any_message_in_any_pieces(message: tuple[bytes, bytes], behind: bytes, cuts: list[int]) -> None:
    wire, body = message
    wire += behind
    cuts = sorted({0, len(wire), *(cut for cut in cuts if cut < len(wire))})
    pieces = [wire[begin:end] for begin, end in pairwise(cuts)]
    assert decode(pieces) == (200, body, True, behind)
    assert decode([wire[at : at + 1] for at in range(len(wire))]) == (200, body, True, behind)


@given(messages(), st.integers(0, 300), st.integers(0, 255))
def test_one_wrong_byte_has_one_outcome_in_any_pieces(
    message: tuple[bytes, bytes], at: int, byte: int
) -> None:
    wire = bytearray(message[0])
    wire[at % len(wire)] = byte
    whole = decode([bytes(wire)])
    single = decode([bytes(wire[at : at + 1]) for at in range(len(wire))])
    assert whole[0] == single[0]
    if whole[0] == 200:
        assert whole == single
    else:
        assert whole[0] in (400, 413)


def test_a_message_that_was_cut_is_not_done() -> None:
    wire = b"5;a=b\r\nhello\r\n0\r\nX: 1\r\n\r\n"
    for end in range(len(wire)):
        status, _, done, leftover = decode([wire[:end]])
        assert (status, done, leftover) == (200, False, b"")


def test_what_comes_after_the_end_is_left_over() -> None:
    decoder = ChunkedDecoder(LIMITS)
    assert decoder.feed(b"1\r\nx\r\n0\r\n\r\nGET") == [b"x"]
    assert decoder.feed(b" / HT") == []
    assert decoder.leftover == b"GET / HT"


def test_large_chunks_are_not_copied_more_than_once() -> None:
    decoder = ChunkedDecoder(LIMITS)
    assert decoder.feed(b"100000\r\n") == []
    piece = bytes(65536)
    for _ in range(16):
        (block,) = decoder.feed(piece)
        assert block is piece
    assert decoder.feed(b"\r\n0\r\n\r\n") == []
    assert decoder.done


def test_a_flood_of_tiny_chunks_gives_few_blocks() -> None:
    decoder = ChunkedDecoder(LIMITS)
    blocks = decoder.feed(b"1\r\nx\r\n" * 10_000)
    assert blocks == [b"x" * 10_000]


def test_framing_is_bounded_over_the_whole_message() -> None:
    """What goes beyond an honest line adds up, however it is cut and however small each part is."""
    chunk = b"1;a=" + b"b" * 100 + b"\r\nx\r\n"
    assert decode([chunk] * 10)[0] == 200
    assert decode([chunk] * 1000)[0] == 400
    assert decode([chunk * 1000])[0] == 400
    # As many bytes of extension, but with data that pay for them.
    honest = b"40;a=" + b"b" * 100 + b"\r\n" + b"x" * 64 + b"\r\n"
    assert decode([honest * 1000])[0] == 200
    assert EXCESS < 100 * 1000


@pytest.mark.parametrize("first", [b"5;", b'5;a="', b"5;a="])
def test_a_line_has_a_greatest_length(first: bytes) -> None:
    fits = first + b"a" * (LONGEST_LINE - len(first))
    assert decode([fits])[0] == 200
    assert decode([fits + b"a", b"a"])[0] == 400
    assert decode([fits[at : at + 1] for at in range(len(fits))] + [b"a", b"a"])[0] == 400
    assert decode([b"5;a=" + b"b" * (LONGEST_LINE - 4) + b"\r\nhello"])[:2] == (200, b"hello")
    assert decode([b"5;a=" + b"b" * (LONGEST_LINE - 3) + b"\r\nhello"])[0] == 400


@pytest.mark.parametrize(("limit", "status"), [(10, 200), (9, 413), (0, 200)])
def test_the_body_has_a_limit(limit: int, status: int) -> None:
    wire = b"5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n"
    assert decode([wire], Limits(body=limit))[0] == status
    assert decode([wire[at : at + 1] for at in range(len(wire))], Limits(body=limit))[0] == status


def test_a_chunk_over_the_limit_is_refused_at_its_size() -> None:
    decoder = ChunkedDecoder(Limits(body=100))
    with pytest.raises(ProtocolViolation) as caught:
        decoder.feed(b"65\r\n")
    assert caught.value.status == 413


@pytest.mark.parametrize("size", [b"7fffffffffffffff", b"FFFFFFFFFFFFFFFF", b"8000000000000000"])
def test_sizes_beyond_a_signed_number_are_refused_without_a_limit(size: bytes) -> None:
    assert decode([size + b"\r\nhello"], Limits(body=0))[0] == (200 if size.startswith(b"7") else 400)


@pytest.mark.parametrize("name", [b"Content-Length", b"HOST", b"transfer-encoding"])
def test_trailers_that_frame_are_refused(name: bytes) -> None:
    assert decode([b"0\r\n" + name + b": 1\r\n\r\n"])[0] == 400


def test_trailers_are_bounded() -> None:
    limits = Limits(fields=3, field_size=40)
    assert decode([b"0\r\nX: 1\r\nX: 1\r\nX: 1\r\n\r\n"], limits)[0] == 200
    assert decode([b"0\r\nX: 1\r\nX: 1\r\nX: 1\r\nX"], limits)[0] == 431
    assert decode([b"0\r\nX: " + b"a" * 38], limits)[0] == 431
    # All of them together have the room of one field.
    assert decode([b"0\r\nX: " + b"a" * 20 + b"\r\nY: " + b"a" * 20], limits)[0] == 431
