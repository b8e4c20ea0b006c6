from __future__ import annotations

import contextlib
import errno
import logging
import os
import random
import select
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kit.descriptors import descriptors, room_for
from tests.kit.eventually import eventually
from threadcorn.errors import BootError
from threadcorn.policy.steering import Program, only, random_by_weight
from threadcorn.system import binding, depths, listeners
from threadcorn.system.addresses import parse, parse_all
from threadcorn.system.depths import UNKNOWN
from threadcorn.system.listeners import Rung, ShardGroup, close_groups, open_groups

LOOPBACKS = ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "[::]:0"]
Clients = list[socket.socket]


@pytest.fixture
def groups() -> Iterator[list[ShardGroup]]:
    """Groups to be closed at the end of the test, and nothing left open then."""
    before = descriptors()
    made: list[ShardGroup] = []
    yield made
    close_groups(made)
    assert descriptors() == before


@pytest.fixture
def clients() -> Iterator[Clients]:
    made: Clients = []
    yield made
    for client in made:
        client.close()


def reach(group: ShardGroup) -> tuple[str, int]:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(group.address.host, group.address.host)
    return host, group.address.port


def connect(group: ShardGroup, clients: Clients, count: int = 1) -> None:
    clients += [socket.create_connection(reach(group), timeout=5) for _ in range(count)]


def refuse(monkeypatch: pytest.MonkeyPatch, code: int, option: int = 51) -> None:
    """From now on the kernel refuses this option, as it may one day."""
    real = listeners._attach

    def attach(sock: socket.socket, program: Program, which: int) -> None:
        if which == option:
            raise OSError(code, os.strerror(code))
        real(sock, program, which)

    monkeypatch.setattr(listeners, "_attach", attach)


# -- rungs and their order -----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", LOOPBACKS)
def test_a_program_reaches_the_shard_of_its_index(
    text: str, groups: list[ShardGroup], clients: Clients
) -> None:
    """T7: RET i is slot i, for every address family."""
    group = ShardGroup.create(parse(text), 4)
    groups.append(group)
    assert group.rung is Rung.FILTER
    for slot in range(4):
        assert group.attach(only(slot))
        connect(group, clients, 3)
        assert group.depths() == [3] * (slot + 1) + [0] * (3 - slot)
        assert group.depth(slot) == 3


STEPS = st.one_of(
    st.tuples(st.just("steer"), st.lists(st.integers(0, 3), min_size=4, max_size=6)),
    st.tuples(st.just("attach"), st.integers(0, 9)),
    st.tuples(st.just("detach"), st.none()),
    st.tuples(st.just("backlog"), st.integers(1, 8)),
)


@settings(max_examples=15)
@given(steps=st.lists(STEPS, max_size=8))
def test_no_sequence_of_events_moves_an_index(steps: list[tuple[str, Any]]) -> None:
    """T7: shards are never closed, so whatever has happened, RET i is slot i."""
    group = ShardGroup.create(parse("127.0.0.1:0"), 4)
    clients: Clients = []
    try:
        for step, value in steps:
            if step == "steer":
                group.steer(value)
            elif step == "attach":
                group.attach(only(value))
            elif step == "detach":
                group.detach()
            else:
                group.set_backlog(512, value)
        for slot in range(4):
            assert group.attach(only(slot))
            connect(group, clients, 2)
            eventually(lambda slot=slot: group.depths() == [2] * (slot + 1) + [0] * (3 - slot))
    finally:
        group.close()
        for client in clients:
            client.close()


@settings(max_examples=15)
@given(weights=st.lists(st.integers(0, 2), min_size=4, max_size=4).filter(any))
def test_a_shard_of_weight_zero_gets_nothing(weights: list[int]) -> None:
    """T22 in the kernel: 12 connections never reach a shard that is out, and all are in some queue."""
    group = ShardGroup.create(parse("127.0.0.1:0"), 4)
    clients: Clients = []
    try:
        group.steer(weights)
        connect(group, clients, 12)
        eventually(lambda: sum(group.depths()) == 12)  # the last ACK may still be on its way
        assert all(w or not d for w, d in zip(weights, group.depths(), strict=True))
    finally:
        group.close()
        for client in clients:
            client.close()


