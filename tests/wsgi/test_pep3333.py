# ruff: noqa: E501 -- the application is dense on purpose
"""PEP 3333, point by point, over a real server: the numbers are those of the list that the server is held to.

Most points are checked inside the application, which answers "ok" or what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kit import CutShort, Ended, ServerProcess

APP = """
import io, sys, threading
from wsgiref.validate import validator

T = [("Content-Type", "text/plain")]
closed = []
kept = {}
calls = []


class Blocks:
    def __init__(self, blocks, close=None):
        self.blocks, self.iterated, self.end = blocks, 0, close

    def __iter__(self):
        self.iterated += 1
        assert self.iterated == 1
        return iter(self.blocks)

    def close(self):
        closed.append(self.iterated)
        if self.end:
            raise self.end


def p01(e, s, *more, **named): return not more and not named
def p02(e, s):
    fresh = type(e) is dict and "mark" not in e
    e["mark"] = 1; e["wsgi.version"] = None
    return fresh
def p03(e, s): return e["REQUEST_METHOD"] == "GET"
def p04(e, s): return e["SCRIPT_NAME"] == ""
def p05(e, s): return e["PATH_INFO"] == "/p05/a+b/\\xe9/%2F" and e["RAW_URI"] == "/p05/a+b%2F%E9/%252F"
def p06(e, s): return e["QUERY_STRING"] == "a=%20+b"
def p07(e, s): return e["CONTENT_TYPE"] == "a/b" and e["CONTENT_LENGTH"] == "3" and not {"HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"} & set(e)
def p07c(e, s): return "CONTENT_LENGTH" not in e and e["wsgi.input_terminated"] and e["wsgi.input"].read() == b"abcd"
def p08(e, s): return e["SERVER_NAME"] == "127.0.0.1" and e["SERVER_PORT"].isdigit()
def p09(e, s): return e["SERVER_PROTOCOL"] == "HTTP/1.0"
def p10(e, s): return e["HTTP_X_A"] == "1, 2" and e["HTTP_COOKIE"] == "a=1; b=2" and "HTTP_PROXY" not in e
def p11(e, s): return all(type(v) is str and all(ord(c) < 256 for c in v) for k, v in e.items() if "." not in k)
def p12(e, s): return e["REMOTE_ADDR"] == "127.0.0.1" and e["REMOTE_PORT"].isdigit()
def p13(e, s): return e["wsgi.version"] == (1, 0) and e["wsgi.url_scheme"] == "http" and e["wsgi.multithread"] is True and e["wsgi.multiprocess"] is False and e["wsgi.run_once"] is False
def p14(e, s): return all(k == k.lower() and k.split(".")[0] in ("wsgi", "threadcorn", "gunicorn") for k in e if "." in k)
def p15(e, s):
    i = e["wsgi.input"]
    return i.readline() == b"a\\n" and i.readline(1) == b"b" and i.readlines() == [b"\\n", b"c\\n", b"d"] and list(i) == [] and i.read(5) == b""
def p16(e, s):
    i = e["wsgi.input"]
    return i.read(100) == b"abc" and i.read(1) == b"" and i.read() == b""
def p19(e, s):
    i = e["wsgi.input"]
    return i.read(0) == b"" and i.readline() == b"a\\n" and i.read(-1) == b"b" and i.read(None) == b""
def p20(e, s):
    r = e["wsgi.errors"]
    r.write("\\u20ac note\\n"); r.writelines(["a", "\\n"]); r.flush()
    return True
def p21(e, s):
    write = s("200 OK", T)
    write(b"o")
    return Blocks([b"k"])
def p27(e, s):
    import weakref
    class Odd(KeyError): pass
    error = Odd()
    try:
        raise error
    except KeyError:
        s("200 OK", T, sys.exc_info())
    gone = weakref.ref(error)
    del error
    return [b"ok" if gone() is None else b"kept"]
def p28(e, s):
    def late():
        s("200 OK", T)
        yield b"ok"
    return late()
