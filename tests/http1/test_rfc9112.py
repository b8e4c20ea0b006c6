# ruff: noqa: E501 -- a row is a line
"""RFC 9112 (a) and 9110 (b) for an origin server, point by point: the numbers are those of the list that the
server is held to. What the seam decides is a table; what needs a connection is asked of a real server.

Points that are the application's task (42) or that of TLS (38) have no row here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.kit import Ended, ServerProcess
from tests.kit.cases import play, splits

H = b"Host: t\r\n"
NEXT = b"GET /smuggled HTTP/1.1\r\n" + H + b"\r\n"


def get(fields: bytes = b"", line: bytes = b"GET / HTTP/1.1", host: bytes = H) -> bytes:
    return line + b"\r\n" + host + fields + b"\r\n"


def post(fields: bytes, body: bytes = b"", version: bytes = b"1.1") -> bytes:
    return b"POST / HTTP/" + version + b"\r\n" + H + fields + b"\r\n" + body


CHUNKED = b"Transfer-Encoding: chunked\r\n"

#: What comes out: numbers of refusals, "kept" and "last" for requests that are served (and whether the connection
#: stays), "waits".
ROWS: list[tuple[str, bytes, list[int | str]]] = [
    ("01-octets", get(b"X: \xe2\x82\xac\x85\xa0\r\n"), ["kept"]),
    ("02-blank-line-before", b"\r\n" + get(), ["kept"]),
    ("03-bare-line-feed", b"GET / HTTP/1.1\nHost: t\n\n" + NEXT, [400]),
    ("03-bare-carriage-return", get(b"X: a\rb\r\n") + NEXT, [400]),
    ("04-space-before-first-field", get(host=b" Host: t\r\n") + NEXT, [400]),
    ("05-off-the-grammar", b"nonsense\r\n\r\n" + NEXT, [400]),
    ("06-version-case", get(line=b"GET / http/1.1") + NEXT, [400]),
    ("06-version-digits", get(line=b"GET / HTTP/1.10") + NEXT, [400]),
    ("06-other-major", get(line=b"GET / HTTP/2.0") + NEXT, [505]),
    ("07-long-line", get(line=b"GET /" + b"a" * 7980 + b" HTTP/1.1"), ["kept"]),
    ("07-too-long-line", get(line=b"GET /" + b"a" * 9000 + b" HTTP/1.1") + NEXT, [414]),
    ("07-unknown-method", get(line=b"FROB / HTTP/1.1") + NEXT, [501]),
    ("08-space-in-target", get(line=b"GET /a b HTTP/1.1") + NEXT, [400]),
    ("09-no-host", get(host=b"") + NEXT, [400]),
    ("09-two-hosts", get(b"Host: t\r\n") + NEXT, [400]),
    ("09-bad-host", get(host=b"Host: a b\r\n") + NEXT, [400]),
    ("10-absolute-form", get(line=b"GET http://other/x HTTP/1.1"), ["kept"]),
    ("11-authority-form", get(line=b"GET t:80 HTTP/1.1") + NEXT, [400]),
    ("11-asterisk-form", get(line=b"GET * HTTP/1.1") + NEXT, [400]),
    ("12-empty-host", get(line=b"GET http:///x HTTP/1.1") + NEXT, [400]),
    ("12-userinfo", get(line=b"GET http://me@t/ HTTP/1.1") + NEXT, [400]),
    ("14-space-before-colon", get(b"X : a\r\n") + NEXT, [400]),
    ("15-fold", get(b"X: a\r\n b\r\n") + NEXT, [400]),
    ("16-nul", get(b"X: a\x00b\r\n") + NEXT, [400]),
    ("16-other-control", get(b"X: a\x07b\r\n") + NEXT, [400]),
    ("17-whole-head-first", b"GET / HTTP/1.1\r\nConnection: close\r\n" + H, ["waits"]),
    ("18-too-large-field", get(b"X: " + b"a" * 9000 + b"\r\n") + NEXT, [431]),
    ("19-empty-list-elements", get(b"Connection: , ,close, ,\r\n") + NEXT, ["last"]),
    ("20-chunked", post(CHUNKED, b"3\r\nabc\r\n0\r\n\r\n"), ["kept"]),
    ("20-other-coding", post(b"Transfer-Encoding: gzip\r\n") + NEXT, [501]),
    ("22-coding-and-length", post(CHUNKED + b"Content-Length: 5\r\n", b"0\r\n\r\n") + NEXT, [400]),
    ("23-coding-in-1.0", post(CHUNKED, b"0\r\n\r\n", b"1.0") + NEXT, [400]),
    ("25-chunked-not-last", post(b"Transfer-Encoding: chunked, gzip\r\n") + NEXT, [400]),
    ("26-bad-length", post(b"Content-Length: 5x\r\n") + NEXT, [400]),
    ("26-list-of-lengths", post(b"Content-Length: 5, 5\r\n", b"hello") + NEXT, [400]),
    ("27-short-body", post(b"Content-Length: 10\r\n", b"hello"), ["waits"]),
    ("28-huge-length", post(b"Content-Length: 18446744073709551621\r\n", b"hello") + NEXT, [400]),
    ("28-huge-chunk", post(CHUNKED, b"10000000000000005\r\nhello\r\n0\r\n\r\n") + NEXT, [400]),
    ("29-extensions-ignored", post(CHUNKED, b'3;a;b=c;d="e"\r\nabc\r\n0;x\r\n\r\n'), ["kept"]),
    ("29-parameter", post(b"Transfer-Encoding: chunked;a=b\r\n") + NEXT, [400]),
    ("30-trailers-dropped", post(CHUNKED, b"0\r\nX-T: 1\r\n\r\n"), ["kept"]),
    ("31-unsure", post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n") + NEXT, [400]),
    ("32-kept-by-default", get() + get(), ["kept", "kept"]),
    ("32-1.0-is-not", get(line=b"GET / HTTP/1.0") + NEXT, ["last"]),
    ("32-1.0-keep-alive", get(b"Connection: Keep-Alive\r\n", line=b"GET / HTTP/1.0"), ["kept"]),
    ("35-close-anywhere", get(b"Connection: x\r\nConnection: y, CLOSE\r\n") + NEXT, ["last"]),
    ("39-connection-names-length", post(b"Connection: Content-Length\r\nContent-Length: 3\r\n", b"abc"), ["kept"]),
    ("40-upgrade-ignored", get(b"Connection: upgrade\r\nUpgrade: h2c\r\n") + get(), ["kept", "kept"]),
    ("41-http2-preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [505]),
    ("44-connect-without-port", get(line=b"CONNECT t HTTP/1.1") + NEXT, [400]),
    ("44-connect", get(line=b"CONNECT t:80 HTTP/1.1") + NEXT, [501]),
    ("46-other-expectation", post(b"Expect: tea\r\nContent-Length: 1\r\n", b"a") + NEXT, [417]),
    ("46-ignored-in-1.0", post(b"Expect: tea\r\nContent-Length: 1\r\n", b"a", b"1.0"), ["last"]),
]  # fmt: skip


@pytest.mark.parametrize(("wire", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_point(wire: bytes, expected: list[int | str]) -> None:
    outcomes = play([wire])
    got = [item.refused or ("waits" if item.waits else "kept" if item.keep else "last") for item in outcomes]
    assert got == expected + (["waits"] if expected[-1] == "kept" else [])
    assert all(item.environ.get("PATH_INFO") != "/smuggled" for item in outcomes)
    if len(wire) < 200:
        assert all(play(pieces) == outcomes for pieces in splits(wire))


def test_10_host_of_an_absolute_target_wins() -> None:
    assert play([get(line=b"GET http://other/x HTTP/1.1")])[0].environ["HTTP_HOST"] == "other"


def test_30_trailers_reach_nobody() -> None:
    outcome = play([post(CHUNKED, b"3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n")])[0]
    assert "HTTP_X_T" not in outcome.environ
    assert outcome.body == b"abc"


APP = """
def app(environ, start):
    path = environ["PATH_INFO"]
    if path == "/stream":
        start("200 ", [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
        return iter([b"a", b"b"])
    if path == "/205":
        start("205 Reset Content", [])
        return [b"content"]
    if path == "/204":
        start("204 No Content", [("Transfer-Encoding", "chunked"), ("Content-Length", "3")])
        return [b"abc"]
    body = environ["wsgi.input"].read(1) if path == "/one" else path.encode()
    start("200 OK", [("Content-Type", "text/plain")])
    return [body]
"""


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess(source=APP, check_descriptors=False) as running:
        yield running


def test_13_17_50_status_line_and_cookies(server: ServerProcess) -> None:
    connection = server.connect()
    connection.request("/stream")
    reply = connection.reply()
    assert (reply.status, reply.reason, reply.all("Set-Cookie")) == (200, "", ["a=1", "b=2"])


def test_21_24_no_framing_where_there_is_no_content(server: ServerProcess) -> None:
    reply = server.get("/204")
    assert not {"Transfer-Encoding", "Content-Length"} & {name for name, _ in reply.headers}


def test_23_47_nothing_of_1_1_for_1_0(server: ServerProcess) -> None:
    reply = server.get("/stream", version="HTTP/1.0")
    assert (reply.ended, reply.all("Transfer-Encoding")) == (Ended.CLOSE, [])
    fields = {"Expect": "100-continue"}
    assert server.get("/", version="HTTP/1.0", method="POST", headers=fields, body=b"abc").interim == []


def test_27_a_short_body_is_not_served(server: ServerProcess) -> None:
    connection = server.connect()
    connection.send(post(b"Content-Length: 10\r\n", b"hello"))
    connection.half_close()
    assert connection.end() == "closed"


def test_33_34_bodies_are_read_and_answers_are_in_order(server: ServerProcess) -> None:
    connection = server.connect()
    connection.send(post(b"Content-Length: 3\r\n", b"abc").replace(b" / ", b" /one "))
    connection.send(b"".join(get(line=b"GET /%d HTTP/1.1" % number) for number in range(200)))
    assert connection.reply().text == "a"
    assert [connection.reply().text for _ in range(200)] == [f"/{number}" for number in range(200)]


def test_35_36_the_last_response_is_read_whole(server: ServerProcess) -> None:
    """What the client still sends must not become a reset that takes the answer away."""
    connection = server.connect()
    connection.send(b"GET / HTTP/9.9\r\n\r\n" + b"x" * 200_000)
    reply = connection.reply()
    assert (reply.status, reply.get("Connection")) == (505, "close")
    assert connection.end() == "closed"


def test_37_half_closed_clients_are_answered(server: ServerProcess) -> None:
    connection = server.connect()
    connection.send(get(line=b"GET /a HTTP/1.1") + get(line=b"GET /b HTTP/1.1"))
    connection.half_close()
    assert [connection.reply().text, connection.reply().text] == ["/a", "/b"]
    assert connection.end() == "closed"


def test_43_head_has_no_content_also_when_it_is_refused(server: ServerProcess) -> None:
    assert server.get("/x", method="HEAD").get("Content-Length") == "2"
    connection = server.connect()
    connection.send(b"HEAD / HTTP/1.1\r\n\r\n")
    assert connection.reply(method="HEAD").status == 400
    assert connection.end() == "closed"


def test_45_options_of_the_server_and_no_trace(server: ServerProcess) -> None:
    connection = server.connect()
    assert connection.get("*", method="OPTIONS").body == b""
    assert connection.get("*", method="OPTIONS", body=b"abc").body == b""
    assert "secret" not in connection.get("/t", method="TRACE", headers={"Cookie": "secret"}).text


def test_48_49_date_and_205(server: ServerProcess) -> None:
    date = r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT"
    for path in ("/", "/205"):
        assert re.fullmatch(date, server.get(path).get("Date") or "")
    assert server.get("/205").body == b""
    connection = server.connect()
    connection.send(b"x\r\n\r\n")
    assert re.fullmatch(date, connection.reply().get("Date") or "")
    assert connection.end() == "closed"
