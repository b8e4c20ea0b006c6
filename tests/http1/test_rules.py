"""The rules one by one: numbers, hosts, codings, Connection, names, targets."""

from __future__ import annotations

import pytest

from threadcorn.errors import ProtocolViolation
from threadcorn.http1 import rules
from threadcorn.http1.lines import read_line


def status(function, *values) -> int:
    try:
        function(*values)
    except ProtocolViolation as violation:
        return violation.status
    return 200


@pytest.mark.parametrize(
    ("value", "number"), [("0", 0), ("5", 5), ("0005", 5), ("1234567890123456789", 1234567890123456789)]
)
def test_lengths(value: str, number: int) -> None:
    assert rules.content_length(value) == number


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "+5",
        "-5",
        "5 ",
        " 5",
        "5\n",
        "5\r\n",
        "0x5",
        "0b1",
        "1_0",
        "5.0",
        "5e1",
        "5,5",
        "5, 5",
        '"5"',
        "inf",
        "nan",
        "None",
        "\xb2",
        "\u0665",
        "\uff15",
        "5\x00",
        "5\x0b",
        "5\xa0",
        "12345678901234567890",
        "0" * 5000 + "5",
    ],
)
def test_no_lengths(value: str) -> None:
    assert status(rules.content_length, value) == 400


@pytest.mark.parametrize(
    "host",
    [
        "t",
        "example.com",
        "EXAMPLE.com:80",
        "a_b",
        "1.2.3.4",
        "1.2.3.4:65535",
        "t:",
        "t:0",
        "t:00080",
        "[::1]",
        "[::1]:8000",
        "[2001:DB8::7]:1",
        "[::ffff:1.2.3.4]",
        "[v1.a:b]",
        "%41.example",
        "a!$&'()*+;=b",
        "xn--caf-dma.fr",
        "localhost.",
        "-",
        "~",
    ],
)
def test_hosts(host: str) -> None:
    assert rules.is_host(host)
    assert host in rules.HOSTS


@pytest.mark.parametrize(
    "host",
    [
        None,
        "",
        " ",
        "t u",
        "t/",
        "t/b",
        "t?q",
        "t#f",
        "u@t",
        "t:8x",
        "t:-1",
        "t:+1",
        "t: 1",
        "t:65536",
        "t:99999",
        "t:100000",
        "t:1:2",
        "::1",
        "[::1",
        "::1]",
        "[]",
        "[::1]x",
        "[:::1]",
        "[1:2]",
        "[::1%eth0]",
        "[fe80::1%25eth0]",
        "[g::1]",
        "[12345::1]",
        "[1.2.3.4]",
        "t,u",
        "t, u",
        "caf\xe9",
        "t\x00",
        "t\n",
        "t\t",
        "%",
        "%4",
        "%4g",
        "a\\b",
        '"t"',
        "<t>",
        "{t}",
        "t|u",
        "t^u",
        "[v.a]",
        "[v1.]",
        ":80",
        ":",
    ],
)
def test_no_hosts(host: str | None) -> None:
    assert not rules.is_host(host)
    assert host not in rules.HOSTS


@pytest.mark.parametrize("value", ["chunked", "Chunked", "CHUNKED"])
def test_the_one_coding(value: str) -> None:
    assert status(rules.transfer_encoding, value) == 200


@pytest.mark.parametrize(
    "value",
    [
        "gzip",
        "x-gzip",
        "identity",
        "xchunked",
        "chunkedx",
        "gzip, chunked",
        "deflate,gzip\t, chunked",
        "cow",
        "'chunked'",
        "chunked.",
    ],
)
def test_codings_of_others(value: str) -> None:
    assert status(rules.transfer_encoding, value) == 501


@pytest.mark.parametrize(
    "value",
    [
        "",
        ",",
        "chunked,",
        ", chunked",
        "chunked, chunked",
        "chunked, gzip",
        "chunked;a=b",
        "chunked ; a",
        '"chunked"',
        "chunked foo",
        "\x0bchunked",
        "chunked\x0c",
        "\xa0chunked",
        "chunked\x85",
        "chunked\n",
        "gzip;q=1, chunked",
        "chunked, CHUNKED, gzip",
    ],
)
def test_no_codings(value: str) -> None:
    assert status(rules.transfer_encoding, value) == 400


