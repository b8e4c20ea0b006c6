"""HeadParser: what stands in the environ, and that no way through it gives another answer than the others."""

from __future__ import annotations

import sys

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kit.cases import TEMPLATE, cases, play
from tests.kit.oracle import Message, Refused, messages
from threadcorn.errors import ProtocolViolation
from threadcorn.http1 import memory, rules
from threadcorn.http1.lines import BEGIN, check_partial, skip_blank
from threadcorn.http1.memory import Memory
from threadcorn.http1.parser import CHUNKED, HeadParser, Limits, Request

TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
BROWSER = (
    b"GET /path/to/page?x=1&y=2 HTTP/1.1\r\nHost: www.example.com\r\nConnection: keep-alive\r\n"
    b'Cache-Control: max-age=0\r\nsec-ch-ua: "Chromium";v="124", "Not-A.Brand";v="99"\r\n'
    b'sec-ch-ua-mobile: ?0\r\nsec-ch-ua-platform: "Linux"\r\nUpgrade-Insecure-Requests: 1\r\n'
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36\r\nAccept: text/html,*/*;q=0.8\r\n"
    b"Sec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n"
    b"Accept-Language: en-US,en;q=0.9\r\nCookie: sessionid=abcdef; csrftoken=ghi\r\n\r\n"
)


def head(*fields: bytes, line: bytes = b"GET / HTTP/1.1", host: bytes = b"t") -> bytes:
    return b"".join((line, b"\r\nHost: ", host, b"\r\n", *(field + b"\r\n" for field in fields), b"\r\n"))


def make(limits: Limits | None = None) -> HeadParser:
    return HeadParser(limits or Limits(), Memory(TEMPLATE))


def parse(wire: bytes, limits: Limits | None = None) -> Request:
    return make(limits).parse(wire)


def status(wire: bytes, limits: Limits | None = None) -> int:
    """200, or that of the refusal."""
    try:
        parse(wire, limits)
    except ProtocolViolation as violation:
        return violation.status
    return 200


# -- the environ


def test_a_browser_request_becomes_this_environ() -> None:
    request = parse(BROWSER)
    assert request.environ == {
        **TEMPLATE,
        "REQUEST_METHOD": "GET",
        "RAW_URI": "/path/to/page?x=1&y=2",
        "REQUEST_URI": "/path/to/page?x=1&y=2",
        "PATH_INFO": "/path/to/page",
        "QUERY_STRING": "x=1&y=2",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "www.example.com",
        "HTTP_CONNECTION": "keep-alive",
        "HTTP_CACHE_CONTROL": "max-age=0",
        "HTTP_SEC_CH_UA": '"Chromium";v="124", "Not-A.Brand";v="99"',
        "HTTP_SEC_CH_UA_MOBILE": "?0",
        "HTTP_SEC_CH_UA_PLATFORM": '"Linux"',
        "HTTP_UPGRADE_INSECURE_REQUESTS": "1",
        "HTTP_USER_AGENT": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
        "HTTP_ACCEPT": "text/html,*/*;q=0.8",
        "HTTP_SEC_FETCH_SITE": "none",
        "HTTP_SEC_FETCH_MODE": "navigate",
        "HTTP_ACCEPT_ENCODING": "gzip, deflate, br, zstd",
        "HTTP_ACCEPT_LANGUAGE": "en-US,en;q=0.9",
        "HTTP_COOKIE": "sessionid=abcdef; csrftoken=ghi",
    }
    assert (request.method, request.version11, request.keep, request.length, request.expect) == (
        "GET", True, True, 0, False,
    )  # fmt: skip
    assert request.line == b"GET /path/to/page?x=1&y=2 HTTP/1.1"


def test_content_type_and_length_have_no_http_in_front() -> None:
    environ = parse(head(b"Content-Type: a/b", b"CONTENT-LENGTH: 5")).environ
    assert environ["CONTENT_TYPE"] == "a/b"
    assert environ["CONTENT_LENGTH"] == "5"
    assert "HTTP_CONTENT_TYPE" not in environ
    assert "HTTP_CONTENT_LENGTH" not in environ


