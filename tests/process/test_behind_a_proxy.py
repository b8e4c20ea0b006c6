"""What a proxy says is believed of those who may say it, and of nobody else. On real servers."""

from __future__ import annotations

import json
from contextlib import ExitStack

import pytest

from tests.kit.server import ServerProcess

SHOW = "tests.kit.apps:show"
HTTP, HTTPS = {"wsgi.url_scheme": "http"}, {"wsgi.url_scheme": "https"}
HERE = {"REMOTE_ADDR": "127.0.0.1"}
CLIENT = {"REMOTE_ADDR": "9.8.7.6"}
STATUS_400 = 400


@pytest.fixture(scope="module")
def servers():
    """One server for each way to be configured."""
    ways = {
        "default": (),
        "distrust": ("--forwarded-allow-ips", "10.9.9.9"),
        "nobody": ("--forwarded-allow-ips", ""),
        "net": ("--forwarded-allow-ips", "127.0.0.0/8", "--forwarded-hops", "1"),
        "hops2": ("--forwarded-hops", "2"),
        "rfc2": ("--forwarded-hops", "2", "--forwarded-source", "forwarded"),
        "rfc": ("--forwarded-hops", "1", "--forwarded-source", "forwarded"),
        "distrust-hops": ("--forwarded-allow-ips", "10.9.9.9", "--forwarded-hops", "1"),
        "names": ("--forwarder-headers", "SCRIPT_NAME,PATH_INFO"),
        "refuse": ("--forwarder-headers", "SCRIPT_NAME", "--header-map", "refuse"),
        "dangerous": ("--forwarder-headers", "SCRIPT_NAME", "--header-map", "dangerous"),
        "distrust-refuse": (
            *("--forwarder-headers", "SCRIPT_NAME", "--header-map", "refuse"),
            *("--forwarded-allow-ips", "10.9.9.9"),
        ),
        "pp": ("--proxy-protocol",),
        "pp1": ("--proxy-protocol", "v1"),
        "pp-stranger": ("--proxy-protocol", "auto", "--proxy-allow-from", "10.9.9.9"),
    }
    started: dict[str, ServerProcess] = {}
    with ExitStack() as stack:

        def server(way: str) -> ServerProcess:
            if way not in started:
                # The option that may stand alone must not take the application for its value.
                options = (*ways[way], "--workers", "1")
                started[way] = stack.enter_context(ServerProcess(SHOW, *options))
            return started[way]

        yield server