def test_before_anybody_steers_only_live_slots_get_connections(
    groups: list[ShardGroup], clients: Clients
) -> None:
    """Of 16 berths with 2 workers, no connection waits at a shard that has no worker."""
    group = ShardGroup.create(parse("127.0.0.1:0"), 16, live=2)
    groups.append(group)
    connect(group, clients, 20)
    assert sum(group.depths()[:2]) == 20
    assert len(group.shards) == 16


def test_steering_skips_what_changes_nothing(groups: list[ShardGroup], clients: Clients) -> None:
    """The same weights again, or none at all, do not enter the kernel; slots beyond the end are ignored."""
    group = ShardGroup.create(parse("127.0.0.1:0"), 2)
    groups.append(group)
    assert group.steer([1, 0])
    assert not group.steer([1, 0])
    assert not group.steer([0, 0])
    assert group.steer([0, 1, 7])
    connect(group, clients, 4)
    assert group.depths() == [0, 4]


def test_an_index_out_of_range_falls_back_to_the_hash(groups: list[ShardGroup], clients: Clients) -> None:
    """T8: a wrong program never refuses a connection, and detaching is the hash too."""
    group = ShardGroup.create(parse("127.0.0.1:0"), 4)
    groups.append(group)
    for wrong in (4, 0xFFFFFFFF):
        assert group.attach(only(wrong))
        connect(group, clients, 20)
    group.detach()
    group.detach()
    connect(group, clients, 20)
    assert sum(group.depths()) == 60
    assert all(group.depths())


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOPROTOOPT, errno.EINVAL])
def test_a_refused_program_steps_down_without_touching_sockets(
    code: int,
    groups: list[ShardGroup],
    clients: Clients,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """T8: EPERM at any time makes the hash choose, with one line in the log and no connection lost."""
    group = ShardGroup.create(parse("127.0.0.1:0"), 4, log=logging.getLogger("test"))
    groups.append(group)
    fds = [sock.fileno() for sock in group.shards]
    group.steer([1, 0, 0, 0])
    connect(group, clients, 5)
    refuse(monkeypatch, code)
    assert not group.steer([0, 1, 0, 0])
    assert group.rung is Rung.REUSEPORT
    assert not group.steer([0, 0, 1, 0])
    assert len(caplog.records) == 1
    assert "steering" in caplog.text
    connect(group, clients, 40)
    assert [sock.fileno() for sock in group.shards] == fds
    assert sum(group.depths()) == 45
    assert all(group.depths()), "the old program would have sent everybody to the first"


def test_without_the_filter_there_are_as_many_shards_as_workers(
    groups: list[ShardGroup], clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hash cannot avoid a shard that nobody owns, so none is made; later slots share."""
    refuse(monkeypatch, errno.ENOPROTOOPT)
    group = ShardGroup.create(parse("127.0.0.1:0"), 8, live=3)
    groups.append(group)
    assert group.rung is Rung.REUSEPORT
    assert len(group.shards) == 3
    assert group.shard(4) is group.shards[1]
    assert not group.steer([1] * 8)
    connect(group, clients, 30)
    assert sum(group.depths()) == 30


@pytest.mark.parametrize("reason", ["asked", "system", "machine", "alone"])
def test_one_shared_listener_where_sharding_is_out(
    reason: str, groups: list[ShardGroup], clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--no-shard, another system, one worker only: a group of one that every slot owns."""
    if reason == "system":
        monkeypatch.setattr(listeners, "_LINUX", False)
        monkeypatch.setattr(depths, "_LINUX", False)
    if reason == "machine":
        monkeypatch.setattr(listeners, "_GENERIC", ("sparc",))
    top = Rung.SHARED if reason == "asked" else Rung.FILTER
    group = ShardGroup.create(parse("127.0.0.1:0"), 1 if reason == "alone" else 4, live=1, top=top)
    groups.append(group)
    assert group.rung is Rung.SHARED
    assert len(group.shards) == 1
    assert {group.shard(slot) for slot in range(9)} == {group.shards[0]}
    assert not group.steer([0, 1])
    connect(group, clients, 3)
    assert group.depths() == [UNKNOWN if reason == "system" else 3]


@pytest.mark.parametrize("text", ["127.0.0.1:0", "[::1]:0", "[::]:0"])
def test_nobody_lands_in_a_shard_without_a_worker_while_the_group_is_made(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients that connect between the first listen() and the first steering wait in shards that will have
    a worker; the hash would have sent most of them to the others."""
    real = listeners.binding.bind_tcp
    clients: list[socket.socket] = []

    def bind(at: binding.Resolved, backlog: int, **how: Any) -> socket.socket:
        sock = real(at, backlog, **how)
        host = {"::": "::1"}.get(sock.getsockname()[0], sock.getsockname()[0])
        clients.extend(socket.create_connection((host, sock.getsockname()[1]), timeout=5) for _ in range(4))
        return sock

    monkeypatch.setattr(listeners.binding, "bind_tcp", bind)
    group = ShardGroup.create(parse(text), 8, live=2)
    if group.rung is not Rung.FILTER:
        pytest.skip("no filter on this system")
    assert group.depths() == [32, 0, 0, 0, 0, 0, 0, 0]
    group.close()
    for client in clients:
        client.close()


def test_a_system_that_refuses_to_share_a_port_gets_one_listener(
    groups: list[ShardGroup], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """SO_REUSEPORT by name only: the first listener stays and serves all, and the log says so."""
    real = listeners.binding.bind_tcp

    def bind(at: object, backlog: int, *, joins: bool, prepare: object = None) -> socket.socket:
        if joins:
            raise OSError(errno.EADDRINUSE, "Address already in use")
        return real(at, backlog, joins=joins, prepare=prepare)  # type: ignore[arg-type]

    monkeypatch.setattr(listeners.binding, "bind_tcp", bind)
    group = ShardGroup.create(parse("127.0.0.1:0"), 4, log=logging.getLogger("test"))
    groups.append(group)
    assert group.rung is Rung.SHARED
    assert "one listener" in caplog.text


def test_shards_are_what_the_hot_path_counts_on(groups: list[ShardGroup], clients: Clients) -> None:
    """Non-blocking, closed on exec, and accepted sockets have TCP_NODELAY without asking for it."""
    for text in ("127.0.0.1:0", "[::1]:0"):
        group = ShardGroup.create(parse(text), 2)
        groups.append(group)
        group.steer([0, 1])
        connect(group, clients)
        accepted, _ = group.shards[1].accept()
        clients.append(accepted)
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        for sock in group.shards:
            assert not sock.getblocking()
            assert not os.get_inheritable(sock.fileno())
        with pytest.raises(BlockingIOError):
            group.shards[1].accept()


def test_the_backlog_is_divided(groups: list[ShardGroup], clients: Clients) -> None:
    """Pitfall 13: the number in the settings is for the address; 64 a shard at least; again at scaling."""

    def backlogs(group: ShardGroup) -> set[int]:
        # tcpi_sacked: of a listener, the length that its queue may have.
        info = (s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32) for s in group.shards)
        return {int.from_bytes(i[28:32], "little") for i in info}

    group = ShardGroup.create(parse("127.0.0.1:0"), 16, backlog=2048, live=4)
    groups.append(group)
    assert backlogs(group) == {512}
    group.steer([0, 1])
    connect(group, clients, 3)
    group.set_backlog(2048, 8)
    assert backlogs(group) == {256}
    group.set_backlog(2048, 64)
    assert backlogs(group) == {64}
    connect(group, clients, 2)
    assert group.depths()[:2] == [0, 5], "neither queue nor index changed"
    groups.append(ShardGroup.create(parse("127.0.0.1:0"), 4, backlog=10))
    assert backlogs(groups[1]) == {10}
    groups.append(ShardGroup.create(parse("127.0.0.1:0"), 4, backlog=300, live=4, top=Rung.SHARED))
    assert backlogs(groups[2]) == {300}


def test_a_full_shard_counts_what_it_dropped(groups: list[ShardGroup], clients: Clients) -> None:
    """T18's signal: the shard that overflowed shows drops, the one beside it does not."""
    group = ShardGroup.create(parse("127.0.0.1:0"), 2, backlog=3)
    groups.append(group)
    group.steer([1, 0])
    for _ in range(8):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(reach(group))
        clients.append(client)
    eventually(lambda: group.drops()[0] > 0)
    assert group.drops()[1] == 0
    assert group.depths()[0] == 4


def test_thousands_of_programs_under_connections(groups: list[ShardGroup], clients: Clients) -> None:
    """T21, short: replacing the program all the time loses no connection."""
    group = ShardGroup.create(parse("127.0.0.1:0"), 4)
    groups.append(group)
    for turn in range(2000):
        assert group.attach(random_by_weight([turn % 3, turn % 5, 1, turn % 2]))
        if turn % 20 == 0:
            connect(group, clients)
    assert sum(group.depths()) == 100


@pytest.mark.long
def test_sixty_thousand_programs_under_connections(groups: list[ShardGroup]) -> None:
    """T21: no connection fails, and the memory of this process stays what it was."""
    group = ShardGroup.create(parse("127.0.0.1:0"), 4)
    groups.append(group)
    enough, over = threading.Event(), threading.Event()
    answered = 0

    def serve() -> None:
        while not over.is_set():
            for shard in select.select(group.shards, [], [], 0.01)[0]:
                with contextlib.suppress(BlockingIOError):
                    conn, _ = shard.accept()
                    with conn:
                        conn.sendall(b"!")

    def ask() -> None:
        nonlocal answered
        while not enough.is_set():
            with socket.create_connection(reach(group), timeout=5) as client:
                assert client.recv(1) == b"!"
            answered += 1

    programs = [random_by_weight([n % 3, n % 5, 1, n % 2]) for n in range(30)]
    with ThreadPoolExecutor(4) as pool:
        server = pool.submit(serve)
        asking = [pool.submit(ask) for _ in range(3)]
        before = 0
        for turn in range(60_000):
            assert group.attach(programs[turn % 30])
            if turn == 10_000:
                before = psutil.Process().memory_info().rss
        grown = psutil.Process().memory_info().rss - before
        enough.set()
        for each in asking:
            each.result(10)
        over.set()
        server.result(10)
    assert answered > 100
    assert grown < 4 << 20, grown


def test_queued_connections_survive_the_process_that_would_accept_them(
    groups: list[ShardGroup], clients: Clients
) -> None:
    """T1: 40 clients wait, every process that polls their shards is killed, the next one serves them all."""
    group = ShardGroup.create(parse("127.0.0.1:0"), 2)
    groups.append(group)
    reader, writer = os.pipe()
    pids = []
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            os.read(reader, 1)
            os._exit(0)
        pids.append(pid)
    connect(group, clients, 40)
    for client in clients:
        client.sendall(b"?")
    for pid in pids:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    os.close(reader)
    os.close(writer)
    served = 0
    for shard in group.shards:
        while listeners.depth(shard):
            sock, _ = shard.accept()
            sock.sendall(b"!")
            clients.append(sock)
            served += 1
    assert served == 40
    assert [c.recv(1) for c in clients[:40]] == [b"!"] * 40


# -- who may join --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", LOOPBACKS)
@pytest.mark.parametrize("top", Rung)
def test_a_second_server_on_the_port_is_refused(text: str, top: Rung, groups: list[ShardGroup]) -> None:
    """T14: SO_REUSEPORT would let it in silently, and it would take its share of our connections."""
    first = ShardGroup.create(parse(text), 4, top=top)
    groups.append(first)
    again = parse(first.address.bind_text)
    with pytest.raises(BootError) as caught:
        ShardGroup.create(again, 4)
    assert (
        caught.value.message == f"cannot listen at {first.address}: the address is in use by another process"
    )
    assert f"sport = :{first.address.port}" in caught.value.hint


def test_a_successor_that_does_not_want_the_filter(groups: list[ShardGroup], clients: Clients) -> None:
    """What it inherits goes on as it is; the program is taken off by whoever may steer."""
    group = ShardGroup.create(parse("127.0.0.1:0"), 4, live=1)
    groups.append(group)
    assert open_groups([group.asked], 4, top=Rung.REUSEPORT, kept=[group]) == [group]
    assert group.rung is Rung.REUSEPORT
    connect(group, clients, 20)
    assert group.depths() == [20, 0, 0, 0]
    group.detach()
    connect(group, clients, 40)
    assert min(group.depths()) > 0


def test_a_stranger_that_only_bound_is_noticed(groups: list[ShardGroup]) -> None:
    """Without listen() it would get nothing, but it means to: better now than when it starts to."""
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        stranger.bind(("127.0.0.1", 0))
        with pytest.raises(BootError, match="in use"):
            ShardGroup.create(parse(f"127.0.0.1:{stranger.getsockname()[1]}"), 2)


def test_a_port_in_time_wait_is_free(clients: Clients) -> None:
    """A restart right after a stop must not wait for old connections of ours to be forgotten."""
    group = ShardGroup.create(parse("127.0.0.1:0"), 2)
    port = group.address.port
    group.steer([1, 0])
    connect(group, clients)
    sock, _ = group.shards[0].accept()
    sock.close()  # we close first: the TIME_WAIT is ours
    assert clients[0].recv(1) == b""
    clients[0].close()
    group.close()
    again = ShardGroup.create(parse(f"127.0.0.1:{port}"), 2)
    again.close()


def test_two_servers_that_start_at_once_never_share(groups: list[ShardGroup]) -> None:
    """Both bind the first shard before either listens; listen() lets one of them through."""
    with socket.socket() as rival:
        rival.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        rival.bind(("127.0.0.1", 0))
        group = ShardGroup.create(parse(f"127.0.0.1:{rival.getsockname()[1]}"), 2)
        groups.append(group)
        with pytest.raises(OSError, match="in use"):
            rival.listen()


def free_everywhere() -> int:
    """A port that nobody has at any address. Not one that the kernel gives to clients: of those a busy
    machine has used up so many that the next one may not be free for a wildcard."""
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as file:
        first = int(file.read().split()[0])
    while True:
        port = random.randrange(10_000, first)
        with socket.socket(socket.AF_INET6) as s:
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            with contextlib.suppress(OSError):
                s.bind(("::", port))
                return port


def test_ipv4_and_ipv6_wildcards_of_one_port(groups: list[ShardGroup], clients: Clients) -> None:
    """`0.0.0.0:P` and `[::]:P` together: separate groups, each with its own family."""
    port = free_everywhere()
    groups += open_groups(parse_all([f"0.0.0.0:{port}", f"[::]:{port}"]), 2)
    clients.append(socket.create_connection(("127.0.0.1", port), timeout=5))
    clients.append(socket.create_connection(("::1", port), timeout=5))
    assert [sum(g.depths()) for g in groups] == [1, 1]


def test_a_dual_stack_listener_takes_both(groups: list[ShardGroup], clients: Clients) -> None:
    group = ShardGroup.create(parse("[::]:0"), 2)
    groups.append(group)
    for host in ("127.0.0.1", "::1"):
        clients.append(socket.create_connection((host, group.address.port), timeout=5))
    assert sum(group.depths()) == 2


# -- errors a person can cause -------------------------------------------------------------------------------


def complaint(text: str) -> BootError:
    with pytest.raises(BootError) as caught:
        ShardGroup.create(parse(text), 2)
    assert caught.value.message.startswith("cannot listen at ")
    assert caught.value.hint
    assert caught.value.__cause__ is None
    return caught.value


@pytest.mark.parametrize(
    ("text", "says", "hint"),
    [
        ("no-such-host.invalid:80", "'no-such-host.invalid' is not known", "127.0.0.1"),
        ("a..b:80", "not known", "spelling"),
        ("192.0.2.1:0", "no network interface of this machine has the address 192.0.2.1", "0.0.0.0"),
        ("[2001:db8::1]:0", "no network interface", "ip address"),
        ("[fe80::1%nosuchif0]:0", "not known", "spelling"),
        ("fd://9999", "descriptor 9999 is not open", "inherited"),
        ("unix:/no/such/directory/s", "the directory /no/such/directory does not exist", "make it"),
        ("unix:/dev/null/s", "the directory /dev/null does not exist", "make it"),
        ("unix:/dev/null", "exists and is not a socket", "choose another path"),
    ],
)
def test_a_refusal_is_told_in_words(text: str, says: str, hint: str) -> None:
    """What, where, and what to do; never the kernel's number alone."""
    error = complaint(text)
    assert says in error.message
    assert hint in error.hint


def test_an_address_of_our_own_in_the_way_is_named() -> None:
    """Two --bind of one command that exclude each other do not blame another process."""
    before = descriptors()
    port = free_everywhere()
    with pytest.raises(BootError) as caught:
        open_groups(parse_all([f"0.0.0.0:{port}", f"127.0.0.1:{port}"]), 2)
    assert f"--bind 0.0.0.0:{port} of this same command" in caught.value.message
    assert descriptors() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can stop being root")
def test_a_privileged_port_is_told_as_such() -> None:
    """T16: nobody may not bind port 81, and the message says what to do about it."""
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", encoding="ascii") as limit:
        if int(limit.read()) <= 81:
            pytest.skip("every port is free for everybody here")

    def nobody() -> bytes:
        try:
            ShardGroup.create(parse("127.0.0.1:81"), 2)
        except BootError as error:
            return str(error).encode()
        return b"bound"

    text = in_child(nobody)
    assert "may not open port 81" in text
    assert "CAP_NET_BIND_SERVICE" in text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can stop being root")
def test_nobody_can_steer_and_gate() -> None:
    """T16: the filter, the depth and the tombstone need no privilege."""

    def nobody() -> bytes:
        group = ShardGroup.create(parse("127.0.0.1:0"), 4)
        words = [group.rung.name, group.steer([0, 1]), group.depth(1), group.gate().name]
        group.close()
        return repr(words).encode()

    assert in_child(nobody) == repr(["FILTER", True, 0, "TOMBSTONE"])


def in_child(work: object, uid: int = 65534) -> str:
    """What `work` answers in a process of another user."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            os.write(writer, work())  # type: ignore[operator]
        except BaseException as error:
            os.write(writer, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    with os.fdopen(reader, "rb") as answer:
        return answer.read().decode()


def test_too_many_descriptors_leave_none_behind() -> None:
    """Whichever shard is the one too many, those before it are closed and the message names the limit."""
    before = descriptors()
    for room in range(1, 16):
        with room_for(room), pytest.raises(BootError, match="too many open descriptors"):
            open_groups([parse("127.0.0.1:0")], 16)
        assert descriptors() == before


# -- unix sockets --------------------------------------------------------------------------------------------


def test_a_unix_socket_is_one_shared_listener(
    tmp_path: Path, groups: list[ShardGroup], clients: Clients
) -> None:
    path = tmp_path / "s"
    group = ShardGroup.create(parse(f"unix:{path}"), 4, umask=0o027)
    groups.append(group)
    assert group.rung is Rung.SHARED
    assert path.stat().st_mode & 0o777 == 0o750
    client = socket.socket(socket.AF_UNIX)
    clients.append(client)
    client.connect(str(path))
    assert group.depths() == [UNKNOWN]
    accepted, _ = group.shard(3).accept()
    clients.append(accepted)
    group.close()
    assert not path.exists()


def test_the_umask_of_the_process_is_as_before(tmp_path: Path, groups: list[ShardGroup]) -> None:
    before = os.umask(0o077)
    try:
        groups.append(ShardGroup.create(parse(f"unix:{tmp_path}/s"), umask=0))
        assert (tmp_path / "s").stat().st_mode & 0o777 == 0o777
        assert os.umask(0o077) == 0o077
        groups.append(ShardGroup.create(parse(f"unix:{tmp_path}/t")))
        assert (tmp_path / "t").stat().st_mode & 0o777 == 0o700
    finally:
        os.umask(before)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_the_workers_user_owns_the_socket_file(tmp_path: Path, groups: list[ShardGroup]) -> None:
    groups.append(ShardGroup.create(parse(f"unix:{tmp_path}/s"), owner=(65534, 65533)))
    made = (tmp_path / "s").stat()
    assert (made.st_uid, made.st_gid) == (65534, 65533)


def test_a_stale_socket_file_is_replaced(tmp_path: Path, groups: list[ShardGroup], clients: Clients) -> None:
    """A killed server leaves its file; the next start does not need a person."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    groups.append(ShardGroup.create(parse(f"unix:{path}")))
    client = socket.socket(socket.AF_UNIX)
    clients.append(client)
    client.connect(str(path))


@pytest.mark.parametrize("full", [False, True])
def test_a_live_unix_socket_is_left_alone(tmp_path: Path, full: bool) -> None:
    """Also when its queue is full and connecting would wait."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as live, socket.socket(socket.AF_UNIX) as waiting:
        live.bind(str(path))
        live.listen(0)
        if full:
            waiting.connect(str(path))
        error = complaint(f"unix:{path}")
        assert "another process is serving there" in error.message
        assert path.exists()


def test_a_datagram_socket_is_not_a_stale_one(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        assert "another process" in complaint(f"unix:{path}").message
        assert path.exists()


def test_a_file_that_is_not_ours_any_more_stays(tmp_path: Path) -> None:
    """Somebody moved another socket to the path: our end must not be the end of theirs."""
    path = tmp_path / "s"
    group = ShardGroup.create(parse(f"unix:{path}"))
    with socket.socket(socket.AF_UNIX) as successor:
        successor.bind(str(tmp_path / "new"))
        os.rename(tmp_path / "new", path)
        group.close()
        assert path.exists()


def test_a_failed_start_leaves_no_socket_file(tmp_path: Path) -> None:
    with pytest.raises(BootError):
        open_groups([parse(f"unix:{tmp_path}/s"), parse("fd://9999")], 2)
    assert list(tmp_path.iterdir()) == []


def test_abstract_names_are_exclusive(groups: list[ShardGroup]) -> None:
    """No file, no stale name: the kernel forgets it with its last holder."""
    name = f"unix:@threadcorn-listeners-{os.getpid()}"
    group = ShardGroup.create(parse(name), 4)
    assert "in use" in complaint(name).message
    group.close()
    groups.append(ShardGroup.create(parse(name), 4))


# -- inherited -----------------------------------------------------------------------------------------------


def test_an_inherited_listener_is_used_and_left_open(groups: list[ShardGroup], clients: Clients) -> None:
    """fd://N: one shared listener; at our end it goes on for its owner, who keeps the queue."""
    with socket.create_server(("127.0.0.1", 0)) as theirs:
        fd = os.dup(theirs.fileno())
        os.set_inheritable(fd, True)
        group = ShardGroup.create(parse(f"fd://{fd}"), 4)
        assert group.rung is Rung.SHARED
        assert group.address.port == theirs.getsockname()[1]
        assert not os.get_inheritable(fd)
        assert group.shards[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        connect(group, clients)
        assert group.gate() is listeners.Gate.NOT_OURS
        group.close()
        connect(group, clients)
        for _ in range(2):
            clients.append(theirs.accept()[0])


def test_an_inherited_socket_that_does_not_listen_yet_is_made_to(groups: list[ShardGroup]) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        group = ShardGroup.create(parse(f"fd://{os.dup(bound.fileno())}"))
        groups.append(group)
        assert depths.is_listening(group.shards[0])


def a_connection() -> int:
    one, other = socket.socketpair()
    other.close()
    return one.detach()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: os.open("/dev/null", os.O_RDONLY), "is not a socket"),
        (lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).detach(), "SOCK_DGRAM"),
        (a_connection, "is a connection, not a listener"),
    ],
)
def test_an_inherited_descriptor_of_the_wrong_kind_is_refused(make: object, says: str) -> None:
    """And it stays open: it is not ours to close."""
    fd = make()  # type: ignore[operator]
    try:
        assert says in complaint(f"fd://{fd}").message
        os.fstat(fd)
    finally:
        os.close(fd)


def test_a_group_that_exists_is_used_again(groups: list[ShardGroup]) -> None:
    """What was asked for in the same words is kept over a reload, with its port; the rest is made."""
    old = open_groups(parse_all(["127.0.0.1:0", "localhost:0"]), 2)
    groups += old
    new = open_groups(parse_all(["localhost:0", "[::1]:0", "127.0.0.1:0"]), 2, kept=old)
    assert new[0] is old[1]
    assert new[2] is old[0]
    groups.append(new[1])
    with pytest.raises(BootError):
        open_groups(parse_all(["127.0.0.1:0", "fd://9999"]), 2, kept=old)
    assert old[0].depths() == [0, 0], "a failed reload does not close what serves"
