"""What is read, and in which order: on real servers."""

from __future__ import annotations

import pytest

from tests.kit.server import ServerProcess

APP = """
def app(environ, start):
    size = len(environ["wsgi.input"].read())
    body = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']} {size};".encode()
    start("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: t\r\n\r\n"


@pytest.mark.parametrize(
    "first",
    [
        b"GET /well HTTP/1.1\r\nHost: t\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: t\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\n\r\nabc",
        b"OPTIONS * HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ],
    ids=["health", "options", "options-length", "options-chunked"],
)
def test_what_came_behind_an_answer_of_the_servers_own_comes_next(first: bytes) -> None:
    """More than one look takes from the socket. The rest of it was read as if nothing had come before: bytes
    from the middle of a body were taken for a request."""
    body = HIDDEN * 6000
    post = b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    last = b"GET /last HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"
    with ServerProcess(None, "--health-path", "/well", source=APP) as server:
        # A blank line in front: it is not a head in one piece.
        connection = server.connect()
        connection.send(b"\r\n" + first + post + last)
        assert connection.reply().status == 200
        assert connection.reply().text == f"POST / {len(body)};"
        assert connection.reply().text == "GET /last 0;"
        assert connection.end() == "closed"


@pytest.mark.parametrize("blank", [b"\r", b"\r\n", b"\r\n\r\n"])
def test_blank_lines_behind_a_request_are_not_answered(blank: bytes) -> None:
    """Old clients send one behind a body. The 408 for it would be the answer to their next request."""
    with ServerProcess(None, "--header-timeout", "0.5", source=APP) as server:
        connection = server.connect()
        connection.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\nab" + blank)
        assert connection.reply().text == "POST / 2;"
        assert connection.to_end() == (b"", "closed")
        # What has begun is still told.
        connection = server.connect()
        connection.send(blank + (b"\n" if blank == b"\r" else b"") + b"G")
        assert connection.reply().status == 408