@pytest.mark.parametrize(
    ("value", "close", "alive"),
    [
        ("", False, False),
        ("close", True, False),
        ("Close", True, False),
        ("keep-alive", False, True),
        ("Keep-Alive, close", True, True),
        ("te,close,upgrade", True, False),
        (",, ,\tclose\t,", True, False),
        ("closed, not-close, close2", False, False),
        ("close;q=1", False, False),
        ('"close"', False, False),
        ("close\xa0", False, False),
    ],
)
def test_connection(value: str, close: bool, alive: bool) -> None:
    assert rules.learn_connection(value) == (close, alive)
    assert rules.learn_connection(value) == (close, alive)


def test_names() -> None:
    assert rules.key_of("x-forwarded-for") == "HTTP_X_FORWARDED_FOR"
    assert rules.key_of("cOntent-tYpe") == "CONTENT_TYPE"
    assert rules.key_of("Content-Length") == "CONTENT_LENGTH"
    assert rules.key_of("Content-Length2") == "HTTP_CONTENT_LENGTH2"


def test_no_name_that_needs_a_decision_is_ever_remembered() -> None:
    assert not any(b"_" in name or name.lower() == b"proxy" for name in rules.KEYS)
    assert "HTTP_PROXY" not in rules.KEYS.values()


@pytest.mark.parametrize(
    ("path", "decoded"),
    [
        ("/", "/"),
        ("/a%2Fb", "/a/b"),
        ("/a+b", "/a+b"),
        ("/caf%C3%A9", "/caf\xc3\xa9"),
        ("/%ff%FE", "/\xff\xfe"),
        ("/%252e", "/%2e"),
        ("/%", "/%"),
        ("/%4", "/%4"),
        ("/%zz%41", "/%zzA"),
        ("/%00%0d%0a", "/\x00\r\n"),
        ("/%u0041", "/%u0041"),
        ("/%+1", "/%+1"),
        ("/% 1", "/% 1"),
    ],
)
def test_paths_are_decoded_once_to_octets(path: str, decoded: str) -> None:
    assert rules.path_info(path) == decoded


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"", 400),
        (b"GET", 400),
        (b"GET /", 400),
        (b"GET / HTTP/1.1 ", 400),
        (b" GET / HTTP/1.1", 400),
        (b"GET\t/\tHTTP/1.1", 400),
        (b"GET / HTTP/1.1", 200),
        (b"GET / HTTP/1.0", 200),
        (b"GET / HTTP/1.2", 505),
        (b"GET / HTTP/9.9", 505),
        (b"GET / HTTP/1", 400),
        (b"GET / HTTP/11", 400),
        (b"GET / HTTP/1.11", 400),
        (b"GET / HTTP/\xb9.1", 400),
        (b"GET / HTTP/1.1\n", 400),
        (b"get / HTTP/1.1", 501),
        (b"get / HTTP/2.0", 505),
        (b"G@T / HTTP/1.1", 400),
        (b" / HTTP/1.1", 400),
        (b"GET  HTTP/1.1", 400),
        (b"OPTIONS * HTTP/1.1", 200),
        (b"POST * HTTP/1.1", 400),
        (b"CONNECT t:443 HTTP/1.1", 501),
        (b"CONNECT t:443 HTTP/1.0", 501),
        (b"CONNECT u@t:443 HTTP/1.1", 400),
        (b"CONNECT http://t:80 HTTP/1.1", 400),
        (b"GET http://t/ HTTP/1.1", 200),
        (b"GET HTTPS://[::1]:1?x HTTP/1.1", 200),
        (b"GET http://t\xff/ HTTP/1.1", 400),
        (b"GET http:t HTTP/1.1", 400),
        (b"GET http:/t HTTP/1.1", 400),
        (b"GET //t HTTP/1.1", 200),
        (b"GET ?x HTTP/1.1", 400),
        (b"GET \\x HTTP/1.1", 400),
    ],
)
def test_request_lines(line: bytes, expected: int) -> None:
    assert status(read_line, line) == expected
