"""Published faults of other servers that take more than bytes: a log, a moment, clients, an application.

Those that bytes alone show: tests/http1/test_advisories.py. Which test is for which: docs/conformance.md.
"""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import pytest

from tests.kit import ServerProcess
from tests.kit.admin import ADMIN, facts
from tests.kit.eventually import eventually

APP = "tools.catalogue.app:app"
GET = b"GET / HTTP/1.1\r\nHost: t\r\n\r\n"
POST = b"POST /_app/noread HTTP/1.1\r\nHost: t\r\nContent-Length: 100000\r\n\r\n"


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    options = ("--threads", "2", "--access-logfile", "-", *ADMIN)
    with ServerProcess(APP, *options, check_descriptors=False) as running:
        yield running


def test_cve_2020_7694_a_path_writes_nothing_into_the_log(server: ServerProcess) -> None:
    connection = server.connect()
    connection.send(b"GET /%1b%5b31m%0d%0aforged?\\x HTTP/1.1\r\nHost: t\r\nUser-Agent: \xff\x85a\r\n\r\n")
    assert connection.reply().status == 200
    connection.send(b'GET /%22%0aforged HTTP/1.1\r\nHost: t\r\nReferer: "a\xc2\x85forged\r\n\r\n')
    assert connection.reply().status == 200
    connection.send(b"GET /\x1b[31m\x07 HTTP/1.1\r\n\r\n")
    assert connection.reply().status == 400

    def logged() -> None:
        """both requests are in the access log"""
        assert server.out.count("forged") + server.log.count("forged") >= 2

    eventually(logged)
    for name in ("out", "err"):
        raw = (server.directory / name).read_bytes()
        assert not any((byte < 32 and byte != 10) or byte > 126 for byte in raw), raw
        assert not any(line.startswith(b"forged") for line in raw.split(b"\n"))


MOMENTS = (b"", b"G", GET[:-2], GET, GET + b"GE", POST, POST + b"x" * 1000, GET * 20)


def test_cve_2022_31015_cve_2024_49769_a_reset_at_any_moment_costs_nothing(server: ServerProcess) -> None:
    pid = server.get("/_app/pid").text
    for _ in range(20):
        for wire in MOMENTS:
            connection = server.connect()
            connection.send(wire)
            connection.reset()
    assert server.get("/_app/pid").text == pid

    def forgotten() -> None:
        """no connection is left, but for the one that asks"""
        assert facts(server)["workers"][0]["open"] <= 1

    eventually(forgotten)
    process = psutil.Process(int(pid))
    before = process.cpu_times()
    with server.connect() as waiting:
        assert waiting.silent(0.5)
    after = process.cpu_times()
    assert after.user + after.system - before.user - before.system < 0.25
    assert "Traceback" not in server.log


def test_cve_2021_29509_idle_connections_hold_no_thread(server: ServerProcess) -> None:
    """More connections that are kept alive than there are threads."""
    kept = [server.connect() for _ in range(20)]
    for connection in kept:
        assert connection.get("/").status == 200
    with server.connect() as connection:
        connection.within = 5.0
        assert connection.get("/").status == 200
    for connection in kept:
        assert connection.get("/").status == 200


def test_cve_2026_54277_a_pipeline_nobody_reads_is_not_kept(server: ServerProcess) -> None:
    """Requests that nobody waits for are not read while the one before them runs or is being sent."""
    process = psutil.Process(server.workers()[0])
    before = process.memory_info().rss
    connection = server.connect(receive_buffer=4096)
    connection.sock.settimeout(1.0)
    try:
        for _ in range(2000):
            connection.sock.sendall(GET * 2000)
    except TimeoutError:
        pass
    else:
        pytest.fail("it takes whatever is sent")
    assert process.memory_info().rss - before < 32 << 20
    connection.reset()
    assert server.get("/").status == 200


def test_cve_2020_15586_an_answer_before_the_body(server: ServerProcess) -> None:
    """Nothing but the answer is sent once it has begun, whether or not the body was asked for."""
    with ServerProcess(APP, "--stream-body", check_descriptors=False) as streaming:
        for _ in range(20):
            connection = streaming.connect()
            connection.send(b"POST /_app/noread HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\n")
            connection.send(b"Content-Length: 100\r\n\r\n")
            connection.send(b"x" * 50)
            reply = connection.reply()
            assert (reply.status, reply.text) == (200, "not read")
            assert not reply.keeps  # the rest of the body may come, or a request
            assert connection.to_end() == (b"", "closed")
    assert server.get("/").status == 200


@pytest.mark.parametrize("field", ["X-Forwarded-Proto", "X-Forwarded-Ssl", "X-Forwarded-Protocol"])
def test_waitress_3_0_2_fields_of_strangers_change_nothing(field: str) -> None:
    with ServerProcess("tests.kit.apps:show", "--forwarded-allow-ips", "192.0.2.1") as strange:
        reply = strange.get("/", headers=[(field, "https"), (field, "on"), ("X-Forwarded-For", "6.6.6.6")])
        assert '"wsgi.url_scheme": "http"' in reply.text
        assert '"REMOTE_ADDR": "127.0.0.1"' in reply.text
