from __future__ import annotations

import base64
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from threadcorn.accessformat import ATOMS, JSON_DEFAULT, Stamp, Timings, compile_json, compile_text, one_atom
from threadcorn.errors import ConfigError
from threadcorn.settings.table import ACCESS_LOG_FORMAT

STAMP = Stamp(0, "[24/Nov/2026:02:33:07 +0100]", "2026-11-24T02:33:07", "+01:00")
ENVIRON = {
    "REMOTE_ADDR": "192.0.2.7",
    "REQUEST_METHOD": "GET",
    "RAW_URI": "/a%20b?x=1",
    "PATH_INFO": "/a b",
    "QUERY_STRING": "x=1",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "HTTP_REFERER": "https://example.org/",
    "HTTP_USER_AGENT": "curl/8",
    "HTTP_X_REQUEST_ID": "id-1",
    "CONTENT_TYPE": "text/plain",
    "wsgi.url_scheme": "http",
    "wsgi.input": object(),
    "wsgi.multithread": True,
}
HEADERS = [("Content-Type", "text/html"), ("Set-Cookie", "a=1"), ("set-cookie", "b=2")]


def pid() -> int:
    return 4711


def text(format_: str, environ: dict | None = None, **more: object) -> str:
    values = {
        "status": "200 OK",
        "headers": HEADERS,
        "sent": 13,
        "duration": 1.234567,
        "timings": None,
        **more,
    }
    line = compile_text(format_, pid)(
        {**ENVIRON, **(environ or {})},
        values["status"],
        values["headers"],
        values["sent"],
        STAMP,
        1000.25,
        values["duration"],
        values["timings"],
    )
    assert line.endswith(b"\n")
    return line[:-1].decode()


def members(format_: str, environ: dict | None = None) -> dict:
    line = compile_json(format_, pid)(
        {**ENVIRON, **(environ or {})}, "200 OK", HEADERS, 13, STAMP, 1000.25, 1.234567, None
    )
    assert line.count(b"\n") == 1
    assert line.isascii()
    return json.loads(line)


def basic(user: str) -> dict:
    return {"HTTP_AUTHORIZATION": "Basic " + base64.b64encode(f"{user}:secret".encode()).decode()}


def test_gunicorns_default_format():
    """The combined format, as every log analyser knows it."""
    assert text(ACCESS_LOG_FORMAT, basic("joe")) == (
        '192.0.2.7 - joe [24/Nov/2026:02:33:07 +0100] "GET /a%20b?x=1 HTTP/1.1" 200 13 '
        '"https://example.org/" "curl/8"'
    )


@pytest.mark.parametrize(
    ("atom", "value"),
    [
        ("h", "192.0.2.7"),
        ("l", "-"),
        ("u", "-"),
        ("t", "[24/Nov/2026:02:33:07 +0100]"),
        ("r", "GET /a%20b?x=1 HTTP/1.1"),
        ("s", "200"),
        ("m", "GET"),
        ("U", "/a b"),
        ("q", "x=1"),
        ("H", "HTTP/1.1"),
        ("b", "13"),
        ("B", "13"),
        ("f", "https://example.org/"),
        ("a", "curl/8"),
        ("T", "1"),
        ("M", "1234"),
        ("D", "1234567"),
        ("L", "1.234567"),
        ("p", "<4711>"),
        ("{x-request-id}i", "id-1"),
        ("{X-Request-ID}i", "id-1"),
        ("{content-type}i", "text/plain"),
        ("{missing}i", "-"),
        ("{content-type}o", "text/html"),
        ("{Set-Cookie}o", "a=1, b=2"),
        ("{missing}o", "-"),
        ("{wsgi.url_scheme}e", "http"),
        ("{remote_addr}e", "192.0.2.7"),
        ("{wsgi.multithread}e", "True"),
        ("{wsgi.input}e", "<object>"),
        ("{MISSING}e", "-"),
        ("{waited}t", "-"),
    ],
)
def test_each_atom(atom, value):
    """An atom in a format, and the same atom for a formatter that reads record.args."""
    assert text(f"%({atom})s") == value
    build = one_atom(atom, pid)
    assert build is not None
    assert str(build(ENVIRON, "200 OK", HEADERS, 13, STAMP, 1000.25, 1.234567, None)) == value


def test_the_table_has_gunicorns_atoms():
    assert set(ATOMS) == set("hlutrsmUqHbBfaTMDLp")


def test_timings_where_the_server_measured_them():
    assert text("%({waited}t)s %({ran}t)s", timings=Timings(0.00025, 1.5)) == "0.000250 1.500000"


def test_widths_numbers_and_percent_signs():
    assert text("[%(m)6s|%(m)-6s|%(D)09d|100%%]") == "[   GET|GET   |001234567|100%]"


def test_braces_quotes_and_backslashes_of_the_format_stay():
    """The format becomes Python source; its own text must not."""
    assert text("{%(m)s} {{x}} '%(s)s' \"%(b)s\" \\ {0} '''") == "{GET} {{x}} '200' \"13\" \\ {0} '''"
    assert text("%(m)s\té") == "GET\té"


def test_an_environ_with_nothing_in_it_gives_dashes():
    """A request that failed before there was an environ."""
    line = compile_text(ACCESS_LOG_FORMAT, pid)({}, "400 Bad Request", [], 0, STAMP, 0.0, 0.0, None)
    assert line == b'- - - [24/Nov/2026:02:33:07 +0100] "- - -" 400 0 "-" "-"\n'


def test_without_a_raw_target_it_is_put_together():
    assert text("%(r)s", {"RAW_URI": "", "SCRIPT_NAME": "/app"}) == "GET /app/a b?x=1 HTTP/1.1"


