# ruff: noqa: E501 -- a row is a line
"""Every published fault of an HTTP server in six years that is shown by bytes of a client, each by its name.

What must come out: the numbers of refusals, "served" for a request that the application gets, "waits" when more
bytes are awaited. Nothing behind a refusal is looked at: the bytes behind it would be served otherwise.
"""

from __future__ import annotations

import pytest

from tests.kit.cases import play, splits

HOST = b"Host: t\r\n"
NEXT = b"GET /smuggled HTTP/1.1\r\n" + HOST + b"\r\n"


def post(fields: bytes, body: bytes = b"") -> bytes:
    return b"POST / HTTP/1.1\r\n" + HOST + fields + b"\r\n" + body


def get(fields: bytes = b"") -> bytes:
    return b"GET / HTTP/1.1\r\n" + HOST + fields + b"\r\n"


def chunked(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked\r\n", body)


ROWS: list[tuple[str, bytes, list[object]]] = [
    ("CVE-2024-1135", post(b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n" + NEXT), [501]),
    ("CVE-2024-1135-twice", post(b"Transfer-Encoding: chunked,chunked\r\n", b"0\r\n\r\n" + NEXT), [400]),
    ("CVE-2024-6827", post(b"Transfer-Encoding: xchunked\r\nContent-Length: 5\r\n", b"hello" + NEXT), [400]),
    ("gunicorn-2799", get(b"X-Forwarded-For: 1\r\nX_Forwarded_For: 2\r\n"), [{"HTTP_X_FORWARDED_FOR": "1"}]),
    ("gunicorn-2650", get(b"Script_Name: /admin\r\n"), [{"SCRIPT_NAME": ""}]),
    ("gunicorn-3047-plus", chunked(b"+5\r\nhello\r\n0\r\n\r\n" + NEXT), [400]),
    ("gunicorn-3047-0x", chunked(b"0x5\r\nhello\r\n0\r\n\r\n" + NEXT), [400]),
    ("gunicorn-3047-underscore", chunked(b"1_0\r\n" + b"x" * 16 + b"\r\n0\r\n\r\n" + NEXT), [400]),
    ("gunicorn-3144", get(b"X: a\x00b\r\n") + NEXT, [400]),
    ("gunicorn-3104", get(b": x\r\n") + NEXT, [400]),
    ("gunicorn-26.0-target", b"GET foo HTTP/1.1\r\n" + HOST + b"\r\n" + NEXT, [400]),
    ("gunicorn-26.0-length", post(b"Content-Length: 5, 5\r\n", b"hello" + NEXT), [400]),
    ("gunicorn-26.1-last-chunk", chunked(b"0\r\n" + NEXT), [400]),
    ("gunicorn-26.1-host", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" + NEXT, [400]),
    ("gunicorn-26.1-type", get(b"Content-Type: a/b\r\nContent-Type: c/d\r\n") + NEXT, [400]),
    ("gunicorn-extension-without-end", chunked(b"5;" + b"a" * 5000), [400]),
    ("gevent-CVE-2023-41419", chunked(b"0\r\nGET /x HTTP/1.1\r\n\r\n" + NEXT), [400]),
    ("eventlet-CVE-2025-58068", chunked(b"0\r\nX: 1\r\nGET /x HTTP/1.1\r\n\r\n" + NEXT), [400]),
    ("CVE-2019-16785", b"GET / HTTP/1.1\r\nHost: t\nTransfer-Encoding: chunked\n\r\n" + NEXT, [400]),
    ("CVE-2019-16786", post(b"Transfer-Encoding: gzip, chunked\r\nContent-Length: 5\r\n", b"hello" + NEXT), [400]),
    ("CVE-2019-16789", post(b"Transfer-Encoding:\x0bchunked\r\n", b"0\r\n\r\n" + NEXT), [400]),
    ("CVE-2019-16792", post(b"Content-Length: 5\r\nContent-Length: 5\r\n", b"hello" + NEXT), [400]),
    ("CVE-2020-5236", get(b"Foo: bar" + b"\x10" * 6000 + b"\r\n") + NEXT, [400]),
    ("CVE-2022-24761-length", post(b"Content-Length: +5\r\n", b"hello" + NEXT), [400]),
    ("CVE-2022-24761-extension", chunked(b"5;\x00\r\nhello\r\n0\r\n\r\n" + NEXT), [400]),
    ("CVE-2024-49768", get(b"X: " + b"a" * 8300 + b"\r\n") + NEXT, [431]),
    ("waitress-size-and-line-feed", chunked(b"5\n\r\nhello\r\n0\r\n\r\n" + NEXT), [400]),
    ("waitress-last-and-line-feed", chunked(b"0\n\r\n" + NEXT), [400]),
    ("waitress-TE-and-CL", post(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", b"0\r\n\r\n" + NEXT), [400]),
    ("cheroot-714", get(b"X : a\r\n") + NEXT, [400]),
    ("CVE-2026-42544", get(b"Sec-WebSocket-Protocol: \xff\r\n"), ["served"]),
    ("granian-cut-body", chunked(b"5\r\nhel"), ["waits"]),
    ("granian-broken-body", chunked(b"5\r\nhelloXX0\r\n\r\n" + NEXT), [400]),
    ("CVE-2021-32714", chunked(b"f0000000000000003\r\nabc\r\n0\r\n\r\n" + NEXT), [400]),
    ("CVE-2021-32715", post(b"Content-Length: +5\r\n", b"hello" + NEXT), [400]),
    ("CVE-2020-7694", b"GET /%1b[31m HTTP/1.1\r\n" + HOST + b"\r\n", [{"PATH_INFO": "/\x1b[31m"}]),
    ("CVE-2025-43859", chunked(b"5\r\nhelloXX0\r\n\r\n" + NEXT), [400]),
    ("CVE-2021-22959", post(b"Content-Length : 5\r\n", b"hello" + NEXT), [400]),
    ("CVE-2021-22960", chunked(b"5 ;\nx\r\nhello\r\n0\r\n\r\n" + NEXT), [400]),
    ("CVE-2022-32213", post(b"Transfer-Encoding: chunkedchunked\r\nContent-Length: 5\r\n", b"hello" + NEXT), [400]),
    ("CVE-2022-32214", get(b"X: a\nTransfer-Encoding: chunked\r\n") + NEXT, [400]),
    ("CVE-2022-32215", post(b"Transfer-Encoding:\r\n chunked\r\n", b"0\r\n\r\n" + NEXT), [400]),
    ("CVE-2022-35256", get(b"X: a\rY: b\r\n") + NEXT, [400]),
    ("CVE-2023-30589", get(b"X: a\rTransfer-Encoding: chunked\r\n") + NEXT, [400]),
    ("CVE-2024-22019", chunked(b"1;" + b"a" * 9000), [400]),
    ("CVE-2024-27982", b"POST / HTTP/1.1\r\n Content-Length: 5\r\n" + HOST + b"\r\nhello" + NEXT, [400]),
    ("CVE-2025-23167", b"GET / HTTP/1.1\r\n" + HOST + b"\r\n\rX" + NEXT, ["served", 400]),
    ("CVE-2025-23167-in-the-head", b"GET / HTTP/1.1\r\nHost: t\r\n\rX: 1\r\n\r\n" + NEXT, [400]),
    ("CVE-2022-29361", post(b"Content-Length: %d\r\n" % len(NEXT), NEXT), ["served"]),
    ("CVE-2023-23934", get(b"Cookie: =__Host-a=x\r\n"), [{"HTTP_COOKIE": "=__Host-a=x"}]),
    ("CVE-2023-47627", post(b"Content-Length: 1_0\r\n", b"0123456789" + NEXT), [400]),
    ("CVE-2023-47627-tab", get(b"X:\x0ba\r\n") + NEXT, [400]),
    ("CVE-2023-49081", b"GET / HTTP/1.1\rX\r\n" + HOST + b"\r\n" + NEXT, [400]),
    ("CVE-2024-23829", "GET / HTTP/\u0663.1\r\n".encode() + HOST + b"\r\n" + NEXT, [400]),
    ("CVE-2024-52304", chunked(b"5;a\nb\r\nhello\r\n0\r\n\r\n" + NEXT), [400]),
    ("CVE-2025-53643", chunked(b"0\r\nGET /x HTTP/1.1\r\nHost: t\r\n\r\n" + NEXT), [400]),
    ("CVE-2025-69225", post("Content-Length: \u0665\r\n".encode(), b"hello" + NEXT), [400]),
    ("CVE-2025-69229", chunked(b"1\r\na\r\n" * 1000 + b"0\r\n\r\n"), ["served"]),
    ("CVE-2026-22815", chunked(b"0\r\n" + b"X: 1\r\n" * 200), [431]),
    ("CVE-2026-34514", b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n" + NEXT, [400]),
    ("CVE-2026-50269", b"GET /" + b"a" * 9000, [414]),
    ("CVE-2020-11076", post(b"Transfer-Encoding: \x00chunked\r\n", b"0\r\n\r\n" + NEXT), [400]),
    ("CVE-2021-41136", get(b"X: a\nb\r\n") + NEXT, [400]),
    ("CVE-2022-24790", post(b"Transfer-Encoding: chunked, identity\r\n", b"0\r\n\r\n" + NEXT), [400]),
    ("CVE-2023-40175", post(b"Content-Length: \r\n", NEXT), [400]),
    ("CVE-2024-21647", chunked(b"1;" + b"a" * 9000), [400]),
    ("CVE-2024-45614", get(b"X_Forwarded_For: 2\r\nX-Forwarded-For: 1\r\n"), [{"HTTP_X_FORWARDED_FOR": "1"}]),
    ("CVE-2026-47737", get() + b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + NEXT, ["served", 400]),
    ("CVE-2021-31525", get(b"X: " + b"a" * 70000 + b"\r\n") + NEXT, [431]),
    ("CVE-2023-24534", get(b"".join(b"a%d: 1\r\n" % n for n in range(200))) + NEXT, [431]),
    ("CVE-2023-39326", chunked(b"1;%s\r\na\r\n" % (b"a" * 2000) * 20 + b"0\r\n\r\n" + NEXT), [400]),
    ("CVE-2025-22871", chunked(b"5\nhello\r\n0\r\n\r\n" + NEXT), [400]),
    ("CVE-2026-48710", b"GET / HTTP/1.1\r\nHost: t/admin?x=\r\n\r\n" + NEXT, [400]),
    ("CVE-2021-40346", get(b"Content-Length0" + b"a" * 300 + b":\r\nContent-Length: 0\r\n"), ["served"]),
    ("CVE-2023-25725", get(b":\r\nX: 1\r\n") + NEXT, [400]),
    ("CVE-2023-40225", post(b"Content-Length:\r\n", NEXT), [400]),
    ("CVE-2025-55315-LF", chunked(b"5;a\nb\r\nhello\r\n0\r\n\r\n" + NEXT), [400]),
    ("CVE-2025-55315-CR", chunked(b"5;a\rb\r\nhello\r\n0\r\n\r\n" + NEXT), [400]),
    ("CVE-2025-58056", chunked(b"5\nhello\r\n0\r\n\r\n" + NEXT), [400]),
    ("CVE-2026-33870", chunked(b'5;a="\r\n0\r\n\r\n' + NEXT), [400]),
    ("CVE-2026-42581", b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello" + NEXT, [400]),
    ("CVE-2026-50020", b"\x00\x01" + get() + NEXT, [400]),
    ("CVE-2025-32094", b"OPTIONS / HTTP/1.1\r\nHost: t\r\nExpect: 100-\r\n continue\r\n\r\n" + NEXT, [400]),
    ("CVE-2026-26365", post(b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"), ["served"]),
    ("CVE-2023-37276", post(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", b"0\r\n\r\n" + NEXT), [400]),
    ("CVE-2023-47641", post(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n" + NEXT), [400]),
    ("CVE-2023-49082", b"GET\r\nX: 1 / HTTP/1.1\r\n" + HOST + b"\r\n" + NEXT, [400]),
    ("CVE-2020-11077", post(b"Content-Length: %d\r\n" % len(NEXT), NEXT) + get(), ["served", "served"]),
    ("CVE-2026-34519-head", get((b"X: " + b"a" * 8000 + b"\r\n") * 9) + NEXT, [431]),
    ("CVE-2025-67725", get(b"X: a\r\n" * 101) + NEXT, [431]),
    ("CVE-2024-52804", get(b"Cookie: " + b'a="\\' * 1500 + b"\r\n"), ["served"]),
    ("CVE-2023-38697", post(b"Content-Length: 0x5\r\n", b"hello" + NEXT), [400]),
]  # fmt: skip


@pytest.mark.parametrize(("wire", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_the_input_of_the_advisory(wire: bytes, expected: list[object]) -> None:
    outcomes = play([wire])
    got = [outcome.refused or ("waits" if outcome.waits else "served") for outcome in outcomes]
    told = [item if not isinstance(item, dict) else "served" for item in expected]
    if got[-1] == "waits" and told[-1] == "served":
        del got[-1]
    assert got == told
    for item, outcome in zip(expected, outcomes, strict=False):
        if isinstance(item, dict):
            assert {key: outcome.environ.get(key) for key in item} == item
        assert outcome.environ.get("PATH_INFO") != "/smuggled"
    if len(wire) < 300:
        assert all(play(pieces) == outcomes for pieces in splits(wire))
