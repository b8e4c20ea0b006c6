"""A connection that waits in an accept queue does not notice what happens to workers."""

from __future__ import annotations

import json
import os
import signal
import socket

import pytest

from tests.kit import eventually

COUNT = 10


def waiting(server, count=COUNT):
    """Clients that have connected and asked, and that nobody has accepted."""
    host, _, port = server.address.rpartition(":")
    clients = []
    for _ in range(count):
        client = socket.create_connection((host, int(port)), timeout=10)
        client.sendall(b"p")
        clients.append(client)
    return clients


def answers(clients):
    """What each of them got; a reset or an empty answer fails here."""
    found = []
    for client in clients:
        with client:
            data = b""
            while part := client.recv(4096):
                data += part
            found.append(json.loads(data))
    return found


@pytest.mark.parametrize("workers", [1, 2])
def test_a_kill(stage, workers):
    """All workers are killed with connections in their queues: the replacements answer them."""
    server = stage(settings={"workers": workers})
    old = server.workers()
    for pid in old:
        os.kill(pid, signal.SIGSTOP)
    clients = waiting(server)
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    assert not {pid for pid, *_ in answers(clients)} & set(old)


def test_a_stop(stage):
    """What waits when TERM comes is still accepted and answered."""
    server = stage()
    [pid] = server.workers()
    os.kill(pid, signal.SIGSTOP)
    clients = waiting(server)
    server.signal(signal.SIGTERM)
    server.logged("Stopping")
    os.kill(pid, signal.SIGCONT)
    assert {found[0] for found in answers(clients)} == {pid}
    assert server.wait() == 0


def test_after_a_stop_nobody_hangs(stage):
    """A client that comes behind the gate is not answered and not left waiting for ever."""
    server = stage("SLOW = 1.0", settings={"loglevel": "debug"})
    server.signal(signal.SIGTERM)
    server.logged("No new connections")
    with pytest.raises(OSError, match=r"refused|reset|timed out"):
        answers(waiting(server, 1))
    assert server.wait() == 0


def test_a_reload(stage):
    """Connections that wait at a predecessor's shard are answered by it or by its successor."""
    server = stage(settings={"workers": 2})
    old = server.workers()
    for pid in old:
        os.kill(pid, signal.SIGSTOP)
    clients = waiting(server)
    server.hup()
    eventually(lambda: server.count("Worker ready") >= 3)
    for pid in old:
        os.kill(pid, signal.SIGCONT)
    assert len(answers(clients)) == COUNT
    server.settled(2, generation=2)


def test_a_worker_that_boots_gets_nothing(stage):
    """Its shard exists, but new connections are steered to those that are ready."""
    server = stage(settings={"workers": 2, "max_workers": 4})
    server.application("import time; time.sleep(60)")
    server.signal(signal.SIGTTIN)
    server.settled(3)
    assert {server.ask("p")[1] for _ in range(60)} <= {0, 1}
