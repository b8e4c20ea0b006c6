"""What a server stands on and may lose: threads, disk, clock, names, the place for temporary files."""

from __future__ import annotations

import email.utils
import itertools
import os
import resource
import signal
import threading
import time

import psutil
import pytest

from tests.kit import ServerProcess, eventually
from tests.kit.faultplan import Fault

APP = """
import threading

def app(environ, start):
    path = environ["PATH_INFO"]
    body = environ["wsgi.input"].read() or b"hello"
    if path == "/thread":
        body = str(threading.get_native_id()).encode()
    if path == "/flood":
        start("200 OK", [("Content-Length", "8000000")])
        return (b"y" * 100_000 for _ in range(80))
    start("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
SMALL = ("--body-memory", "4k", "--response-memory", "64k", "--buffer-limit", "1m")


def serves(server: ServerProcess) -> bool:
    return server.get("/").body == b"hello"


def test_f27_no_more_threads_means_fewer_threads() -> None:
    """Every thread that is asked for later is refused; those that are there serve on."""
    with ServerProcess(None, "--threads-max", "12", source=APP, check_descriptors=False) as server:
        (worker,) = server.workers()
        with Fault([worker], "thread", "EAGAIN", "1+"):
            clients = [server.connect() for _ in range(20)]
            for client in clients:
                client.request("/")
            assert {client.reply().status for client in clients} == {200}
        assert server.workers() == [worker]
        assert "Traceback" not in server.log


def test_f27_no_thread_for_the_dump_of_a_worker_that_hangs_ends_no_worker_that_serves() -> None:
    """It is asked for anew every second: somebody else may need all threads there are just then."""
    with ServerProcess(None, "--threads", "2", source=APP) as server:
        (worker,) = server.workers()
        threads = psutil.Process(worker).num_threads
        eventually(lambda: threads() == 4)
        with Fault([worker], "thread", "EAGAIN", "1+"):
            eventually(lambda: threads() == 3)
            assert serves(server)
        eventually(lambda: threads() == 4)
        assert server.workers() == [worker]


def test_f28_a_full_disk_costs_what_does_not_fit_into_memory_and_nothing_else() -> None:
    """No file may grow beyond what logs need (RLIMIT_FSIZE): neither a body's nor a response's."""
    with ServerProcess(None, *SMALL, "--access-logfile", "access", source=APP) as server:
        (worker,) = server.workers()
        assert serves(server)
        limits = resource.prlimit(worker, resource.RLIMIT_FSIZE)
        resource.prlimit(worker, resource.RLIMIT_FSIZE, (16384, limits[1]))
        for _ in range(5):
            assert serves(server)
        with server.connect() as client:
            assert client.get("/", method="POST", body=b"x" * 3000).body == b"x" * 3000
            assert client.get("/", method="POST", body=b"x" * 100_000).status in (503, 500)
        # What is still in the buffer of the file cannot be written when the file is closed, either.
        for size, step in ((16_385, 16_385), (16_385, 1000), (20_000, 20_000), (20_000, 1000)):
            with server.connect() as client:
                client.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % size)
                client.send_slowly(b"x" * size, step)
                assert client.reply().status == 503
            assert server.workers() == [worker]
        slow = server.connect(receive_buffer=4096)
        slow.request("/flood")
        got, how = slow.to_end(within=20)
        assert how in ("closed", "reset")
        assert len(got) < 8_000_000
        eventually(lambda: "Cut the response to GET /flood" in server.log)
        assert "Traceback" not in server.log
        resource.prlimit(worker, resource.RLIMIT_FSIZE, limits)
        with server.connect() as client:
            assert client.get("/", method="POST", body=b"x" * 100_000).body == b"x" * 100_000
        assert server.workers() == [worker]


def test_f30_a_log_that_is_cut_or_whose_directory_is_gone_stops_nobody() -> None:
    files = {"logs/x": ""}
    with ServerProcess(
        None, "--access-logfile", "logs/access", source=APP, files=files, check_descriptors=False
    ) as server:
        log = server.directory / "logs" / "access"
        assert serves(server)
        eventually(lambda: log.stat().st_size > 0)
        os.truncate(log, 0)  # copytruncate
        assert serves(server)
        eventually(lambda: log.stat().st_size > 0)
        assert not log.read_bytes().startswith(b"\0")
        (server.directory / "logs").rename(server.directory / "old")
        server.signal(10)  # USR1
        eventually(lambda: "usr1" in server.log)
        assert serves(server)
        eventually(lambda: (server.directory / "old" / "access").read_text().count("GET / ") >= 2)
        assert "Traceback" not in server.log


def test_f31_lines_longer_than_a_pipe_takes_at_once_are_never_mixed() -> None:
    """Four workers, one file, lines of five to eight thousand bytes: each is whole."""
    options = ("--workers", "4", "--access-logfile", "access", "--access-logformat", "%(U)s %(a)s END")
    with ServerProcess(None, *options, source=APP) as server:

        def client(name: str) -> None:
            with server.connect() as connection:
                for number in range(25):
                    assert connection.get("/" + name * (5000 + number * 100)).status == 200

        threads = [threading.Thread(target=client, args=(name,)) for name in "abcdefgh"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        def written() -> list[str]:
            """a line for each request"""
            lines = (server.directory / "access").read_text().splitlines()
            assert len(lines) == 200
            return lines

        lines = eventually(written)
        for line in lines:
            path, end = line.split(" ", 1)
            assert set(path[1:]) == {path[1]}
            assert end.endswith("END")


CLOCK = """
import os, time
real = time.time
def jumped():
    try:
        with open("jump") as file:
            return real() + float(file.read())
    except (OSError, ValueError):
        return real()
