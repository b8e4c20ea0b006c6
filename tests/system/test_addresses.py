from __future__ import annotations

import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from threadcorn.errors import ConfigError
from threadcorn.system.addresses import (
    DEFAULT_PORT,
    LONGEST_UNIX_PATH,
    Address,
    Kind,
    of_socket,
    parse,
    parse_all,
)


def tcp(host: str, port: int) -> Address:
    return Address(Kind.TCP, host=host, port=port)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8000", tcp("127.0.0.1", 8000)),
        ("127.0.0.1", tcp("127.0.0.1", DEFAULT_PORT)),
        ("LocalHost:80", tcp("localhost", 80)),
        (":8000", tcp("0.0.0.0", 8000)),
        ("", tcp("0.0.0.0", DEFAULT_PORT)),
        ("tcp://app:9000", tcp("app", 9000)),
        ("TCP://app:9000/", tcp("app", 9000)),
        ("[::1]:8000", tcp("::1", 8000)),
        ("[::]", tcp("::", DEFAULT_PORT)),
        ("[fe80::1%lo]:1", tcp("fe80::1%lo", 1)),
        ("tcp://[::1]:8000", tcp("::1", 8000)),
        ("0.0.0.0:0", tcp("0.0.0.0", 0)),
        ("h:65535", tcp("h", 65535)),
        (" 127.0.0.1:8000 ", tcp("127.0.0.1", 8000)),
        ("unix:/run/app.sock", Address(Kind.UNIX, path="/run/app.sock")),
        ("unix:///run/app.sock", Address(Kind.UNIX, path="/run/app.sock")),
        ("unix:app.sock", Address(Kind.UNIX, path="app.sock")),
        ("unix:@name", Address(Kind.UNIX, path="\0name")),
        ("unix:\0name", Address(Kind.UNIX, path="\0name")),
        ("fd://3", Address(Kind.FD, fd=3)),
    ],
)
def test_every_way_to_write_an_address_is_understood(text: str, address: Address) -> None:
    """The forms that gunicorn takes, and [V6]:PORT, mean what they mean there."""
    assert parse(text) == address
    assert parse(address.bind_text) == address


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("8000", "write :8000"),
        ("h:port", "'port' is not a port"),
        ("h:", "'' is not a port"),
        ("h:-1", "'-1' is not a port"),
        ("h:65536", "65536 is above 65535"),
        ("h:99999999999999999999", "is above 65535"),
        ("h:\u0661\u0662", "is not a port"),
        ("h:8 0", "is not a port"),
        ("::1", "write [::1]:8000"),
        ("a:b:c", "more than one colon"),
        ("[::1", "bracket is not closed"),
        ("[::1]8000", "stands after the bracket"),
        ("[localhost]:80", "not an IPv6 address"),
        ("[127.0.0.1]:80", "not an IPv6 address"),
        ("http://h:80", "http:// is not an address to listen at"),
        ("https://h:443", "leave the scheme out, and let the proxy in front speak TLS"),
        ("h:80/path", "has no path"),
        ("/run/app.sock", "unix:PATH"),
        ("a b:80", "is not a host"),
        ("unix:", "there is no path"),
        ("unix:@", "there is no path"),
        ("unix:/a\0b", "NUL"),
        ("unix:/" + "x" * LONGEST_UNIX_PATH, "bytes long"),
        ("fd://", "not the number of a descriptor"),
        ("fd://-1", "not the number of a descriptor"),
        ("fd://x", "not the number of a descriptor"),
        ("fd://99999999999", "not the number of a descriptor"),
    ],
)
def test_a_mistake_says_what_where_and_what_instead(text: str, says: str) -> None:
    """One sentence: the bind string, the fault, and after the semicolon how to write it."""
    with pytest.raises(ConfigError) as caught:
        parse(text)
    (problem,) = caught.value.problems
    assert says in problem
    assert problem.startswith(f"bind {text!r}: ")
    assert "; " in problem


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_a_mistake(text: str) -> None:
    """Nothing but a ConfigError leaves the parser, and what it returns survives the way back."""
    try:
        address = parse(text)
    except ConfigError:
        return
    assert parse(address.bind_text) == address
    assert 0 <= address.port <= 65535


@given(st.ip_addresses(v=6), st.integers(0, 65535))
def test_ipv6_addresses_keep_their_brackets(ip: object, port: int) -> None:
    address = parse(f"[{ip}]:{port}")
    assert (address.host, address.port) == (str(ip), port)
    assert address.name == f"http://[{ip}]:{port}"


def test_all_mistakes_are_told_at_once() -> None:
    """Three wrong addresses of four make three problems, not one a start."""
    with pytest.raises(ConfigError) as caught:
        parse_all(["8000", "127.0.0.1:1", "h:x", "127.0.0.1:1"])
    assert len(caught.value.problems) == 3
    assert "given twice" in caught.value.problems[2]


def test_any_free_port_may_be_asked_for_twice() -> None:
    assert len(parse_all(["127.0.0.1:0", "127.0.0.1:0"])) == 2


def test_ipv4_and_ipv6_wildcards_live_together() -> None:
    """`[::]` gives its IPv4 half up where an IPv4 address asks for the same port, and only there."""
    v4, v6, alone = parse_all(["0.0.0.0:80", "[::]:80", "[::]:81"])
    assert not v4.v6only
    assert v6.v6only
    assert not alone.v6only


def test_names_are_what_a_person_would_type() -> None:
    assert str(parse(":80")) == "http://0.0.0.0:80"
    assert str(parse("unix:@a")) == "unix:@a"
    assert str(parse("fd://7")) == "fd://7"


def test_a_bound_socket_knows_its_address(tmp_path: object) -> None:
    """Port 0 becomes a number, a path and an abstract name come back as they were given."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        assert of_socket(s) == tcp("127.0.0.1", s.getsockname()[1])
    with socket.socket(socket.AF_UNIX) as s:
        path = os.path.join(str(tmp_path), "s")
        s.bind(path)
        assert of_socket(s) == parse(f"unix:{path}")
    with socket.socket(socket.AF_UNIX) as s:
        name = f"threadcorn-test-{os.getpid()}"
        s.bind(b"\0" + name.encode())
        assert of_socket(s) == parse(f"unix:@{name}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        assert of_socket(s).kind is Kind.TCP
    a, b = socket.socketpair()
    with a, b:
        assert of_socket(a).kind is Kind.UNIX


@pytest.mark.parametrize("only", [True, False])
def test_a_bound_ipv6_socket_tells_whether_it_takes_ipv4(only: bool) -> None:
    with socket.socket(socket.AF_INET6) as s:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        s.bind(("::", 0))
        assert of_socket(s).v6only is only
        assert of_socket(s).is_v6