TABLE = [
    # configuration, path, fields, what the application must see (or the status)
    ("default", "/", [("X-Forwarded-Proto", "https")], HTTPS),
    ("default", "/", [("X-Forwarded-Proto", "HTTPS")], HTTPS),
    ("default", "/", [("X-Forwarded-Ssl", "on")], HTTPS),
    ("default", "/", [("X-Forwarded-Proto", "http")], HTTP),
    ("default", "/", [("X-Forwarded-Proto", "javascript")], HTTP),
    ("default", "/", [("X-Forwarded-Proto", "https"), ("X-Forwarded-Ssl", "off")], STATUS_400),
    ("default", "/", [("X-Forwarded-Proto", "https"), ("X-Forwarded-Proto", "http")], STATUS_400),
    ("default", "/", [("X_Forwarded_Proto", "https")], HTTP),
    ("default", "/", [("X-Forwarded-For", "9.8.7.6")], HERE),
    ("default", "/", [("Forwarded", "for=9.8.7.6;proto=https")], {**HERE, **HTTP}),
    ("default", "/", [("X-Forwarded-Proto", "https, http")], STATUS_400),
    ("hops2", "/", [("X-Forwarded-Proto", "https, http")], HTTPS),
    ("hops2", "/", [("X-Forwarded-Proto", "https"), ("X-Forwarded-Proto", "http")], HTTPS),
    ("hops2", "/", [("X-Forwarded-Proto", "https, http, http")], HTTP),
    ("hops2", "/", [("X-Forwarded-Proto", "https")], HTTPS),
    ("hops2", "/", [("X-Forwarded-Proto", "https, http"), ("X-Forwarded-Ssl", "off")], STATUS_400),
    ("net", "/", [("X-Forwarded-Proto", "https, http")], HTTP),
    ("rfc", "/", [("X-Forwarded-Proto", "https")], HTTP),
    ("default", "/app/x", [("SCRIPT_NAME", "/app")], {"SCRIPT_NAME": "", "PATH_INFO": "/app/x"}),
    ("names", "/app/x", [("SCRIPT_NAME", "/app")], {"SCRIPT_NAME": "/app", "PATH_INFO": "/x"}),
    ("names", "/app", [("script_name", "/app/")], {"SCRIPT_NAME": "/app", "PATH_INFO": ""}),
    ("names", "/apple", [("SCRIPT_NAME", "/app")], STATUS_400),
    ("names", "/x", [("SCRIPT_NAME", "app")], STATUS_400),
    ("names", "/a", [("SCRIPT_NAME", "/a"), ("SCRIPT_NAME", "/b")], STATUS_400),
    ("default", "/x", [("Script-Name", "/app")], {"SCRIPT_NAME": "", "PATH_INFO": "/x"}),
    ("names", "/x", [("PATH_INFO", "/y")], {"PATH_INFO": "/y"}),
    ("refuse", "/app/x", [("SCRIPT_NAME", "/app")], {"SCRIPT_NAME": "/app", "PATH_INFO": "/x"}),
    ("refuse", "/app/x", [("SCRIPT_NAME", "/app"), ("X_Y", "1")], STATUS_400),
    ("refuse", "/app/x", [("PATH_INFO", "/y")], STATUS_400),
    ("dangerous", "/app/x", [("script_name", "/app")], {"SCRIPT_NAME": "/app", "PATH_INFO": "/x"}),
    ("distrust-refuse", "/app/x", [("SCRIPT_NAME", "/app")], STATUS_400),
    ("distrust-refuse", "/app/x", [("X-Y", "1")], {"SCRIPT_NAME": "", "PATH_INFO": "/app/x"}),
    ("default", "/x", [("REMOTE_ADDR", "1.2.3.4")], {**HERE, "PATH_INFO": "/x"}),
    ("distrust", "/", [("X-Forwarded-Proto", "https")], HTTP),
    ("distrust", "/x", [("SCRIPT_NAME", "/x")], {"SCRIPT_NAME": "", "PATH_INFO": "/x"}),
    ("distrust", "/", [("X-Forwarded-Proto", "https"), ("X-Forwarded-Ssl", "off")], HTTP),
    ("nobody", "/", [("X-Forwarded-Proto", "https")], HTTP),
    ("distrust-hops", "/", [("X-Forwarded-For", "9.8.7.6")], HERE),
    ("net", "/", [("X-Forwarded-For", "9.8.7.6")], CLIENT),
    ("net", "/", [("X-Forwarded-For", "6.6.6.6, 9.8.7.6")], CLIENT),
    ("net", "/", [("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-For", "9.8.7.6")], CLIENT),
    ("net", "/", [("X-Forwarded-For", '"6.6.6.6, 9.8.7.6')], CLIENT),
    ("hops2", "/", [("X-Forwarded-For", '"6.6.6.6, 9.8.7.6, "10.0.0.1')], CLIENT),
    ("net", "/", [("X-Forwarded-For", "9.8.7.6:1234")], {**CLIENT, "REMOTE_PORT": "1234"}),
    ("net", "/", [("X-Forwarded-For", "[2001:db8::1]:9")], {"REMOTE_ADDR": "2001:db8::1"}),
    ("net", "/", [("X-Forwarded-For", "::FFFF:9.8.7.6")], {"REMOTE_ADDR": "::ffff:9.8.7.6"}),
    ("net", "/", [("X-Forwarded-For", "unknown")], HERE),
    ("net", "/", [("X-Forwarded-For", "9.8.7.6<script>")], HERE),
    ("net", "/", [("X-Forwarded-For", "")], HERE),
    ("net", "/", [("X_Forwarded_For", "9.8.7.6")], HERE),
    ("net", "/", [("Forwarded", "for=9.8.7.6")], HERE),
    ("hops2", "/", [("X-Forwarded-For", "6.6.6.6, 9.8.7.6, 10.0.0.1")], CLIENT),
    ("hops2", "/", [("X-Forwarded-For", "6.6.6.6")], HERE),
    ("rfc", "/", [("Forwarded", "for=6.6.6.6, For=9.8.7.6;proto=https")], {**CLIENT, **HTTPS}),
    ("rfc", "/", [("Forwarded", 'for="[2001:db8::1]:47"')], {"REMOTE_ADDR": "2001:db8::1"}),
    ("rfc", "/", [("Forwarded", "for=_hidden")], HERE),
    ("rfc", "/", [("Forwarded", 'for="9.8.7.6:_hidden"')], {"REMOTE_ADDR": "9.8.7.6", "REMOTE_PORT": ""}),
    ("rfc", "/", [("Forwarded", 'for="[2001:db8::1]:_h.1"')], {"REMOTE_ADDR": "2001:db8::1"}),
    ("rfc", "/", [("Forwarded", 'for="9.8.7.6:_"')], HERE),
    ("rfc", "/", [("Forwarded", 'for="6.6.6.6, for=9.8.7.6')], STATUS_400),
    ("rfc", "/", [("Forwarded", "for=9.8.7.6;for=6.6.6.6")], STATUS_400),
    ("rfc2", "/", [("Forwarded", "for=6.6.6.6, for=9.8.7.6, for=10.0.0.1")], CLIENT),
    ("rfc2", "/", [("Forwarded", 'for=6.6.6.6, x=", for=9.8.7.6, for=10.0.0.1')], STATUS_400),
    ("rfc2", "/", [("Forwarded", 'for=6.6.6.6, x=", for="[2001:db8::1]", for=10.0.0.1')], STATUS_400),
    (
        "rfc2",
        "/",
        [("Forwarded", 'x="'), ("Forwarded", "for=9.8.7.6"), ("Forwarded", "for=1.1.1.1")],
        STATUS_400,
    ),
    ("rfc", "/", [("X-Forwarded-For", "6.6.6.6")], HERE),
    ("default", "/x", [("SCRIPT_NAME", "/x")], {"SCRIPT_NAME": "", "PATH_INFO": "/x"}),
]


