"""The n-th call fails, for every n: accept, recv, send, sendfile, epoll, open, write in a worker.

One worker gets the same clients again and again, and each time one system call more succeeds before one
fails (tests/kit/faultplan.py). Whatever failed: every client gets a whole answer or an end, soon; no
connection stays behind, and no descriptor; the worker is the same and serves the next request; the log has no
traceback.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from tests.kit import Connection, CutShort, ServerProcess, eventually
from tests.kit.faultplan import Fault, FaultPlan

APP = """
import threading

def app(environ, start):
    path = environ["PATH_INFO"]
    body = environ["wsgi.input"].read()
    if path == "/file":
        try:
            file = open("file.bin", "rb")
        except OSError:
            start("404 Not Found", [("Content-Length", "0")])
            return []
        start("200 OK", [("Content-Type", "text/plain")])
        return environ["wsgi.file_wrapper"](file)
    if path == "/pieces":
        start("200 OK", [("Content-Type", "text/plain")])
        return (b"piece" * 100 for _ in range(5))
    if path == "/big":
        body = b"x" * 5_000_000
    if path == "/flood":
        start("200 OK", [("Content-Length", "3000000")])
        return (b"y" * 30_000 for _ in range(100))
    if path == "/thread":
        body = str(threading.get_native_id()).encode()
    start("200 OK", [("Content-Length", str(len(body or b"hello")))])
    return [body or b"hello"]
"""

OPTIONS = ("--threads", "1", "--body-memory", "4k", "--response-memory", "64k", "--access-logfile", "access")
#: Soon: nobody may wait for a time-out of the server's, all of which are longer.
SOON = 6.0
#: Calls of a worker, and the ways in which each may fail (the manual page's section ERRORS, and accept(2)'s
#: "error handling": what the network says about a connection that was not accepted yet).
QUICK = [
    ("accept4", "EMFILE"),
    ("accept4", "ECONNABORTED"),
    ("recvfrom", "ECONNRESET"),
    ("sendto", "EPIPE"),
    ("sendto", "ENOBUFS"),
    ("sendfile", "EIO"),
    ("epoll_ctl", "ENOMEM"),
    ("open", "EMFILE"),
    ("pwrite64", "ENOSPC"),
]
LONG = [
    *[("accept4", error) for error in ("ENFILE", "ENOBUFS", "ENOMEM", "EPERM", "EPROTO", "EINTR", "EIO")],
    *[("recvfrom", error) for error in ("ETIMEDOUT", "ENOMEM", "EINTR", "EIO", "EBADF")],
    *[("sendto", error) for error in ("ECONNRESET", "EINTR", "ENOMEM", "EIO", "EHOSTUNREACH")],
    *[("sendmsg", error) for error in ("EPIPE", "EINTR", "ENOBUFS", "EIO")],
    *[("sendfile", error) for error in ("EPIPE", "EINTR", "ENOMEM", "EOVERFLOW")],
    *[("epoll_ctl", error) for error in ("ENOSPC", "EIO")],
    *[("epoll_wait", error) for error in ("EINTR",)],
    *[("open", error) for error in ("ENFILE", "ENOSPC", "EACCES", "EIO", "ENOMEM", "EINTR")],
    *[("pwrite64", error) for error in ("EIO", "EDQUOT", "EINTR")],
    *[("unlink", error) for error in ("EACCES",)],
    *[("fcntl", error) for error in ("EMFILE",)],
    *[("shutdown", error) for error in ("ENOTCONN", "EIO")],
    *[("getsockopt", error) for error in ("ENOBUFS",)],
    *[("fstat,newfstatat", error) for error in ("EIO",)],
]  # fmt: skip

#: EAGAIN out of season: the kernel says that there is nothing, and there is. With edge-triggered readiness
#: nobody is told again, so these clients are ended by their time-outs.
OUT_OF_SEASON = ["accept4", "recvfrom", "sendto", "sendmsg", "sendfile"]


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess(None, *OPTIONS, source=APP) as running:
        (running.directory / "file.bin").write_bytes(b"f" * 1_000_000)
        everything(running)
        yield running


@pytest.fixture(scope="module")
def impatient() -> Iterator[ServerProcess]:
    limits = [part for what in ("header", "body", "write") for part in (f"--{what}-timeout", "1")]
    limits += ["--keep-alive", "1"]  # a request that nobody has seen waits for this one
    with ServerProcess(None, *OPTIONS, *limits, source=APP) as running:
        (running.directory / "file.bin").write_bytes(b"f" * 1_000_000)
        everything(running)
        yield running


def everything(server: ServerProcess) -> dict[str, str]:
    """Each kind of client once, one after the other; what came of it."""
    return {
        "get": client(server, get),
        "kept": client(server, kept),
        "form": client(server, form),
        "upload": client(server, upload),
        "file": client(server, file),
        "pieces": client(server, pieces),
        "slow": client(server, slow),
        "flood": client(server, flood),
        "half": client(server, half),
        "bad": client(server, bad),
    }


def client(server: ServerProcess, behave: object) -> str:
    with server.connect() as connection:
        connection.within = SOON
        try:
            return behave(connection)  # type: ignore[operator]
        except CutShort as cut:
            if cut.how not in ("closed", "reset"):
                raise
            return cut.how
        except OSError as error:
            if error.errno not in (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN):
                raise
            return "reset"


def status(reply: object, body: bytes) -> str:
    if reply.status == 200:  # type: ignore[attr-defined]
        assert reply.body == body  # type: ignore[attr-defined]
    return str(reply.status)  # type: ignore[attr-defined]


def get(connection: Connection) -> str:
    return status(connection.get("/"), b"hello")


def kept(connection: Connection) -> str:
    return " ".join(status(connection.get("/"), b"hello") for _ in range(3))


def form(connection: Connection) -> str:
    return status(connection.get("/", method="POST", body=b"z" * 1000), b"z" * 1000)


def upload(connection: Connection) -> str:
    """A body that goes to a file, in two packets."""
    connection.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 20000\r\n\r\n" + b"u" * 10000)
    connection.send(b"u" * 10000)
    return status(connection.reply(), b"u" * 20000)


def file(connection: Connection) -> str:
    return status(connection.get("/file"), b"f" * 1_000_000)


def pieces(connection: Connection) -> str:
    return status(connection.get("/pieces"), b"piece" * 500)


def slow(connection: Connection) -> str:
    """An answer that does not fit into the socket."""
    return status(connection.get("/big"), b"x" * 5_000_000)


def flood(connection: Connection) -> str:
    """One that does not fit into memory either: it is kept in a file."""
    return status(connection.get("/flood"), b"y" * 3_000_000)


def half(connection: Connection) -> str:
    connection.request("/")
    connection.half_close()
    return status(connection.reply(), b"hello")


def bad(connection: Connection) -> str:
    connection.send(b"BAD\r\n\r\n")
    connection.reply()
    return connection.end()


def quiet(server: ServerProcess) -> None:
    """nobody's connection is left, and no descriptor"""
    server._no_extra_descriptors()


