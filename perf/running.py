"""Starting a server on chosen cores, driving it, and reading what it cost. Standard library only.

Shared by compare.py and counted.py. It measures through what the kernel tells (/proc), never through
the server under test.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["HERE", "ROOT", "Cost", "Load", "Running", "drive", "free_port", "machine", "need", "running"]

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent

_TICK = os.sysconf("SC_CLK_TCK")


def need(tool: str, package: str) -> str:
    """The path of a program, or an end with the name of the package that has it."""
    path = shutil.which(tool)
    if path is None:
        sys.exit(f"{tool} is not installed; on Debian it is in the package {package}")
    return path


def free_port() -> int:
    """A port that was free a moment ago.

    Not every peer can take a socket or name the port that it got, so this is bind, close and hope; a
    server that loses the race does not start, and the run ends with its log.
    """
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def machine() -> dict[str, object]:
    """What the numbers were taken on."""
    model = ""
    with contextlib.suppress(OSError):
        found = re.search(
            r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE
        )
        model = found.group(1) if found else ""
    return {
        "processor": model or platform.processor(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "load": os.getloadavg()[0],
        "taken": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    }


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the state on; the name before it may hold anything."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()


@dataclass(frozen=True)
class Cost:
    """Processor seconds of a server's processes, and how often its threads were switched."""

    user: float
    kernel: float
    voluntary: int
    involuntary: int

    def __sub__(self, before: Cost) -> Cost:
        return Cost(
            self.user - before.user,
            self.kernel - before.kernel,
            self.voluntary - before.voluntary,
            self.involuntary - before.involuntary,
        )


@dataclass(frozen=True)
class Load:
    """What wrk said."""

    requests: int
    seconds: float
    rate: float
    p50: float  # seconds
    p99: float
    errors: int  # answers that are not 2xx or 3xx, and socket errors

    def plain(self) -> dict[str, float]:
        return asdict(self)


class Running:
    """A server in a session of its own."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, port: int) -> None:
        self.process = process
        self.log = log
        self.port = port
        self.main = process.pid  # the process that SIGTERM ends; another one under strace

    def pids(self) -> list[int]:
        """All processes of the session, whatever their parents are."""
        found = []
        for name in os.listdir("/proc"):
            if name.isdigit():
                with contextlib.suppress(OSError):
                    if os.getsid(int(name)) == self.process.pid:
                        found.append(int(name))
        return sorted(found)

    def parents(self) -> dict[int, int]:
        """Parent of every process of the session."""
        found = {}
        for pid in self.pids():
            with contextlib.suppress(OSError):
                found[pid] = int(_stat(pid)[1])
        return found

    def cost(self) -> Cost:
        """What the server's processes have used until now."""
        user = kernel = voluntary = involuntary = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                stat = _stat(pid)
                user += int(stat[11])
                kernel += int(stat[12])
                for task in os.listdir(f"/proc/{pid}/task"):
                    for line in (
                        Path(f"/proc/{pid}/task/{task}/status").read_text(encoding="utf-8").splitlines()
                    ):
                        key, _, value = line.partition(":")
                        if key == "voluntary_ctxt_switches":
                            voluntary += int(value)
                        elif key == "nonvoluntary_ctxt_switches":
                            involuntary += int(value)
        return Cost(user / _TICK, kernel / _TICK, voluntary, involuntary)

    def text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def get(self, path: str, within: float = 5.0) -> bytes:
        """The body of one answer whose length or end is told by the server; raises OSError or ValueError."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=within) as sock:
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".encode())
            data = b""
            while piece := sock.recv(65536):
                data += piece
        head, gap, body = data.partition(b"\r\n\r\n")
        if not gap or b" 200 " not in head.partition(b"\r\n")[0]:
            raise ValueError(f"no good answer: {data[:200]!r}")
        return body


def _pinned(core: int | None, command: Sequence[str]) -> list[str]:
    return [*(["taskset", "-c", str(core)] if core is not None else []), *command]


@contextlib.contextmanager
def running(
    command: Sequence[str],
    *,
    port: int,
    env: dict[str, str],
    core: int | None,
    path: str = "/",
    within: float = 30.0,
) -> Iterator[Running]:
    """Start a server, wait until it answers 200 on `path`, and end it whatever happens."""
    with tempfile.TemporaryDirectory(prefix="tc-perf-") as scratch:
        log = Path(scratch) / "log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                _pinned(core, command),
                cwd=HERE,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        server = Running(process, log, port)
        try:
            until = time.monotonic() + within
            while True:
                try:
                    server.get(path, within=1.0)
                    break
                except (OSError, ValueError) as trouble:
                    if process.poll() is not None or time.monotonic() > until:
                        sys.exit(f"did not serve ({trouble}): {' '.join(command)}\n{server.text()}")
                    time.sleep(0.02)
            yield server
        finally:
            _end(server)


def _end(server: Running) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(server.main, signal.SIGTERM)
    try:
        server.process.wait(10)
    except subprocess.TimeoutExpired:
        print(
            f"did not end within 10 s of SIGTERM: {server.process.args!r}\n{server.text()}", file=sys.stderr
        )
    for pid in server.pids():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    server.process.wait(10)


_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


def _duration(text: str) -> float:
    number = re.fullmatch(r"([0-9.]+)(us|ms|s|m)", text)
    return float(number[1]) * _SECONDS[number[2]] if number else float("nan")


def drive(
    server: Running,
    path: str = "/",
    headers: Sequence[tuple[str, str]] = (),
    *,
    seconds: float,
    connections: int,
    core: int | None,
    script: str = "",
) -> Load:
    """Load the server with wrk from one thread and say what came of it."""
    command = [need("wrk", "wrk"), "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency"]
    for name, value in headers:
        command += ["-H", f"{name}: {value}"]
    if script:
        command += ["-s", str(Path(__file__).parent / script)]
    command.append(f"http://127.0.0.1:{server.port}{path}")
    done = subprocess.run(
        _pinned(core, command), capture_output=True, text=True, timeout=seconds + 60, check=False
    )
    said = done.stdout
    total = re.search(r"(\d+) requests in ([0-9.]+[a-z]+)", said)
    if done.returncode or total is None:
        sys.exit(f"wrk failed: {said}{done.stderr}\n{server.text()}")
    errors = 0
    if bad := re.search(r"Non-2xx or 3xx responses: (\d+)", said):
        errors += int(bad[1])
    if sockets := re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", said):
        errors += sum(map(int, sockets.groups()))
    percentiles = dict(re.findall(r"^\s+(50|99)%\s+(\S+)$", said, re.MULTILINE))
    requests, took = int(total[1]), _duration(total[2])
    return Load(
        requests,
        took,
        requests / took,
        _duration(percentiles.get("50", "")),
        _duration(percentiles.get("99", "")),
        errors,
    )