def p32(e, s): s("200 OK", T); return [b"one"]
def p32g(e, s): s("200 OK", T); return iter([b"o", b"k"])
def p36(e, s):
    write = s("200 OK", [("Content-Length", "4")]); write(b"ab")
    return [b"cd"]
def p37(e, s): s("200 OK", T); return Blocks([b"o", b"k"])
def p37x(e, s): s("200 OK", T); return Blocks([b"o", b"k"], SystemExit(3))
def p37n(e, s): n = len(closed); del closed[:]; s("200 OK", T); return [str(n).encode()]
def p39(e, s):
    file = open("file.txt", "rb"); file.seek(2)
    s("200 OK", [("Content-Length", "3")])
    return e["wsgi.file_wrapper"](file)
def p39r(e, s): s("200 OK", []); return e["wsgi.file_wrapper"](io.BytesIO(b"abcdef"), 4)
def p40(e, s):
    s("200 OK", T)
    def cut():
        yield b"first"
        raise ValueError("late")
    return cut()
def p43(e, s): return e["wsgi.multithread"] is True
def p44(e, s):
    kept["write"] = s("200 OK", T)
    return [b"ok"]
def p44b(e, s):
    try:
        kept["write"](b"HTTP/1.1 200 OK")
    except RuntimeError:
        return True
    return "a late write() was taken"
def p45(e, s): return "mark" not in e and "HTTP_X_SECRET" not in e
def hints(e, s):
    for bad in [("X", "a\\r\\nb")], [("Content-Length", "1")], [("Connection", "close")]:
        try:
            e["wsgi.early_hints"](bad)
        except ValueError:
            continue
        return "taken: %r" % bad
    e["wsgi.early_hints"]([("Link", "</a.css>; rel=preload")])
    return True
def latehints(e, s):
    write = s("200 OK", T); write(b"o")
    try:
        e["wsgi.early_hints"]([("Link", "x")])
    except RuntimeError:
        return Blocks([b"k"])
def valid(e, s):
    e["wsgi.input"].read(5)
    s("200 OK", T + [("Content-Length", "2")])
    return [b"ok"]
VALID = validator(valid)

BAD = {
    "22a": ("200", T), "22b": (b"200 OK", T), "22c": ("200 a\\r\\nb", T), "22d": ("101 Up", T), "22e": ("99 X", T),
    "22f": ("600 X", T), "23a": ("200 OK", [("X", "a\\nb")]), "23b": ("200 OK", [("X Y", "a")]),
    "23c": ("200 OK", [("X", 1)]), "23d": ("200 OK", [("X", "\\u20ac")]), "23e": ("200 OK", [("X", "a\\0")]),
    "23f": ("200 OK", None), "31a": ("200 OK", [("Content-Length", "-1")]),
    "31b": ("200 OK", [("Content-Length", "5, 5")]), "31c": ("200 OK", [("Content-Length", "\\u0665")]),
    "31d": ("200 OK", [("Content-Length", "5"), ("Content-Length", "5")]),
}
RAISED = {c.__name__: c for c in (SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError, RecursionError, StopIteration, ValueError)}
RESULTS = {"text": ["x"], "none": None, "number": 5, "array": [bytearray(b"x"), b"y"], "one": [bytearray(b"x")]}
STATUS = {"204": "204 No Content", "205": "205 Reset Content", "304": "304 Not Modified"}