@pytest.mark.parametrize("wire", [BROWSER, head(b"X: 1", b"x: 2"), head(line=b"GET http://u/ HTTP/1.1")])
def test_every_environ_is_a_dict_of_its_own_and_its_text_is_str(wire: bytes) -> None:
    ours = make()
    environs = [ours.parse(wire).environ for _ in range(40)]
    for environ in environs:
        assert type(environ) is dict
        assert all(type(value) is str for key, value in environ.items() if "." not in key)
        environ["HTTP_HOST"] = environ["PATH_INFO"] = "spoilt"
        environ.clear()
    assert ours.parse(wire).environ["PATH_INFO"] != "spoilt"
    assert ours.parse(wire).environ["HTTP_HOST"] != "spoilt"


def test_the_bounds_of_a_request_are_told() -> None:
    assert parse(head(b"Content-Length: 5")).length == 5
    assert parse(head(b"Transfer-Encoding: chunked")).length == CHUNKED
    assert parse(head(b"Content-Length: 5", b"Expect: 100-continue")).expect
    assert not parse(head(b"Expect: 100-continue")).expect
    assert not parse(head(b"Connection: close")).keep
    assert parse(head(line=b"GET / HTTP/1.0")).keep is False
    assert parse(head(b"Connection: keep-alive", line=b"GET / HTTP/1.0")).keep is True


def test_a_head_with_a_blank_line_inside_is_refused() -> None:
    """Whoever calls cuts at the first blank line; should it not, nothing behind that is served."""
    for _ in range(3):
        assert status(head() + head()) == 400
        assert status(b"\r\n" + head()) == 400
        assert status(head()[:-2]) == 400


# -- every way through gives the same answer


def _answer(ours: HeadParser, wire: bytes) -> object:
    try:
        request = ours.parse(wire)
    except ProtocolViolation as violation:
        return violation.status
    return request.environ, request.method, request.keep, request.length, request.expect, request.line


@pytest.mark.parametrize("place", ["method", "target", "query", "version", "name", "before colon", "value"])
def test_every_byte_at_every_place_gets_one_answer_on_every_way(place: str) -> None:
    """Asked first, asked again when it may be remembered, and judged by the exact path alone."""
    warm = make()
    for value in range(256):
        byte = bytes((value,))
        wire = {
            "method": head(line=b"G" + byte + b"T / HTTP/1.1"),
            "target": head(line=b"GET /a" + byte + b"b HTTP/1.1"),
            "query": head(line=b"GET /a?" + byte + b" HTTP/1.1"),
            "version": head(line=b"GET / HTTP/1." + byte),
            "name": head(b"X" + byte + b"Y: 1"),
            "before colon": head(b"X" + byte + b": 1"),
            "value": head(b"X: a" + byte + b"b"),
        }[place]
        answers = [_answer(warm, wire) for _ in range(40)]
        answers.append(_answer(make(), wire))
        try:
            request = make()._exact(wire)
        except ProtocolViolation as violation:
            answers.append(violation.status)
        else:
            answers.append(
                (request.environ, request.method, request.keep, request.length, request.expect, request.line)
            )
        assert all(answer == answers[0] for answer in answers), (place, byte)
        good = {
            "method": byte == b"E",
            "target": 0x20 < value < 0x7F and byte != b"#",
            "query": 0x20 < value < 0x7F and byte != b"#",
            "version": byte in b"01",
            "name": byte in TOKEN + b":",  # the colon makes a short name of it
            "before colon": byte in TOKEN + b":",
            "value": value == 9 or (value >= 0x20 and value != 0x7F),
        }[place]
        assert isinstance(answers[0], tuple) == good, (place, byte, answers[0])


def test_a_remembered_block_does_not_make_another_request_line_right() -> None:
    ours = make()
    for _ in range(40):
        ours.parse(head())
    for line, expected in [
        (b"GET /a\x7fb HTTP/1.1", 400),
        (b"GET /a#b HTTP/1.1", 400),
        (b"GET  HTTP/1.1", 400),
        (b"GET /a b HTTP/1.1", 400),
        (b"GET / HTTP/2.0", 505),
        (b"GET /\xff HTTP/1.1", 400),
        (b"CONNECT /x HTTP/1.1", 400),
        (b"BREW / HTTP/1.1", 501),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1", 414),
    ]:
        assert _answer(ours, head(line=line)) == expected
    assert ours.parse(head(line=b"OPTIONS * HTTP/1.1")).environ["PATH_INFO"] == "*"
    assert ours.parse(head(line=b"GET http://u/x HTTP/1.1")).environ["HTTP_HOST"] == "u"


