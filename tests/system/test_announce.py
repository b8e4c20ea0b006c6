"""What the outside sees of us."""

from __future__ import annotations

import os
import socket
import stat
import sys

import pytest

from threadcorn.errors import BootError
from threadcorn.system import spawn
from threadcorn.system.announce import PidFile, notify_systemd, set_title, write_ready


def test_a_pid_file(tmp_path):
    """Our number and a newline, readable for all; gone at the end, and nothing beside it."""
    path = tmp_path / "pid"
    pid_file = PidFile(str(path))
    before = os.umask(0o077)
    try:
        pid_file.create()
    finally:
        os.umask(before)
    assert path.read_text() == f"{os.getpid()}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert os.listdir(tmp_path) == ["pid"]
    pid_file.remove()
    assert os.listdir(tmp_path) == []


def test_a_second_server_is_refused(tmp_path):
    """The lock of the first one decides, and its number is named."""
    first = PidFile(str(tmp_path / "pid"))
    first.create()
    with pytest.raises(BootError, match=str(os.getpid())):
        PidFile(str(tmp_path / "pid")).create()
    first.remove()
    second = PidFile(str(tmp_path / "pid"))
    second.create()
    second.remove()


def test_a_file_that_was_left_behind(tmp_path):
    """Its owner is dead: it is replaced."""
    child = spawn.fork(lambda: 0)
    os.waitpid(child.pid, 0)
    child.close()
    path = tmp_path / "pid"
    path.write_text(f"{child.pid}\n")
    pid_file = PidFile(str(path))
    pid_file.create()
    assert path.read_text() == f"{os.getpid()}\n"
    pid_file.remove()


def test_our_own_number_from_an_earlier_life(tmp_path):
    """In a container we are pid 7 each time."""
    path = tmp_path / "pid"
    path.write_text(f"{os.getpid()}\n")
    pid_file = PidFile(str(path))
    pid_file.create()
    pid_file.remove()


def test_the_file_of_another_program(tmp_path):
    """No lock, but its process lives: refused, with what to do."""
    path = tmp_path / "pid"
    path.write_text("1\n")
    with pytest.raises(BootError, match="remove the file"):
        PidFile(str(path)).create()
    assert path.read_text() == "1\n"


@pytest.mark.parametrize("text", ["", "nonsense", "-5", "99999999999999", "0"])
def test_nonsense_in_the_file(tmp_path, text):
    """Nobody's: it is replaced."""
    path = tmp_path / "pid"
    path.write_text(text)
    pid_file = PidFile(str(path))
    pid_file.create()
    pid_file.remove()


def test_a_file_that_is_something_else_stays(tmp_path):
    """`-p app.py` by mistake: the application would be replaced by a number, and removed at the end."""
    path = tmp_path / "app.py"
    path.write_text(
        "def app(environ, start_response):\n    start_response('204 No Content', [])\n    return []\n"
    )
    with pytest.raises(BootError, match="no pid file, and would be lost"):
        PidFile(str(path)).create()
    assert path.read_text().startswith("def app")


def test_a_file_that_is_not_ours_any_more_is_left_alone(tmp_path):
    """A successor has renamed its own over it."""
    path = tmp_path / "pid"
    pid_file = PidFile(str(path))
    pid_file.create()
    (tmp_path / "other").write_text("12345\n")
    os.rename(tmp_path / "other", path)
    pid_file.remove()
    assert path.read_text() == "12345\n"


def test_a_directory_that_is_not_there(tmp_path):
    """One sentence with the path."""
    with pytest.raises(BootError, match="nowhere"):
        PidFile(str(tmp_path / "nowhere" / "pid")).create()


@pytest.mark.parametrize("takes_over", [False, True])
def test_what_is_no_file_stays(tmp_path, takes_over):
    """Root can replace a device by a file, and who opens a pipe waits for its writer."""
    path = tmp_path / "pid"
    os.mkfifo(path)
    (tmp_path / "link").symlink_to(path)
    for name in ("pid", "link"):
        with pytest.raises(BootError, match="what is there is no file"):
            PidFile(str(tmp_path / name)).create(takes_over=takes_over)
    assert stat.S_ISFIFO(path.stat().st_mode)
    assert sorted(os.listdir(tmp_path)) == ["link", "pid"]


def test_a_child_does_not_take_the_lock_with_it(tmp_path):
    """A worker that outlives the arbiter must not keep the next one from starting."""
    pid_file = PidFile(str(tmp_path / "pid"))
    pid_file.create()
    ready, told = os.pipe()
    hold, release = os.pipe()

    def live() -> int:
        os.close(release)
        pid_file.forget()
        os.write(told, b"!")
        os.read(hold, 1)
        return 0

    child = spawn.fork(live)
    os.read(ready, 1)
    pid_file.forget()  # as if we had been killed
    again = PidFile(str(tmp_path / "pid"))
    again.create()
    again.remove()
    for fd in (ready, told, hold, release):
        os.close(fd)
    os.waitpid(child.pid, 0)
    child.close()


def test_the_ready_line():
    """One line with all addresses, then the end of the file."""
    reader, writer = os.pipe()
    assert write_ready(writer, ["127.0.0.1:8000", "unix:/run/x"])
    with os.fdopen(reader, "rb") as file:
        assert file.read() == b"ready 127.0.0.1:8000 unix:/run/x\n"


def test_a_ready_line_that_nobody_reads():
    """Is no reason not to serve."""
    reader, writer = os.pipe()
    os.close(reader)
    assert not write_ready(writer, ["127.0.0.1:8000"])


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told(tmp_path, abstract):
    """One datagram, one state a line."""
    name = f"\0tc-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(name)
        listener.settimeout(5)
        path = "@" + name[1:] if abstract else name
        assert notify_systemd(path, "READY=1", "STATUS=serving")
        assert listener.recv(100) == b"READY=1\nSTATUS=serving"


def test_without_systemd_nothing_happens(tmp_path):
    """And a socket that is gone is no error either; nothing is kept to be sent there again and again."""
    assert notify_systemd(None, "READY=1")
    assert notify_systemd(str(tmp_path / "gone"), "READY=1")


def test_a_busy_systemd_may_have_room_later(tmp_path):
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path)
        while notify_systemd(path, "STATUS=of another service"):
            pass
        assert listener.recv(100)
        assert notify_systemd(path, "READY=1")


def test_titles_need_a_package(monkeypatch):
    """Without setproctitle nothing happens; with it the text is passed on."""
    monkeypatch.setitem(sys.modules, "setproctitle", None)
    assert not set_title("threadcorn: arbiter [app]")
    titles = []
    module = type(sys)("setproctitle")
    module.setproctitle = titles.append
    monkeypatch.setitem(sys.modules, "setproctitle", module)
    assert set_title("threadcorn: arbiter [app]")
    assert titles == ["threadcorn: arbiter [app]"]
