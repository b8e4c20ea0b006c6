from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.descriptors import descriptors
from threadcorn.errors import BootError
from threadcorn.system import inherit
from threadcorn.system.addresses import parse_all
from threadcorn.system.inherit import VARIABLE, Inheritance, activated, hand_down, let_through, take_over
from threadcorn.system.listeners import Rung, ShardGroup, close_groups, open_groups


@pytest.fixture
def groups(tmp_path: Path) -> Iterator[list[ShardGroup]]:
    made = open_groups(parse_all(["localhost:0", f"unix:{tmp_path}/s", "[::1]:0"]), 3)
    yield made
    close_groups(made)


def over_exec(groups: list[ShardGroup], named: dict[str, int]) -> dict[str, str]:
    """What a successor finds: duplicates under other numbers, as if exec had happened."""
    environ, _ = hand_down(groups, named)
    paper = json.loads(environ[VARIABLE])
    for entry in paper["groups"]:
        entry["shards"] = [(os.dup(fd), inode) for fd, inode in entry["shards"]]
    paper["named"] = {name: (os.dup(fd), inode) for name, (fd, inode) in paper["named"].items()}
    return {VARIABLE: json.dumps(paper)}


def test_a_successor_gets_the_same_shards_in_the_same_order(groups: list[ShardGroup]) -> None:
    """Names, order, rung, ownership and the mark of the socket file cross the exec."""
    reader, writer = os.pipe()
    got = take_over(over_exec(groups, {"ready": writer}))
    assert got is not None
    for mine, theirs in zip(groups, got.groups, strict=True):
        assert theirs.address == mine.address
        assert theirs.asked == mine.asked
        assert theirs.rung is mine.rung
        assert theirs.mark == mine.mark
        assert theirs.owned
        inodes = [[os.fstat(s.fileno()).st_ino for s in g.shards] for g in (mine, theirs)]
        assert inodes[0] == inodes[1]
        assert not any(os.get_inheritable(s.fileno()) for s in theirs.shards)
    os.write(got.named["ready"], b"!")
    assert os.read(reader, 1) == b"!"
    again = open_groups(parse_all(["[::1]:0", "localhost:0"]), 3, kept=got.groups)
    assert again == [got.groups[2], got.groups[0]], "nothing is bound again"
    got.close()
    os.close(reader)
    os.close(writer)


def test_what_is_not_wanted_is_let_go_without_harm(groups: list[ShardGroup], tmp_path: Path) -> None:
    """A successor that fails closes its copies; the predecessor's listeners and file stay."""
    before = descriptors()
    got = take_over(over_exec(groups, {}))
    assert got is not None
    got.close()
    assert descriptors() == before
    assert (tmp_path / "s").exists()
    with socket.create_connection((groups[0].address.host, groups[0].address.port), timeout=5):
        assert sum(groups[0].depths()) == 1


def test_descriptors_cross_a_real_exec_and_nothing_else_does(groups: list[ShardGroup]) -> None:
    """A connection that waits in the second shard is answered by another program."""
    groups[0].steer([0, 1, 0])
    environ, fds = hand_down(groups, {})
    program = """
import json, os
from threadcorn.system.inherit import take_over
fds = [int(fd) for fd in os.listdir("/dev/fd")]
group = take_over(os.environ).groups[0]
sock, _ = group.shards[1].accept()
sock.sendall(json.dumps([group.depths(), group.rung.name, fds]).encode())
sock.close()
"""
    client = socket.create_connection((groups[0].address.host, groups[0].address.port), timeout=10)
    pid = os.fork()
    if pid == 0:
        try:
            let_through(fds)
            root = str(Path(inherit.__file__).parents[2])
            os.execve(sys.executable, [sys.executable, "-c", program], {**environ, "PYTHONPATH": root})
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    said = client.makefile("rb").read().decode()
    depths, rung, numbers = json.loads(said)
    assert (depths, rung) == ([0, 0, 0], "FILTER")
    assert set(fds) <= set(numbers)
    assert client.fileno() not in numbers, "what was not handed down is closed"
    client.close()


def test_nothing_is_inherited_where_nothing_was_handed_down() -> None:
    assert take_over({}) is None
    assert take_over({VARIABLE: ""}) is None


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda p: p.update(version=99), "in form 99"),
        (lambda p: p["groups"][0]["shards"][1].__setitem__(1, 1), "is something else now"),
        (lambda p: p["groups"][0]["shards"][1].__setitem__(0, 9999), "descriptor 9999 is not open"),
        (lambda p: p["groups"][0].update(shards=[]), "without shards"),
        (lambda p: p["groups"][0].update(asked="8000"), "cannot be read"),
        (lambda p: p.pop("named"), "cannot be read"),
        (lambda p: p["named"].update(ready=[0]), "cannot be read"),
    ],
)
def test_anything_that_does_not_fit_stops_the_successor(
    spoil: object, says: str, groups: list[ShardGroup]
) -> None:
    """A number that became another file is never taken for a listener; no copy is kept or closed."""
    environ, _ = hand_down(groups, {})
    paper = json.loads(environ[VARIABLE])
    spoil(paper)  # type: ignore[operator]
    before = descriptors()
    with pytest.raises(BootError, match=says) as caught:
        take_over({VARIABLE: json.dumps(paper)})
    assert caught.value.hint
    assert descriptors() == before


