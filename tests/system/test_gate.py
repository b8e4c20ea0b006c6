from __future__ import annotations

import errno
import os
import socket
import threading
import time
from collections import Counter

import pytest

from tests.kit.descriptors import descriptors
from threadcorn.policy.leaving import GATE_LEAST
from threadcorn.policy.steering import Program
from threadcorn.system import listeners
from threadcorn.system.addresses import parse
from threadcorn.system.gate import Gate
from threadcorn.system.listeners import ShardGroup, depth


def reach(group: ShardGroup) -> tuple[str, int]:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(group.address.host, group.address.host)
    return host, group.address.port


@pytest.mark.parametrize("text", ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "[::]:0"])
@pytest.mark.parametrize("slots", [1, 4])
def test_behind_the_gate_nobody_new_comes_in(text: str, slots: int) -> None:
    """A SYN is dropped without an answer, and what waited before is accepted and served."""
    before = descriptors()
    group = ShardGroup.create(parse(text), slots)
    old = [socket.create_connection(reach(group), timeout=5) for _ in range(5)]
    assert group.gate() is Gate.TOMBSTONE
    assert group.gate() is Gate.TOMBSTONE
    assert not group.steer([1] * slots), "steering would open it again"
    for _ in range(3):
        with socket.socket(group.shards[0].family) as late:
            late.settimeout(0.05)
            with pytest.raises(TimeoutError):
                late.connect(reach(group))
    assert sum(group.depths()) == 5
    for shard in group.shards:
        while depth(shard):
            sock, _ = shard.accept()
            sock.sendall(b"served")
            sock.close()
    assert [client.recv(10) for client in old] == [b"served"] * 5
    group.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(reach(group), timeout=5)
    for client in old:
        client.close()
    assert descriptors() == before


def refuse(monkeypatch: pytest.MonkeyPatch, *options: int) -> None:
    real = listeners._attach

    def attach(sock: socket.socket, program: Program, which: int) -> None:
        if which in options:
            raise OSError(errno.EPERM, "Operation not permitted")
        real(sock, program, which)

    monkeypatch.setattr(listeners, "_attach", attach)