def test_what_a_client_sends_cannot_end_a_line_or_a_field():
    assert text('"%(a)s"', {"HTTP_USER_AGENT": 'x"\r\n\\\x00\x1b\x7f\xe9'}) == (
        '"x\\x22\\x0D\\x0A\\x5C\\x00\\x1B\\x7F\\xE9"'
    )


def test_an_environ_variable_beyond_latin_1_is_escaped():
    assert text("%({note}e)s", {"note": "\u2028\U0001f600\ud800"}) == "\\u2028\\U0001F600\\uD800"


def test_a_user_name_cannot_add_a_column():
    """It is the only free text that stands in the default format without quotes."""
    assert text("%(u)s", basic("a b")) == "a\\x20b"
    assert text("%(u)s", basic('a "b')) == "a\\x20\\x22b"


@pytest.mark.parametrize("header", ["Basic", "Basic !", "Bearer abc", "Basic \xff", "basic"])
def test_an_authorization_that_is_not_basic_names_nobody(header):
    assert text("%(u)s", {"HTTP_AUTHORIZATION": header}) == "-"


# One value per quoted field; what stands between the quotes can be told from what surrounds it.
QUOTED = '%(h)s "%(r)s" "%(f)s" "%(a)s" "%({x-request-id}i)s"'
SHAPE = re.compile(r'[^" ]+ "([^"]*)" "([^"]*)" "([^"]*)" "([^"]*)"')
ANY = st.text(max_size=40)


@given(ANY, ANY, ANY)
def test_whatever_the_values_a_line_has_its_shape(target, agent, name):
    """Printable ASCII, one line, as many quotes as the format, and every value can be read back."""
    line = text(QUOTED, {"RAW_URI": target, "HTTP_USER_AGENT": agent, "HTTP_X_REQUEST_ID": name})
    assert line.isascii()
    assert line.isprintable()
    match = SHAPE.fullmatch(line)
    assert match is not None
    for value, shown in ((agent, match[3]), (name, match[4])):
        back = re.sub(r"\\(?:x(..)|u(....)|U(.{8}))", lambda m: chr(int(m[1] or m[2] or m[3], 16)), shown)
        assert back == (value or "-")


@given(ANY)
def test_the_fast_way_and_the_thorough_way_agree(agent):
    """A tab in the format sets nothing aside: harmless values look the same with and without it."""
    environ = {"HTTP_USER_AGENT": agent}
    assert text("%(a)s\t%(m)s", environ).replace("\t", " ") == text("%(a)s %(m)s", environ)


def test_json_has_the_default_members():
    assert members(JSON_DEFAULT, basic("joe")) == {
        "time": "2026-11-24T02:33:07.250+01:00",
        "remote_addr": "192.0.2.7",
        "user": "joe",
        "method": "GET",
        "path": "/a b",
        "query": "x=1",
        "protocol": "HTTP/1.1",
        "status": 200,
        "bytes": 13,
        "duration_us": 1234567,
        "referer": "https://example.org/",
        "user_agent": "curl/8",
        "pid": 4711,
        "request.host": None,
    }


def test_json_members_are_those_of_the_format():
    assert members("%(m)s %(L)s %(l)s %({X-Request-ID}i)s %({set-cookie}o)s %({wsgi.url_scheme}e)s") == {
        "method": "GET",
        "duration": 1.234567,
        "logname": None,
        "request.x-request-id": "id-1",
        "response.set-cookie": "a=1, b=2",
        "environ.wsgi.url_scheme": "http",
    }


def test_json_shows_utf_8_as_people_typed_it():
    """PEP 3333 hands it out as latin-1; bytes that are no UTF-8 stay what they are."""
    assert members("%(U)s", {"PATH_INFO": "/caf\xc3\xa9"}) == {"path": "/café"}
    assert members("%(U)s", {"PATH_INFO": "/caf\xe9"}) == {"path": "/café"}


@given(ANY)
def test_json_is_never_broken(agent):
    assert members("%(m)s %(a)s", {"HTTP_USER_AGENT": agent})["method"] == "GET"


def test_json_keys_with_odd_names_are_quoted():
    assert members("%({a\"b}e)s %({a'b\\}e)s", {'a"b': "1", "a'b\\": "2"}) == {
        'environ.a"b': "1",
        "environ.a'b\\": "2",
    }


@pytest.mark.parametrize(
    ("format_", "said"),
    [
        ("%(x)s", "%(x)s is unknown; the atoms are h l u t"),
        ("%(methode)s", "did you mean %(m)s, request method?"),
        ("%({x}z)s", "write {name}i for a request header"),
        ("%({}i)s", "write {name}i"),
        ("%({elapsed}t)s", "is unknown; the times are {waited}t, {ran}t, {accept}t, {cpu}t, {write}t"),
        ("%h %u", "'%h %u' is no directive; write %(h)s"),
        ("100%", "is no directive"),
        ("%(h)d", "%(h)d does not fit; write %(h)s"),
        ("%(D)r", "%(D)r does not fit; write %(D)s"),
        ("plain", "has no directive"),
        ("", "has no directive"),
        ("%(h)s\n%(m)s", "a format is one line"),
    ],
)
def test_a_mistake_in_a_format_says_what_to_write(format_, said):
    with pytest.raises(ConfigError) as caught:
        compile_text(format_, pid)
    assert any(said in problem for problem in caught.value.problems)
    assert all(problem.startswith("--access-logformat: ") for problem in caught.value.problems)


def test_all_mistakes_are_named_at_once():
    with pytest.raises(ConfigError) as caught:
        compile_text("%(x)s %(y)s %(h)q", pid)
    assert len(caught.value.problems) == 3


def test_one_atom_of_a_name_that_is_none():
    assert one_atom("nothing", pid) is None
    assert one_atom("{x}q", pid) is None
    assert one_atom("", pid) is None
