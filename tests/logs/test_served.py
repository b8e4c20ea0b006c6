"""The logs of a real server: rotation, and the ways in which a log can stop working."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import contextmanager
from signal import SIGTERM, SIGUSR1

import pytest

from tests.kit.admin import ADMIN, metrics
from tests.kit.client import connect
from tests.kit.eventually import eventually
from tests.kit.server import ServerProcess, environment

PRINTING = """
import sys

def app(environ, start_response):
    print("printed", environ["PATH_INFO"])
    environ["wsgi.errors"].write("complained\\n")
    start_response("200 OK", [("Content-Length", "0")])
    return []
"""

WEDGED = """
import ctypes

def held_here():
    ctypes.PyDLL(None).sleep(300)  # C code that does not let go of the interpreter

def app(environ, start_response):
    held_here()
"""

FAILING = """
def app(environ, start_response):
    raise ValueError("of the application\\n[2026-01-01 00:00:00 +0000] [1] [INFO] forged")
"""

CLOSING = """
class Closing(list):
    def close(self):
        raise ValueError("of its close")

def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "0")])
    return Closing([])
"""

CONFIGURING = (
    """
import logging.config
logging.config.dictConfig({"version": 1, "root": {"level": "INFO"}})
"""
    + FAILING
)


def read(server, name):
    path = server.directory / name
    return path.read_text("utf-8") if path.exists() else ""


def test_usr1_reopens_both_logs_in_every_process():
    """After a rotation nobody writes to the old files any more."""
    with ServerProcess(
        None,
        *("--workers", "2", "--error-logfile", "error", "--access-logfile", "access"),
        *("--access-logformat", "%(U)s"),
    ) as server:
        for n in range(20):
            assert server.get(f"/before{n}").status == 200
        eventually(lambda: read(server, "access").count("/before") == 20)
        for name in ("error", "access"):
            (server.directory / name).rename(server.directory / f"{name}.1")
        server.signal(SIGUSR1)
        eventually(lambda: (server.directory / "error").exists() and (server.directory / "access").exists())

        def by_all_workers():
            """every worker has reopened its log"""
            before = read(server, "access.1")
            for _ in range(20):
                server.get("/after")
            assert read(server, "access.1") == before

        eventually(by_all_workers)

        def all_written():
            """a line is written after its response, so the client may be here before the last one"""
            assert read(server, "access").count("/after") >= 20

        eventually(all_written)
        assert "Listening at" in read(server, "error.1")


def test_a_full_disk_costs_lines_and_no_requests():
    """/dev/full for both logs: the service does not notice."""
    with (
        ServerProcess(
            None, "--access-logfile", "/dev/full", "--error-logfile", "/dev/full", "--log-level", "debug"
        ) as server,
        server.connect() as connection,
    ):
        for _ in range(50):
            assert connection.get("/").status == 200


def test_the_error_log_tells_of_a_full_access_log():
    """The first loss at once, the rest when the worker leaves at the latest; metrics count all."""
    with ServerProcess(None, "--access-logfile", "/dev/full", *ADMIN) as server:
        for _ in range(5):
            assert server.get("/").status == 200
        eventually(lambda: "access log: 1 lines were lost: No space left on device" in server.log)
        assert server.log.count("were lost") == 1
        eventually(lambda: metrics(server)["threadcorn_access_log_lines_lost_total"] == {'slot="0"': 5.0})
        server.stop()
        assert "access log: 4 lines were lost: No space left on device" in server.log


@contextmanager
def with_standard_error(descriptor):
    """A server whose standard error is the given descriptor, which is closed here; its address."""
    ready_read, ready_write = os.pipe()
    command = [sys.executable, "-m", "threadcorn", "--bind", "127.0.0.1:0", "--ready-fd", str(ready_write)]
    command += ["--access-logfile", "/dev/stderr", "tests.kit.apps:hello"]
    process = subprocess.Popen(
        command, env=environment(), stderr=descriptor, pass_fds=[ready_write], start_new_session=True
    )
    os.close(ready_write)
    os.close(descriptor)
    try:
        with open(ready_read, "rb") as ready:
            yield ready.readline().decode().split()[1]
        process.send_signal(SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.limit(90)
def test_a_standard_error_that_nobody_reads_stops_nobody():
    """A collector that hangs: its pipe fills up, and the service goes on."""
    jam_read, jam_write = os.pipe()
    with with_standard_error(jam_write) as address, connect(address) as connection:
        # Two megabytes of log lines: twice of what the largest pipe holds.
        for _ in range(400):
            assert connection.get("/", headers={"Referer": "x" * 5000}).status == 200
    os.close(jam_read)


@pytest.mark.limit(90)
def test_a_standard_error_whose_reader_is_gone_stops_nobody():
    """EPIPE on every line."""
    jam_read, jam_write = os.pipe()
    with with_standard_error(jam_write) as address:
        os.close(jam_read)
        with connect(address) as connection:
            for _ in range(50):
                assert connection.get("/").status == 200


def test_json_lines_are_json_whatever_the_client_sends():
    with ServerProcess(None, "--access-logfile", "access", "--access-log-json") as server:
        with server.connect() as connection:
            connection.get('/"}?x=%0A', headers={"User-Agent": 'a"b\\', "Referer": "caf\xe9\t"})
        line = eventually(lambda: read(server, "access"))
        record = json.loads(line)
        assert record["path"] == '/"}'
        assert record["query"] == "x=%0A"
        assert record["user_agent"] == 'a"b\\'
        assert record["status"] == 200
        assert record["pid"] in server.workers()
        assert 0 <= record["duration_us"] < 10_000_000


def test_captured_output_is_in_the_error_log():
    with ServerProcess(source=PRINTING, config='errorlog = "error"\ncapture_output = True\n') as server:
        assert server.get("/here").status == 200
        eventually(lambda: "printed /here\n" in read(server, "error"))
        assert "complained\n" in read(server, "error")
        assert server.out == ""


def test_what_an_application_writes_to_wsgi_errors_is_in_the_error_log():
    """Flask logs there: with --daemon its tracebacks would be nowhere. Also after a rotation."""
    with ServerProcess(None, "--error-logfile", "error", source=PRINTING) as server:
        assert server.get("/").status == 200
        assert "complained\n" in read(server, "error")
        os.rename(server.directory / "error", server.directory / "error.1")
        server.signal(SIGUSR1)
        eventually((server.directory / "error").exists)

        def moved() -> bool:
            server.get("/")
            return "complained\n" in read(server, "error")

        eventually(moved)
        assert server.log == ""


def test_the_stacks_of_a_wedged_worker_are_in_the_error_log():
    """What it writes while it is silent, and what it writes when it is aborted: standard error is nowhere
    (`--daemon`), or somewhere else."""
    flags = ("--error-logfile", "error", "--timeout", "4")
    with ServerProcess(None, *flags, source=WEDGED, check_descriptors=False) as server:
        (pid,) = server.workers()
        server.connect().request("/")
        eventually(lambda: "Timeout (" in read(server, "error"))
        eventually(lambda: "Fatal Python error: Aborted" in read(server, "error"))
        eventually(lambda: f"Worker left (pid: {pid}" in read(server, "error"))
        assert read(server, "error").count("in held_here\n") == 2
        assert server.log == ""


def test_what_an_application_raises_cannot_forge_a_line():
    with ServerProcess(source=FAILING) as server:
        assert server.get("/").status == 500
        log = eventually(lambda: server.log if "forged" in server.log else "")
        assert re.search(
            r"^\[[^]]+\] \[\d+\] \[ERROR\] Error handling request GET / HTTP/1.1$", log, re.MULTILINE
        )
        assert not re.search(r"^\[2026-01-01", log, re.MULTILINE)
        assert re.search(r"^  ValueError: of the application$", log, re.MULTILINE)


def test_a_close_that_fails_is_told_with_its_request():
    """The traceback alone may be all of a library."""
    with ServerProcess(source=CLOSING) as server:
        assert server.get("/report?x=1").status == 200
        eventually(lambda: "Exception in close() of the response to GET /report?x=1 HTTP/1.1\n" in server.log)
        assert "ValueError: of its close\n" in server.log


def test_a_log_in_a_missing_directory_is_one_sentence_and_exit_code_2():
    done = subprocess.run(
        [sys.executable, "-m", "threadcorn", "--access-logfile", "/no/where/log", "tests.kit.apps:hello"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 2
    assert "/no/where" in done.stderr
    assert "does not exist" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("options", [(), ("--preload",)])
def test_a_log_config_of_the_applications_silences_nobody(options):
    """dictConfig disables every logger that it does not name, unless it is told not to."""
    with ServerProcess(
        None,
        *options,
        *("--error-logfile", "error", "--access-logfile", "access", "--access-logformat", "%(s)s"),
        source=CONFIGURING,
    ) as server:
        assert server.get("/").status == 500
        eventually(lambda: "ValueError: of the application" in read(server, "error"))
        assert "All workers are ready" in read(server, "error")
        eventually(lambda: read(server, "access") == "500\n")