def test_without_the_program_each_listener_filters(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second gate: with CAP_NET_ADMIN the listeners themselves drop SYNs."""
    group = ShardGroup.create(parse("127.0.0.1:0"), 2)
    refuse(monkeypatch, listeners.SO_ATTACH_REUSEPORT_CBPF)
    kind = group.gate()
    if kind is not Gate.SYN_FILTER:
        group.close()
        pytest.skip("this user may not attach a filter to a TCP socket")
    with socket.socket() as late:
        late.settimeout(0.05)
        with pytest.raises(TimeoutError):
            late.connect(reach(group))
    group.close()


def test_without_any_filter_the_queue_holds_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last gate is best effort, and no descriptor of a tombstone is left behind."""
    group = ShardGroup.create(parse("127.0.0.1:0"), 2)
    refuse(monkeypatch, listeners.SO_ATTACH_REUSEPORT_CBPF, listeners.SO_ATTACH_FILTER)
    before = descriptors()
    assert group.gate() is Gate.BACKLOG
    assert descriptors() == before
    group.close()


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_tombstone_that_cannot_be_finished_is_taken_back(
    step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever attach fails, no half-made member stays that would be given connections."""
    group = ShardGroup.create(parse("127.0.0.1:0"), 2)
    real = listeners._attach
    calls = 0

    def attach(sock: socket.socket, program: Program, which: int) -> None:
        nonlocal calls
        if which == listeners.SO_ATTACH_FILTER:
            raise OSError(errno.EPERM, "Operation not permitted")
        calls += 1
        if calls == step:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        real(sock, program, which)

    monkeypatch.setattr(listeners, "_attach", attach)
    before = descriptors()
    assert group.gate() is Gate.BACKLOG
    assert descriptors() == before
    with socket.create_connection(reach(group), timeout=5):  # one fits, as the last gate says
        # With tcp_migrate_req the tombstone's own connection moves to a shard, where it is just a dead one.
        assert sum(group.depths()) >= 1
    group.close()


def test_a_unix_socket_is_gated_by_its_file(tmp_path: object) -> None:
    """Who comes late finds no file, which a proxy can tell from a failure; who waits is accepted."""
    path = os.path.join(str(tmp_path), "s")
    group = ShardGroup.create(parse(f"unix:{path}"))
    with socket.socket(socket.AF_UNIX) as early, socket.socket(socket.AF_UNIX) as late:
        early.connect(path)
        assert group.gate() is Gate.UNLINKED
        with pytest.raises(FileNotFoundError):
            late.connect(path)
        group.shards[0].accept()[0].close()
    group.close()


@pytest.mark.parametrize("slots", [1, 3])
def test_stopping_under_load_resets_nobody(slots: int) -> None:
    """T5: six clients in a closed loop; gate, drain, close: each sees an answer, a timeout or a refusal."""
    group = ShardGroup.create(parse("127.0.0.1:0"), slots)
    where = reach(group)
    outcomes: Counter[str] = Counter()
    stopping = threading.Event()
    started = threading.Barrier(7)

    def client() -> None:
        first = True
        while True:
            try:
                with socket.create_connection(where, timeout=0.4) as sock:
                    sock.sendall(b"?")
                    outcome = "answered" if sock.recv(1) == b"!" else "cut"
            except TimeoutError:
                outcome = "turned away"
            except ConnectionRefusedError:
                outcome = "refused"
            except ConnectionResetError:
                outcome = "reset"
            outcomes[outcome] += 1
            if first:
                first = False
                started.wait()
            if stopping.is_set() and outcome != "answered":
                return

    def serve_one() -> int:
        served = 0
        for shard in group.shards:
            try:
                sock, _ = shard.accept()
            except BlockingIOError:
                continue
            with sock:
                sock.settimeout(5)
                if sock.recv(1):
                    sock.sendall(b"!")
            served += 1
        return served

    serving = True

    def serve() -> None:
        while serving:
            serve_one()

    server = threading.Thread(target=serve)
    server.start()
    clients = [threading.Thread(target=client) for _ in range(6)]
    for c in clients:
        c.start()
    started.wait()
    stopping.set()
    assert group.gate() is Gate.TOMBSTONE
    serving = False
    server.join()
    # As the arbiter does: handshakes that were under way have time to end.
    empty_since = time.monotonic()
    while time.monotonic() - empty_since < GATE_LEAST:
        if any(group.depths()):
            serve_one()
            empty_since = time.monotonic()
    group.close()
    for c in clients:
        c.join()
    assert outcomes["reset"] == outcomes["cut"] == 0, outcomes
    assert outcomes["answered"] >= 6


def test_close_ends_copies_that_leaked(monkeypatch: pytest.MonkeyPatch) -> None:
    """T15: a grandchild of the application holds a copy; after the end clients are refused, not swallowed."""
    group = ShardGroup.create(parse("127.0.0.1:0"), 2)
    where = reach(group)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.read(reader, 1)
        os._exit(0)
    group.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(where, timeout=5)
    os.write(writer, b"x")
    os.waitpid(pid, 0)
    os.close(reader)
    os.close(writer)


def test_only_the_process_that_made_a_group_can_end_it(tmp_path: object) -> None:
    """A worker that closes too much ends nobody's service, and removes no socket file."""
    path = os.path.join(str(tmp_path), "s")
    groups = [ShardGroup.create(parse(text), 2) for text in ("127.0.0.1:0", f"unix:{path}")]
    pid = os.fork()
    if pid == 0:
        for group in groups:
            group.close()
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.path.exists(path)
    with socket.create_connection(reach(groups[0]), timeout=5):
        assert sum(groups[0].depths()) == 1
    for group in groups:
        group.close()
    assert not os.path.exists(path)


def test_release_leaves_the_address_to_others() -> None:
    """An upgrade: our copies go, the successor's serve on."""
    group = ShardGroup.create(parse("127.0.0.1:0"), 2)
    successor = ShardGroup.adopt([socket.socket(fileno=os.dup(s.fileno())) for s in group.shards])
    group.release()
    with socket.create_connection(reach(successor), timeout=5):
        assert sum(successor.depths()) == 1
    successor.close()
