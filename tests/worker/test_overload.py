"""More work than threads: who waits, who is refused and how, and that it ends."""

from __future__ import annotations

import os
import threading
from collections import Counter
from pathlib import Path

import psutil

from tests.kit import Connection, ServerProcess, eventually
from tests.kit.admin import ADMIN, CONTROL, ctl, facts, metrics

APP = """
import os
import time

served = []

def app(environ, start):
    path = environ["PATH_INFO"]
    body = b"hello"
    if path.startswith("/hold/"):
        name = path[6:]
        open(name + ".in", "w").close()
        until = time.monotonic() + 30
        while not os.path.exists(name + ".go") and time.monotonic() < until:
            time.sleep(0.005)
    elif path == "/nap":
        time.sleep(0.05)
    elif path == "/long":
        time.sleep(1.2)
    elif path == "/work":
        until = time.perf_counter() + 0.002
        while time.perf_counter() < until:
            pass
    elif path == "/seen":
        body = ",".join(served).encode()
    else:
        served.append(path[1:])
    start("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


def held(server: ServerProcess, name: str) -> Connection:
    """A request that stays in the application until the file NAME.go is there."""
    client = server.connect()
    client.request(f"/hold/{name}")

    def inside() -> None:
        """the request is in the application"""
        assert (server.directory / f"{name}.in").exists()

    eventually(inside, within=10)
    return client


def release(server: ServerProcess, *names: str) -> None:
    for name in names:
        (server.directory / f"{name}.go").touch()


class TestWaiting:
    def test_request_that_waited_for_the_timeout_gets_503_while_all_threads_are_busy(self) -> None:
        with ServerProcess(None, "--threads", "1", "--queue-timeout", "0.5", source=APP) as server:
            holder = held(server, "a")
            with server.connect() as client:
                reply = client.get("/late")
                assert reply.status == 503
                assert reply.get("Retry-After") == "1"
                assert reply.keeps
                release(server, "a")
                assert holder.reply().body == b"hello"
                assert client.get("/seen").body == b""
                assert client.get("/now").status == 200

    def test_refusal_of_head_has_no_body_and_of_http_1_0_closes(self) -> None:
        with ServerProcess(None, "--threads", "1", "--queue-timeout", "0.3", source=APP) as server:
            holder = held(server, "a")
            head, old, post = server.connect(), server.connect(), server.connect()
            head.request("/", method="HEAD")
            old.request("/", version="HTTP/1.0")
            post.request("/", method="POST", body=b"x" * 1000)
            reply = head.reply(method="HEAD")
            assert (reply.status, reply.keeps) == (503, True)
            assert old.reply().status == 503
            assert old.end() == "closed"
            assert post.reply().status == 503
            assert post.get("/", method="HEAD").status == 503
            release(server, "a")
            holder.reply()

    def test_probes_are_never_refused(self) -> None:
        options = ("--threads", "1", "--queue-timeout", "0.3", "--probe-path", "/alive")
        with ServerProcess(None, *options, source=APP) as server:
            holder = held(server, "a")
            probe, other = server.connect(), server.connect()
            probe.request("/alive")
            other.request("/other")
            assert other.reply().status == 503
            release(server, "a")
            assert probe.reply().status == 200
            holder.reply()

    def test_zero_waits_for_ever(self) -> None:
        options = ("--threads", "1", "--queue-timeout", "0", "--queue-target", "0")
        with ServerProcess(None, *options, source=APP) as server:
            holder = held(server, "a")
            with server.connect() as client:
                client.request("/b")
                client.sock.settimeout(1.5)
                try:
                    raise AssertionError(client.sock.recv(1))
                except TimeoutError:
                    pass
                release(server, "a")
                assert client.reply().status == 200
                holder.reply()

    def test_first_come_first_served_also_on_keep_alive_connections(self) -> None:
        """A connection's second request stands behind those that waited before it."""
        with ServerProcess(None, "--threads", "1", source=APP) as server:
            holder = held(server, "a")
            with server.connect() as quick:
                quick.send(b"".join(b"GET /quick%d HTTP/1.1\r\nHost: test\r\n\r\n" % n for n in range(4)))
                others = [server.connect() for _ in range(3)]
                for number, other in enumerate(others):
                    other.request(f"/other{number}")
                # Whoever reads answers this, and it came last: the others wait in the queue now.
                with server.connect() as bad:
                    bad.send(b"BAD\r\n\r\n")
                    bad.reply()
                release(server, "a")
                for other in others:
                    assert other.reply().status == 200
                for _ in range(4):
                    assert quick.reply().status == 200
                order = server.get("/seen").body.decode().split(",")
                assert order.index("other2") < order.index("quick1")
                holder.reply()


