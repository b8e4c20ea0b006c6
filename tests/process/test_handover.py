"""A worker leaves, its connections do not."""

from __future__ import annotations

import os
import resource
import signal
import socket
from pathlib import Path

import psutil

from tests.kit import ServerProcess, eventually
from tests.kit.client import Connection

APP = """
import os
import time

def app(environ, start):
    path = environ["PATH_INFO"]
    body = str(os.getpid()).encode()
    if path.startswith("/hold/"):
        name = path[6:]
        open(name + ".in", "w").close()
        until = time.monotonic() + 30
        while not os.path.exists(name + ".go") and time.monotonic() < until:
            time.sleep(0.005)
    elif path == "/peer":
        body = (environ["REMOTE_ADDR"] + " " + environ["REMOTE_PORT"]).encode()
    elif path == "/big":
        body = bytes(8 << 20)
    elif environ["REQUEST_METHOD"] == "POST":
        body = environ["wsgi.input"].read()
    start("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""

#: Boots, where there is a file "slow", until there is a file "go".
SLOW = f"""{APP}
if os.path.exists("slow"):
    open("boots", "w").close()
    while not os.path.exists("go"):
        time.sleep(0.005)
"""


def server_of(*flags: str, **how: object) -> ServerProcess:
    return ServerProcess(None, *flags, source=APP, **how)  # type: ignore[arg-type]


def replaced(server: ServerProcess, old: list[int]) -> None:
    """Wait until none of these workers is left, and as many others are there."""

    def changed() -> None:
        """all workers are new"""
        now = server.workers()
        assert len(now) == len(old)
        assert not set(now) & set(old)

    eventually(changed, within=30)


def reload(server: ServerProcess) -> None:
    old = server.workers()
    server.signal(signal.SIGHUP)
    replaced(server, old)


def hold(client: Connection, server: ServerProcess, name: str) -> None:
    client.request(f"/hold/{name}")
    eventually((server.directory / f"{name}.in").exists, within=10)


def release(server: ServerProcess, name: str) -> None:
    (server.directory / f"{name}.go").touch()


def here(port: str) -> bytes:
    return f"127.0.0.1 {port}".encode()


class TestReload:
    def test_idle_connections_are_served_on_by_the_next_generation(self) -> None:
        with server_of("--workers", "2") as server:
            clients = [server.connect() for _ in range(20)]
            before = {int(c.get("/").body) for c in clients}
            for _ in range(2):
                reload(server)
                now = server.workers()
                for client in clients:
                    reply = client.get("/")
                    assert reply.keeps
                    assert int(reply.body) in now
            assert not before & set(server.workers())

    def test_more_connections_than_an_inbox_holds(self) -> None:
        """A full inbox is tried again: hundreds of idle connections of one worker all arrive."""
        with server_of() as server:
            clients = [server.connect() for _ in range(450)]
            for client in clients:
                client.get("/")
            reload(server)
            for client in clients:
                assert int(client.get("/").body) in server.workers()

    def test_peer_travels_along(self) -> None:
        with server_of() as server:
            client = server.connect()
            port = str(client.sock.getsockname()[1])
            assert client.get("/peer").body == here(port)
            reload(server)
            assert client.get("/peer").body == here(port)

    def test_half_a_head_is_finished_with_the_successor(self) -> None:
        with server_of() as server:
            used, fresh = server.connect(), server.connect()
            used.get("/")
            for client in (used, fresh):
                client.send(b"GET /peer HTTP/1.1\r\nHo")
            # Whoever sends an answer on another connection has read what came before it.
            server.get("/")
            reload(server)
            for client in (used, fresh):
                client.send(b"st: x\r\n\r\n")
                assert client.reply().body == here(str(client.sock.getsockname()[1]))
                assert int(client.get("/").body) in server.workers()

    def test_connection_goes_after_its_running_response(self) -> None:
        with server_of() as server:
            client = server.connect()
            old = server.workers()
            hold(client, server, "a")
            server.signal(signal.SIGHUP)
            eventually(lambda: "draining" in server.log, within=20)
            release(server, "a")
            reply = client.reply()
            assert int(reply.body) in old
            assert reply.keeps
            replaced(server, old)
            assert int(client.get("/").body) in server.workers()

    def test_pipelined_bytes_behind_a_running_request_are_not_lost(self) -> None:
        with server_of() as server:
            client = server.connect()
            old = server.workers()
            client.send(
                b"GET /hold/a HTTP/1.1\r\nHost: x\r\n\r\n"
                b"GET /peer HTTP/1.1\r\nHost: x\r\n\r\n"
                b"GET / HTTP/1.1\r\n"
            )
            eventually((server.directory / "a.in").exists, within=10)
            server.signal(signal.SIGHUP)
            eventually(lambda: "draining" in server.log, within=20)
            release(server, "a")
            assert int(client.reply().body) in old
            assert client.reply().body == here(str(client.sock.getsockname()[1]))
            replaced(server, old)
            client.send(b"Host: x\r\n\r\n")
            assert int(client.reply().body) in server.workers()

    def test_half_a_body_is_finished_where_it_began(self) -> None:
        with server_of() as server:
            client = server.connect()
            old = server.workers()
            client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n01234")
            server.get("/")
            server.signal(signal.SIGHUP)
            eventually(lambda: "draining" in server.log, within=20)
            client.send(b"56789")
            reply = client.reply()
            assert reply.body == b"0123456789"
            assert reply.keeps
            replaced(server, old)
            assert int(client.get("/").body) in server.workers()

    def test_response_that_is_being_flushed_is_whole_and_the_connection_goes_on(self) -> None:
        with server_of() as server:
            client = server.connect(receive_buffer=4096)
            old = server.workers()
            client.request("/big")
            server.get("/")
            server.signal(signal.SIGHUP)
            eventually(lambda: "draining" in server.log, within=20)
            assert len(client.reply(within=30).body) == 8 << 20
            replaced(server, old)
            assert int(client.get("/").body) in server.workers()

    def test_unix_socket(self) -> None:
        with server_of("--workers", "2", bind="unix") as server:
            clients = [server.connect() for _ in range(6)]
            for client in clients:
                client.get("/")
            reload(server)
            for client in clients:
                assert int(client.get("/").body) in server.workers()


class TestOtherWays:
    def test_recycled_workers_keep_every_connection(self) -> None:
        with server_of("--workers", "2", "--max-requests", "10", check_descriptors=False) as server:
            clients = [server.connect() for _ in range(4)]
            seen = set()

            def many() -> bool:
                for client in clients:
                    reply = client.get("/")
                    assert reply.keeps, "a kept connection was told to close"
                    seen.add(reply.body)
                return len(seen) > 5

            eventually(many, within=30)

    def test_fewer_workers_keep_every_connection(self) -> None:
        with server_of("--workers", "3", check_descriptors=False) as server:
            clients = [server.connect() for _ in range(12)]
            assert len({c.get("/").body for c in clients}) == 3
            for left in (2, 1):
                server.signal(signal.SIGTTOU)
                eventually(lambda left=left: len(server.workers()) == left, within=20)
            assert {int(c.get("/").body) for c in clients} == set(server.workers())

    def test_only_worker_that_is_told_to_leave_waits_for_its_successor(self) -> None:
        with server_of() as server:
            clients = [server.connect() for _ in range(5)]
            for client in clients:
                client.get("/")
            old = server.workers()
            os.kill(old[0], signal.SIGTERM)
            replaced(server, old)
            for client in clients:
                assert int(client.get("/").body) in server.workers()

    def test_worker_that_is_told_to_leave_serves_until_its_successor_does(self) -> None:
        """However long that boots, and however short a worker's time to leave is. A second TERM is obeyed at
        once."""
        with ServerProcess(None, "--graceful-timeout", "0.2", source=SLOW) as server:
            idle, half = server.connect(), server.connect()
            idle.get("/")
            half.send(b"GET / HTTP/1.1\r\n")
            old = server.workers()
            (server.directory / "slow").touch()
            os.kill(old[0], signal.SIGTERM)
            eventually((server.directory / "boots").exists)
            assert idle.silent(0.5)  # longer than a worker waits that nobody can take anything from
            assert int(server.get("/").body) in old
            (server.directory / "go").touch()
            replaced(server, old)
            assert int(idle.get("/").body) in server.workers()
            half.send(b"Host: x\r\n\r\n")
            assert int(half.reply().body) in server.workers()
            old = server.workers()
            (server.directory / "go").unlink()
            os.kill(old[0], signal.SIGTERM)
            eventually(lambda: server.log.count("to be replaced") == 2)
            os.kill(old[0], signal.SIGTERM)
            eventually(lambda: not Path(f"/proc/{old[0]}").exists())
            (server.directory / "go").touch()
            assert int(server.get("/").body) in server.workers()

    def test_worker_that_is_told_to_leave_does_not_wait_longer_than_a_boot_may_take(self) -> None:
        with ServerProcess(
            None, "--boot-timeout", "1", source=SLOW, tolerate=["Fatal Python error"]
        ) as server:
            [old] = server.workers()
            (server.directory / "slow").touch()
            os.kill(old, signal.SIGTERM)
            eventually(lambda: not Path(f"/proc/{old}").exists(), within=20)
            (server.directory / "go").touch()
            eventually(server.workers, within=20)


class TestStop:
    def test_idle_connection_is_closed_and_a_running_request_is_the_last_one(self) -> None:
        with server_of("--workers", "2") as server:
            idle = [server.connect() for _ in range(8)]
            for client in idle:
                client.get("/")
            busy = server.connect()
            hold(busy, server, "a")
            server.signal(signal.SIGTERM)
            for client in idle:
                assert client.end() == "closed"
            release(server, "a")
            reply = busy.reply()
            assert not reply.keeps
            assert busy.end() == "closed"
            assert server.wait() == 0


class TestArbiterKilled:
    def test_workers_finish_and_leave_and_the_port_is_free_meanwhile(self) -> None:
        with server_of("--workers", "2", exit_code=-signal.SIGKILL) as server:
            client = server.connect()
            hold(client, server, "a")
            workers = server.workers()
            server.signal(signal.SIGKILL)
            server.wait()

            def free() -> bool:
                host, port = server.address.rsplit(":", 1)
                with socket.socket() as sock:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    try:
                        sock.bind((host, int(port)))
                        sock.listen()
                    except OSError:
                        return False
                return True

            eventually(free, within=10)
            release(server, "a")
            assert int(client.reply().body) in workers
            eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), within=10)

    def test_orphans_serve_on_for_as_long_as_they_are_allowed(self) -> None:
        with server_of("--workers", "2", "--orphan-timeout", "3", exit_code=-signal.SIGKILL) as server:
            client = server.connect()
            client.get("/")
            workers = server.workers()
            server.signal(signal.SIGKILL)
            server.wait()
            eventually(lambda: "serving on" in server.log, within=10)
            assert int(client.get("/").body) in workers
            assert int(server.get("/").body) in workers
            eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), within=20)


class TestTooFewDescriptors:
    def test_what_cannot_be_taken_waits_quietly_until_it_can(self) -> None:
        """It woke its worker again and again: a processor, and hundreds of thousands of lines in the log."""
        with server_of("--workers", "2", check_descriptors=False) as server:
            clients = [server.connect() for _ in range(24)]
            old = {int(client.get("/").body) for client in clients}
            assert old == set(server.workers())
            before = {pid: resource.prlimit(pid, resource.RLIMIT_NOFILE) for pid in old}
            for pid in old:
                used = max(int(name) for name in os.listdir(f"/proc/{pid}/fd"))
                resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 3, before[pid][1]))
            server.signal(signal.SIGTTOU)
            eventually(lambda: len(server.workers()) == 1 or None, within=20)
            eventually(lambda: "Cannot take a connection" in server.log or None, within=10)
            left = server.workers()[0]
            # Long enough for the next try, and for thousands without a pause.
            spent = psutil.Process(left).cpu_times()
            assert clients[0].silent(1.2)
            now = psutil.Process(left).cpu_times()
            assert now.user + now.system - spent.user - spent.system < 0.8
            assert server.log.count("Cannot take a connection") == 1
            resource.prlimit(left, resource.RLIMIT_NOFILE, before[left])
            assert {int(client.get("/").body) for client in clients} == {left}
