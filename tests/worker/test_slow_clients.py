"""Clients that are slow, silent or gone: they cost memory and end by a deadline; no thread is theirs.

Every server here has one pool thread, so a client that held it would stop the others.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from signal import SIGCONT

import pytest

from tests.kit import Connection, ServerProcess, eventually
from tests.kit.processes import freeze

APP = """
import hashlib
import os
import threading
import time

log = []

def app(environ, start):
    path = environ["PATH_INFO"]
    status, body = "200 OK", b"hello"
    if path == "/echo":
        body = environ["wsgi.input"].read()
    elif path == "/digest":
        body = hashlib.sha256(environ["wsgi.input"].read()).hexdigest().encode()
    elif path == "/kind":
        body = type(environ["wsgi.input"]).__name__.encode()
    elif path in ("/close", "/detach"):
        file = getattr(environ["wsgi.input"], path[1:])()
        if file is not None:
            file.close()
        body = str(os.getpid()).encode()
    elif path == "/log":
        body = "\\n".join(log).encode()
    elif path == "/threads":
        body = str(sum(t.name.startswith("threadcorn-pool") for t in threading.enumerate())).encode()
    elif path == "/fds":
        body = str(len(os.listdir("/proc/self/fd"))).encode()
    elif path == "/pieces":
        start(status, [("Content-Type", "application/octet-stream")])
        return (bytes([n % 256]) * 50_000 for n in range(200))
    elif path == "/big":
        body = b"".join(b"%09d\\n" % n for n in range(1_000_000))
    elif path == "/file":
        start(status, [])
        file = open("big.bin", "rb")
        return environ["wsgi.file_wrapper"](file)
    elif path == "/wait":
        # Tells the test where it is by a file, and leaves when the client is gone.
        open("in", "w").close()
        gone = environ["threadcorn.client_gone"]
        until = time.monotonic() + 20
        while not gone() and time.monotonic() < until:
            time.sleep(0.01)
        log.append("client gone" if gone() else "never")
    elif path == "/hold":
        open("held", "w").close()
        until = time.monotonic() + 20
        while not os.path.exists("release") and time.monotonic() < until:
            time.sleep(0.005)
    elif path == "/count":
        log.append("counted")
    elif path == "/read-some":
        try:
            body = environ["wsgi.input"].read(10)
            body += environ["wsgi.input"].read()
        except OSError as error:
            log.append(type(error).__name__ + ": " + str(error))
            raise
    start(status, [("Content-Length", str(len(body)))])
    return [body]
"""

FAST = (
    "--threads", "1", "--header-timeout", "1", "--body-timeout", "1", "--write-timeout", "1",
    "--linger-timeout", "1", "--queue-target", "10",
)  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess(None, *FAST, source=APP) as running:
        with open(running.directory / "big.bin", "wb") as file:
            file.writelines(bytes([n]) * (1 << 20) for n in range(24))
        yield running


def arrived(server: ServerProcess, name: str) -> None:
    """Wait until the application says by a file that it is inside."""

    def inside() -> None:
        """the application has begun"""
        assert (server.directory / name).exists()

    eventually(inside, within=10)
    (server.directory / name).unlink()


HEAD = b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n"


def drip_until_cut(server: ServerProcess, begin: bytes, drop: bytes, every: float = 0.2) -> bytes:
    """Send one byte at a time, well within every idle time-out, until the server has had enough."""
    with server.connect() as client:
        client.send(begin)
        got = b""
        for _ in range(200):
            client.sock.settimeout(every)  # the pace: an answer ends it at once
            try:
                piece = client.sock.recv(65536)
            except TimeoutError:
                try:
                    client.send(drop)
                except OSError:
                    return got
                continue
            except ConnectionResetError:
                return got
            if not piece:
                return got
            got += piece
    raise AssertionError("nobody cut it")


def passes(seconds: float) -> None:
    """Time goes by: what is tested is how long somebody has waited."""
    until = time.monotonic() + seconds
    eventually(lambda: time.monotonic() > until)


class TestHeads:
    def test_head_that_drips_is_cut_by_the_absolute_deadline(self, server: ServerProcess) -> None:
        got = drip_until_cut(server, b"GET / HTTP/1.1\r\nHost: test\r\nX-Slow: ", b"x")
        assert got.startswith(b"HTTP/1.1 408 ")

    def test_blank_lines_that_drip_are_cut_too(self, server: ServerProcess) -> None:
        got = drip_until_cut(server, b"\r\n", b"\r\n")
        assert got.startswith((b"HTTP/1.1 408 ", b"HTTP/1.1 400 "))

    def test_silent_client_is_closed_without_an_answer(self, server: ServerProcess) -> None:
        with server.connect() as client:
            assert client.end(within=10) == "closed"

    def test_others_are_served_while_many_drip(self, server: ServerProcess) -> None:
        dripping = [server.connect() for _ in range(200)]
        for client in dripping:
            client.send(b"GET / HTTP/1.1\r\nHost:")
        for _ in range(20):
            assert server.get("/").body == b"hello"
        for client in dripping:
            got, how = client.to_end(within=10)
            assert got.startswith(b"HTTP/1.1 408 ")
            assert how == "closed"
            client.close()

    def test_head_in_single_bytes_is_served(self, server: ServerProcess) -> None:
        with server.connect() as client:
            client.send_slowly(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            assert client.reply().body == b"hello"

    def test_second_request_may_be_slow_as_well(self, server: ServerProcess) -> None:
        """The deadline counts from the first byte of each head, not from the connection's beginning."""
        with server.connect() as client:
            for _ in range(3):
                client.send(b"GET / HTTP/1.1\r\nHo")
                assert server.get("/").body == b"hello"
                client.send(b"st: test\r\n\r\n")
                assert client.reply().body == b"hello"


