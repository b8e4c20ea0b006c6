"""Clients that leave, or speak something else, at every point: no trace of them, and nobody else notices."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.kit import CutShort, ServerProcess, eventually

APP = """
import os, time
closed = 0
served = 0

class Body:
    def __iter__(self):
        for _ in range(400):
            yield b"x" * 50_000
    def close(self):
        global closed
        closed += 1

def app(environ, start):
    global served
    if environ["PATH_INFO"] == "/file":
        file = open("big.bin", "rb")
        start("200 OK", [("Content-Length", "20000000")])
        return environ["wsgi.file_wrapper"](file)
    path = environ["PATH_INFO"]
    if path == "/closed":
        body = str(closed).encode()
    elif path == "/served":
        body = str(served).encode()
    elif path == "/body":
        start("200 OK", [("Content-Length", "20000000")])
        return Body()
    else:
        environ["wsgi.input"].read()
        served += path == "/count"
        body = b"hello"
    start("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
POST = b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\n0123456789"


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess(None, "--threads", "2", source=APP) as running:
        yield running


def test_f36_a_reset_at_every_byte_of_a_request_leaves_nothing(server: ServerProcess) -> None:
    workers = server.workers()
    for cut in range(len(POST) + 1):
        client = server.connect()
        client.send(POST[:cut])
        client.reset()
        if cut % 8 == 0:
            assert server.get("/").body == b"hello"
    eventually(server._no_extra_descriptors)
    assert server.workers() == workers
    assert "Traceback" not in server.log


def test_f36_a_reset_within_a_response_closes_its_iterable(server: ServerProcess) -> None:
    before = int(server.get("/closed").body)
    for wanted in (0, 1, 1000, 300_000, 2_000_000):
        client = server.connect(receive_buffer=8192)
        client.request("/body")
        got = 0
        while got < wanted:
            got += len(client.sock.recv(min(65536, wanted - got)))
        client.reset()

    def closed() -> None:
        """each of the five has been closed, once"""
        assert int(server.get("/closed").body) == before + 5

    eventually(closed)
    eventually(server._no_extra_descriptors)
    assert "Traceback" not in server.log


def test_f36_a_reset_after_the_answer_leaves_nothing(server: ServerProcess) -> None:
    for _ in range(50):
        client = server.connect()
        assert client.get("/").status == 200
        client.reset()
    eventually(server._no_extra_descriptors)


def test_f45_tls_to_a_plain_port_gets_400_or_an_end(server: ServerProcess) -> None:
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    hello = ssl.create_default_context().wrap_bio(into, out, server_hostname="test")
    with pytest.raises(ssl.SSLWantReadError):
        hello.do_handshake()
    with server.connect() as client:
        client.send(out.read())
        got, how = client.to_end(within=10)
    assert how == "closed"
    assert got == b"" or got.startswith(b"HTTP/1.1 400 ")


def test_f42_a_request_that_meets_the_time_out_is_answered_or_was_never_read() -> None:
    """Requests that arrive just when the idle connection is closed: what was run was answered, so that who
    got nothing may send it again."""
    with ServerProcess(None, "--keep-alive", "0.3", "--threads", "2", source=APP) as server:

        def once(number: int) -> int:
            with server.connect() as client:
                assert client.get("/").status == 200
                client.sock.settimeout(0.2 + number * 0.01)  # the pace: the close may come first
                try:
                    assert client.sock.recv(1) == b""
                    return 0
                except TimeoutError:
                    pass
                try:
                    assert client.get("/count").status == 200
                    return 1
                except (CutShort, OSError):
                    return 0

        with ThreadPoolExecutor(10) as pool:
            answered = sum(pool.map(once, list(range(45)) * 2))
        assert int(server.get("/served").body) == answered
        assert 0 < answered < 90


def test_f48_more_clients_than_the_backlog_holds_are_all_answered() -> None:
    """Ten times as many at once as the queue takes: some repeat their handshake, none is reset. Each pause is
    twice as long as the one before; on a busy machine they were once more than ten seconds in all."""
    options = ("--backlog", "8", "--threads", "2")
    with ServerProcess("tests.kit.apps:hello", *options) as server, ThreadPoolExecutor(80) as pool:

        def status(_: int) -> int:
            with server.connect() as client:
                client.within = 60.0
                return client.get("/").status

        assert set(pool.map(status, range(240))) == {200}


def test_f44_a_file_that_becomes_shorter_or_is_closed() -> None:
    """Visibly cut, and nobody loops over nothing. What the application closes goes on by its copy."""
    with ServerProcess(None, "--threads", "1", source=APP) as server:
        big = server.directory / "big.bin"
        big.write_bytes(b"f" * 20_000_000)
        client = server.connect(receive_buffer=4096)
        client.request("/file")
        assert client.sock.recv(100)
        os.truncate(big, 1_000_000)
        got, how = client.to_end(within=20)
        assert how in ("closed", "reset")
        assert len(got) < 20_000_000
        big.write_bytes(b"f" * 20_000_000)
        with server.connect() as other:
            assert len(other.get("/file").body) == 20_000_000
        assert "Traceback" not in server.log


def test_f55_a_hundred_names_and_no_more(server: ServerProcess) -> None:
    fields = [(f"x-{number}", "1") for number in range(99)]  # and Host
    with server.connect() as client:
        assert client.get("/", headers=fields).status == 200
        assert client.get("/", headers=[*fields, ("x-99", "1")]).status == 431


def test_f55_hashes_that_can_be_foretold_are_told() -> None:
    with ServerProcess("tests.kit.apps:hello", env={"PYTHONHASHSEED": "0"}) as server:
        assert "PYTHONHASHSEED=0" in server.log