def test_parsers_with_other_limits_remember_for_themselves() -> None:
    wide, narrow = make(), make(Limits(fields=1, head=60))
    wire = head(b"X: 1")
    for _ in range(40):
        wide.parse(wire)
    with pytest.raises(ProtocolViolation) as caught:
        narrow.parse(wire)
    assert caught.value.status == 431


def test_what_is_remembered_is_bounded() -> None:
    ours = make(Limits(fields=50))
    memory_of = ours.memory
    for number in range(5000):
        ours.parse(
            head(b"X-%d: %d" % (number, number), line=b"GET /%d HTTP/1.1" % number, host=b"h%d" % number)
        )
    assert 0 < len(memory_of.fields) <= memory.FIELDS
    assert 0 < len(memory_of.starts) <= memory.STARTS
    assert len(rules.KEYS) <= rules.CACHED_NAMES
    assert len(rules.HOSTS) <= rules.CACHED_HOSTS
    for number in range(500):
        ours.parse(head(b"Connection: x%d" % number))
    assert len(rules.KEEPS) <= rules.CACHED_CONNECTIONS
    for _ in range(40):
        ours.parse(head(b"X: " + b"a" * 5000))
    assert all(len(line) <= memory.LONGEST_FIELD for line in memory_of.fields)


def test_secrets_are_not_remembered() -> None:
    """Neither a query, nor a cookie, nor an authorization stays in memory after its request."""
    ours = make(Limits(fields=51))
    for _ in range(40):
        ours.parse(head(b"Cookie: id=secret", line=b"GET /?token=secret HTTP/1.1"))
        ours.parse(head(b"Authorization: Basic secret"))
        ours.parse(head(b"Accept: text/html"))
    assert b"Accept: text/html" in ours.memory.fields
    assert not any(b"secret" in line for line in (*ours.memory.starts, *ours.memory.fields))


def test_copies_of_the_template_have_room() -> None:
    """The copy of a template that is too full, or that has lost too many keys, is several times slower."""
    for count in (
        18,
        19,
        20,
        21,
        22,
        23,
        24,
        25,
        26,
    ):  # what listeners have; of a few others no copy has room
        template = memory._with_room({f"key {number}": "" for number in range(count)})
        assert len(template) == count
        copy = template.copy()
        size = sys.getsizeof(copy)
        for number in range(memory._ROOM):
            copy[f"HTTP_{number}"] = ""
        assert sys.getsizeof(copy) == size, count


# -- a head that is not whole


def test_each_byte_is_looked_at_once() -> None:
    """A client that sends one byte at a time costs what it sends, not its square."""
    limits = Limits(head=1 << 20, field_size=1 << 20)
    wire = head(b"X: " + b"a" * 50_000)[:-4]
    state = BEGIN
    for end in range(1, len(wire) + 1, 7):
        state = check_partial(memoryview(wire)[:end].tobytes(), limits, state)
    assert state.seen > len(wire) - 8
    assert state.lines == 2


def test_blank_lines_in_front_are_few() -> None:
    assert skip_blank(b"GET") == 0
    assert skip_blank(b"\r\n\r\nGET") == 4
    assert skip_blank(b"\r") == 0
    with pytest.raises(ProtocolViolation):
        skip_blank(b"\r\n\r\n\r")


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        (b"\x16\x03\x01", 400),
        (b"GET / HTTP/1.1\n", 400),
        (b"GET /" + b"a" * 8190, 414),
        (b"BREW / HTTP/1.1\r\n", 501),
        (b"PRI * HTTP/2.0\r\n", 505),
        (b"GET / HTTP/1.1\r\nHost : t\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 8190, 431),
        (b"GET / HTTP/1.1\r\n" + b"X: 1\r\n" * 100 + b"X", 431),
    ],
)
def test_what_can_never_be_a_request_is_refused_before_it_is_whole(wire: bytes, expected: int) -> None:
    outcomes = play([wire])
    assert [outcome.refused for outcome in outcomes] == [expected]


# -- against others

