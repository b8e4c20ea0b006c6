"""Real servers for tests: start one, talk to it, end it, and see that nothing is left of it.

`ServerProcess` starts `python -m threadcorn` (or a script that embeds it) in a session of its own. It
learns the addresses and the moment of readiness from --ready-fd, never from the log: log text is for
people and changes. At the end it asserts the exit code, that no process is left, that no descriptor
was gained, and that the log shows no leak. When anything goes wrong the stacks of all processes and the
log are printed and the directory is kept.
"""

from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from signal import SIGABRT, SIGKILL, SIGTERM
from types import TracebackType

import psutil

import threadcorn
from tests.kit.client import Connection, Reply, connect
from tests.kit.eventually import Deadline, NotInTime, eventually

__all__ = ["FORKED", "ROOT", "Finished", "ServerProcess", "StartFailed", "environment", "run_cli"]

ROOT = Path(__file__).resolve().parent.parent.parent
_PACKAGE = Path(threadcorn.__file__).resolve().parent.parent  # the wheel's place when one is tested

#: The interpreter's words, from 3.12 on, for a fork beside threads: where it is the application's.
FORKED = ("use of fork() may lead to deadlocks",)
# What must never stand in a log: each of these is a fault of ours that hurts nobody at once.
SUSPICIOUS = (
    "ResourceWarning",
    "Exception ignored",
    "Fatal Python error",
    *FORKED,
    "please report",
)

# A person's own settings must not reach the tests.
_NOT_PASSED_ON = ("THREADCORN_", "GUNICORN_", "PYTHON")
_NOT_PASSED_ON_EXACTLY = (
    "WEB_CONCURRENCY",
    "PORT",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "LISTEN_PIDFDID",
    "NOTIFY_SOCKET",
)


class StartFailed(AssertionError):
    """The server ended, or said nothing, before it was ready."""


@dataclass(frozen=True)
class Finished:
    """A command that ran to its end."""

    code: int
    out: str
    err: str


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for a server under test: this one's, without what steers Python or threadcorn."""
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_NOT_PASSED_ON) and name not in _NOT_PASSED_ON_EXACTLY
    }
    env["PYTHONPATH"] = os.pathsep.join(dict.fromkeys((str(_PACKAGE), str(ROOT))))
    env["PYTHONFAULTHANDLER"] = "1"
    env["PYTHONWARNINGS"] = "default"  # leaks are warnings; SUSPICIOUS looks for them
    env["PYTHONUNBUFFERED"] = "1"
    env.update(extra or {})
    return env


def run_cli(
    *args: str,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    within: float = 20.0,
    module: str = "threadcorn",
) -> Finished:
    """Run `python -m threadcorn ARGS`, which is expected to end by itself, and return what it said."""
    with tempfile.TemporaryDirectory(prefix="tc-cli-") as empty:
        done = subprocess.run(
            [sys.executable, "-m", module, *args],
            env=environment(env),
            cwd=cwd if cwd is not None else empty,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=within,
            check=False,
        )
    return Finished(done.returncode, done.stdout, done.stderr)


