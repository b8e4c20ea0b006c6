"""What a person may write, what it means, and what is said about the rest."""

from __future__ import annotations

import functools
import grp
import math
import os
import pathlib
import pwd

import pytest
from hypothesis import given
from hypothesis import strategies as st

from threadcorn.settings import ROWS
from threadcorn.settings.values import parse_value


@pytest.mark.parametrize(
    ("name", "written", "value"),
    [
        ("timeout", "30", 30.0),
        ("timeout", "30s", 30.0),
        ("timeout", " 5m ", 300.0),
        ("timeout", "5 m", 300.0),
        ("timeout", "1.5h", 5400.0),
        ("timeout", ".5", 0.5),
        ("timeout", "500ms", 0.5),
        ("timeout", "1D", 86400.0),
        ("timeout", 30, 30.0),
        ("max_body_size", "65536", 65536),
        ("max_body_size", "64k", 65536),
        ("max_body_size", "64KB", 65536),
        ("max_body_size", "1m", 1 << 20),
        ("max_body_size", "1.5g", 3 << 29),
        ("max_body_size", 12, 12),
        ("workers", "4", 4),
        ("workers", "AUTO", "auto"),
        ("workers", 4.0, 4),
        ("backlog", "+7", 7),
        ("sendfile", "no", False),
        ("sendfile", "Off", False),
        ("sendfile", None, True),
        ("daemon", None, False),
        ("statsd_prefix", None, ""),
        ("header_map", "Refuse", "refuse"),
        ("memory_measure", "PSS", "pss"),
        ("forwarded_source", "X-Forwarded-For", "x-forwarded-for"),
        ("backlog", 100_000, 100_000),
        ("daemon", "y", True),
        ("daemon", 1, True),
        ("accesslog", None, None),
        ("accesslog", "", None),
        ("accesslog", pathlib.Path("/tmp/x"), "/tmp/x"),
        ("bind", "a:1, b:2", ("a:1", "b:2")),
        ("bind", ["a:1", "b:2,c:3"], ("a:1", "b:2", "c:3")),
        ("raw_env", {"A": "1"}, ("A=1",)),
        ("raw_env", ["A=1,2", "B="], ("A=1,2", "B=")),
        ("umask", "022", 0o22),
        ("umask", "0o22", 0o22),
        ("umask", "18", 0o22),
        ("umask", "0", 0),
        ("umask", 0o22, 0o22),
        ("statsd_host", "[::1]:8126", "[::1]:8126"),
        ("statsd_host", "unix:///run/s", "unix:///run/s"),
        ("user", None, None),
        ("user", "0", 0),
        ("ready_fd", "", None),
        ("logconfig_dict", None, {}),
    ],
)
def test_means(name: str, written: object, value: object) -> None:
    parsed = parse_value(ROWS[name], written)
    assert parsed == value and type(parsed) is type(value)


