from __future__ import annotations

import fcntl
import os
import socket
import stat
import threading

import pytest

from threadcorn.errors import ConfigError
from threadcorn.system.logfile import LogFile, open_log


def opened(target: object) -> LogFile:
    return open_log(str(target), 2, "--error-logfile")


@pytest.fixture
def stream():
    """Put something under a spare number, as the shell puts something under 2, and open it as that stream."""
    files: list[LogFile] = []

    def make(descriptor: int) -> LogFile:
        file = open_log("-", descriptor, "--error-logfile")
        files.append(file)
        return file

    yield make
    for file in files:
        file.close()


def test_lines_are_appended_also_to_what_another_process_wrote_meanwhile(tmp_path):
    """O_APPEND: nobody's line is overwritten, wherever the other descriptor stands."""
    path = tmp_path / "log"
    path.write_bytes(b"old\n")
    one, two = opened(path), opened(path)
    one.write(b"one\n")
    two.write(b"two\n")
    one.write(b"three\n")
    assert path.read_bytes() == b"old\none\ntwo\nthree\n"
    one.close()
    two.close()


def test_lines_of_many_threads_are_never_mixed(tmp_path):
    """No lock is taken, and still every line is whole."""
    path = tmp_path / "log"
    file = opened(path)

    def write(name: bytes) -> None:
        for _ in range(300):
            file.write(name * 120 + b"\n")

    threads = [threading.Thread(target=write, args=(name,)) for name in (b"a", b"b", b"c", b"d")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = path.read_bytes().splitlines()
    assert len(lines) == 1200
    assert {bytes(line) for line in lines} == {b"a" * 120, b"b" * 120, b"c" * 120, b"d" * 120}
    file.close()


def test_a_full_disk_costs_the_line_and_is_counted():
    """/dev/full answers ENOSPC to every write, as a full disk does."""
    file = opened("/dev/full")
    assert file.write(b"a line\n") is False
    assert file.write(b"a line\n") is False
    assert file.dropped == 2
    assert file.reason == os.strerror(28)
    file.close()


def test_losses_of_several_threads_add_up():
    file = opened("/dev/full")

    def lose() -> None:
        for _ in range(500):
            file.write(b"x\n")

    threads = [threading.Thread(target=lose) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert file.dropped == 2000
    file.close()


def test_a_full_pipe_loses_the_line_instead_of_waiting_for_a_reader(stream):
    """The test would hang here if the write waited; the pipe's other users keep their blocking mode."""
    read, write = os.pipe()
    file = stream(write)
    while file.write(b"x" * 999 + b"\n"):
        pass
    assert file.dropped == 1
    assert not fcntl.fcntl(write, fcntl.F_GETFL) & os.O_NONBLOCK
    os.read(read, 1 << 20)
    assert file.write(b"there is room again\n")
    os.close(read)
    os.close(write)


def test_a_pipe_that_nobody_has_any_more_loses_the_line(stream):
    """EPIPE, and no SIGPIPE that would end the process."""
    read, write = os.pipe()
    file = stream(write)
    os.close(read)
    assert file.write(b"into the void\n") is False
    assert file.dropped == 1
    os.close(write)


def test_a_full_socket_loses_the_line_as_well(stream):
    """The journal's standard error is a stream socket; it has no O_NONBLOCK of our own."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        file = stream(ours.fileno())
        while file.write(b"x" * 999 + b"\n"):
            pass
        assert file.dropped == 1
        assert ours.getblocking()


def test_after_a_torn_line_the_next_one_begins_on_a_line_of_its_own(stream):
    """A line that fitted only in part must not swallow the one after it."""
    read, write = os.pipe()
    fcntl.fcntl(write, 1031, 4096)
    file = stream(write)
    size = fcntl.fcntl(write, 1032)
    assert file.write(b"y" * (size + 100) + b"\n") is False
    assert len(os.read(read, size * 2)) == size
    file.write(b"next\n")
    assert os.read(read, 100) == b"\nnext\n"
    os.close(read)
    os.close(write)


def test_a_stream_that_was_closed_at_the_start_takes_lines_to_nowhere(stream):
    """`2>&-`: our log has a descriptor of its own, whoever gets that number later."""
    read, write = os.pipe()
    os.close(write)
    file = stream(write)
    assert file.write(b"gone\n")
    assert os.fstat(file.fileno()).st_rdev == os.stat(os.devnull).st_rdev
    os.close(read)


def test_a_redirected_stream_is_written_where_its_other_users_write(tmp_path, stream):
    """`2>file` without O_APPEND: the position belongs to all, so nothing is overwritten."""
    descriptor = os.open(tmp_path / "err", os.O_WRONLY | os.O_CREAT)
    file = stream(descriptor)
    os.write(descriptor, b"printed\n")
    file.write(b"logged\n")
    os.write(descriptor, b"printed\n")
    os.close(descriptor)
    assert (tmp_path / "err").read_bytes() == b"printed\nlogged\nprinted\n"


def test_reopening_after_a_rotation_keeps_the_number_and_changes_the_file(tmp_path):
    """A thread that holds the number for its next write hits one of the two files."""
    path = tmp_path / "log"
    file = opened(path)
    number = file.fileno()
    file.write(b"before\n")
    path.rename(tmp_path / "log.1")
    file.write(b"between\n")
    file.reopen()
    file.write(b"after\n")
    assert file.fileno() == number
    assert not os.get_inheritable(number)
    assert (tmp_path / "log.1").read_bytes() == b"before\nbetween\n"
    assert path.read_bytes() == b"after\n"
    file.close()


def test_a_reopening_that_fails_leaves_the_old_file_in_use(tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    file = opened(folder / "log")
    folder.rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError):
        file.reopen()
    assert file.write(b"still here\n")
    assert (tmp_path / "moved" / "log").read_bytes() == b"still here\n"
    file.close()


def test_captured_descriptors_follow_a_reopening(tmp_path):
    """What the application prints goes to the new file as well, or the rotated one would never end."""
    path = tmp_path / "log"
    file = opened(path)
    spare = os.open(os.devnull, os.O_WRONLY)
    file.capture(spare)
    os.write(spare, b"one\n")
    path.rename(tmp_path / "log.1")
    file.reopen()
    os.write(spare, b"two\n")
    assert (tmp_path / "log.1").read_bytes() == b"one\n"
    assert path.read_bytes() == b"two\n"
    os.close(spare)
    file.close()


def test_a_relative_path_stays_where_it_was_opened(tmp_path, monkeypatch):
    """A later chdir does not move the log at its next re-opening."""
    monkeypatch.chdir(tmp_path)
    file = opened("log")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    file.reopen()
    file.write(b"here\n")
    assert (tmp_path / "log").read_bytes() == b"here\n"
    file.close()


def test_a_new_log_is_not_writable_by_everybody(tmp_path):
    """The server's umask is 0 by default, so the mode has to be right by itself."""
    before = os.umask(0)
    try:
        file = opened(tmp_path / "log")
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == 0o644
    file.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_gives_the_log_to_the_user_who_will_open_it_again(tmp_path):
    file = open_log(str(tmp_path / "log"), 2, "--error-logfile", (1234, 4321))
    status = os.stat(tmp_path / "log")
    assert (status.st_uid, status.st_gid) == (1234, 4321)
    file.close()


def problem(target: object) -> str:
    with pytest.raises(ConfigError) as caught:
        opened(target)
    [text] = caught.value.problems
    return text


def test_a_missing_directory_is_named_with_what_to_do(tmp_path):
    text = problem(tmp_path / "no" / "where.log")
    assert text.startswith("--error-logfile ")
    assert f"the directory {str(tmp_path / 'no')!r} does not exist; create it" in text


def test_a_directory_is_no_log(tmp_path):
    assert "name a file in it" in problem(tmp_path)


def test_a_file_in_the_way_of_the_directory_is_named(tmp_path):
    (tmp_path / "file").touch()
    assert "is not a directory" in problem(tmp_path / "file" / "log")


def test_a_fifo_without_a_reader_is_an_error_and_not_a_wait(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    assert "start its reader first" in problem(tmp_path / "fifo")


def test_a_directory_without_permission_is_named():
    """As nobody, where the tests run as root: root may write everywhere."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        text = problem("/threadcorn-test.log")
    finally:
        if root:
            os.seteuid(0)
    assert "may not write to the directory '/'; change its owner or mode" in text


def test_a_closed_log_file_writes_nothing_anywhere(tmp_path):
    """Its number may be somebody else's by then."""
    file = opened(tmp_path / "log")
    file.close()
    file.close()
    assert file.write(b"late\n") is False