time.time = jumped  # before anybody has taken it by name
import sys
from threadcorn.cli import main
sys.argv = ["threadcorn", "--ready-fd", os.environ["READY_FD"], "-b", os.environ["BIND"], *sys.argv[1:]]
sys.exit(main())
"""


def test_f32_the_wall_clock_jumps_and_only_the_date_follows() -> None:
    options = ("--timeout", "2", "--keep-alive", "30", "--workers", "2", "tests.kit.apps:hello")
    with ServerProcess(None, *options, script=CLOCK) as server:
        workers = server.workers()
        with server.connect() as kept:
            for hours in (1, -1, 24, -24):
                (server.directory / "new").write_text(str(hours * 3600))
                (server.directory / "new").rename(server.directory / "jump")

                def follows(ahead: float = hours * 3600.0) -> None:
                    """the date is right within two seconds"""
                    said = email.utils.parsedate_to_datetime(kept.get("/").get("Date") or "").timestamp()
                    assert abs(said - time.time() - ahead) <= 2

                eventually(follows)
            until = time.monotonic() + 2.5  # longer than the timeout
            eventually(lambda: time.monotonic() > until)
            assert kept.get("/").status == 200
        assert server.workers() == workers


def test_f34_without_a_place_for_temporary_files_the_server_serves() -> None:
    """Only what needs such a place is refused; heartbeats do not."""
    env = {"TMPDIR": "/proc/1/nowhere"}
    files = {"spool/x": ""}
    with ServerProcess(None, *SMALL, "--spool-dir", "spool", source=APP, env=env, files=files) as server:
        (worker,) = server.workers()
        (server.directory / "spool").rename(server.directory / "gone")
        assert serves(server)
        with server.connect() as client:
            assert client.get("/", method="POST", body=b"x" * 100_000).status == 503
        assert serves(server)
        assert server.workers() == [worker]
        assert "Traceback" not in server.log


CLOSED = """
import os, sys
for fd in (0, 1, 2):
    os.close(fd)
os.execv(sys.executable, [sys.executable, "-m", "threadcorn", "--ready-fd", os.environ["READY_FD"],
                          "--bind", os.environ["BIND"], "--error-logfile", "log",
                          *sys.argv[1:], "application:app"])
"""


@pytest.mark.parametrize("options", [(), ("--preload",)])
def test_without_standard_input_output_and_error_the_server_serves(options: tuple[str, ...]) -> None:
    """Whoever starts it has closed them: there is no sys.stderr then."""
    with ServerProcess(None, *options, script=CLOSED, source=APP) as server:
        (worker,) = server.workers()
        assert serves(server)
        for pid, standard in itertools.product((server.pid, worker), "012"):
            assert os.readlink(f"/proc/{pid}/fd/{standard}") == "/dev/null"
        server.signal(signal.SIGHUP)
        eventually(lambda: server.workers() not in ([], [worker]) and len(server.workers()) == 1)
        assert serves(server)


def test_f35_no_name_is_looked_up_for_a_request() -> None:
    """Neither the resolver's files nor its servers are touched: a dead DNS stops nobody."""
    with ServerProcess(None, "--threads", "1", "--access-logfile", "access", source=APP) as server:
        fault = Fault([int(server.get("/thread").body)], "openat,connect,socket", "EIO", "65535")
        with fault:
            for _ in range(5):
                assert serves(server)
        for name in ("resolv.conf", "nsswitch.conf", "/etc/hosts", "AF_INET", "nscd"):
            assert name not in fault.trace


def test_f57_kept_connections_are_spread_over_workers() -> None:
    with ServerProcess("tests.kit.apps:pid", "--workers", "4") as server:
        clients = [server.connect() for _ in range(80)]
        counts: dict[bytes, int] = {}
        for client in clients:
            pid = client.get("/").body
            counts[pid] = counts.get(pid, 0) + 1
        assert len(counts) == 4
        # One after the other, so nobody ever waits: it is the kernel's hash, and no worker is left out.
        assert max(counts.values()) <= 2 * 80 / 4 + 10
        assert psutil.Process(server.pid).is_running()