@pytest.mark.parametrize(("way", "path", "fields", "expected"), TABLE)
def test_spoofing(servers, way, path, fields, expected) -> None:
    """The head whole, and cut in two: both paths through the intake."""
    head = f"GET {path} HTTP/1.1\r\nHost: t\r\n" + "".join(f"{n}: {v}\r\n" for n, v in fields) + "\r\n"
    for cut in (len(head), 20):
        with servers(way).connect() as connection:
            connection.send(head[:cut].encode())
            if cut < len(head):
                assert connection.silent(0.02)
                connection.send(head[cut:].encode())
            reply = connection.reply()
            if expected == STATUS_400:
                assert reply.status == 400
                assert connection.end() == "closed"
                continue
            assert reply.status == 200
            seen = json.loads(reply.body)
            assert {key: seen[key] for key in expected} == expected


GET = b"GET / HTTP/1.1\r\nHost: t\r\n\r\n"
LINE = b"PROXY TCP4 9.8.7.6 127.0.0.1 1111 80\r\n"


@pytest.mark.parametrize("rest", [b"\r\n", b"PATH_INFO: /x\r\nContent-Length: 3\r\n\r\nabc"])
def test_the_server_itself_is_mounted_nowhere(servers, rest) -> None:
    with servers("names").connect() as connection:
        connection.send(b"OPTIONS * HTTP/1.1\r\nHost: t\r\nSCRIPT_NAME: /app\r\n" + rest)
        reply = connection.reply()
        assert (reply.status, reply.body) == (200, b"")
        connection.send(GET)
        assert connection.reply().status == 200


def test_the_announcement_comes_once_and_counts_for_the_whole_connection(servers) -> None:
    with servers("pp").connect() as connection:
        for wire in (LINE + GET, GET):
            connection.send(wire)
            assert json.loads(connection.reply().body)["REMOTE_ADDR"] == "9.8.7.6"
        connection.send(LINE + GET)
        assert connection.reply().status == 400
        assert connection.end() == "closed"


def test_the_announcement_byte_by_byte(servers) -> None:
    with servers("pp1").connect() as connection:
        connection.send_slowly(LINE + GET)
        seen = json.loads(connection.reply().body)
        assert (seen["REMOTE_ADDR"], seen["REMOTE_PORT"]) == ("9.8.7.6", "1111")


def test_trust_is_by_the_peers_own_address(servers) -> None:
    """An announced client address is not a trusted proxy's, and takes no trust away from the proxy."""
    with servers("pp").connect() as connection:
        connection.send(LINE + GET.replace(b"\r\n\r\n", b"\r\nX-Forwarded-Proto: https\r\n\r\n"))
        assert json.loads(connection.reply().body)["wsgi.url_scheme"] == "https"


@pytest.mark.parametrize("way", ["pp", "pp1", "pp-stranger"])
def test_without_an_announcement_nothing_is_served(servers, way) -> None:
    with servers(way).connect() as connection:
        connection.send(GET)
        assert connection.reply().status in (400, 403)
        assert connection.end() == "closed"


def test_a_stranger_may_not_announce(servers) -> None:
    with servers("pp-stranger").connect() as connection:
        connection.send(LINE + GET)
        assert connection.reply().status == 403
        assert connection.end() == "closed"


def test_an_announcement_without_end_is_refused(servers) -> None:
    with servers("pp").connect() as connection:
        connection.send(b"PROXY UNKNOWN " + b"a" * 93)
        assert connection.reply().status == 400


def test_a_unix_peer_is_trusted() -> None:
    with ServerProcess(SHOW, "--forwarded-allow-ips", "", bind="unix") as server:
        reply = server.get("/", headers={"X-Forwarded-Proto": "https"})
        assert json.loads(reply.body)["wsgi.url_scheme"] == "https"
