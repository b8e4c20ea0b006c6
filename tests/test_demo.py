from __future__ import annotations

import io
import json
import re
from html.parser import HTMLParser
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from threadcorn import demo


class Answer:
    """What the application answered to one request, validated by wsgiref."""

    def __init__(self, path: str, query: str = "", method: str = "GET", body: bytes = b"", **headers: str):
        environ = {
            "SCRIPT_NAME": "",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": method,
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": io.BytesIO(body),
            "REMOTE_ADDR": "192.0.2.7",
            **headers,
        }
        setup_testing_defaults(environ)
        self.headers: dict[str, str] = {}

        def start(status, headers, exc_info=None):
            self.status = status
            self.headers = dict(headers)
            return lambda data: None

        result = validator(demo.app)(environ, start)
        self.body = b"".join(result)
        result.close()


class Page(HTMLParser):
    """Addresses and element names of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.links += [value for name, value in attrs if name in ("href", "src", "action") and value]


def test_the_page_shows_the_request_and_the_server():
    answer = Answer("/", "x=1", HTTP_X_TEST="hello", SERVER_PROTOCOL="HTTP/1.1")
    assert answer.status == "200 OK"
    text = answer.body.decode()
    for piece in ("GET", "/?x=1", "HTTP/1.1", "X-Test", "hello", "192.0.2.7", "wsgi.multithread", "Thread"):
        assert piece in text


def test_the_page_needs_nothing_from_anywhere_and_runs_no_script():
    answer = Answer("/")
    page = Page(answer.body.decode())
    assert page.links
    assert all(link.startswith("/") or link == "data:," for link in page.links)
    assert "script" not in page.tags
    assert "url(" not in answer.body.decode()
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")


@pytest.mark.parametrize("place", ["PATH", "QUERY", "HTTP_X_A", "REQUEST_METHOD", "HTTP_<B>"])
def test_nothing_from_the_client_becomes_part_of_the_page(place):
    evil = "<script>alert('\"&')</script>"
    given = {"PATH": ("/", ""), "QUERY": ("/", evil)}.get(place, ("/", ""))
    more = {} if place in ("PATH", "QUERY") else {place: evil}
    if place == "REQUEST_METHOD":
        environ = {"REQUEST_METHOD": evil, "PATH_INFO": "/"}
        setup_testing_defaults(environ)
        body = b"".join(demo.app(environ, lambda *_: None))
    elif place == "PATH":
        body = Answer(f"/{evil}").body
        assert Answer(f"/{evil}").headers["Content-Type"].startswith("text/plain")
        return
    else:
        body = Answer(*given, **more).body
    assert b"<script" not in body.lower()


def test_text_is_shown_as_it_was_typed():
    """WSGI hands UTF-8 out as latin-1."""
    assert "café" in Answer("/", HTTP_X_NAME="caf\xc3\xa9").body.decode()


def test_a_long_value_is_cut():
    answer = Answer("/", HTTP_X_LONG="y" * 100_000)
    assert len(answer.body) < 20_000
    assert "(100000 characters)" in answer.body.decode()


def test_json_has_the_same():
    answer = Answer("/json", "q=%22", HTTP_X_TEST='"quoted"')
    seen = json.loads(answer.body)
    assert seen["Request"]["Query"] == "q=%22"
    assert seen["Headers"]["X-Test"] == '"quoted"'
    assert re.fullmatch(r"process \d+", seen["Server"]["Worker"])


def test_requests_are_counted():
    first, second = (json.loads(Answer("/json").body)["Server"]["Requests"] for _ in range(2))
    assert int(second.split()[0]) == int(first.split()[0]) + 1


def test_text_is_short():
    assert Answer("/text").body == b"Hello from threadcorn.\n"


def test_a_stream_has_no_length_and_all_its_lines():
    answer = Answer("/stream", "lines=3&ms=0")
    assert "Content-Length" not in answer.headers
    assert [line.split(b",")[0] for line in answer.body.splitlines()] == [
        b"line 1 of 3",
        b"line 2 of 3",
        b"line 3 of 3",
    ]


@pytest.mark.parametrize(
    ("query", "lines"),
    [("lines=0&ms=0", 0), ("lines=-4&ms=0", 0), ("lines=9999999999999&ms=0", 1000), ("lines=x&ms=0", 20)],
)
def test_numbers_of_a_query_are_bounded(query, lines):
    assert Answer("/stream", query).body.count(b"\n") == lines


def test_sleep_says_what_it_did():
    assert Answer("/sleep", "ms=1").body.startswith(b"Slept 1 ms in thread ")


def test_echo_gives_the_body_back_as_text():
    answer = Answer("/echo", method="POST", body=b"<b>bold</b>")
    assert answer.body == b"<b>bold</b>"
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_echo_is_bounded():
    assert Answer("/echo", method="POST", body=b"x" * demo.MAX_ECHO).status == "200 OK"
    assert Answer("/echo", method="POST", body=b"x" * (demo.MAX_ECHO + 1)).status == "413 Content Too Large"


def test_echo_wants_a_post():
    answer = Answer("/echo")
    assert answer.status == "405 Method Not Allowed"
    assert answer.headers["Allow"] == "POST, PUT"


def test_another_path_is_not_found():
    assert Answer("/nothing").status == "404 Not Found"
