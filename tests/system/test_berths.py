from __future__ import annotations

import os
import socket
import threading

import pytest

from tests.kit.descriptors import descriptors, room_for
from threadcorn.errors import BootError
from threadcorn.system.addresses import parse
from threadcorn.system.berths import Berth, close_all, leave_to_parent, open_berths
from threadcorn.system.listeners import close_groups, open_groups


def test_a_berth_has_its_shard_of_every_group() -> None:
    """Slot i owns shard i of each address, in the order of the addresses, and the one of a shared group."""
    name = f"unix:@threadcorn-berth-{os.getpid()}"
    groups = open_groups([parse("127.0.0.1:0"), parse(name), parse("[::1]:0")], 3)
    berths = open_berths(groups, 3)
    try:
        for slot, berth in enumerate(berths):
            assert berth.slot == slot
            assert berth.listeners == [groups[0].shards[slot], groups[1].shards[0], groups[2].shards[slot]]
    finally:
        close_all(berths)
        close_groups(groups)


def test_a_bell_rings_once_however_often_it_is_rung() -> None:
    berth = Berth(0, [])
    assert not berth.hush()
    for _ in range(5):
        berth.ring()
    assert berth.hush()
    assert not berth.hush()
    berth.close()


def test_ringing_never_blocks() -> None:
    """A bell that nobody hushes for a long time takes a ring more; a full eventfd would block a worker."""
    berth = Berth(0, [])
    os.write(berth.bell, (2**64 - 2).to_bytes(8, "little"))
    berth.ring()
    assert berth.hush()
    berth.close()


def test_bells_work_without_eventfd(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipe of other systems behaves the same, also when it is full."""
    monkeypatch.delattr(os, "eventfd", raising=False)
    berth = Berth(0, [])
    for _ in range(10000):
        berth.ring()
    while berth.hush():
        pass
    berth.ring()
    assert berth.hush()
    assert len(berth.filenos()) == 4
    berth.close()


def test_an_inbox_carries_a_connection_in_one_packet() -> None:
    """Descriptor and words arrive together, packet by packet, and reading an empty inbox does not wait."""
    berth = Berth(0, [])
    receive, send = berth.inbox
    with pytest.raises(BlockingIOError):
        receive.recv(1)
    a, b = socket.socketpair()
    with a, b:
        socket.send_fds(send, [b"first"], [a.fileno()])
        socket.send_fds(send, [b"second"], [b.fileno()])
        for expected in (b"first", b"second"):
            words, fds, _, _ = socket.recv_fds(receive, 1024, 4)
            assert words == expected
            assert len(fds) == 1
            os.close(fds[0])
    berth.close()


def test_nothing_of_a_berth_survives_exec_or_close() -> None:
    """All its descriptors are close-on-exec, and closing leaves none."""
    before = descriptors()
    berths = open_berths([], 4)
    opened = descriptors() - before
    assert opened == {fd for berth in berths for fd in berth.filenos()}
    assert not any(os.get_inheritable(fd) for fd in opened)
    close_all(berths)
    close_all(berths)
    assert descriptors() == before


def test_running_out_of_descriptors_leaves_none_behind() -> None:
    """The n-th refusal, for every n, gives back what was opened before it."""
    before = descriptors()
    for room in range(9):
        with room_for(room), pytest.raises(BootError, match=r"too many open descriptors: .*\n.*ulimit"):
            open_berths([], 3)
        assert descriptors() == before


def test_no_ring_is_lost_between_threads() -> None:
    """Hush first, then look: whoever puts something down and rings is always heard."""
    berth = Berth(0, [])
    todo: list[int] = []
    seen: list[int] = []

    def producer() -> None:
        for i in range(2000):
            todo.append(i)
            berth.ring()

    thread = threading.Thread(target=producer)
    os.set_blocking(berth.bell, True)
    thread.start()
    while len(seen) < 2000:
        berth.hush()  # waits for a ring: a lost one would hang here, and the hard limit would strike
        while todo:
            seen.append(todo.pop(0))
    thread.join()
    assert seen == list(range(2000))
    berth.close()


def test_a_child_of_the_application_leaves_the_listeners_alone() -> None:
    """T15: what it inherited is closed in the child, and only there."""
    groups = open_groups([parse("127.0.0.1:0")], 3)
    berths = open_berths(groups, 3)
    ours = {fd for berth in berths for fd in berth.filenos()} | {s.fileno() for s in groups[0].shards}
    pid = os.fork()
    if pid == 0:
        leave_to_parent(berths, groups)
        os._exit(len(ours & descriptors()))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    with socket.create_connection(("127.0.0.1", groups[0].address.port), timeout=5):
        assert sum(groups[0].depths()) == 1
    berths[0].ring()
    assert berths[0].hush()
    close_all(berths)
    close_groups(groups)
