"""The WSGI side of one response, without a socket: PEP 3333 and the framing of RFC 9112."""

from __future__ import annotations

import enum
import io
import sys
from typing import Any

import pytest

from threadcorn.http1 import response as heads
from threadcorn.wsgi import gateway
from threadcorn.wsgi.gateway import FileWrapper, LongResponse, Response, ShortResponse

TEXT = [("Content-Type", "text/plain")]


class Wire:
    """A sink that remembers each call."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    write_last = write

    def write_pieces(self, pieces: list[bytes]) -> None:
        self.sent.append(b"".join(pieces))

    def file_span(self, filelike: Any) -> tuple[int, int, int] | None:
        return None

    def write_file(self, head: bytes, descriptor: int, offset: int, count: int) -> None:
        raise AssertionError("no file was offered")

    def began(self) -> None:
        pass

    def arrived(self) -> bool:
        return True

    @property
    def head(self) -> list[str]:
        return b"".join(self.sent).partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")

    @property
    def body(self) -> bytes:
        return b"".join(self.sent).partition(b"\r\n\r\n")[2]


def make(*, version11: bool = True, head_only: bool = False, keep: bool = True) -> tuple[Response, Wire]:
    wire = Wire()
    return Response(wire, version11, head_only, keep), wire


def test_one_block_leaves_in_one_write_with_its_length() -> None:
    """A list of one block is sent together with the head, with a Content-Length."""
    response, wire = make()
    response.start_response("200 OK", TEXT)
    response.deliver([b"hello"])
    assert len(wire.sent) == 1
    assert wire.head[0] == "HTTP/1.1 200 OK"
    assert "Content-Length: 5" in wire.head
    assert wire.body == b"hello"
    assert response.keep


def test_a_list_of_blocks_is_one_body() -> None:
    """A finished list has no code between its blocks, so it is sent whole."""
    response, wire = make()
    response.start_response("200 OK", TEXT)
    response.deliver([b"a", b"", b"bc"])
    assert "Content-Length: 3" in wire.head
    assert wire.body == b"abc"


def test_nothing_leaves_before_the_first_block() -> None:
    """start_response alone, and an empty block, send nothing (PEP 3333)."""
    response, wire = make()
    write = response.start_response("200 OK", TEXT)
    write(b"")
    assert wire.sent == []


def test_each_block_of_a_generator_is_sent_before_the_next_is_asked_for() -> None:
    """No block is held back (PEP 3333, buffering and streaming)."""
    response, wire = make()
    seen: list[int] = []

    def blocks() -> Any:
        yield b"one"
        seen.append(len(wire.sent))
        yield b""
        seen.append(len(wire.sent))
        yield b"two"
        seen.append(len(wire.sent))

    response.start_response("200 OK", TEXT)
    response.deliver(blocks())
    assert seen == [1, 1, 2]
    assert "Transfer-Encoding: chunked" in wire.head
    assert wire.body == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"


def test_http10_without_length_ends_with_the_connection() -> None:
    """HTTP/1.0 knows no chunks: the response ends when the connection does."""
    response, wire = make(version11=False)
    response.start_response("200 OK", TEXT)
    response.deliver(iter([b"one", b"two"]))
    assert "Connection: close" in wire.head
    assert not any(line.startswith("Transfer-Encoding") for line in wire.head)
    assert wire.body == b"onetwo"
    assert not response.keep
    assert response.unframed


def test_http10_keep_alive_is_said() -> None:
    """A persistent HTTP/1.0 connection is one only when the response says so."""
    response, wire = make(version11=False)
    response.start_response("200 OK", TEXT)
    response.deliver([b"x"])
    assert "Connection: keep-alive" in wire.head


@pytest.mark.parametrize(
    ("status", "length"), [("204 No Content", None), ("304 Not Modified", "Content-Length: 7")]
)
def test_statuses_without_content_have_none(status: str, length: str | None) -> None:
    """204 and 304 send no body, and 204 no Content-Length, whatever the application says."""
    response, wire = make()
    response.start_response(status, [("Content-Length", "7")])
    response.deliver([b"content"])
    assert wire.body == b""
    assert [line for line in wire.head if line.startswith("Content-Length")] == ([length] if length else [])


def test_head_has_the_head_of_get_and_no_body() -> None:
    """HEAD gets the same fields as GET would (RFC 9110 section 9.3.2)."""
    response, wire = make(head_only=True)
    response.start_response("200 OK", TEXT)
    response.deliver([b"hello"])
    assert "Content-Length: 5" in wire.head
    assert wire.body == b""


@pytest.mark.parametrize(
    "result", [[b"abcd"], [b"ab", b"cd"], iter([b"ab", b"cd", b"ef"]), iter([b"abc", b"d"])]
)
def test_never_more_bytes_than_the_content_length(result: Any) -> None:
    """What the application gives too much does not reach the next response."""
    response, wire = make()
    response.start_response("200 OK", [("Content-Length", "3")])
    with pytest.raises(LongResponse, match="more than 3"):
        response.deliver(result)
    assert wire.body == b"abc"


@pytest.mark.parametrize("result", [[b"ab"], iter([b"a", b"b"])])
def test_fewer_bytes_than_the_content_length_is_an_error(result: Any) -> None:
    """The connection must not go on: the client still waits for the rest."""
    response, _ = make()
    response.start_response("200 OK", [("Content-Length", "3")])
    with pytest.raises(ShortResponse, match="2 of 3"):
        response.deliver(result)
    assert not response.keep


@pytest.mark.parametrize(
    ("status", "headers", "error"),
    [
        ("200", TEXT, ValueError),
        ("99 Low", TEXT, ValueError),
        ("600 High", TEXT, ValueError),
        ("101 Switching Protocols", TEXT, ValueError),
        ("200 a\r\nX: y", TEXT, ValueError),
        (b"200 OK", TEXT, TypeError),
        ("200 OK", [("X\r\n", "y")], ValueError),
        ("200 OK", [("X", "y\r\nZ: 1")], ValueError),
        ("200 OK", [("X", "y\x00")], ValueError),
        ("200 OK", [("X", "\u20ac")], ValueError),
        ("200 OK", [("X", b"y")], TypeError),
        ("200 OK", [("X", 5)], TypeError),
        ("200 OK", [("", "y")], ValueError),
        ("200 OK", [("Content-Length", "-1")], ValueError),
        ("200 OK", [("Content-Length", "+5")], ValueError),
        ("200 OK", [("Content-Length", "5, 5")], ValueError),
        ("200 OK", [("Content-Length", "\u0665")], ValueError),
        ("200 OK", [("Content-Length", "5"), ("Content-Length", "5")], ValueError),
    ],
)
def test_what_cannot_be_a_response_is_refused_at_the_call(status: Any, headers: Any, error: type) -> None:
    """A bad status or header raises in start_response, and leaves the response unsent and usable."""
    response, wire = make()
    with pytest.raises(error):
        response.start_response(status, headers)
    assert wire.sent == []
    response.start_response("500 Internal Server Error", TEXT)
    response.deliver([b"sorry"])
    assert wire.head[0] == "HTTP/1.1 500 Internal Server Error"


def test_a_checked_line_is_remembered_only_when_it_was_good() -> None:
    """The cache of field lines never lets a bad one pass at the second try."""
    for _ in range(3):
        response, _ = make()
        with pytest.raises(ValueError, match="forbidden"):
            response.start_response("200 OK", [("X-Bad", "a\nb")])


class Text(str):
    """What templates and translations give: a string of a type of its own."""

    __slots__ = ()


class Name(str, enum.Enum):
    """Formats itself as `Name.PLACE`, up to Python 3.11 and from then on."""

    PLACE = "X-Place"
    CREATED = "201 Created"


@pytest.mark.parametrize("remembered", [False, True])
def test_a_string_of_another_type_is_a_string(monkeypatch: pytest.MonkeyPatch, remembered: bool) -> None:
    """Whether one passes must not depend on what has been sent before."""
    for cache in ("FIELD_NAMES", "FIELD_LINES", "STATUS_LINES"):
        monkeypatch.setattr(heads, cache, {})
        monkeypatch.setattr(gateway, cache, getattr(heads, cache))
    if remembered:
        make()[0].start_response("201 Created", [("X-Name", "a"), ("X-Place", "here"), ("X-Latin", "\xe9")])
    response, wire = make()
    headers = [(Text("X-Name"), Text("a")), (Name.PLACE, "here"), ("X-Latin", Text("\xe9"))]
    response.start_response(Name.CREATED, headers)
    response.deliver([b"x"])
    assert wire.head[0] == "HTTP/1.1 201 Created"
    assert {"X-Name: a", "X-Place: here", "X-Latin: \xe9"} <= set(wire.head)


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_field_may_be_any_pair(kind: Any) -> None:
    """PEP 3333 asks for tuples, but what gunicorn serves must not become a 500."""
    response, wire = make()
    response.start_response("200 OK", [kind(["Content-Type", "text/plain"]), kind(["Content-Length", "2"])])
    response.deliver([b"ok"])
    assert wire.head[-2:] == ["Content-Type: text/plain", "Content-Length: 2"]
    assert wire.body == b"ok"


def test_hop_by_hop_fields_are_dropped_and_close_is_heeded() -> None:
    """The connection is the server's; an application can only ask for its end."""
    response, wire = make()
    response.start_response(
        "200 OK",
        [("Transfer-Encoding", "chunked"), ("Keep-Alive", "x"), ("Upgrade", "h2c"), ("connection", "close")],
    )
    response.deliver([b"x"])
    names = [line.partition(":")[0] for line in wire.head[1:]]
    assert names.count("Connection") == 1
    assert not {"Transfer-Encoding", "Keep-Alive", "Upgrade"} & set(names)
    assert not response.keep