def app(e, s):
    name, _, rest = e["PATH_INFO"][1:].partition("/")
    if name == "bad":
        s(*BAD[rest]); return [b"not refused"]
    if name == "raise":
        raise RAISED[rest]
    if name == "result":
        s("200 OK", T); return RESULTS[rest]
    if name == "status":
        s(STATUS[rest], []); return Blocks([b"content"])
    if name == "nostart":
        return [b"x"]
    if name == "twice":
        s("200 OK", T); s("200 OK", T); return [b"x"]
    if name == "length":
        s("200 OK", [("Content-Length", "5")]); return iter([b"abc", b"defg"] if rest == "more" else [b"abc"])
    if name == "hop":
        s("200 OK", [("Connection", "X"), ("Keep-Alive", "1"), ("TE", "x"), ("Trailer", "x"), ("Transfer-Encoding", "chunked"), ("Upgrade", "x"), ("Date", "Thu, 01 Jan 1970 00:00:00 GMT"), ("Server", "mine")])
        return [b"ok"]
    if name == "valid":
        return VALID(e, s)
    answer = globals()[name](e, s)
    if answer is True or answer is False or isinstance(answer, str):
        s("200 OK", T); answer = [b"ok" if answer is True else repr(e if answer is False else answer).encode()]
    return answer