class TestBodies:
    def test_body_that_drips_is_cut_by_its_rate(self, server: ServerProcess) -> None:
        got = drip_until_cut(server, HEAD % 1000, b"x")
        assert got.startswith(b"HTTP/1.1 408 ")

    def test_body_that_is_fast_enough_goes_on_beyond_the_timeout(self, server: ServerProcess) -> None:
        """1000 bytes a quarter of a second are above 500 a second; it takes two body time-outs."""
        pieces = [b"%d" % (n % 10) * 1000 for n in range(10)]
        with server.connect() as client:
            client.send(HEAD % 10_000)
            for piece in pieces[:-1]:
                client.send(piece)
                client.sock.settimeout(0.25)
                with pytest.raises(TimeoutError):
                    client.sock.recv(1)
            client.send(pieces[-1])
            assert client.reply().body == b"".join(pieces)

    @pytest.mark.parametrize("size", [1, 1000, 65536, 65537, 262_144, 262_145, 3_000_000])
    def test_body_over_many_packets_arrives_whole(self, server: ServerProcess, size: int) -> None:
        body = bytes(n * 7 % 251 for n in range(size))
        with server.connect() as client:
            for _ in range(2):
                client.send(HEAD % size)
                for at in range(0, size, 50_001):
                    client.send(body[at : at + 50_001])
                assert client.reply().body == body

    def test_large_body_is_a_file_and_its_descriptor_is_given_back(self, server: ServerProcess) -> None:
        with server.connect() as client:
            before = int(client.get("/fds").body)
            for _ in range(5):
                kind = client.get("/kind", method="POST", body=b"x" * 400_000).body
                assert b"Spooled" in kind
            assert int(client.get("/fds").body) == before

    @pytest.mark.parametrize(("size", "how"), [(5, "/close"), (400_000, "/close"), (400_000, "/detach")])
    def test_a_body_that_the_application_closes_or_takes_apart(
        self, server: ServerProcess, size: int, how: str
    ) -> None:
        with server.connect() as client:
            before = client.get("/close").body
            for _ in range(2):
                assert client.get(how, method="POST", body=b"x" * size).body == before
        assert server.get("/close").body == before

    def test_body_then_pipelined_request(self, server: ServerProcess) -> None:
        with server.connect() as client:
            client.send(HEAD % 5 + b"12345GET / HTTP/1.1\r\nHost: test\r\n\r\n" + HEAD % 2 + b"ab")
            assert [client.reply().body for _ in range(3)] == [b"12345", b"hello", b"ab"]

    def test_client_that_leaves_half_a_body_is_forgotten(self, server: ServerProcess) -> None:
        before = int(server.get("/fds").body)
        for how in ("close", "reset", "half_close"):
            client = server.connect()
            client.send(HEAD % 100_000 + b"x" * 5000)
            getattr(client, how)()
            if how == "half_close":
                assert client.end(within=10) in ("closed", "reset")
                client.close()

        def gone() -> None:
            """the descriptors are back"""
            assert int(server.get("/fds").body) <= before

        eventually(gone)


