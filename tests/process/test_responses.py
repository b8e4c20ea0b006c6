"""What applications send, over real sockets: what is checked, what is dropped, what is a 500, what looks cut.

The application is that of tools/catalogue; one server, whose workers must all be the same at the end.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kit import CutShort, Ended, ServerProcess
from tests.kit.client import Reply
from tests.kit.eventually import Deadline, eventually

OK, FAILED = 200, 500


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    tolerate = ("please report", "Exception ignored", "ResourceWarning")
    with ServerProcess("tools.catalogue.app:app", check_descriptors=False, tolerate=tolerate) as running:
        before = running.workers()
        yield running
        assert running.workers() == before


def get(server: ServerProcess, name: str, version: str = "HTTP/1.1", method: str = "GET") -> Reply:
    return server.get(f"/_app/{name}", version=version, method=method)


REFUSED = [
    # status
    "st-short", "st-bytes", "st-int", "st-crlf", "st-99", "st-100", "st-101", "st-600", "st-999",
    # names and values
    "hdr-crlf", "hdr-cr", "hdr-lf", "hdr-nul", "hdr-name", "hdr-colon", "hdr-empty", "hdr-unicode",
    "hdr-bytes", "hdr-int", "hdr-none",
    # lengths
    "cl-two", "cl-minus", "cl-plus", "cl-list", "cl-unicode",
    # blocks, and the order of calls
    "block-str", "block-none", "block-int", "sr-twice", "sr-never", "exc-early",
    # whatever may be raised
    "sysexit", "kbdint", "genexit", "memerr", "stopiter", "valueerr", "recurse",
]  # fmt: skip


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
@pytest.mark.parametrize("name", REFUSED)
def test_is_a_500_and_the_worker_lives(server: ServerProcess, name: str, version: str) -> None:
    pid = get(server, "pid").text
    connection = server.connect()
    connection.request(f"/_app/{name}", version=version)
    reply = connection.reply()
    assert (reply.status, reply.all("Connection")) == (FAILED, ["close"])
    assert "X-Injected" not in {key for key, _ in reply.headers}
    assert "Traceback" not in reply.text
    assert connection.end() == "closed"
    assert get(server, "pid").text == pid


@pytest.mark.parametrize("name", ["sysexit", "hdr-crlf", "valueerr"])
def test_a_500_to_head_has_no_content(server: ServerProcess, name: str) -> None:
    connection = server.connect()
    connection.request(f"/_app/{name}", method="HEAD")
    assert connection.reply(method="HEAD").status == FAILED
    assert connection.end() == "closed"


@pytest.mark.parametrize("name", ["exc-late", "exit-late", "exc-info-late", "exc-late-cl"])
@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
def test_a_failure_half_way_looks_like_one(server: ServerProcess, name: str, version: str) -> None:
    connection = server.connect()
    connection.request(f"/_app/{name}", version=version)
    with pytest.raises(CutShort):
        connection.reply()
    assert server.get("/fresh").status == OK


def test_more_than_the_length_is_not_sent(server: ServerProcess) -> None:
    connection = server.connect()
    connection.request("/_app/cl-short")
    reply = connection.reply()
    assert (reply.body, reply.get("Content-Length")) == (b"hel", "3")
    assert connection.end() == "closed"


def test_less_than_the_length_looks_cut(server: ServerProcess) -> None:
    connection = server.connect()
    connection.request("/_app/cl-long")
    with pytest.raises(CutShort, match="5 of 10"):
        connection.reply()


@pytest.mark.parametrize("name", ["te", "te-cl", "hop"])
def test_what_is_between_two_hops_is_the_servers(server: ServerProcess, name: str) -> None:
    connection = server.connect()
    connection.request(f"/_app/{name}")
    reply = connection.reply()
    assert reply.body == b"hello"
    dropped = {"keep-alive", "te", "trailer", "upgrade", "proxy-authenticate", "connection"}
    assert not dropped & {key.lower() for key, _ in reply.headers}
    assert len(reply.all("Transfer-Encoding")) + len(reply.all("Content-Length")) == 1
    connection.request("/fresh")
    assert connection.reply().status == OK


def test_what_the_application_sets_is_not_doubled(server: ServerProcess) -> None:
    assert get(server, "server").all("Server") == ["mine"]
    assert get(server, "date").all("Date") == ["Thu, 01 Jan 1970 00:00:00 GMT"]
    assert get(server, "one").get("Server") == "threadcorn"  # no version, nothing else


def test_cookies_stay_apart(server: ServerProcess) -> None:
    assert get(server, "cookies").all("Set-Cookie") == ["a=1", "b=2"]


@pytest.mark.parametrize("name", ["204", "205", "304"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_statuses_without_content(server: ServerProcess, name: str, method: str) -> None:
    connection = server.connect()
    connection.request(f"/_app/{name}", method=method)
    reply = connection.reply(method=method)
    assert (reply.status, reply.body, reply.all("Transfer-Encoding")) == (int(name), b"", [])
    assert reply.get("Content-Length") == ("0" if name == "205" else None)
    connection.request("/fresh")
    assert connection.reply().status == OK


@pytest.mark.parametrize("name", ["one", "many", "gen", "empty", "write", "file", "file-seek", "file-like"])
def test_head_has_the_fields_of_get_and_no_content(server: ServerProcess, name: str) -> None:
    connection = server.connect()
    connection.request(f"/_app/{name}", method="HEAD")
    reply = connection.reply(method="HEAD")
    length = reply.get("Content-Length")
    connection.request(f"/_app/{name}")
    whole = connection.reply()
    assert length in (None, whole.get("Content-Length"))
    assert not (reply.all("Transfer-Encoding") and length)


FRAMED = {
    "one": (b"one", Ended.LENGTH, Ended.LENGTH),
    "many": (b"one", Ended.LENGTH, Ended.LENGTH),
    "empty": (b"", Ended.LENGTH, Ended.LENGTH),
    "gen": (b"one", Ended.CHUNKED, Ended.CLOSE),
    "write": (b"abc", Ended.CHUNKED, Ended.CLOSE),
    "file": (b"FILE" * 1000, Ended.LENGTH, Ended.LENGTH),
    "file-seek": (b"FILE" * 999, Ended.LENGTH, Ended.LENGTH),
    "file-like": (b"FILE" * 1000, Ended.CHUNKED, Ended.CLOSE),
}


@pytest.mark.parametrize("name", FRAMED)
def test_framing(server: ServerProcess, name: str) -> None:
    body, new, old = FRAMED[name]
    reply = get(server, name)
    assert (reply.body, reply.ended) == (body, new)
    reply = get(server, name, "HTTP/1.0")
    assert (reply.body, reply.ended, reply.all("Transfer-Encoding")) == (body, old, [])


HANGS = """
import time