def test_date_and_server_of_the_application_are_not_doubled() -> None:
    """What the application sets itself is not added again."""
    response, wire = make()
    response.start_response("200 OK", [("Date", "Thu, 01 Jan 1970 00:00:00 GMT"), ("Server", "mine")])
    response.deliver([b"x"])
    names = [line.partition(":")[0] for line in wire.head[1:]]
    assert names.count("Date") == 1
    assert names.count("Server") == 1


def test_second_start_response_needs_exc_info() -> None:
    """Without exc_info a second call is an error of the application."""
    response, _ = make()
    response.start_response("200 OK", TEXT)
    with pytest.raises(AssertionError, match="second time"):
        response.start_response("200 OK", TEXT)


def test_exc_info_replaces_the_head_until_it_is_sent() -> None:
    """An error found before the first block may change the status."""
    response, wire = make()
    response.start_response("200 OK", [("X-Old", "1")])
    try:
        raise KeyError("late")
    except KeyError:
        response.start_response("500 Oops", TEXT, sys.exc_info())  # type: ignore[arg-type]
    response.deliver([b"x"])
    assert wire.head[0] == "HTTP/1.1 500 Oops"
    assert "X-Old: 1" not in wire.head


def test_exc_info_after_the_head_raises_that_exception() -> None:
    """Once the head has left, the error itself comes back to the application."""
    response, _ = make()
    write = response.start_response("200 OK", TEXT)
    write(b"x")
    try:
        raise KeyError("late")
    except KeyError:
        with pytest.raises(KeyError, match="late"):
            response.start_response("500 Oops", TEXT, sys.exc_info())  # type: ignore[arg-type]