class TestStandingQueue:
    def test_a_half_closed_client_gets_all_answers_to_requests_that_came_together(self) -> None:
        """What tells it from one that gave up is the time between its last byte and its end; once it has
        said that it got an answer, that time can no longer be seen."""
        with ServerProcess(None, "--threads", "1", source=APP) as server:
            first = server.connect()
            # Longer than a client that ends its side at once may take to do so.
            first.send(b"GET /long HTTP/1.1\r\nHost: t\r\n\r\n" + b"GET /last HTTP/1.1\r\nHost: t\r\n\r\n")
            first.half_close()
            other = server.connect()
            other.request("/long")
            assert first.reply().body == b"hello"
            assert other.reply().body == b"hello"
            assert first.reply().body == b"hello"
            assert first.end() == "closed"

    def test_those_who_are_served_are_served_soon_and_it_ends_with_the_load(self) -> None:
        """Sixty clients on two threads that serve forty a second: most must be refused."""
        options = ("--threads", "2", "--queue-target", "0.2")
        with ServerProcess(None, *options, source=APP) as server:
            statuses: Counter[int] = Counter()
            lock = threading.Lock()
            stop = threading.Event()

            def client() -> None:
                with server.connect() as connection:
                    while not stop.is_set():
                        status = connection.get("/nap").status
                        with lock:
                            statuses[status] += 1

            threads = [threading.Thread(target=client) for _ in range(60)]
            for thread in threads:
                thread.start()

            def refused() -> None:
                """some were refused, and some served"""
                assert statuses[503] > 50
                assert statuses[200] > 20

            eventually(refused, within=20)
            stop.set()
            for thread in threads:
                thread.join(20)
            assert set(statuses) == {200, 503}
            for _ in range(5):
                assert server.get("/nap").status == 200

    def test_the_pieces_of_uploads_are_no_queue(self) -> None:
        """Each piece is an event; a request is not as old as one that an earlier piece has left behind."""
        with ServerProcess(None, "--threads", "4", "--queue-target", "0.2", source=APP) as server:
            body = bytes(100_000)
            statuses: Counter[int] = Counter()
            lock = threading.Lock()

            def client() -> None:
                with server.connect() as connection:
                    for _ in range(50):
                        status = connection.get("/work", method="POST", body=body).status
                        with lock:
                            statuses[status] += 1

            threads = [threading.Thread(target=client) for _ in range(16)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)
            assert statuses == {200: 800}

    def test_a_burst_is_served_however_long_it_takes(self) -> None:
        with ServerProcess(None, "--threads", "1", "--queue-target", "0.2", source=APP) as server:
            clients = [server.connect() for _ in range(30)]
            for client in clients:
                client.request("/nap")
            assert [client.reply().status for client in clients] == [200] * 30


class TestCrowd:
    def test_worker_over_its_bound_stops_accepting_and_takes_up_again(self) -> None:
        with ServerProcess(None, "--threads", "1", "--max-queued", "4", source=APP) as server:
            holder = held(server, "a")
            clients = [server.connect() for _ in range(40)]
            for client in clients:
                client.request("/x")
            worker = psutil.Process(server.workers()[0])

            def crowded() -> int:
                """connections wait in the kernel"""
                count = sum(c.status == "ESTABLISHED" for c in worker.net_connections(kind="tcp"))
                assert 4 <= count < 41
                return count

            eventually(crowded)
            release(server, "a")
            assert [client.reply().status for client in clients] == [200] * 40
            holder.reply()

    def test_worker_has_no_more_connections_than_allowed(self) -> None:
        with ServerProcess(None, "--worker-connections", "5", source=APP) as server:
            clients = [server.connect() for _ in range(5)]
            for client in clients:
                assert client.get("/").status == 200
            with server.connect() as sixth:
                sixth.request("/sixth")
                for _ in range(10):  # idle ones do not count against requests
                    assert b"sixth" not in clients[0].get("/seen").body
                clients[1].close()
                assert sixth.reply().status == 200
                assert b"sixth" in clients[0].get("/seen").body


class TestClients:
    def test_one_address_gets_no_more_connections_than_allowed(self) -> None:
        with ServerProcess(None, "--connections-per-client", "3", source=APP) as server:
            clients = [server.connect() for _ in range(3)]
            for client in clients:
                assert client.get("/").status == 200
            with server.connect() as fourth:
                assert fourth.reply().status == 503
                assert fourth.end() in ("closed", "reset")
            clients[0].close()

            def room() -> None:
                """there is room again"""
                assert server.get("/").status == 200

            eventually(room)

    def test_behind_a_proxy_it_is_the_address_that_the_proxy_tells(self) -> None:
        options = ("--connections-per-client", "2", "--proxy-protocol", "auto")
        with ServerProcess(None, *options, source=APP) as server:

            def ask(client: Connection, address: str) -> int:
                client.send(b"PROXY TCP4 %s 127.0.0.1 1111 80\r\n" % address.encode())
                client.request("/")
                return client.reply().status

            # All are there before the first is announced: the proxy itself may have as many as it likes.
            clients = [server.connect() for _ in range(6)]
            one = [ask(client, "192.0.2.1") for client in clients[:3]]
            others = [ask(client, f"192.0.2.{number}") for number, client in enumerate(clients[3:], 2)]
            assert one == [200, 200, 503]
            assert others == [200, 200, 200]
            clients[0].close()

            def room() -> None:
                """there is room again"""
                with server.connect() as client:
                    assert ask(client, "192.0.2.1") == 200

            eventually(room)

    def test_nobody_loses_a_connection_that_comes_from_another_worker(self, tmp_path: Path) -> None:
        config = tmp_path / "conf.py"
        config.write_text("connections_per_client = 4\n")
        options = ("-c", str(config), *CONTROL)
        with ServerProcess(None, *options, source=APP) as server:
            clients = [server.connect() for _ in range(4)]
            for client in clients:
                assert client.get("/").status == 200
            config.write_text("connections_per_client = 2\n")
            assert ctl(server, "reload", "--wait").code == 0
            for client in clients:
                assert client.get("/").status == 200
            with server.connect() as fifth:
                assert fifth.reply().status == 503


