"""Two network namespaces and the way between them, with a round trip as long as one to another country.

On the loopback a handshake is over before anybody can do anything in the middle of it; what happens to one
that is half-way shows only at a distance. The way is a TUN device at each end and a program that reads
packets from one, holds them back, and writes them to the other: it needs nothing of the kernel but TUN.

Needs root. `python distance.py HERE THERE SECONDS` is the program in the middle.
"""

from __future__ import annotations

import ctypes
import fcntl
import itertools
import os
import select
import struct
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from types import TracebackType

__all__ = ["Distance"]

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
CLONE_NEWNET = 0x40000000
NAMES = Path("/var/run/netns")
#: Large packets: the program in the middle is Python.
MTU = 15_000
NEAR, FAR = "10.77.0.1", "10.77.0.2"
_COUNT = itertools.count()


def possible() -> str:
    """Empty, or why there can be no namespaces here."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if not os.path.exists("/dev/net/tun"):
        return "there is no /dev/net/tun"
    return ""


class Distance:
    """`near` and `far` are commands to be put before others; `NEAR` and `FAR` the addresses there."""

    def __init__(self, ip: str, *, round_trip: float, settings: dict[str, str] | None = None) -> None:
        number = f"{os.getpid()}-{next(_COUNT)}"
        self._ip = ip
        self._names = [f"tc-near-{number}", f"tc-far-{number}"]
        self.near, self.far = ([ip, "netns", "exec", name] for name in self._names)
        self._round_trip = round_trip
        self._settings = settings or {}
        self._made: list[str] = []
        self._middle: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Distance:
        try:
            self._make()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _make(self) -> None:
        for name in self._names:
            self._run("netns", "add", name)
            self._made.append(name)
            self._run("-n", name, "link", "set", "lo", "up")
            for setting, value in self._settings.items():
                path = "/proc/sys/" + setting.replace(".", "/")
                write = [self._ip, "netns", "exec", name, "sh", "-c", f"echo {value} > {path}"]
                subprocess.run(write, check=True)
        command = [*self.near, sys.executable, __file__, *self._names, str(self._round_trip / 2)]
        self._middle = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._middle.stdout is not None
        assert self._middle.stdout.readline() == b"there\n", "the program in the middle has failed"
        for name, here, there in zip(self._names, (NEAR, FAR), (FAR, NEAR), strict=True):
            self._run("-n", name, "addr", "add", here, "peer", there, "dev", "way")
            self._run("-n", name, "link", "set", "way", "mtu", str(MTU), "txqueuelen", "10000", "up")

    def _run(self, *words: str) -> None:
        subprocess.run([self._ip, *words], check=True)

    def _end(self) -> None:
        if self._middle is not None:
            self._middle.kill()
            self._middle.wait()
            if self._middle.stdout is not None:
                self._middle.stdout.close()
        while self._made:
            self._run("netns", "del", self._made.pop())


def _open(name: str) -> int:
    """A TUN device called `way` in that namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(NAMES / name, "rb") as place:
        if libc.setns(place.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter {name}")
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", b"way", IFF_TUN | IFF_NO_PI))
    return fd


def _carry(ends: tuple[int, int], seconds: float) -> None:
    """Every packet, to the other end, so much later."""
    poller = select.poll()
    for end in ends:
        poller.register(end, select.POLLIN)
    other = {ends[0]: ends[1], ends[1]: ends[0]}
    under_way: deque[tuple[float, int, bytes]] = deque()
    while True:
        pause = None if not under_way else max(0.0, under_way[0][0] - time.monotonic()) * 1000
        for end, _ in poller.poll(pause):
            try:
                for _ in range(64):
                    packet = os.read(end, 1 << 16)
                    under_way.append((time.monotonic() + seconds, other[end], packet))
            except BlockingIOError:
                pass
        now = time.monotonic()
        while under_way and under_way[0][0] <= now:
            _, end, packet = under_way.popleft()
            try:
                os.write(end, packet)
            except OSError:
                pass  # lost, as packets are: the device is not up yet, or full


if __name__ == "__main__":
    here, there, delay = sys.argv[1:]
    both = _open(here), _open(there)
    print("there", flush=True)
    _carry(both, float(delay))