@pytest.fixture(scope="module")
def patient() -> Iterator[ServerProcess]:
    """The same with the time-outs that it has by default."""
    with ServerProcess(None, "--threads", "1", source=APP) as running:
        with open(running.directory / "big.bin", "wb") as file:
            file.writelines(bytes([n]) * (1 << 20) for n in range(24))
        yield running


class TestResponses:
    @pytest.mark.parametrize("path", ["/big", "/pieces", "/file"])
    def test_reader_that_stops_is_cut_and_holds_no_thread(self, server: ServerProcess, path: str) -> None:
        client = server.connect(receive_buffer=4096)
        client.send(b"GET %s HTTP/1.1\r\nHost: test\r\n\r\n" % path.encode())
        assert client.sock.recv(1) == b"H"
        for _ in range(10):
            assert server.get("/").body == b"hello"

        def cut() -> None:
            """the server's end of the connection is gone"""
            # Fewer, where a connection of the test before was still about to be closed.
            assert int(server.get("/fds").body) <= before

        before = int(server.get("/fds").body) - {"/big": 1, "/pieces": 2, "/file": 2}[path]
        eventually(cut, within=10)
        client.close()

    @pytest.mark.parametrize("path", ["/big", "/pieces", "/file"])
    def test_slow_reader_gets_everything_in_order(self, patient: ServerProcess, path: str) -> None:
        fast = patient.get(path).body
        with patient.connect(receive_buffer=4096) as client:
            client.request(path)
            assert patient.get("/").body == b"hello"
            assert client.reply(within=30).body == fast
            assert client.get("/").body == b"hello"

    @pytest.mark.parametrize("path", ["/big", "/pieces", "/file"])
    def test_kernel_is_not_filled_for_who_does_not_read(self, patient: ServerProcess, path: str) -> None:
        """Copying megabytes into it for each of hundreds would keep the next client waiting for seconds."""
        with patient.connect() as client:
            client.request(path)
            for _ in range(3):  # the leader may have sent several turns' worth meanwhile
                assert patient.get("/").body == b"hello"
            here, there = client.sock.getsockname()[1], client.sock.getpeername()[1]
            lines = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()]
            queued = [
                int(line[4].partition(":")[0], 16)
                for line in lines
                if line[1].endswith(f":{there:04X}") and line[2].endswith(f":{here:04X}")
            ]
            assert len(queued) == 1
            assert 0 < queued[0] < 1 << 20

    @pytest.mark.parametrize("bind", ["127.0.0.1:0", "unix"])
    def test_reader_that_is_fast_enough_goes_on_beyond_the_timeout(self, bind: str) -> None:
        """The kernel asks for more by the hundred kilobytes; meanwhile the client takes what lies there."""
        rate, seconds = 60_000, 1
        with ServerProcess(None, "--write-timeout", str(seconds), source=APP, bind=bind) as server:
            with server.connect(receive_buffer=4096) as client:
                client.send(b"GET /big HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
                received, began = 0, time.monotonic()
                while received < rate * seconds * 3:
                    received += len(client.sock.recv(rate // 20))
                    time.sleep(max(0.0, began + received / rate - time.monotonic()))  # its pace
                while data := client.sock.recv(1 << 16):
                    received += len(data)
            assert received > 10_000_000

    def test_many_slow_readers_leave_the_thread_to_others(self, patient: ServerProcess) -> None:
        clients = [patient.connect(receive_buffer=4096) for _ in range(20)]
        for client in clients:
            client.request("/pieces")
        for _ in range(10):
            assert patient.get("/").body == b"hello"
        for client in clients:
            assert len(client.reply(within=30).body) == 10_000_000
            client.close()

    def test_pipelined_requests_behind_a_large_answer(self, patient: ServerProcess) -> None:
        with patient.connect(receive_buffer=4096) as client:
            one = b"GET %s HTTP/1.1\r\nHost: test\r\n\r\n"
            client.send(one % b"/big" + one % b"/" + one % b"/pieces" + one % b"/")
            sizes = [len(client.reply(within=30).body) for _ in range(4)]
            assert sizes == [10_000_000, 5, 10_000_000, 5]


class TestFairness:
    def test_endless_pipelining_does_not_starve_the_others(self, patient: ServerProcess) -> None:
        """A client whose next request is always there already must wait for its turn like any other."""
        with patient.connect() as greedy:
            greedy.sock.setblocking(False)
            block = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n" * 2000
            for _ in range(20):
                try:
                    for _ in range(50):
                        greedy.sock.send(block)
                except BlockingIOError:
                    pass
                try:
                    while greedy.sock.recv(1 << 20):
                        pass
                except BlockingIOError:
                    pass
                assert patient.get("/").body == b"hello"


def test_beyond_memory_and_files_the_thread_waits_for_the_reader_until_the_deadline() -> None:
    bounds = ("--response-memory", "64k", "--response-spool", "64k", "--write-timeout", "1")
    with ServerProcess(None, "--threads", "1", *bounds, source=APP) as server:
        reader = server.get("/pieces").body
        assert reader == b"".join(bytes([n % 256]) * 50_000 for n in range(200))
        with server.connect(receive_buffer=4096) as stalled, server.connect() as other:
            stalled.request("/pieces")
            assert stalled.sock.recv(1) == b"H"
            began = time.monotonic()
            assert other.get("/").body == b"hello"
            # It had to wait for the only thread, which waited for the other client.
            assert 0.5 < time.monotonic() - began < 10
            assert server.get("/").body == b"hello"


class TestLeaving:
    def test_application_can_ask_whether_the_client_is_gone(self, server: ServerProcess) -> None:
        for how in ("close", "reset"):
            client = server.connect()
            client.request("/wait")
            arrived(server, "in")
            getattr(client, how)()
            assert server.get("/log").body.endswith(b"client gone")

    def test_request_whose_client_left_while_it_waited_is_not_run(self, server: ServerProcess) -> None:
        for how in ("close", "reset"):
            holder = server.connect()
            holder.request("/hold")
            arrived(server, "held")
            waiting = [server.connect() for _ in range(5)]
            for client in waiting:
                client.request("/count")
            # An answer to this is made by whoever reads, and it came after the others: they wait now.
            with server.connect() as bad:
                bad.send(b"BAD\r\n\r\n")
                bad.reply()
            # One that leaves at once may have closed its half only; these have waited for some time.
            passes(1.2)
            for client in waiting:
                getattr(client, how)()
            with server.connect() as other:
                other.request("/log")
                (server.directory / "release").touch()
                assert holder.reply().body == b"hello"
                assert b"counted" not in other.reply().body
            (server.directory / "release").unlink()

    def test_half_closed_client_gets_its_answer(self, server: ServerProcess) -> None:
        with server.connect() as client:
            client.request("/")
            client.half_close()
            assert client.reply().body == b"hello"
            assert client.end() == "closed"

    def test_half_closed_client_that_had_to_wait_gets_its_answer(self, server: ServerProcess) -> None:
        holder = server.connect()
        holder.request("/hold")
        arrived(server, "held")
        waiting = [server.connect() for _ in range(3)]
        for client in waiting:
            client.request("/")
        # Its end comes with the request, and its end comes when somebody has read the request.
        waiting[0].half_close()
        with server.connect() as bad:
            bad.send(b"BAD\r\n\r\n")
            bad.reply()
        waiting[1].half_close()
        passes(1.2)
        (server.directory / "release").touch()
        assert holder.reply().body == b"hello"
        for client in waiting:
            assert client.reply().body == b"hello"
        (server.directory / "release").unlink()

    def test_refused_client_can_read_why_although_it_goes_on_sending(self, server: ServerProcess) -> None:
        with server.connect() as client:
            client.send(b"BAD\r\n\r\n" + b"x" * 300_000)
            assert client.reply().status in (400, 501)
            assert client.end(within=10) == "closed"

    def test_lingering_client_that_never_ends_is_closed(self, server: ServerProcess) -> None:
        with server.connect() as client:
            client.send(b"BAD\r\n\r\n")
            assert client.reply().status in (400, 501)
            assert client.end(within=10) == "closed"
            # Their end is gone too: what we send now comes back as a reset.

            eventually(lambda: is_reset(client), within=5)

    def test_after_its_last_request_a_client_is_not_waited_for(self) -> None:
        """It said that it sends nothing more, so nothing can be lost by closing at once."""
        with (
            ServerProcess(None, "--linger-timeout", "100", source=APP) as patient,
            patient.connect() as client,
        ):
            client.send(b"GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")
            assert client.reply().body == b"hello"
            assert client.end(within=10) == "closed"
            eventually(lambda: is_reset(client), within=10)

    def test_one_that_goes_on_all_the_same_gets_its_answer(self, server: ServerProcess) -> None:
        with server.connect() as client:
            client.send(b"GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n" + b"x" * 300_000)
            assert client.reply().body == b"hello"
            assert client.end(within=10) == "closed"


def is_reset(client: Connection) -> bool:
    """Send something: the server is there no more, and its system says so."""
    try:
        client.send(b"x")
    except (BrokenPipeError, ConnectionResetError):
        return True
    return False


@pytest.fixture(scope="module")
def streaming() -> Iterator[ServerProcess]:
    options = ("--body-timeout", "1", "--threads", "2", "--stream-body")
    with ServerProcess(None, *options, source=APP) as running:
        yield running


class TestStreaming:
    def test_dripping_body_is_cut_by_its_rate(self, streaming: ServerProcess) -> None:
        begin = b"POST /read-some HTTP/1.1\r\nHost: test\r\nContent-Length: 1000\r\n\r\n"
        drip_until_cut(streaming, begin, b"x")
        assert b"did not arrive in time" in streaming.get("/log").body

    def test_body_in_pieces_is_read_whole(self, streaming: ServerProcess) -> None:
        with streaming.connect() as client:
            body = b"0123456789" * 30_000
            client.send(b"POST /read-some HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % len(body))
            for at in range(0, len(body), 9_999):
                client.send(body[at : at + 9_999])
            assert client.reply().body == body
            assert client.get("/").body == b"hello"


@pytest.mark.parametrize("option", [("--body-memory", "0"), ("--buffer-limit", "1")])
def test_everything_in_files_works_like_memory(option: tuple[str, str]) -> None:
    with ServerProcess(None, "--threads", "1", *option, source=APP) as server:
        with server.connect() as client:
            assert client.get("/echo", method="POST", body=b"abc").body == b"abc"
            assert client.get("/echo", method="POST", body=[b"abc", b"de"]).body == b"abcde"
        with server.connect(receive_buffer=4096) as client:
            assert len(client.get("/pieces").body) == 10_000_000


def test_keep_alive_of_zero_says_close() -> None:
    with ServerProcess(None, "--keep-alive", "0", source=APP) as server:
        with server.connect() as client:
            reply = client.get("/")
            assert not reply.keeps
            assert client.end() == "closed"


def test_no_connection_ends_as_idle_whose_next_request_is_there() -> None:
    """Nobody has read it: the worker stands still, or others wait in front of it."""
    with ServerProcess(None, "--keep-alive", "0.3", source=APP) as server:
        with server.connect() as client, server.connect() as silent:
            assert client.get("/").body == silent.get("/").body == b"hello"
            (worker,) = server.workers()
            freeze(worker)
            try:
                client.request("/")
                client.sock.settimeout(1.0)  # longer than it may be idle
                with pytest.raises(TimeoutError):
                    client.sock.recv(1)
            finally:
                os.kill(worker, SIGCONT)
            assert client.reply().body == b"hello"
            assert silent.end() == "closed"


def test_unix_clients_that_leave_are_noticed() -> None:
    with ServerProcess(None, "--threads", "1", source=APP, bind="unix") as server:
        client = server.connect()
        client.request("/wait")
        arrived(server, "in")
        client.sock.shutdown(socket.SHUT_RDWR)
        client.close()
        assert server.get("/log").body.endswith(b"client gone")
