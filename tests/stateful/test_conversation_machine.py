"""The conversation as a state machine, over a real socket: whatever a client sends, in whatever pieces, it
gets the answers to what it sent before its first mistake, in order, one refusal, and the end."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from tests.kit import ServerProcess

HOST = b"Host: t\r\n"
BAD = {
    b"GET /bad HTTP/1.1\nHost: t\n\n": 400,
    b"GET /bad HTTP/1.1\r\n\r\n": 400,
    b"GET /bad HTTP/2.0\r\n" + HOST + b"\r\n": 505,
    b"BAD /bad HTTP/1.1\r\n" + HOST + b"\r\n": 501,
    b"POST /bad HTTP/1.1\r\n" + HOST + b"Content-Length: +1\r\n\r\na": 400,
    b"POST /bad HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n": 400,
    b"POST /bad HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n1\nx": 400,
    b"POST /bad HTTP/1.1\r\n" + HOST + b"Expect: x\r\nContent-Length: 1\r\n\r\na": 417,
}


class Conversation(RuleBasedStateMachine):
    address = ""

    def __init__(self) -> None:
        super().__init__()
        host, _, port = self.address.rpartition(":")
        self.sock = socket.create_connection((host, int(port)), timeout=10)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.expected: list[tuple[str, str] | int] = []
        self.open = True
        self.number = 0

    def say(self, wire: bytes, cuts: list[int]) -> None:
        marks = [0, *sorted({cut % (len(wire) + 1) for cut in cuts}), len(wire)]
        with suppress(BrokenPipeError, ConnectionResetError):
            for begin, end in pairwise(marks):
                self.sock.sendall(wire[begin:end])

    def expect(self, answer: tuple[str, str] | int, *, last: bool = False) -> None:
        if self.open:
            self.expected.append(answer)
            self.open = not last and not isinstance(answer, int)

    def path(self) -> str:
        self.number += 1
        return f"/{self.number}"

    @rule(cuts=st.lists(st.integers(0, 99), max_size=3), last=st.booleans())
    def get(self, cuts: list[int], last: bool) -> None:
        path = self.path()
        close = b"Connection: close\r\n" if last and self.number > 3 else b""
        self.say(b"GET " + path.encode() + b" HTTP/1.1\r\n" + HOST + close + b"\r\n", cuts)
        self.expect((path, ""), last=bool(close))

    @rule(cuts=st.lists(st.integers(0, 199), max_size=3), body=st.binary(max_size=40))
    def post(self, cuts: list[int], body: bytes) -> None:
        path = self.path()
        head = b"POST " + path.encode() + b" HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(body)
        self.say(head + body, cuts)
        self.expect((path, body.decode("latin-1")))

    @rule(cuts=st.lists(st.integers(0, 199), max_size=3), chunks=st.lists(st.binary(min_size=1, max_size=9)))
    def chunked(self, cuts: list[int], chunks: list[bytes]) -> None:
        path = self.path()
        head = b"POST " + path.encode() + b" HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
        body = b"".join(b"%x;a=b\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
        self.say(head + body + b"0\r\nX: 1\r\n\r\n", cuts)
        self.expect((path, b"".join(chunks).decode("latin-1")))

    @rule()
    def blank_line(self) -> None:
        if self.expected:  # three in a row are one too many
            self.say(b"\r\n", [])
            self.get([], last=False)

    @precondition(lambda self: self.number > 0)
    @rule(wire=st.sampled_from(sorted(BAD)), cuts=st.lists(st.integers(0, 99), max_size=2))
    def mistake(self, wire: bytes, cuts: list[int]) -> None:
        self.say(wire, cuts)
        self.expect(BAD[wire])

    def teardown(self) -> None:
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)
        data = b""
        while more := self.sock.recv(65536):
            data += more
        self.sock.close()
        got: list[tuple[str, str] | int] = []
        while data:
            head, _, data = data.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            status = int(head[9:12])
            got.append(tuple(json.loads(data[:length])) if status == 200 else status)
            data = data[length:]
        assert got == self.expected


APP = """
import json

def app(environ, start):
    body = json.dumps([environ["PATH_INFO"], environ["wsgi.input"].read().decode("latin-1")]).encode()
    start("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


@pytest.fixture(scope="module", params=[(), ("--stream-body",)], ids=["buffered", "streamed"])
def server(request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    with ServerProcess(None, *request.param, source=APP) as running:
        yield running


def test_conversations(server: ServerProcess, request: pytest.FixtureRequest) -> None:
    if "streamed" in request.node.name:
        # The application is called before a body is whole, and answers 500 when it is cut.
        machine = type("Streamed", (Conversation,), {"address": server.address, "mistake": None})
    else:
        machine = type("Buffered", (Conversation,), {"address": server.address})
    run_state_machine_as_test(machine, settings=settings(max_examples=150, stateful_step_count=12))
    assert server.get("/fresh").status == 200
