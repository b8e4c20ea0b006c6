"""A stage for the arbiter: real forks, real sockets, and a worker so small that the arbiter is all there is.

Run as a script by ServerProcess (see `SCRIPT`). The "application" is the file `app.py` in the server's
directory, executed by each worker when it boots; the names it leaves behind say how the worker behaves:

    DEAF = True       it obeys neither messages nor TERM
    SILENT = True     its heart stops beating when it is ready
    SLOW = seconds    it takes so long to drain

The settings are `settings.json`. A client sends one letter and gets one line:

    p  its process id, slot, generation and age     e  its environment variable STAGE, umask, user
    r  asks to be replaced                          x  exits with code 7
    k  kills itself                                 f  its open descriptors
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

from threadcorn import logs
from threadcorn.arbiter.arbiter import Arbiter
from threadcorn.errors import ConfigError, explain
from threadcorn.messages import Drain, Draining, Failed, Hello, Quit, Ready, RecycleMe, WorkerBoot
from threadcorn.policy.cells import HEARTBEAT, STATE, WorkerState
from threadcorn.settings import Config, Settings
from threadcorn.system.poller import Waiter
from threadcorn.system.signals import Sig, SignalReader

__all__ = ["SCRIPT", "STRANGER", "App", "run_worker"]

SCRIPT = "from tests.arbiter.stage import main\nmain()\n"
STRANGER = "STAGE_STRANGER"  # in the environment: the arbiter has a child that is not a worker
HOOKS = (
    "on_starting",
    "on_reload",
    "when_ready",
    "pre_fork",
    "post_fork",
    "post_worker_init",
    "child_exit",
    "worker_exit",
    "nworkers_changed",
    "on_exit",
)


class App:
    """What composes the arbiter, as app/base.py does."""

    def __init__(self) -> None:
        self.cfg: Any = None

    def settings(self) -> Settings:
        cfg = Config()
        cfg.set("bind", os.environ["BIND"].split(","))
        cfg.set("ready_fd", os.environ["READY_FD"])
        try:
            wanted = json.loads(Path("settings.json").read_text())
        except ValueError as error:
            raise ConfigError(f"settings.json: {error}") from error
        bad = wanted.pop("bad_hook", None)
        for name in HOOKS if wanted.pop("hooks", False) else ():
            cfg.set(name, _hook(name, wrong=name == bad))
        for name, value in wanted.items():
            cfg.set(name, value)
        return cfg.freeze()

    def reload(self) -> Settings:
        return self.settings()

    def adopt(self, settings: Settings) -> None:
        self.cfg = Config.of(settings)
        for entry in settings.raw_env:
            name, _, value = entry.partition("=")
            os.environ[name] = value

    def load_for(self, settings: Settings) -> Any:
        def load() -> dict[str, Any]:
            self.adopt(settings)
            names: dict[str, Any] = {}
            exec(compile(Path("app.py").read_text(), "app.py", "exec"), names)
            return names

        return load


def _hook(name: str, *, wrong: bool) -> Any:
    """A hook that writes down that it was called, by whom, and whether it sees what hooks see."""

    def note(*args: Any) -> None:
        server = args[0] if name != "post_worker_init" else None
        worker = args[1] if name in ("pre_fork", "post_fork", "child_exit", "worker_exit") else None
        words = [name, "arbiter" if server is not None and os.getpid() == server.pid else "worker"]
        if name == "nworkers_changed":
            words += [str(args[1]), str(args[2])]
        if worker is not None:
            words += [str(worker.pid == os.getpid()), str(worker.age)]
            assert worker.ppid == server.pid
            assert worker.cfg.workers
            assert worker.log is server.log
        if server is not None:
            assert server.cfg.bind
            assert server.WORKERS is server.workers
            assert server.num_workers >= 0
        with open("hooks.log", "a") as file:
            file.write(" ".join(words) + "\n")
        if wrong:
            raise RuntimeError(f"{name} is wrong")

    return note


def run_worker(boot: WorkerBoot) -> int:
    """Says Hello and Ready, answers letters, obeys."""
    boot.channel.send(Hello(os.getpid()))
    try:
        names = boot.load()
        if boot.settings.post_worker_init is not None:
            boot.settings.post_worker_init(boot.worker)
    except BaseException as error:
        code, text = explain(error)
        boot.channel.send(Failed(code, text))
        return code
    return _Worker(boot, names).serve()


class _Worker:
    def __init__(self, boot: WorkerBoot, names: dict[str, Any]) -> None:
        self.boot = boot
        self.names = names
        self.reader = SignalReader((Sig.SIGTERM, Sig.SIGINT, Sig.SIGQUIT, Sig.SIGUSR1))
        self.waiter = Waiter()
        self.listeners = {sock.fileno(): sock for sock in boot.berths[boot.slot].listeners}
        for fd in (*self.listeners, boot.channel.fileno(), self.reader.fileno()):
            self.waiter.watch(fd)
        self.code: int | None = None
        self.leave_at = float("inf")

    def serve(self) -> int:
        faulthandler.cancel_dump_traceback_later()
        self.boot.page.cells[STATE] = WorkerState.READY
        self.beat()
        self.boot.channel.send(Ready())
        while self.code is None:
            for fd in self.waiter.wait(0.05):
                if fd in self.listeners:
                    self.accept(self.listeners[fd])
            self.adopt()
            if "SILENT" not in self.names:
                self.beat()
            if "DEAF" not in self.names:
                self.obey()
            if time.monotonic() >= self.leave_at:
                self.code = 0
        self.reader.close()
        return self.code

    def beat(self) -> None:
        self.boot.page.cells[HEARTBEAT] = time.monotonic_ns()

    def obey(self) -> None:
        numbers = self.reader.read()
        if Sig.SIGTERM in numbers:
            self.drain("TERM")
        elif Sig.SIGINT in numbers or Sig.SIGQUIT in numbers:
            self.code = 0
        for message in self.boot.channel.receive():
            if isinstance(message, Drain):
                self.drain(message.reason)
            elif isinstance(message, Quit):
                self.code = 0
        if self.boot.channel.ended:
            self.code = 0

    def adopt(self) -> None:
        """What waits at shards that nobody owns is everybody's."""
        if self.listeners:
            for berth in self.boot.berths:
                if not self.boot.page.board.arbiter.owner[berth.slot]:
                    for listener in berth.listeners:
                        self.accept(listener)

    def drain(self, reason: str) -> None:
        if self.leave_at == float("inf"):
            for fd in self.listeners:
                self.waiter.forget(fd)
            self.listeners = {}
            self.boot.channel.send(Draining(reason))
            self.leave_at = time.monotonic() + self.names.get("SLOW", 0.0)

    def accept(self, listener: socket.socket) -> None:
        try:
            client, _ = listener.accept()
        except BlockingIOError:
            return
        with client:
            client.settimeout(5.0)
            letter = client.recv(1).decode()
            client.sendall((self.answer(letter) + "\n").encode())

    def answer(self, letter: str) -> str:
        boot = self.boot
        if letter == "r":
            boot.channel.send(RecycleMe("asked"))
        elif letter == "x":
            os._exit(7)
        elif letter == "k":
            os.kill(os.getpid(), signal.SIGKILL)
        elif letter == "e":
            mask = os.umask(0)
            os.umask(mask)
            return json.dumps([os.environ.get("STAGE"), mask, os.getuid(), os.getgid(), os.getgroups()])
        elif letter == "f":
            return json.dumps(sorted(os.readlink(f"/proc/self/fd/{fd}") for fd in _descriptors()))
        return json.dumps([os.getpid(), boot.slot, boot.generation, boot.age])


def _descriptors() -> list[int]:
    return [int(name) for name in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{name}")]


def main() -> None:
    app = App()
    settings = app.settings()
    app.adopt(settings)
    log = logs.setup(settings)
    if STRANGER in os.environ and os.fork() == 0:
        os._exit(0)
    try:
        code = Arbiter(app=app, settings=settings, log=log, run_worker=run_worker).run()
    except Exception as error:
        code, text = explain(error)
        log.error("%s", text)
    raise SystemExit(code)
