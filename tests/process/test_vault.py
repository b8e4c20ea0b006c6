"""--vault on real servers: a worker is killed, and its clients notice nothing or are told."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import threading
from contextlib import suppress

import psutil
import pytest

from tests.kit import Connection, ServerProcess, eventually
from tests.kit.admin import ADMIN, facts
from tests.kit.processes import at_rest, freeze
from tests.kit.server import FORKED
from tests.process.line import Line, reach

SOURCE = """
import os, time
def app(environ, start_response):
    path = environ["PATH_INFO"]
    name = path.rpartition("/")[2]
    body = str(os.getpid()).encode()
    if path.startswith("/hold/"):
        open(name + ".in", "w").close()
        while not os.path.exists(name + ".go"):
            time.sleep(0.005)
    if path.startswith("/stream/"):
        start_response("200 OK", [("Content-Length", "1000000")])
        return stream(name)
    if path == "/echo":
        body += b" " + environ["wsgi.input"].read()
    if path.startswith("/fork/") and os.fork() == 0:
        while not os.path.exists(name + ".go"):
            time.sleep(0.005)
        body = b"another"
    if path == "/large":
        body *= 100_000
    if path.startswith("/after/"):
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return after(name, body)
    if path == "/fails":
        start_response("200 OK", [])
        return fails()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
def stream(name):
    yield b"x" * 1000
    open(name + ".in", "w").close()
    time.sleep(60)
def after(name, body):
    yield body
    open(name + ".in", "w").close()
    time.sleep(60)
def fails():
    yield b"not the whole"
    raise RuntimeError("half-way")
