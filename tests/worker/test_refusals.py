"""What the server refuses by itself is in no access log: the error log and a count tell of it."""

from __future__ import annotations

import logging
import re

import pytest

from tests.kit import ServerProcess, eventually
from tests.kit.admin import ADMIN, metrics
from threadcorn.errors import ProtocolViolation
from threadcorn.worker.refusals import PERIOD, Refusals

APP = """
def app(environ, start):
    start("200 OK", [("Content-Length", "2")])
    environ["wsgi.input"].read()
    return [b"ok"]
"""


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        (b"GET /a HTTP/1.1\r\n\r\n", "400, no Host"),
        (b"GET /b HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 9000, "431, "),
        (b"PUT /c HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n", "413, .*: PUT /c HTTP/1.1"),
        (b"PUT /d HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nf\r\nxxxxxxxxxxxxxxx\r\n",
         "413, .*: PUT /d HTTP/1.1"),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", r"400, .*: \\x16\\x03\\x01"),
    ],
)  # fmt: skip
def test_the_log_says_who_was_refused_and_why(request_: bytes, told: str) -> None:
    with ServerProcess(None, "--max-body-size", "10", source=APP) as server, server.connect() as client:
        client.send(request_)
        assert client.reply().status == int(told[:3])
        pattern = rf"\[WARNING\] Invalid request from ip=127\.0\.0\.1: {told}"
        eventually(lambda: re.search(pattern, server.log))


def test_a_disk_without_room_for_bodies_is_told() -> None:
    options = ("--body-memory", "0", "--spool-dir", "spool")
    with ServerProcess(None, *options, source=APP, files={"spool/there": ""}) as server:
        (server.directory / "spool" / "there").unlink()
        (server.directory / "spool").rmdir()
        assert server.get("/", method="POST", body=b"x").status == 503
        words = "[ERROR] Cannot take a request of 127.0.0.1: 503, the body cannot be kept: No such file"
        eventually(lambda: words in server.log)


def test_a_connection_too_many_is_counted_and_told() -> None:
    with ServerProcess(None, *ADMIN, "--connections-per-client", "1", source=APP) as server:
        first = server.connect()
        assert first.get("/").status == 200
        with server.connect() as second:
            assert second.reply().status == 503
        eventually(lambda: sum(metrics(server)["threadcorn_requests_refused_total"].values()) == 1)
        assert "Invalid request from ip=127.0.0.1: 503, too many connections from this address" in server.log


def test_nonsense_does_not_fill_the_disk_and_hides_nothing(caplog: pytest.LogCaptureFixture) -> None:
    refusals = Refusals(logging.getLogger("refusals"))
    bad, full = ProtocolViolation(400, "nonsense"), ProtocolViolation(503, "no room")
    for _ in range(100):
        refusals.tell(50.0, "192.0.2.1", bad, b"")
    refusals.tell(50.1, "192.0.2.2", full, b"PUT /x HTTP/1.1\r\nHost: a", ours=True)
    refusals.tell(50.0 + PERIOD, "192.0.2.3", bad, b"GET / HTTP/9.9")
    assert refusals.count == 102
    assert caplog.messages == [
        "Invalid request from ip=192.0.2.1: 400, nonsense",
        "Cannot take a request of 192.0.2.2: 503, no room: PUT /x HTTP/1.1",
        "Invalid request from ip=192.0.2.3: 400, nonsense: GET / HTTP/9.9 (99 more were not told)",
    ]