def test_a_file_is_not_a_shard(groups: list[ShardGroup], tmp_path: Path) -> None:
    """The right inode of the wrong kind is refused too."""
    (tmp_path / "file").touch()
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    environ, _ = hand_down(groups, {})
    paper = json.loads(environ[VARIABLE])
    paper["groups"][0]["shards"][0] = [fd, os.fstat(fd).st_ino]
    with pytest.raises(BootError, match="is not a socket"):
        take_over({VARIABLE: json.dumps(paper)})
    os.close(fd)


def test_shards_of_two_addresses_are_not_one_group() -> None:
    """Mixed up descriptors are noticed by their address."""
    groups = open_groups(parse_all(["127.0.0.1:0", "[::1]:0"]), 1)
    with pytest.raises(BootError, match="not at"):
        ShardGroup.adopt([group.shards[0] for group in groups])
    close_groups(groups)


@given(st.text(max_size=60))
def test_any_text_in_the_variable_is_refused_in_words(text: str) -> None:
    if text:
        with pytest.raises(BootError):
            take_over({VARIABLE: text})


def test_a_shard_that_was_adopted_can_be_steered(groups: list[ShardGroup]) -> None:
    got = take_over(over_exec(groups, {}))
    assert isinstance(got, Inheritance)
    assert got.groups[0].rung is Rung.FILTER
    assert got.groups[0].steer([0, 0, 1])
    with socket.create_connection((groups[0].address.host, groups[0].address.port), timeout=5):
        assert groups[0].depths() == [0, 0, 1]
    got.close()


# -- socket activation ---------------------------------------------------------------------------------------

ACTIVATED = """
import os, sys
from threadcorn.system.inherit import activated
from threadcorn.system.listeners import open_groups
os.environ["LISTEN_PID"] = str(os.getpid() + int(sys.argv[1]))
found = activated(os.environ, os.getpid())
groups = open_groups([a.address for a in found], 4)
print([a.name for a in found], [g.rung.name for g in groups], [g.owned for g in groups])
for group in groups:
    sock, _ = group.shard(2).accept()
    sock.sendall(b"activated")
    sock.close()
    group.close()
"""


def activate(listeners: list[socket.socket], *, off: int = 0, **environ: str) -> str:
    """Start ACTIVATED as systemd would: the listeners from descriptor 3 on."""
    root = str(Path(inherit.__file__).parents[2])

    def as_systemd() -> None:
        high = [os.dup(s.fileno()) for s in listeners]
        for number, fd in enumerate(high):
            os.dup2(fd, 3 + number, inheritable=True)

    done = subprocess.run(
        [sys.executable, "-c", ACTIVATED, str(off)],
        preexec_fn=as_systemd,
        close_fds=False,
        env={"PYTHONPATH": root, "LISTEN_FDS": str(len(listeners)), **environ},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return done.stdout.strip()


def test_sockets_of_systemd_are_served_and_left_to_it() -> None:
    """Two named sockets, a client waiting at each since before the start; they still listen afterwards."""
    theirs = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    waiting = [socket.create_connection(s.getsockname(), timeout=10) for s in theirs]
    said = activate(theirs, LISTEN_FDNAMES="web:api")
    assert said == "['web', 'api'] ['SHARED', 'SHARED'] [False, False]"
    for client in waiting:
        assert client.makefile("rb").read() == b"activated"
        client.close()
    for s in theirs:
        socket.create_connection(s.getsockname(), timeout=5).close()
        s.close()


def test_sockets_meant_for_another_process_are_not_ours() -> None:
    """Inherited through a shell, or by a program that an application starts: LISTEN_PID says who is meant."""
    with socket.create_server(("127.0.0.1", 0)) as theirs:
        assert activate([theirs], off=1) == "[] [] []"
    assert activated({}, 1) == []


@pytest.mark.parametrize(("count", "says"), [("two", "not a number"), ("100000", "is not open")])
def test_a_promise_that_is_not_kept_is_told(count: str, says: str) -> None:
    with pytest.raises(BootError, match=says):
        activated({"LISTEN_PID": "7", "LISTEN_FDS": count}, 7)


def test_missing_names_are_empty_names() -> None:
    """Without LISTEN_FDNAMES a socket is served all the same."""
    with socket.create_server(("127.0.0.1", 0)) as theirs:
        with socket.create_connection(theirs.getsockname(), timeout=10):
            assert activate([theirs]) == "[''] ['SHARED'] [False]"