@pytest.mark.parametrize(
    ("name", "written", "said"),
    [
        ("timeout", "soon", "expected a time like 30, 30s, 500ms or 5m, got 'soon'"),
        ("timeout", "-1", "must be at least 0 seconds, got -1"),
        ("timeout", -1, "must be at least 0 seconds, got -1"),
        ("timeout", True, "expected a time"),
        ("timeout", "inf", "expected a time"),
        ("timeout", math.inf, "finite"),
        ("timeout", math.nan, "finite"),
        ("timeout", "٣", "expected a time"),
        ("header_timeout", 0, "must be at least 0.01 seconds, got 0"),
        ("max_body_size", "1x", "expected a size like 65536, 64k or 1m, got '1x'"),
        ("max_body_size", "0.3", "expected a size"),
        ("max_body_size", 1.5, "expected a size"),
        ("workers", "", "expected a whole number or 'auto', got ''"),
        ("workers", 0, "must be at least 1, got 0"),
        ("workers", True, "expected a whole number"),
        ("workers", "٣", "expected a whole number"),
        ("workers", 2.5, "expected a whole number"),
        ("limit_request_head", "100m", "must be at most 16777216 bytes, got 104857600"),
        ("backlog", 2**31, "must be at most 2147483647 connections, got 2147483648"),
        ("daemon", "maybe", "expected true or false, got 'maybe'"),
        ("daemon", 4, "expected true or false"),
        ("accesslog", 5, "expected text, got 5"),
        ("accesslog", "a\0b", "a zero byte"),
        ("bind", [], "expected at least one address"),
        ("bind", [1], "expected text or a list of texts"),
        ("header_map", "keep", "expected one of drop, refuse, dangerous, got 'keep'"),
        ("loglevel", "loud", "expected one of debug, info"),
        ("umask", "0o8", "expected a file mode"),
        ("umask", "999", "at most 0o777, got '999'"),
        ("max_body_size", "-1k", "must be at least 0 bytes, got -1024"),
        ("health_path", "healthz", "begins with a slash, got 'healthz'"),
        ("health_path", "/up?now", "a path has no query and no fragment, got '/up?now'"),
        ("health_path", "/up#now", "a path has no query and no fragment"),
        ("probe_paths", "/up,down", "begins with a slash, got 'down'"),
        ("forwarder_headers", "REMOTE_USER", "send REMOTE-USER, which arrives as HTTP_REMOTE_USER"),
        ("statsd_host", "a:b:c", "expected HOST:PORT or unix:PATH, got 'a:b:c'"),
        ("statsd_host", "localhost:99999", "expected HOST:PORT"),
        ("user", "no-such-user", "this machine knows no user named 'no-such-user'"),
        ("group", "no-such-group", "this machine knows no group named"),
        ("group", -1, "must be at least 0"),
        ("user", "99999999999", "must be at most 4294967294, got 99999999999"),
        ("group", 2**32 - 1, "must be at most 4294967294, got 4294967295"),
        ("logconfig_dict", [1], "expected a dict"),
        ("pre_fork", 5, "expected a function, got 5"),
        ("pre_fork", "nodots", "expected a function or its dotted name"),
        ("pre_fork", "os.nothing_like_it", "cannot import 'os.nothing_like_it'"),
        ("pre_fork", lambda server: None, "the function must take 2 arguments, this is <lambda>(server)"),
        ("on_exit", lambda: None, "the function must take 1 argument, "),
        ("post_request", lambda worker: None, "must take 4 arguments"),
    ],
)
def test_refuses_and_says_what_it_expected(name: str, written: object, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_value(ROWS[name], written)
    assert said in str(caught.value)


def test_a_wrong_assignment_is_not_shown_with_what_may_be_a_secret() -> None:
    with pytest.raises(ValueError) as caught:
        parse_value(ROWS["raw_env"], ["=hunter2"])
    assert "hunter2" not in str(caught.value)


def test_users_and_groups_are_known_by_name() -> None:
    me, mine = pwd.getpwuid(os.getuid()), grp.getgrgid(os.getgid())
    assert parse_value(ROWS["user"], me.pw_name) == me.pw_uid
    assert parse_value(ROWS["group"], mine.gr_name) == mine.gr_gid


def test_hooks_are_taken_as_they_are_and_by_dotted_name() -> None:
    def hook(server: object, worker: object) -> None:
        """Two arguments, as pre_fork has."""

    partial = functools.partial(lambda extra, server, worker: None, 1)
    assert parse_value(ROWS["pre_fork"], hook) is hook
    assert parse_value(ROWS["pre_fork"], partial) is partial
    assert parse_value(ROWS["pre_fork"], "os.path.join") is os.path.join
    assert parse_value(ROWS["on_exit"], print) is print
    assert parse_value(ROWS["pre_fork"], None) is None


def test_post_request_may_take_fewer_arguments() -> None:
    calls: list[tuple[object, ...]] = []
    two = parse_value(ROWS["post_request"], lambda worker, req: calls.append((worker, req)))
    three = parse_value(
        ROWS["post_request"], lambda worker, req, environ: calls.append((worker, req, environ))
    )
    two(1, 2, 3, 4)
    three(1, 2, 3, 4)
    assert calls == [(1, 2), (1, 2, 3)]


@given(st.floats(0, 1e9))
def test_seconds_as_text_and_as_number_are_the_same(number: float) -> None:
    text = f"{number:.6f}"
    assert parse_value(ROWS["timeout"], text) == parse_value(ROWS["timeout"], float(text))


@given(st.text())
def test_any_text_is_a_value_or_a_value_error(text: str) -> None:
    for name in ("timeout", "max_body_size", "workers", "daemon", "umask", "user", "raw_env", "bind"):
        try:
            parse_value(ROWS[name], text)
        except ValueError:
            pass
