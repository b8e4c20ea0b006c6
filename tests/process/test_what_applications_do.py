"""What an application may do wrong, and what clients may do to it: each has one outcome, on real servers."""

from __future__ import annotations

import os
import resource
import signal
import socket

import psutil
import pytest

from tests.kit.eventually import eventually
from tests.kit.server import FORKED, ServerProcess
from threadcorn.system import altstack

APP = """
import os, subprocess, sys

def answer(start, body):
    start("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]

def deeper():
    return deeper() + 1

def app(environ, start):
    path = environ["PATH_INFO"]
    if path == "/exit":
        sys.exit(3)
    if path == "/recursion":
        deeper()
    if path.startswith("/raise/"):
        raise {"KeyboardInterrupt": KeyboardInterrupt, "GeneratorExit": GeneratorExit,
               "MemoryError": MemoryError, "StopIteration": StopIteration}[path[7:]]("on purpose")
    if path == "/late":
        def blocks():
            yield b"first"
            raise SystemExit(3)
        start("200 OK", [("Content-Type", "text/plain")])
        return blocks()
    if path == "/segv":
        import ctypes
        ctypes.string_at(0)
    if path == "/child":
        code = "import os\\nfor n in os.listdir('/proc/self/fd'):\\n" \\
               "    try: print(os.readlink('/proc/self/fd/' + n))\\n    except OSError: pass"
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, close_fds=False)
        return answer(start, out.stdout)
    if path == "/big":
        body = b"x" * 10_000_000
        return answer(start, body)
    return answer(start, str(os.getpid()).encode())
"""


FORKS = """
import os, time

def app(environ, start):
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    os.kill(pid, 15)
    _, status = os.waitpid(pid, 0)
    body = b"%d %d" % (os.getpid(), status)
    start("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


@pytest.fixture(scope="module")
def server():
    log = ("please report",)
    with ServerProcess(source=APP, tolerate=log) as server:
        yield server


@pytest.mark.parametrize(
    "path",
    [
        "/exit",
        "/recursion",
        "/raise/KeyboardInterrupt",
        "/raise/GeneratorExit",
        "/raise/MemoryError",
        "/raise/StopIteration",
    ],
)
def test_f15_f16_whatever_the_application_raises_is_a_500_and_the_worker_lives(server, path) -> None:
    before = server.get("/").text
    with server.connect() as connection:
        reply = connection.get(path)
        assert reply.status == 500
        assert not reply.keeps
        assert connection.end() == "closed"
    assert server.get("/").text == before


def test_f15_an_exit_in_mid_response_looks_cut(server) -> None:
    before = server.get("/").text
    with server.connect() as connection:
        connection.request("/late")
        data, _ = connection.to_end()
        assert b"first" in data
        assert not data.endswith(b"0\r\n\r\n")
    assert server.get("/").text == before


def test_f20_a_child_of_the_application_gets_no_descriptor_of_ours(server) -> None:
    """Every descriptor is close-on-exec, also for a child that is started with close_fds=False."""
    links = server.get("/child").text.split()
    kinds = [link.partition(":")[0] for link in links]
    assert "socket" not in kinds, links
    assert not any("eventfd" in link or "eventpoll" in link for link in links), links


def test_a_signal_for_a_child_of_the_application_is_not_the_workers() -> None:
    """As multiprocessing does it, terminate(): the child dies of TERM, and the worker serves on."""
    with ServerProcess(None, "--workers", "1", source=FORKS, tolerate=FORKED) as server:
        answers = {server.get("/").body for _ in range(3)}
        assert answers == {f"{server.workers()[0]} {int(signal.SIGTERM)}".encode()}
        assert "Worker draining" not in server.log


EXECUTES = """
import signal, subprocess

def trapped(name):
    trap = f"trap 'echo trapped; exit' {name}; echo ready; read line; echo missed"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(["sh", "-c", trap], text=True, **pipes) as script:
        script.stdout.readline()
        script.send_signal(signal.Signals["SIG" + name])
        return name + " " + script.communicate("\\n")[0].strip()

names = "HUP", "USR1", "USR2", "TTIN", "WINCH"
at_import = [trapped(name) for name in names]

def app(environ, start):
    start("200 OK", [])
    return ["; ".join(at_import + [trapped(name) for name in names]).encode()]
"""


def test_a_script_of_the_application_can_trap_what_the_worker_ignores() -> None:
    """What is ignored stays ignored through execve(2), and a shell cannot change that."""
    with ServerProcess(source=EXECUTES) as server:
        assert server.get("/").text.split("; ") == 2 * [
            f"{name} trapped" for name in ("HUP", "USR1", "USR2", "TTIN", "WINCH")
        ]


ROOM_FOR_SIGNALS = """
import ctypes