def app(environ, start):
    while environ["PATH_INFO"] == "/hangs":
        time.sleep(0.01)
    start("200 OK", [])
    return [b"hello"]
"""


def test_43_the_answer_to_head_at_the_time_limit_has_no_content() -> None:
    with ServerProcess(None, "--request-timeout", "0.5", source=HANGS) as server:
        for method in ("HEAD", "GET"):
            connection = server.connect()
            connection.request("/hangs", method=method)
            assert connection.reply(method=method).status == 504
            assert connection.to_end() == (b"", "closed")
        assert server.get("/").text == "hello"


def test_26_exc_info_replaces_what_has_not_been_sent(server: ServerProcess) -> None:
    reply = get(server, "exc-info")
    assert (reply.status, reply.get("X-First"), reply.get("X-Second")) == (503, None, "1")


def test_37_close_is_called_when_the_iteration_fails(server: ServerProcess) -> None:
    """Also the fault of CVE-2022-23634: what an error leaves open reaches the next request."""
    connection = server.connect()
    connection.request("/_app/close-late")
    port = connection.sock.getsockname()[1]
    with pytest.raises(CutShort):
        connection.reply()
    assert get(server, f"close-count?{port}").text == "1"


def test_37_close_is_called_when_the_client_is_gone(server: ServerProcess) -> None:
    connection = server.connect()
    port = connection.sock.getsockname()[1]
    connection.request("/_app/close-gone")
    assert connection._more(Deadline(10)) is None  # it runs
    connection.reset()

    def closed() -> None:
        """the iterable is closed although nobody reads it"""
        assert get(server, f"close-count?{port}").text == "1"

    eventually(closed)


def test_interim_responses_are_their_own_api(server: ServerProcess) -> None:
    reply = get(server, "hints")
    assert (reply.interim, reply.text) == ([103], "hinted")
    assert get(server, "hints", "HTTP/1.0").interim == []


ARRIVES = """
import os

def app(environ, start):
    start("200 OK", [("Content-Type", "text/plain")])
    def blocks():
        yield b"first"
        while not os.path.exists("go"):
            pass
        yield b"second"
    return blocks()
"""


def test_33_a_block_is_sent_before_the_next_one_is_asked_for() -> None:
    with ServerProcess(source=ARRIVES) as server, server.connect() as connection:
        connection.request("/")
        while b"first" not in connection.buffer:
            assert connection._more(Deadline(10)) is None
        (server.directory / "go").touch()
        assert connection.reply().body == b"firstsecond"