def test_blocks_of_write_come_before_those_of_the_iterable() -> None:
    """PEP 3333: the two may be mixed, write() first."""
    response, wire = make()
    write = response.start_response("200 OK", [("Content-Length", "4")])
    write(b"ab")
    response.deliver([b"cd"])
    assert wire.body == b"abcd"


@pytest.mark.parametrize("result", [["text"], iter(["text"]), [b"a", "b"], iter([b"a", ""])])
def test_a_block_that_is_not_bytes_is_an_error(result: Any) -> None:
    """Text would need an encoding that nobody has named."""
    response, _ = make()
    response.start_response("200 OK", TEXT)
    with pytest.raises(TypeError):
        response.deliver(result)


def test_no_start_response_is_an_error() -> None:
    """A result without start_response cannot be sent."""
    response, wire = make()
    with pytest.raises(RuntimeError, match="start_response"):
        response.deliver([b"x"])
    assert wire.sent == []


def test_write_after_the_end_raises() -> None:
    """A response is dead after its end: late writes must not reach the next one."""
    response, wire = make()
    write = response.start_response("200 OK", TEXT)
    response.deliver([b"x"])
    before = list(wire.sent)
    with pytest.raises(RuntimeError, match="ended"):
        write(b"late")
    assert wire.sent == before


def test_file_wrapper_without_a_file_is_read() -> None:
    """Something that only looks like a file goes through read()."""
    response, wire = make()
    response.start_response("200 OK", [("Content-Length", "6")])
    response.deliver(FileWrapper(io.BytesIO(b"abcdef"), 4))
    assert wire.body == b"abcdef"


@pytest.mark.parametrize("size", [1, 3, 4, 5, 100])
@pytest.mark.parametrize("length", [0, 1, 4, 9, 10])
def test_a_file_that_is_read_ends_at_the_content_length(length: int, size: int) -> None:
    """PEP 3333: until the end of the file, or until Content-Length bytes. So does what the kernel sends."""
    response, wire = make()
    response.start_response("200 OK", [("Content-Length", str(length))])
    file = io.BytesIO(b"0123456789")
    response.deliver(FileWrapper(file, size))
    assert (wire.body, response.keep) == (b"0123456789"[:length], True)
    assert file.tell() < length + size


def test_a_file_that_is_shorter_than_the_content_length_looks_cut() -> None:
    response, _ = make()
    response.start_response("200 OK", [("Content-Length", "11")])
    with pytest.raises(ShortResponse):
        response.deliver(FileWrapper(io.BytesIO(b"0123456789"), 4))
    assert not response.keep


def test_what_was_written_counts_before_the_file() -> None:
    response, wire = make()
    response.start_response("200 OK", [("Content-Length", "5")])(b"ab")
    response.deliver(FileWrapper(io.BytesIO(b"cdefgh")))
    assert wire.body == b"abcde"


def test_a_wrapper_of_the_applications_own_is_iterated() -> None:
    class Shouted(FileWrapper):
        def __next__(self) -> bytes:
            return super().__next__().upper()

    response, wire = make()
    wire.file_span = lambda filelike: (0, 0, 6)  # type: ignore[method-assign]
    response.start_response("200 OK", [("Content-Length", "6")])
    response.deliver(Shouted(io.BytesIO(b"abcdef"), 4))
    assert wire.body == b"ABCDEF"