"""
RUNGS = [
    pytest.param("127.0.0.1:0", ("--workers", "3"), id="three"),
    pytest.param("127.0.0.1:0", ("--workers", "1"), id="one"),
    pytest.param("127.0.0.1:0", ("--workers", "2", "--no-shard"), id="one listener"),
    pytest.param("unix", ("--workers", "2"), id="unix"),
]


def home(client: Connection) -> int:
    """Who serves this connection now."""
    reply = client.get("/")
    assert reply.status == 200
    return int(reply.body)


def kill(pid: int) -> None:
    """When it is not at work."""
    at_rest(pid)
    os.kill(pid, signal.SIGKILL)


def clients_of(server: ServerProcess, count: int) -> dict[int, list[Connection]]:
    """Connections that have had an answer, by worker."""
    homes: dict[int, list[Connection]] = {}
    for _ in range(count):
        client = server.connect(reach(server))
        homes.setdefault(home(client), []).append(client)
    return homes


@pytest.mark.parametrize(("bind", "options"), RUNGS)
def test_what_becomes_of_each(bind: str, options: tuple[str, ...]) -> None:
    """Idle, fresh and unread ones are served by somebody else, and so are those of which a part had been
    read; 502 for what ran and had not been answered; an answer that has begun is cut."""
    with ServerProcess(None, "--vault", "--threads", "4", *options, source=SOURCE, bind=bind) as server:
        fresh = [server.connect(reach(server)) for _ in range(6)]
        homes = clients_of(server, 24)
        victim, mine = max(homes.items(), key=lambda one: len(one[1]))
        running, half, streaming, unread, *idle = mine
        half.send(b"GET / HTTP/1.1\r\nHost: t\r\n")  # first, so that it has been read when the others run
        running.request("/hold/a")
        streaming.request("/stream/b")
        for name in ("a", "b"):
            eventually((server.directory / f"{name}.in").exists)
        assert not streaming.silent(10)
        eventually(lambda: kept_by(server) >= 30)
        freeze(victim)
        unread.request("/")
        os.kill(victim, signal.SIGKILL)
        assert int(unread.reply().body) != victim
        for client in idle:
            assert home(client) != victim
        assert victim not in [home(client) for client in fresh]
        answer = running.reply()
        assert (answer.status, answer.body) == (502, b"")
        assert running.end() == "closed"
        half.send(b"\r\n")
        assert int(half.reply().body) != victim
        data, how = streaming.to_end()
        assert how != "timeout"
        assert len(data) < 1000000
        for others in homes.values():
            for client in others if others is not mine else ():
                home(client)
        assert "1 answered with 502" in server.log
        assert "1 cut" in server.log


def test_bodies_that_are_half_here() -> None:
    """The next worker gets what was read, in however many pieces, and the client sends on. One of which more
    than 256 KiB have come is not kept: 502."""
    with ServerProcess(None, "--vault", "--workers", "2", source=SOURCE) as server:
        homes = clients_of(server, 12)
        victim, mine = max(homes.items(), key=lambda one: len(one[1]))
        text = b"0123456789abcdef" * 15_000
        plain, chunked, asking, long, longer = mine[:5]
        head = b"POST /echo HTTP/1.1\r\nHost: t\r\n"
        for piece in (head + b"Content-", b"Length: 12\r\n\r\n", b"one "):
            plain.send(piece)
            at_rest(victim)
        for piece in (head + b"Transfer-Encoding: chunked\r\n\r\n4\r", b"\none \r\n8\r\ntwo "):
            chunked.send(piece)
            at_rest(victim)
        asking.send(head + b"Content-Length: 12\r\nExpect: 100-continue\r\n\r\n")
        assert asking.interim().status == 100
        asking.send(b"one two ")
        long.send(head + b"Content-Length: %d\r\n\r\n" % len(text) + text[:200_000])
        longer.send(head + b"Content-Length: 900000\r\n\r\n" + b"x" * 500_000)
        kill(victim)
        plain.send(b"two four")
        chunked.send(b"four\r\n0\r\n\r\n")
        asking.send(b"four")
        for client in (plain, chunked, asking):
            served, _, body = client.reply().body.partition(b" ")
            assert int(served) != victim
            assert body == b"one two four"
            assert home(client) != victim
        long.send(text[200_000:])
        assert long.reply().body.endswith(text)
        assert longer.reply().status == 502


def test_who_waits_for_a_thread_is_served_by_the_next_worker() -> None:
    """Only what ran is lost with its worker, and never run again: neither by the next one nor by the one
    after that."""
    with ServerProcess(
        None, *ADMIN, "--vault", "--workers", "1", "--threads", "2", "--queue-target", "0", source=SOURCE
    ) as server:
        clients = {f"{n}": server.connect() for n in range(6)}
        for name, client in clients.items():
            client.request(f"/hold/{name}")

        def begun() -> set[str]:
            return {path.stem for path in server.directory.glob("*.in")}

        lost: set[str] = set()
        for left in (4, 2, 0):
            eventually(lambda left=left: len(begun()) == 6 - left)
            eventually(lambda left=left: facts(server)["workers"][0]["waiting"] == left)
            (victim,) = server.workers()
            os.kill(victim, signal.SIGKILL)
            ran = begun() - lost
            for name in ran:
                assert clients[name].reply().status == 502
            lost |= ran
        assert home(server.connect()) != victim
        assert len(begun()) == 6


@pytest.mark.parametrize("before", [(), ("/large",), ("/large", "/")])
def test_who_has_the_whole_answer_keeps_the_connection(before: tuple[str, ...]) -> None:
    """The worker had not come back from sending it, or the application went on after its last byte: the
    client has what it asked for, and asks again."""
    with ServerProcess(None, "--vault", "--workers", "2", source=SOURCE) as server:
        client = server.connect()
        for path in before:
            assert client.get(path).status == 200
        answer = client.get("/after/a")
        eventually((server.directory / "a.in").exists)
        os.kill(int(answer.body), signal.SIGKILL)
        for _ in range(3):
            served = home(client)
            assert served != int(answer.body)
            assert client.get("/large").status == 200


def test_what_a_forked_child_does_is_not_marked() -> None:
    """It comes back with an answer of its own, for a connection that is idle in the worker by then."""
    with ServerProcess(None, "--vault", "--workers", "2", source=SOURCE, tolerate=FORKED) as server:
        client = server.connect()
        victim = int(client.get("/fork/a").body)
        (child,) = psutil.Process(victim).children()
        (server.directory / "a.go").touch()
        eventually(lambda: child.status() == psutil.STATUS_ZOMBIE)
        os.kill(victim, signal.SIGKILL)
        assert home(client) != victim


def test_a_worker_that_stands_still_is_ended_and_its_clients_are_answered() -> None:
    """Neither it nor its caretaker can give anything away; the time-out ends it, and others answer."""
    with ServerProcess(None, "--vault", "--workers", "2", "--timeout", "1", source=SOURCE) as server:
        victim, mine = max(clients_of(server, 20).items(), key=lambda one: len(one[1]))
        eventually(lambda: kept_by(server) >= 20)
        at_rest(victim)
        freeze(victim)
        for client in mine:
            client.request("/")
        for client in mine:
            assert int(client.reply().body) != victim


def kept_by(server: ServerProcess, pid: int = 0) -> int:
    """How many connections the arbiter has copies of: sockets beyond those of a server without clients."""
    now = server._descriptors(pid or server.pid)
    before = server._before[server.pid]
    return now["socket"] - before["socket"]


def test_more_than_a_wire_and_an_inbox_hold() -> None:
    """Each of them has room for about 280 descriptors; what does not fit is tried again."""
    with ServerProcess(None, "--vault", "--workers", "2", source=SOURCE) as server:
        homes = clients_of(server, 700)
        eventually(lambda: kept_by(server) >= 700, within=20)
        victim = min(homes)
        kill(victim)
        for client in homes[victim]:
            assert home(client) != victim


def test_nothing_is_left_when_they_have_ended() -> None:
    """An end comes at once, the copy goes a moment later; no worker has copies of others' connections."""
    with ServerProcess(None, "--vault", "--workers", "2", source=SOURCE) as server:
        clients = [client for some in clients_of(server, 40).values() for client in some]
        eventually(lambda: kept_by(server) >= 40)
        kill(server.workers()[0])
        eventually(lambda: len(server.workers()) == 2)
        for client in clients:
            home(client)
        for client in clients[:20]:
            client.send(b"GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")
            assert client.reply().status == 200
            assert client.end() == "closed"
        for client in clients[20:]:
            client.close()
        eventually(lambda: kept_by(server) <= 0)
        for pid in server.workers():
            eventually(lambda pid=pid: server._descriptors(pid)["socket"] <= 16 * 3 + 8)