class TestDescriptors:
    def test_exhaustion_does_not_spin_is_logged_once_and_ends(self, tmp_path: Path) -> None:
        config = """
import os
import resource

def post_worker_init(worker):
    most = len(os.listdir("/proc/self/fd")) + 50
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
"""
        with ServerProcess(
            None, "--threads", "2", source=APP, config=config, check_descriptors=False
        ) as server:
            worker = psutil.Process(server.workers()[0])
            clients = [server.connect() for _ in range(150)]

            def complained() -> None:
                """the worker says that it cannot accept"""
                assert "Cannot accept" in server.log

            eventually(complained)
            begun = worker.cpu_times()
            served = sum(1 for client in clients[:20] if client.get("/").status == 200)
            assert served == 20
            # Two seconds by the server's own clock: its silent connections are the clock here.
            with_deadline(clients[-1])
            used = worker.cpu_times()
            spent = used.user + used.system - begun.user - begun.system
            assert spent < 1.0, f"{spent} s of processor time while nothing could be accepted"
            # Room for some of those who wait: accepting succeeds, and fails again.
            for client in clients[:40]:
                client.close()
            assert clients[80].get("/").status == 200
            with_deadline(clients[-1])
            assert server.log.count("Cannot accept") == 1
            for client in clients[40:]:
                client.close()

            def back() -> None:
                """new clients are served"""
                assert server.get("/").status == 200

            eventually(back, within=10)


def with_deadline(client: Connection) -> None:
    """Let two seconds pass on a connection that nobody answers."""
    client.sock.settimeout(2.0)
    try:
        client.sock.recv(1)
    except TimeoutError:
        pass


def test_all_threads_blocked_and_auto_grows_and_says_so() -> None:
    """In the log, in the status, and to whoever asks why."""
    options = ("--threads-max", "12", "--log-level", "debug", *ADMIN, *CONTROL)
    with ServerProcess(None, *options, source=APP) as server:
        holders = [held(server, str(n)) for n in range(10)]
        with server.connect() as client:
            assert client.get("/now").status == 200
        decision = "threads 2 -> 4: all threads are blocked; busy 2, "
        assert decision in server.log
        assert decision in ctl(server, "why").out

        def published() -> None:
            """the status tells the threads and the mode"""
            (worker,) = facts(server)["workers"]
            assert worker["threads"] > 10
            assert worker["running"] == 10
            assert worker["mode"] == "hand-off"

        eventually(published)
        release(server, *map(str, range(10)))
        for holder in holders:
            assert holder.reply().status == 200
        assert os.path.exists(server.directory)


INSIDE = """
import threading
import time

lock = threading.Lock()
inside = alone = 0
seen = set()

def app(environ, start):
    global inside, alone
    with lock:
        inside += 1
        alone = alone + 1 if inside == 1 else 0
        if alone == 5:
            seen.add("inline")
        if "inline" in seen and inside >= 4:
            seen.add("together")
    time.sleep(0.001)
    with lock:
        inside -= 1
    body = ",".join(sorted(seen)).encode()
    start("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


def test_inline_mode_ends_although_the_queue_never_empties() -> None:
    """An application that blocks for a millisecond needs its threads, and most of all when many wait."""
    with ServerProcess(None, "--threads", "8", source=INSIDE) as server:
        clients = [server.connect() for _ in range(24)]
        for client in clients:
            client.request("/")
        found: list[str] = []
        # One thread for all of them, which is faster than the server: somebody always waits.
        for _ in range(100):
            for client in clients:
                found.append(client.reply().text)
                client.request("/")
            if found[-1] == "inline,together":
                break
        assert "inline,together" in found  # one thread ran all of them for a while, and later several did


def test_refusals_are_counted_by_reason_for_everybody_who_asks() -> None:
    options = ("--threads", "1", "--queue-timeout", "0.3", *ADMIN, *CONTROL)
    with ServerProcess(None, *options, source=APP) as server:
        holder = held(server, "a")
        with server.connect() as client:
            assert client.get("/late").status == 503

        def published() -> None:
            """the refusal is in the metrics, as one for its reason"""
            found = {label: n for label, n in metrics(server)["threadcorn_requests_shed_total"].items() if n}
            assert found == {'reason="queue_timeout",slot="0"': 1.0}

        eventually(published)
        assert facts(server)["server"]["shed"] == {"queue_timeout": 1, "standing_queue": 0, "full_queue": 0}
        assert "refused for overload: queue_timeout 1" in ctl(server, "status").out
        release(server, "a")
        assert holder.reply().status == 200
