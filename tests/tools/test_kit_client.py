"""The kit's raw client: what it takes for one answer, and what it refuses."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.kit import Connection, CutShort, Ended, NotInTime, eventually


@pytest.fixture
def pair() -> Iterator[tuple[Connection, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Connection(ours, within=2.0), theirs


def test_an_answer_of_known_length_ends_there(pair):
    """The bytes after Content-Length stay for the next read."""
    client, server = pair
    server.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 204 No Content\r\n\r\n")
    first, second = client.reply(), client.reply()
    assert (first.body, first.ended) == (b"ok", Ended.LENGTH)
    assert (second.status, second.ended) == (204, Ended.NO_BODY)
    assert not client.buffer


def test_a_chunked_answer_byte_by_byte(pair):
    """Sizes, body and trailers come out, and nothing behind the last line is taken."""
    client, server = pair
    server.sendall(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nT: 1\r\n\r\nX"
    )
    reply = client.reply()
    assert (reply.body, reply.chunks, reply.trailers) == (b"abcde", [3, 2], [("T", "1")])
    assert reply.ended is Ended.CHUNKED
    assert client.buffer == b"X"


def test_a_head_request_has_no_body(pair):
    """Content-Length in the answer to HEAD announces nothing on the wire."""
    client, server = pair
    server.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
    assert client.reply(method="HEAD").ended is Ended.NO_BODY


def test_interim_answers_are_noted(pair):
    """100 Continue is not the answer."""
    client, server = pair
    server.sendall(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    reply = client.reply()
    assert (reply.status, reply.interim) == (200, [100])


def test_an_answer_without_framing_ends_with_the_connection(pair):
    """Close tells the end, and the connection cannot be kept."""
    client, server = pair
    server.sendall(b"HTTP/1.0 200 OK\r\n\r\nall of it")
    server.shutdown(socket.SHUT_WR)
    reply = client.reply()
    assert (reply.body, reply.ended, reply.keeps) == (b"all of it", Ended.CLOSE, False)


@pytest.mark.parametrize(
    ("sent", "how"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", "closed"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "closed"),
        (b"", "closed"),
        (b"HTTP/1.1 200 OK\n\n", "malformed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "malformed"),
        (b"<html>", "closed"),
        (b"<html>\r\n", "malformed"),
    ],
)
def test_what_is_no_whole_answer_is_told(pair, sent, how):
    """A cut or malformed answer is never taken for a whole one."""
    client, server = pair
    server.sendall(sent)
    server.shutdown(socket.SHUT_WR)
    with pytest.raises(CutShort) as caught:
        client.reply()
    assert caught.value.how == how


def test_silence_is_a_time_out(pair):
    """A server that says nothing is told apart from one that closed."""
    client, _ = pair
    with pytest.raises(CutShort) as caught:
        client.reply(within=0.05)
    assert caught.value.how == "timeout"
    assert client.silent(0.01)


def test_the_end_is_an_end_only_without_a_byte(pair):
    """A byte before the close is a fault, not an end."""
    client, server = pair
    server.sendall(b"x")
    server.shutdown(socket.SHUT_WR)
    with pytest.raises(CutShort):
        client.end()


def test_eventually_takes_asserts_for_not_yet():
    """An AssertionError is tried again; the answer that came at last is returned."""
    left = [3]

    def check() -> str:
        left[0] -= 1
        assert left[0] == 0
        return "there"

    assert eventually(check, within=5.0) == "there"


def test_eventually_tells_the_last_trouble():
    """When the deadline passes, the error says what was seen last."""
    with pytest.raises(NotInTime, match="it answered: 0"):
        eventually(lambda: 0, within=0.02)