def one_run(server: ServerProcess, fault: Fault) -> dict[str, str]:
    worker = server.workers()
    known = len(server.log)
    with fault:
        seen = everything(server)
    assert server.workers() == worker, f"{fault}: the worker was lost"
    assert server.get("/").body == b"hello", f"{fault}: nobody serves"
    eventually(lambda: quiet(server), what=f"nothing is left of {fault}")
    said = server.log[known:]
    assert "Traceback" not in said, f"{fault} met {fault.met}\n{said}\n{fault.trace}"
    assert len(said.splitlines()) <= 3 + fault.met, said
    return seen


def every_call(server: ServerProcess, call: str, error: str) -> None:
    leader = int(server.get("/thread").body)  # there is one pool thread
    for fault in FaultPlan([leader], call, error):
        seen = one_run(server, fault)
    assert {"200", "200 200 200"} >= {seen[name] for name in seen if name != "bad"}, (
        f"without a fault: {seen}"
    )


@pytest.mark.parametrize(("call", "error"), QUICK)
def test_the_nth_call_of_a_worker_fails(server: ServerProcess, call: str, error: str) -> None:
    every_call(server, call, error)


@pytest.mark.long
@pytest.mark.limit(300)
@pytest.mark.parametrize(("call", "error"), LONG)
def test_the_nth_call_of_a_worker_fails_in_every_way(server: ServerProcess, call: str, error: str) -> None:
    every_call(server, call, error)


@pytest.mark.long
@pytest.mark.limit(300)
@pytest.mark.parametrize("call", OUT_OF_SEASON)
def test_a_call_says_that_there_is_nothing_out_of_season(impatient: ServerProcess, call: str) -> None:
    every_call(impatient, call, "EAGAIN")