SEEDS = [case.wire for case in cases() if len(case.wire) < 600 and case.limits == Limits()]
ODD = b"\x00\x09\x0a\x0b\x0c\x0d\x20\x22\x2c\x2d\x3a\x3b\x5f\x7f\x80\x85\xa0\xad\xff0145aAgGxX/%.*#?"
edits = st.lists(
    st.tuples(
        st.sampled_from(["flip", "drop", "double", "insert", "insert", "borrow"]),
        st.integers(0, 600),
        st.integers(0, 600),
        st.sampled_from(list(ODD)),
    ),
    min_size=1,
    max_size=3,
)
ROOMY = Limits(fields=10_000, body=1 << 62)
WARM = make(ROOMY)


def mutated(seed: bytes, changes: list[tuple[str, int, int, int]]) -> bytes:
    wire = bytearray(seed)
    for how, at, other, byte in changes:
        if not wire:
            break
        at %= len(wire)
        if how == "flip":
            wire[at] ^= 1 << other % 8
        elif how == "drop":
            del wire[at]
        elif how == "double":
            wire[at:at] = wire[at : at + other % 30]
        elif how == "insert":
            wire.insert(at, byte)
        else:
            lender = SEEDS[other % len(SEEDS)]
            wire[at:at] = lender[byte % len(lender) :][:20]
    return bytes(wire)


@settings(max_examples=1500)
@given(st.sampled_from(SEEDS), edits, st.integers(0, 600))
def test_mutated_requests_are_served_as_the_oracle_says(seed: bytes, changes: list, cut: int) -> None:
    wire = mutated(seed, changes)
    outcomes = play([wire], ROOMY, WARM)
    assert play([wire[:cut], wire[cut:]], ROOMY, WARM) == outcomes
    told = list(messages(wire))
    served = [outcome for outcome in outcomes if outcome.environ]
    right = [message for message in told if isinstance(message, Message)]
    assert len(served) == len(right), (wire, told)
    for outcome, message in zip(served, right, strict=True):
        assert outcome.environ["REQUEST_METHOD"].encode() == message.method
        assert outcome.environ["RAW_URI"].encode("latin-1") == message.target
        assert outcome.environ["SERVER_PROTOCOL"] == ("HTTP/1.1" if message.version11 else "HTTP/1.0")
        assert (outcome.body, outcome.keep) == (message.body, message.keep)
        assert _fields(outcome.environ) == _joined(message)
    if told and isinstance(told[-1], Refused):
        assert outcomes[-1].refused
    assert outcomes[-1].refused in (0, 400, 413, 414, 417, 431, 501, 505)


def _fields(environ: dict) -> dict[str, str]:
    return {
        key: value
        for key, value in environ.items()
        if (key.startswith("HTTP_") or key in ("CONTENT_TYPE", "CONTENT_LENGTH"))
        and not (key == "HTTP_HOST" and "://" in environ["RAW_URI"][:8])
    }


def _joined(message: Message) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in message.fields:
        if b"_" in name or name.lower() == b"proxy":
            continue
        if name.lower() == b"host" and b"://" in message.target[:8]:
            continue
        key = name.decode().upper().replace("-", "_")
        key = key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"
        text = value.decode("latin-1")
        glue = "; " if key == "HTTP_COOKIE" else ", "
        found[key] = found[key] + glue + text if key in found else text
    return found


@settings(max_examples=700)
@given(st.sampled_from(SEEDS), edits)
def test_h11_reads_what_we_serve_as_we_do(seed: bytes, changes: list) -> None:
    """One way only. h11 also takes: bare line feeds, folded values, chunked in HTTP/1.0, equal lengths twice,
    methods and hosts of any kind, a path with a fragment, any chunk extension, and trailers of any name."""
    wire = mutated(seed, changes)
    served = [outcome for outcome in play([wire], ROOMY, WARM) if outcome.environ]
    theirs = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    theirs.receive_data(wire[skip_blank(wire) :] if served else wire)
    for outcome in served[:1]:
        event = theirs.next_event()
        assert isinstance(event, h11.Request), (wire, event)
        assert event.method.decode() == outcome.environ["REQUEST_METHOD"]
        assert event.target.decode("latin-1") == outcome.environ["RAW_URI"]
        body = b""
        while isinstance(data := theirs.next_event(), h11.Data):
            body += data.data
        assert isinstance(data, h11.EndOfMessage), (wire, data)
        assert body == outcome.body