def test_the_same_connections_through_everything() -> None:
    """Thirty clients that ask now and then, through kills, reloads and scaling: none is ever closed."""
    chance = random.Random(7)
    with Line("--vault", "--workers", "3", source=SOURCE) as server:
        clients = [server.connect() for _ in range(30)]
        for what in ("kill", "kill", "more", "reload", "kill", "fewer", "kill"):
            for client in clients:
                assert client.get("/").status == 200
            known = server.children()
            if what == "kill":
                victim = chance.choice(known)
                with suppress(FileNotFoundError, ProcessLookupError):  # it was about to leave, and has
                    kill(victim)
                eventually(lambda gone=victim: gone not in server.children())
            else:
                server.tell({"reload": signal.SIGHUP, "more": signal.SIGTTIN, "fewer": signal.SIGTTOU}[what])
                eventually(lambda before=known: server.children() != before)
        for client in clients:
            assert client.get("/").status == 200
        server.end()


def test_an_upgraded_server_keeps_them_as_well() -> None:
    """The successor's workers put them into the successor's vault. An old worker that is killed while it
    still runs something loses only that."""
    with Line("--vault", "--workers", "2", source=SOURCE) as server:
        homes = clients_of(server, 20)
        victim, mine = max(homes.items(), key=lambda one: len(one[1]))
        running = mine.pop()
        running.request("/hold/a")
        eventually((server.directory / "a.in").exists)
        before = server.serving
        server.tell(signal.SIGUSR2)
        eventually(lambda: server.named() not in (0, before), within=20)
        kill(victim)
        assert running.reply().status == 502
        (server.directory / "a.go").touch()
        server.serving = server.named()
        clients = [client for some in homes.values() for client in some if client is not running]
        now = {home(client) for client in clients}
        assert not now & set(homes)
        kill(now.pop())
        for client in clients:
            home(client)
        server.end()


def test_whose_connection_it_is_travels_along() -> None:
    """The announcement of a proxy was for the whole connection: the next worker does not ask for it again."""
    flags = ("--proxy-protocol", "v1", "--proxy-allow-from", "*")
    with ServerProcess("tests.kit.apps:show", "--vault", "--workers", "2", *flags) as server:
        client, fresh = server.connect(), server.connect()
        client.send(b"PROXY TCP4 203.0.113.9 127.0.0.1 4711 80\r\n")
        seen = json.loads(client.get("/").body)
        assert (seen["REMOTE_ADDR"], seen["REMOTE_PORT"]) == ("203.0.113.9", "4711")
        for _ in range(3):
            kill(int(seen["pid"]))
            before, seen = seen, json.loads(client.get("/").body)
            assert seen["pid"] != before["pid"]
            assert seen["REMOTE_ADDR"] == "203.0.113.9"
        fresh.send(b"PROXY TCP4 203.0.113.8 127.0.0.1 4712 80\r\n")
        assert json.loads(fresh.get("/").body)["REMOTE_ADDR"] == "203.0.113.8"


def test_what_was_read_is_kept_also_when_much_comes_at_once() -> None:
    """More than the wire holds. Some were not kept, and as their clients sent no more, never."""
    with ServerProcess(None, "--vault", source=SOURCE) as server:
        clients = [server.connect() for _ in range(40)]
        freeze(server.pid)
        for client in clients:
            client.send(b"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 60000\r\n\r\n" + bytes(50000))
        (worker,) = clients_of(server, 1)
        server.signal(signal.SIGCONT)
        assert clients[0].silent(1.0)  # it tries again several times a second
        kill(worker)
        for client in clients:
            client.send(bytes(10000))
        assert [client.reply().status for client in clients] == [200] * 40