class ServerProcess:
    """A real arbiter with real workers, as a context manager.

    The application is a target (`app`), or the text of a module (`source`, which must define `app`), or
    the whole program is a script of the test's (`script`). A script finds what the command would get as
    flags in its environment: BIND and READY_FD.

    `bind` is a bind string with port 0, "unix" (a socket in the server's directory), "fd" (a listening
    socket made here and handed over as fd://N), or several of these.
    """

    def __init__(
        self,
        app: str | None = None,
        *options: str,
        source: str | None = None,
        script: str | None = None,
        config: str | None = None,
        bind: str | Sequence[str] = "127.0.0.1:0",
        env: Mapping[str, str] | None = None,
        files: Mapping[str, str] | None = None,
        exit_code: int = 0,
        ready_within: float = 30.0,
        stop_within: float = 30.0,
        clear_within: float = 5.0,  # for processes and descriptors that are on their way out
        check_descriptors: bool = True,
        tolerate: Sequence[str] = (),
    ) -> None:
        self.options = options
        self.exit_code = exit_code
        self.ready_within = ready_within
        self.stop_within = stop_within
        self.clear_within = clear_within
        self.check_descriptors = check_descriptors
        self.tolerate = tuple(tolerate)
        assert not set(self.tolerate) - set(SUSPICIOUS), "only what is looked for can be tolerated"
        self.directory = Path(tempfile.mkdtemp(prefix="tc-"))
        self.addresses: list[str] = []
        self.process: subprocess.Popen[bytes] | None = None
        self._extra_env = dict(env or {})
        self._connections: list[Connection] = []
        self._before: dict[int, Counter[str]] = {}
        self._workers_before = 0
        self._handed: list[socket.socket] = []
        for name, text in {**(files or {}), **({"application.py": source} if source else {})}.items():
            path = self.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        if config is not None:
            (self.directory / "threadcorn.conf.py").write_text(config, encoding="utf-8")
        self._script = script
        self._binds = [bind] if isinstance(bind, str) else list(bind)
        self._app = app or ("application:app" if source else "tests.kit.apps:hello")

    # -- life

    def __enter__(self) -> ServerProcess:
        try:
            self.start()
        except BaseException:
            self._fail()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._fail()
            return
        try:
            if self.running:
                self.stop()
            self._check_the_end()
        except BaseException:
            self._fail()
            raise
        self._release()
        shutil.rmtree(self.directory, ignore_errors=True)

    def start(self) -> None:
        """Start it and wait until it says that it is ready."""
        ready_read, ready_write = os.pipe()
        try:
            self._spawn(ready_write)
        except BaseException:
            os.close(ready_read)
            raise
        finally:
            # Ours must be closed, or the death of the server would not be the end of the pipe.
            os.close(ready_write)
        try:
            self.addresses = self._wait_until_ready(ready_read)
        finally:
            os.close(ready_read)
        self._before = {pid: self._descriptors(pid) for pid in (self.pid, *self.workers())}
        self._workers_before = len(self.workers())

    def _spawn(self, ready: int) -> None:
        binds, handed = [], []
        for bind in self._binds:
            if bind == "fd":
                sock = socket.create_server(("127.0.0.1", 0), backlog=128)
                self._handed.append(sock)
                handed.append(sock.fileno())
                binds.append(f"fd://{sock.fileno()}")
            elif bind == "unix":
                binds.append(f"unix:{self.directory}/socket")
            else:
                binds.append(bind)
        env = environment(self._extra_env)
        if self._script is not None:
            path = self.directory / "script.py"
            path.write_text(self._script, encoding="utf-8")
            env.update(BIND=",".join(binds), READY_FD=str(ready))
            command = [sys.executable, str(path), *self.options]
        else:
            flags = [part for bind in binds for part in ("--bind", bind)]
            command = [sys.executable, "-m", "threadcorn", "--ready-fd", str(ready), *flags]
            command += [*self.options, self._app]
        with open(self.directory / "err", "ab") as err, open(self.directory / "out", "ab") as out:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=self.directory,
                env=env,
                pass_fds=[ready, *handed],
                start_new_session=True,  # so that everything it leaves behind can be found, and ended
            )

    def _wait_until_ready(self, fd: int) -> list[str]:
        deadline = Deadline(self.ready_within)
        line = b""
        while not line.endswith(b"\n"):
            if not select.select([fd], [], [], deadline.left())[0]:
                raise StartFailed(f"not ready within {self.ready_within:g} s; it said {line!r} so far")
            data = os.read(fd, 4096)
            if not data:
                code = self.wait(within=deadline.left())
                raise StartFailed(f"ended with exit code {code} before it was ready:\n{self.log}")
            line += data
        word, *addresses = line.decode().split()
        assert word == "ready", f"an unknown word on the ready descriptor: {line!r}"
        assert addresses, "ready, but without an address"
        return addresses

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        """The arbiter's process number."""
        assert self.process is not None, "not started"
        return self.process.pid

    def signal(self, number: int) -> None:
        """Send a signal to the arbiter."""
        os.kill(self.pid, number)

    def wait(self, *, within: float | None = None) -> int:
        """Wait until the arbiter ends; the exit code (negative for a signal, as subprocess has it)."""
        assert self.process is not None, "not started"
        limit = self.stop_within if within is None else within
        try:
            return self.process.wait(limit)
        except subprocess.TimeoutExpired:
            raise NotInTime(f"the arbiter {self.pid} did not end within {limit:g} s") from None

    def stop(self, number: int = SIGTERM, *, within: float | None = None) -> int:
        """Check the descriptors, signal the arbiter, wait for its end; the exit code."""
        if self.check_descriptors:
            self._close_connections()
            eventually(self._no_extra_descriptors, within=self.clear_within)
        self.signal(number)
        return self.wait(within=within)

    def kill(self) -> None:
        """End everything at once and check nothing: for tests whose server cannot be ended otherwise."""
        self.exit_code = -SIGKILL
        self._kill_session()

    # -- looking

    @property
    def address(self) -> str:
        """The first address, as --ready-fd named it."""
        return self.addresses[0]

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    @property
    def log(self) -> str:
        """Standard error, where the error log is unless a test sends it elsewhere."""
        return (self.directory / "err").read_text(encoding="utf-8", errors="replace")

    @property
    def out(self) -> str:
        """Standard output."""
        return (self.directory / "out").read_text(encoding="utf-8", errors="replace")

    def workers(self) -> list[int]:
        """Process numbers of the live children of the arbiter, oldest first."""
        try:
            children = psutil.Process(self.pid).children()
        except psutil.NoSuchProcess:
            return []
        alive = []
        for child in children:
            try:
                if child.status() != psutil.STATUS_ZOMBIE:
                    alive.append((child.create_time(), child.pid))
            except psutil.NoSuchProcess:
                continue
        return [pid for _, pid in sorted(alive)]

    # -- talking

    def connect(self, address: str | None = None, *, receive_buffer: int | None = None) -> Connection:
        """A raw connection; it is closed with the server at the latest."""
        connection = connect(address or self.address, receive_buffer=receive_buffer)
        self._connections.append(connection)
        return connection

    def get(self, path: str = "/", *, address: str | None = None, **how: object) -> Reply:
        """One request on a connection of its own (`method=`, `headers=`, `body=` as Connection.request)."""
        with connect(address or self.address) as connection:
            return connection.get(path, **how)

    # -- the end

    def _descriptors(self, pid: int) -> Counter[str]:
        """Open descriptors by kind: sockets, pipes and kernel objects have a number in their name."""
        kinds: Counter[str] = Counter()
        try:
            for name in os.listdir(f"/proc/{pid}/fd"):
                try:
                    target = os.readlink(f"/proc/{pid}/fd/{name}")
                except FileNotFoundError:
                    continue  # closed between the two calls
                kinds[target.partition(":[")[0]] += 1
        except FileNotFoundError:
            pass
        return kinds

    def _no_extra_descriptors(self) -> None:
        """arbiter and workers hold no more descriptors than when they became ready"""
        now = self.workers()
        for pid, before in self._before.items():
            if pid == self.pid:
                if len(now) != self._workers_before:
                    continue  # scaled: each worker has its channel; there is nothing to compare with
                extra = self._descriptors(pid) - before
            else:
                # Files are the application's affair, which may open some with its first request.
                extra = self._descriptors(pid) - before
                extra = Counter({kind: n for kind, n in extra.items() if not kind.startswith("/")})
            who = "the arbiter" if pid == self.pid else "a worker"
            assert not extra, f"{who} ({pid}) gained descriptors since it was ready: {dict(extra)}"

    def _session(self) -> list[psutil.Process]:
        """Live processes of the server's session, whoever their parent is by now."""
        if self.process is None:
            return []
        members = []
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) == self.pid and process.status() != psutil.STATUS_ZOMBIE:
                    members.append(process)
            except (ProcessLookupError, psutil.NoSuchProcess):
                continue
        return members

    def _check_the_end(self) -> None:
        code = self.wait(within=self.stop_within)
        assert code == self.exit_code, f"exit code {code}, expected {self.exit_code}"

        def nothing_left() -> None:
            """no process of the server is left"""
            left = [process.pid for process in self._session()]
            assert not left, f"still there after the arbiter ended: {left}"

        eventually(nothing_left, within=self.clear_within)
        log = self.log
        for word in SUSPICIOUS:
            if word not in self.tolerate:
                assert word not in log, f"the log shows {word!r}"

    def _close_connections(self) -> None:
        for connection in self._connections:
            connection.close()
        self._connections.clear()

    def _release(self) -> None:
        self._close_connections()
        for sock in self._handed:
            sock.close()
        self._handed.clear()

    def _kill_session(self) -> None:
        for process in self._session():
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        if self.process is not None:
            self.process.wait(10)

    def _fail(self) -> None:
        """Stacks of whatever still runs, the log, and an end to it all. Never raises on its own account."""
        log_before = self.log if (self.directory / "err").exists() else ""
        members = self._session()
        for process in members:
            try:
                process.send_signal(SIGABRT)  # faulthandler prints the stacks of all threads
            except psutil.NoSuchProcess:
                continue
        if members and self.process is not None:
            try:
                self.process.wait(3)
            except subprocess.TimeoutExpired:
                pass
        self._kill_session()
        self._release()
        log = self.log if (self.directory / "err").exists() else ""
        print(f"---- server log ({self.directory})", file=sys.stderr)
        print(_tail(log_before), file=sys.stderr)
        if len(log) > len(log_before):
            print("---- after SIGABRT: stacks", file=sys.stderr)
            print(_tail(log[len(log_before) :]), file=sys.stderr)
        print("---- end of server log", file=sys.stderr)


def _tail(text: str, lines: int = 200) -> str:
    every = text.splitlines()
    left_out = len(every) - lines
    return "\n".join([f"({left_out} lines before)", *every[-lines:]] if left_out > 0 else every)
