"""`--stream-body`: what an answer says about a body that nobody has read (RFC 9112 section 9.6)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kit import Connection, ServerProcess

APP = """
import tempfile

def app(environ, start):
    path, body = environ["PATH_INFO"], environ["wsgi.input"]
    fields = [("Content-Type", "text/plain")]
    if path == "/read":
        data = body.read()
        start("200 OK", fields)
        return [data]
    if path == "/echo":
        start("200 OK", fields)
        return iter(lambda: body.read(10), b"")
    if path == "/late":
        return late(body, start)
    if path == "/file":
        file = tempfile.TemporaryFile()
        file.write(b"file")
        file.seek(0)
        start("200 OK", fields)
        return environ["wsgi.file_wrapper"](file)
    if path == "/write":
        start("200 OK", fields)(b"written")
        return []
    if path == "/none":
        start("204 No Content", [])
        return []
    if path == "/long":
        start("200 OK", fields)
        return [b"x" * 100_000]
    start("200 OK", fields)
    return (block for block in [b"one", b"two"]) if path == "/pieces" else [b"list"]

def late(body, start):
    data = body.read()
    start("200 OK", [("Content-Length", str(len(data)))])
    yield data
"""

UNREAD = ("/list", "/pieces", "/file", "/write", "/none", "/long")


@pytest.fixture(
    scope="module",
    params=[(), ("--server-timing",), ("--request-timeout", "60"), ("--access-logfile", "access")],
    ids=lambda flags: flags[0] if flags else "plain",
)
def server(request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    with ServerProcess(None, "--stream-body", "--threads", "2", *request.param, source=APP) as running:
        yield running


def post(path: str, framing: str, body: bytes) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: t\r\n{framing}\r\n\r\n".encode() + body


def lingers(connection: Connection, rest: bytes) -> None:
    """What the client still sends is taken, and then comes the end, not a reset."""
    connection.send(rest)
    connection.half_close()
    assert connection.to_end() == (b"", "closed")


@pytest.mark.parametrize("path", UNREAD)
def test_an_unread_body_that_has_not_come_is_the_last_one(server: ServerProcess, path: str) -> None:
    with server.connect() as connection:
        connection.send(post(path, "Content-Length: 1000", b"x" * 10))
        reply = connection.reply()
        assert reply.status in (200, 204) and not reply.keeps
        lingers(connection, b"x" * 990)


@pytest.mark.parametrize("path", UNREAD)
def test_the_same_of_a_chunked_one(server: ServerProcess, path: str) -> None:
    with server.connect() as connection:
        connection.send(post(path, "Transfer-Encoding: chunked", b"3\r\nabc\r\n"))
        assert not connection.reply().keeps
        lingers(connection, b"3\r\nabc\r\n0\r\n\r\n")


@pytest.mark.parametrize("path", UNREAD)
@pytest.mark.parametrize(
    ("framing", "body"),
    [
        ("Content-Length: 6", b"abcdef"),
        ("Transfer-Encoding: chunked", b"3\r\nabc\r\n3\r\ndef\r\n0\r\nX: y\r\n\r\n"),
    ],
    ids=["length", "chunked"],
)
def test_one_that_is_there_is_dropped_and_the_next_request_served(
    server: ServerProcess, path: str, framing: str, body: bytes
) -> None:
    with server.connect() as connection:
        connection.send(post(path, framing, body) + b"GET /list HTTP/1.1\r\nHost: t\r\n\r\n")
        assert connection.reply().keeps
        assert connection.reply().text == "list"


@pytest.mark.parametrize(
    ("size", "limit", "keeps"), [(3, 0, False), (500, 500, True), (501, 500, False), (70_000, 500, False)]
)
@pytest.mark.parametrize("chunked", [False, True])
def test_how_much_is_dropped_does_not_depend_on_how_it_came(
    size: int, limit: int, keeps: bool, chunked: bool
) -> None:
    body = b"x" * size
    head = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % size
    wire = b"%x\r\n%s\r\n0\r\n\r\n" % (size, body) if chunked else body
    with ServerProcess(None, "--stream-body", "--drain-limit", str(limit), source=APP) as running:
        with running.connect() as connection:
            connection.send(b"POST /list HTTP/1.1\r\nHost: t\r\n" + head + b"\r\n\r\n" + wire)
            assert connection.reply().keeps == keeps
            if keeps:
                assert connection.get("/read").status == 200


@pytest.mark.parametrize("path", ["/read", "/late"])
def test_one_that_was_read_before_the_answer_keeps_the_connection(server: ServerProcess, path: str) -> None:
    with server.connect() as connection:
        connection.send(post(path, "Content-Length: 6", b"abc"))
        connection.send(b"def")
        reply = connection.reply()
        assert (reply.text, reply.keeps) == ("abcdef", True)
        assert connection.get("/list").text == "list"


def test_an_answer_that_begins_before_the_body_is_there_can_still_read_it(server: ServerProcess) -> None:
    """Both at once: all of it, and it is the last."""
    with server.connect() as connection:
        connection.send(post("/echo", "Content-Length: 100", b"a" * 15))
        assert not connection.silent(10)  # the head is there
        connection.send(b"b" * 85)
        reply = connection.reply()
        assert (reply.body, reply.keeps) == (b"a" * 15 + b"b" * 85, False)
        assert connection.to_end() == (b"", "closed")


def test_what_breaks_the_rules_ends_the_connection(server: ServerProcess) -> None:
    with server.connect() as connection:
        smuggled = b"+3\r\nabc\r\n0\r\n\r\nGET /x HTTP/1.1\r\n"
        connection.send(post("/list", "Transfer-Encoding: chunked", smuggled))
        reply = connection.reply()
        assert (reply.text, reply.keeps) == ("list", False)
        assert connection.to_end() == (b"", "closed")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"+3\r\nabc\r\n0\r\n\r\n", 400),
        (b"3\r\nabcXX0\r\n\r\n", 400),
        (b"3\r\nabc\r\n0\r\nHost: u\r\n\r\n", 400),
        (b"3\r\nabc\r\n7fffffffffffffff\r\n", 413),
    ],
)
@pytest.mark.parametrize("method", ["POST", "HEAD"])
def test_what_breaks_the_rules_while_it_is_read_is_told(
    server: ServerProcess, method: str, body: bytes, status: int
) -> None:
    """Nothing of the answer has left, and the application had its chance to say something else."""
    wire = post("/read", "Transfer-Encoding: chunked", body).replace(b"POST", method.encode())
    for pieces in ([wire], [wire[: -len(body) + 5], wire[-len(body) + 5 :]]):
        with server.connect() as connection:
            for piece in pieces:
                connection.send(piece)
            connection.send(b"GET /list HTTP/1.1\r\nHost: t\r\n\r\n")
            reply = connection.reply(method=method)
            assert (reply.status, reply.keeps) == (status, False)
            assert connection.to_end() == (b"", "closed")


def test_what_comes_too_slowly_while_it_is_read_is_told() -> None:
    with ServerProcess(None, "--stream-body", "--body-timeout", "0.3", source=APP) as server:
        with server.connect() as connection:
            connection.send(post("/read", "Content-Length: 10", b"abc"))
            reply = connection.reply()
            assert (reply.status, reply.keeps) == (408, False)
            assert connection.to_end() == (b"", "closed")
        assert server.get("/list").text == "list"


def test_what_breaks_the_rules_in_mid_answer_looks_cut(server: ServerProcess) -> None:
    with server.connect() as connection:
        connection.send(post("/echo", "Transfer-Encoding: chunked", b"a\r\n0123456789\r\n"))
        assert not connection.silent(10)
        connection.send(b"+3\r\nabc\r\n")
        got, how = connection.to_end()
        assert (got.partition(b"\r\n\r\n")[2], how) == (b"a\r\n0123456789\r\n", "closed")


def test_a_client_that_has_gone_in_the_middle_ends_nothing_else(server: ServerProcess) -> None:
    with server.connect() as connection:
        connection.send(post("/list", "Content-Length: 100", b"abc"))
        connection.half_close()
        assert not connection.reply().keeps
        assert connection.to_end() == (b"", "closed")
    assert server.get("/list").text == "list"