def test_half_a_response_still_ends_in_a_reset() -> None:
    """Where only the end of the connection says that a response is whole, an orderly end must not come."""
    with ServerProcess(None, "--vault", source=SOURCE) as server:
        client = server.connect()
        client.send(b"GET /fails HTTP/1.0\r\n\r\n")
        assert client.to_end()[1] == "reset"


LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (560, 560))
os.execv(sys.executable, [sys.executable, "-m", "threadcorn", "--vault", "--ready-fd", os.environ["READY_FD"],
                          "--bind", os.environ["BIND"], "application:app"])
"""


def test_a_full_vault_harms_nobody() -> None:
    """There are no descriptors for all: the others are as they were without it, and the log says so once."""
    with ServerProcess(script=LIMITED, source=SOURCE) as server:
        homes = clients_of(server, 120)
        eventually(lambda: "The vault is full: 48 connections" in server.log)
        kill(next(iter(homes)))
        kept = 0
        for client in homes.popitem()[1]:
            try:
                home(client)
                kept += 1
            except (OSError, AssertionError):
                pass
        assert kept == 48
        assert server.log.count("The vault is full") == 1


def test_connections_that_change_their_worker_do_not_need_two_places() -> None:
    """At once, all of them: it was full, and they were lost with their next worker."""
    with ServerProcess(script=LIMITED, source=SOURCE) as server:
        homes = clients_of(server, 40)
        (old,) = homes
        for reload in (1, 2, 3):
            server.signal(signal.SIGHUP)
            eventually(lambda reload=reload: server.log.count("Reloaded: ") == reload, within=20)
            eventually(lambda: len(server.workers()) == 1, within=20)
            (last,) = {home(client) for client in homes[old]}
        kill(last)
        assert last not in {home(client) for client in homes[old]}
        assert "The vault is full" not in server.log


def test_a_full_vault_leaves_descriptors_for_workers() -> None:
    """Slots have some each, and there may be many: a reload failed, and nobody who died was replaced."""
    limited = LIMITED.replace("560, 560", "1400, 1400")
    limited = limited.replace('"--vault"', '"--vault", "--max-workers", "200", "--workers", "3"')
    with ServerProcess(script=limited, source=SOURCE) as server:
        old = set(clients_of(server, 620))
        server.signal(signal.SIGHUP)
        eventually(lambda: "Reloaded: " in server.log or "Reload failed" in server.log, within=20)
        assert "Reload failed" not in server.log
        eventually(lambda: not old & set(server.workers()), within=20)


def test_it_has_room_for_workers_that_come_later() -> None:
    """--worker-connections is of each worker: with more of them there are more connections to keep."""
    with Line("--vault", "--worker-connections", "8", "--max-workers", "3", source=SOURCE) as server:
        for count in (2, 3):
            server.tell(signal.SIGTTIN)
            server.logged(f"Number of workers: {count}")
            eventually(lambda count=count: len(server.workers()) == count)
        assert len(clients_of(server, 18)) == 3
        eventually(lambda: kept_by(server) >= 18 + 2)  # two more workers have a channel each
        assert "The vault is full" not in server.log


@pytest.mark.parametrize("seed", [1])
def test_under_load(seed: int) -> None:
    """Workers are killed while clients ask: whoever was not answered was being served just then, and stands
    in the log; nobody else notices."""
    chance = random.Random(seed)
    failures: list[str] = []
    asked = [0]
    over = threading.Event()

    def ask(server: Line) -> None:
        client = server.connect()
        while not over.is_set():
            try:
                status = client.get("/").status
            except (OSError, AssertionError) as error:
                status = 0
                failures.append(repr(error))
            else:
                asked[0] += 1
                if status != 200:
                    failures.append(str(status))
            if status != 200:
                client.close()
                client = server.connect()
            over.wait(0.002)

    with Line("--vault", "--workers", "3", source=SOURCE) as server:
        threads = [threading.Thread(target=ask, args=(server,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for _ in range(6):
            enough = asked[0] + 60
            eventually(lambda enough=enough: asked[0] >= enough)
            workers = server.children()
            os.kill(chance.choice(workers), signal.SIGKILL)
            eventually(lambda before=workers: set(server.children()) != set(before))
        over.set()
        for thread in threads:
            thread.join(20)
        told = sum(int(n) for n in re.findall(r"(\d+) (?:cut|answered with 502)", server.log))
        assert len(failures) <= told, (failures, told)
        assert told <= 6 * 8
        server.end()