class Stack(ctypes.Structure):
    _fields_ = [("at", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]

room = Stack()
ctypes.CDLL(None).sigaltstack(None, ctypes.byref(room))

def app(environ, start):
    start("200 OK", [])
    return [str(room.size).encode()]
"""


def test_signals_that_come_all_at_once_while_the_application_is_loaded_have_room() -> None:
    """They have handlers then, which run one inside of the other: see threadcorn/system/altstack.py. Where
    the server was started with faulthandler, the arbiter has made room before."""
    with ServerProcess(source=ROOM_FOR_SIGNALS, env={"PYTHONFAULTHANDLER": ""}) as server:
        assert int(server.get("/").text) >= altstack.SIZE


@pytest.mark.parametrize("options", [(), ("--preload",)])
def test_a_signal_with_a_handler_of_the_applications_is_the_applications(options) -> None:
    """A profiler's, a timer's: in worker and arbiter the handler runs, and nothing else happens."""
    source = """
import os, signal
def count(number, frame):
    with open(f"{number}.{os.getpid()}", "w"):
        pass
for number in (signal.SIGALRM, signal.SIGPROF):
    signal.signal(number, count)
def app(environ, start):
    start("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""
    with ServerProcess(None, *options, source=source) as server:
        (worker,) = server.workers()
        for pid in (worker, server.pid) if options else (worker,):
            for number in (signal.SIGALRM, signal.SIGPROF):
                os.kill(pid, number)
                eventually(lambda pid=pid, number=number: (server.directory / f"{number:d}.{pid}").exists())
        assert server.get("/").body == b"ok"
        # A worker that leaves, and an arbiter that dies, need a moment for it; this is behind both.
        server.signal(signal.SIGUSR1)
        eventually(lambda: "usr1" in server.log)
        assert server.workers() == [worker]


def test_a_child_of_the_application_does_not_hold_connections_open() -> None:
    """It was forked beside them, as multiprocessing does. An end that a client does not see is a connection
    on which its next request waits in vain."""
    source = """
import os, time
def app(environ, start):
    worker = os.getpid()
    if environ["PATH_INFO"] == "/fork" and not os.fork():
        while os.getppid() == worker:
            time.sleep(0.05)
        os._exit(0)
    start("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""
    flags = ("--workers", "1", "--keep-alive", "1")
    with ServerProcess(None, *flags, source=source, tolerate=FORKED) as server:
        idle, forks = server.connect(), server.connect()
        assert idle.get("/").status == 200
        assert forks.get("/fork").status == 200
        assert idle.end() == "closed"
        assert forks.end() == "closed"


COMES_BACK = """
import os, sys

def app(environ, start):
    path = environ["PATH_INFO"]
    body = b"%d" % os.getpid()
    start("200 OK", [("Content-Type", "text/plain")])
    if path == "/behind":
        return behind(body)
    child = os.fork()
    if not child:
        if path == "/exit":
            sys.exit(7)
        if path == "/raise":
            raise ValueError("on purpose")
        return [b"of the child"]
    return [body, b" ", b"%d" % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]

def behind(body):
    yield body
    child = os.fork()
    if child:
        yield b" %d" % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""


@pytest.mark.parametrize("flags", [("--threads", "1"), ("--threads", "2", "--vault")], ids=["", "vault"])
@pytest.mark.parametrize(("path", "code"), [("/exit", 7), ("/raise", 1), ("/return", 0), ("/behind", 0)])
def test_a_child_that_comes_back_from_the_application_ends(
    path: str, code: int, flags: tuple[str, ...]
) -> None:
    """It has the worker's poller: serving on, it took away what the worker should have been told, and whoever
    waited for its end waited for ever."""
    with ServerProcess(None, *flags, source=COMES_BACK, tolerate=FORKED) as server:
        (worker,) = server.workers()
        with server.connect() as connection:
            for _ in range(3):
                assert connection.get(path).text == f"{worker} {code}"
            assert connection.get(path, method="HEAD").status == 200
            assert connection.get("/").text == f"{worker} 0"
        assert not psutil.Process(worker).children()
        assert "Worker left" not in server.log


def test_a_process_pool_of_the_application_ends_with_its_worker() -> None:
    """Its processes wait for work, and multiprocessing's own exit function would wait for them."""
    source = """
import multiprocessing, os
from concurrent.futures import ProcessPoolExecutor
pool = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork"))
def app(environ, start):
    body = str(pool.submit(os.getpid).result()).encode()
    start("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
    with ServerProcess(None, source=source, tolerate=FORKED, check_descriptors=False) as server:
        assert int(server.get("/").body) not in server.workers()
        assert server.stop(within=10) == 0
        assert "did not leave in time" not in server.log


def test_f02_a_segmentation_fault_costs_its_own_request_and_is_named() -> None:
    with ServerProcess(source=APP, tolerate=("Fatal Python error",)) as server:
        before = server.get("/").text
        with server.connect() as connection:
            connection.request("/segv")
            connection.to_end()

        def replaced() -> None:
            """another worker answers"""
            assert server.get("/").text != before

        eventually(replaced, within=10)
        assert "SIGSEGV" in server.log


def test_f38_f39_hundreds_that_neither_finish_nor_read_stop_nobody() -> None:
    """Issue 2: 200 with half a head and 200 that read nothing, two threads; a new client is answered."""
    with ServerProcess(None, "--threads", "2", source=APP) as server:
        pid = server.get("/").text
        for _ in range(200):
            server.connect().send(b"GET / HTTP/1.1\r\nHos")
        for _ in range(200):
            server.connect(receive_buffer=4096).send(b"GET /big HTTP/1.1\r\nHost: t\r\n\r\n")

        def answered() -> None:
            """the requests of those that do not read have run: they hold no thread"""
            reply = server.get("/")
            assert (reply.status, reply.text) == (200, pid)

        # Until then they are two hundred requests in front of ours, and no slow clients.
        eventually(answered, within=20)
        with server.connect() as connection:
            connection.within = 5.0
            assert connection.get("/").text == pid


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT])
def test_f01_a_killed_worker_is_replaced_and_others_serve_on(number) -> None:
    with ServerProcess(None, "--workers", "2", source=APP, tolerate=("Fatal Python error",)) as server:
        victim = server.workers()[0]
        os.kill(victim, number)
        # What runs in it is lost, and it may accept for as long as it takes to die.
        eventually(lambda: not psutil.pid_exists(victim))
        for _ in range(20):
            assert server.get("/").status == 200

        def whole() -> None:
            """two workers again, the victim not among them"""
            workers = server.workers()
            assert len(workers) == 2
            assert victim not in workers

        eventually(whole, within=10)


def test_f25_no_descriptors_left_pauses_and_recovers() -> None:
    """200 clients on 64 descriptors: no spin, no flood of log lines, service back at once."""
    with ServerProcess(None, "--max-workers", "2", source=APP, check_descriptors=False) as server:
        worker = server.workers()[0]
        # The arbiter's, too: what it starts next must not be better off.
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (256, 256))
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (64, 64))
        port = int(server.address.rpartition(":")[2])
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
        process = psutil.Process(worker)

        def said() -> None:
            """it says that there are no descriptors"""
            assert "descriptor" in server.log or "Too many open files" in server.log, server.log

        eventually(said, within=10)
        before = process.cpu_times()
        with server.connect() as waiting:
            assert waiting.silent(1.0)
        after = process.cpu_times()
        assert (after.user + after.system) - (before.user + before.system) < 0.2
        lines = [line for line in server.log.splitlines() if "escriptor" in line or "Too many" in line]
        assert len(lines) <= 5, lines
        for client in clients:
            client.close()

        def back() -> None:
            """a new client is answered"""
            assert server.get("/").text == str(worker)

        eventually(back, within=5)


REPLACES = """
import os, sys

class Own:
    def write(self, text):
        pass
    def flush(self):
        pass

{}

def app(environ, start):
    environ["wsgi.errors"].write("heard by nobody")
    body = str(os.getpid()).encode()
    start("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


@pytest.mark.parametrize("flags", [(), ("--preload",)], ids=["", "preload"])
@pytest.mark.parametrize(
    "statement",
    [
        "sys.stderr.close()",
        "sys.stderr.detach(); sys.stderr = Own()",
        "sys.stderr = Own()",
        "sys.stdout = sys.stderr = None",
    ],
)
def test_an_application_without_standard_error_is_served(statement: str, flags: tuple[str, ...]) -> None:
    """Closed, wrapped anew for another encoding, or replaced: what is written there when a worker hangs or
    crashes goes to the descriptor."""
    with ServerProcess(None, *flags, source=REPLACES.format(statement)) as server:
        (worker,) = server.workers()
        assert server.get("/").text == str(worker)
        server.stop()
        assert "exited with code 0" in server.log


VALIDATED = """
from wsgiref.validate import validator

def plain(environ, start):
    body = environ["wsgi.input"].read(1 << 20)
    environ["wsgi.errors"].write("")
    start("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]

app = validator(plain)
"""


def test_the_validator_of_the_standard_library_has_nothing_to_say() -> None:
    with ServerProcess(source=VALIDATED) as server:
        with server.connect() as connection:
            assert connection.get("/a%20b?c=d").status == 200
            assert connection.get("/", method="HEAD").status == 200
            assert connection.get("/", method="POST", body=b"hello").text == "hello"
            assert connection.get("/", method="POST", body=[b"he", b"llo"]).text == "hello"
        assert "AssertionError" not in server.log
        assert "WSGIWarning" not in server.log


STAYS = """
import threading
threading.Thread(target=threading.Event().wait, name="for ever").start()
def app(environ, start):
    start("200 OK", [("Content-Length", "0")])
    return [b""]
"""


def test_a_thread_of_a_preloaded_application_does_not_keep_the_server() -> None:
    """It is no daemon, and the interpreter waits for such; systemd, or `docker stop`, would have to kill."""
    with ServerProcess(None, "--preload", source=STAYS) as server:
        assert server.get("/").status == 200
        assert server.stop() == 0
        assert "Not waiting any longer for threads that were started here: for ever" in server.log