"""


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess(source=APP, files={"file.txt": "abcdef"}, check_descriptors=False) as running:
        yield running


POINTS = (
    ["01", "02", "02", "03", "04", "06?a=%20+b", "08", "11", "12", "13", "14", "20", "21", "27", "28", "43", "44", "44b", "45"]
)  # fmt: skip


@pytest.mark.parametrize("point", POINTS, ids=[f"point-{point}-{n}" for n, point in enumerate(POINTS)])
def test_inside_the_application(server: ServerProcess, point: str) -> None:
    assert server.get(f"/p{point}").text == "ok"


def test_05_path_is_decoded_once(server: ServerProcess) -> None:
    assert server.get("/p05/a+b%2F%E9/%252F").text == "ok"


def test_07_content_type_and_length(server: ServerProcess) -> None:
    assert server.get("/p07", method="POST", headers={"Content-Type": "a/b"}, body=b"abc").text == "ok"
    assert server.get("/p07c", method="POST", body=[b"ab", b"cd"]).text == "ok"


def test_09_protocol_is_the_clients(server: ServerProcess) -> None:
    assert server.get("/p09", version="HTTP/1.0").text == "ok"


def test_10_fields(server: ServerProcess) -> None:
    fields = [("X-A", "1"), ("x-a", "2"), ("Cookie", "a=1"), ("Cookie", "b=2"), ("Proxy", "http://evil")]
    assert server.get("/p10", headers=fields).text == "ok"


@pytest.mark.parametrize(
    ("point", "body"), [("15", b"a\nb\nc\nd"), ("16", b"abc"), ("19", b"a\nb")], ids=["15", "16", "19"]
)
def test_input(server: ServerProcess, point: str, body: bytes) -> None:
    assert server.get(f"/p{point}", method="POST", body=body).text == "ok"


def test_17_a_cut_body_is_never_a_short_one(server: ServerProcess) -> None:
    connection = server.connect()
    connection.request("/p16", method="POST", headers={"Content-Length": "10"}, body=b"abc")
    connection.half_close()
    assert connection.end() == "closed"  # the application was not called


def test_18_an_unread_body_is_no_request(server: ServerProcess) -> None:
    connection = server.connect()
    assert connection.get("/p01", method="POST", body=b"GET /p01 HTTP/1.1\r\n\r\n").text == "ok"
    assert connection.get("/p03").text == "ok"


@pytest.mark.parametrize("bad", ["22a", "22b", "22c", "22d", "22e", "22f", "23a", "23b", "23c", "23d", "23e",
                                 "23f", "31a", "31b", "31c", "31d"])  # fmt: skip
def test_22_23_31_what_is_wrong_is_refused_at_the_call(server: ServerProcess, bad: str) -> None:
    assert server.get(f"/bad/{bad}").status == 500


def test_24_30_hop_by_hop_fields_are_dropped_and_nothing_is_doubled(server: ServerProcess) -> None:
    reply = server.get("/hop")
    assert not {"Keep-Alive", "TE", "Trailer", "Transfer-Encoding", "Upgrade"} & {k for k, _ in reply.headers}
    assert (reply.get("Server"), reply.get("Date")) == ("mine", "Thu, 01 Jan 1970 00:00:00 GMT")


@pytest.mark.parametrize("path", ["/twice", "/nostart"], ids=["26", "29"])
def test_26_29_start_response_is_called_once(server: ServerProcess, path: str) -> None:
    assert server.get(path).status == 500


@pytest.mark.parametrize("what", ["more", "less"])
def test_31_content_length_is_kept(server: ServerProcess, what: str) -> None:
    connection = server.connect()
    connection.request(f"/length/{what}")
    if what == "more":
        assert connection.reply().body == b"abcde"
        connection.end()
    else:
        with pytest.raises(CutShort, match="3 of 5"):
            connection.reply()


def test_25_32_33_framing(server: ServerProcess) -> None:
    assert server.get("/p32").get("Content-Length") == "3"
    reply = server.get("/p32g")
    assert (reply.text, reply.ended, reply.chunks) == ("ok", Ended.CHUNKED, [1, 1])
    reply = server.get("/p32g", version="HTTP/1.0")
    assert (reply.text, reply.ended) == ("ok", Ended.CLOSE)


@pytest.mark.parametrize("what", ["text", "none", "number", "array", "one"])
def test_34_blocks_are_bytes(server: ServerProcess, what: str) -> None:
    assert server.get(f"/result/{what}").status == 500


def test_35_no_content(server: ServerProcess) -> None:
    connection = server.connect()
    for status in (204, 205, 304):
        reply = connection.get(f"/status/{status}")
        assert (reply.status, reply.body) == (status, b"")
        assert reply.get("Content-Length") == ("0" if status == 205 else None)
    assert connection.get("/p32", method="HEAD").body == b""
    assert connection.get("/p03").text == "ok"


def test_36_write_comes_first(server: ServerProcess) -> None:
    assert server.get("/p36").text == "abcd"


def test_37_38_close_is_called_once(server: ServerProcess) -> None:
    connection = server.connect()
    connection.get("/p37n")
    for method, path in (("GET", "/p37"), ("HEAD", "/p37"), ("GET", "/p37x")):
        connection.get(path, method=method)
        assert connection.get("/p37n").text == "1", (method, path)


def test_39_file_wrapper(server: ServerProcess) -> None:
    assert server.get("/p39").text == "cde"
    assert server.get("/p39r").text == "abcdef"
    assert server.get("/p39", method="HEAD").body == b""


def test_40_an_error_half_way_looks_like_one(server: ServerProcess) -> None:
    for version in ("HTTP/1.1", "HTTP/1.0"):
        connection = server.connect()
        connection.request("/p40", version=version)
        with pytest.raises(CutShort):
            connection.reply()


@pytest.mark.parametrize("name", ["SystemExit", "KeyboardInterrupt", "GeneratorExit", "MemoryError",
                                  "RecursionError", "StopIteration", "ValueError"])  # fmt: skip
def test_41_whatever_is_raised(server: ServerProcess, name: str) -> None:
    before = server.workers()
    assert server.get(f"/raise/{name}").status == 500
    assert server.workers() == before


def test_42_continue_is_sent_when_the_body_is_awaited(server: ServerProcess) -> None:
    connection = server.connect()
    connection.request("/p16", method="POST", headers={"Content-Length": "3", "Expect": "100-continue"})
    assert connection.interim().status == 100
    connection.send(b"abc")
    assert connection.reply().text == "ok"


def test_early_hints(server: ServerProcess) -> None:
    reply = server.get("/hints")
    assert (reply.text, reply.interim) == ("ok", [103])
    assert server.get("/hints", version="HTTP/1.0").interim == []
    assert server.get("/latehints").text == "ok"


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_the_validator_of_the_standard_library_is_content(server: ServerProcess, method: str) -> None:
    body = b"12345" if method == "POST" else None
    assert server.get("/valid", method=method, body=body).status == 200
    assert "AssertionError" not in server.log.partition("/valid")[2]
