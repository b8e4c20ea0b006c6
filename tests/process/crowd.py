"""Clients that go on asking while something happens to the server, and say what became of each request.

lost      by phase, for requests that were not answered: "connect", "sent" (no byte back), "cut" (in the
          middle), "reset" (instead of an end)
closed    keep-alive connections that the server ended between two requests, in order
refused   connections refused: the server is gone, or not there yet
"""

from __future__ import annotations

import socket
import threading
from collections import Counter
from types import TracebackType

from tests.kit.client import connect
from tests.kit.eventually import eventually

__all__ = ["Crowd"]


class Crowd:
    """`keep` clients on connections that stay, `fresh` clients with a connection a request."""

    def __init__(
        self,
        address: str,
        *,
        keep: int = 3,
        fresh: int = 3,
        path: str = "/",
        body: int = 3000,
        within: float = 15.0,
    ) -> None:
        self.address = address
        self.path = path
        self.within = within
        self.lost: Counter[str] = Counter()
        self.closed = 0
        self.refused = 0
        self.answered = 0
        self.bodies: Counter[bytes] = Counter()
        self._body = b"b" * body
        self._stop = threading.Event()
        self._lock = threading.Lock()
        kinds = [True] * keep + [False] * fresh
        self._threads = [threading.Thread(target=self._run, args=(n, kind)) for n, kind in enumerate(kinds)]

    def __enter__(self) -> Crowd:
        for thread in self._threads:
            thread.start()
        self.more(2 * len(self._threads))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def more(self, count: int) -> None:
        """Wait until so many requests more have been answered."""
        wanted = self.answered + count
        eventually(lambda: self.answered >= wanted, within=20, what=f"{count} more answers")

    def _run(self, number: int, keep: bool) -> None:
        sock: socket.socket | None = None
        turn = number
        while not self._stop.is_set():
            turn += 1
            if sock is None:
                sock = self._connect()
                if sock is None:
                    continue
                old = False
            phase, kept = self._ask(sock, turn, keep, old)
            with self._lock:
                if phase == "answered":
                    self.answered += 1
                elif phase == "closed":
                    self.closed += 1
                else:
                    self.lost[phase] += 1
            old = True
            self._stop.wait(0.002)  # it thinks; the server's processes want the processor as well
            if not kept:
                sock.close()
                sock = None
        if sock is not None:
            sock.close()

    def _connect(self) -> socket.socket | None:
        try:
            return connect(self.address, within=self.within).sock
        except (ConnectionRefusedError, FileNotFoundError):
            # The server is gone: nobody has been promised anything.
            with self._lock:
                self.refused += 1
            self._stop.wait(0.02)
        except OSError as error:
            with self._lock:
                self.lost[f"connect {type(error).__name__}"] += 1
        return None

    def _ask(self, sock: socket.socket, turn: int, keep: bool, old: bool) -> tuple[str, bool]:
        """What became of it, and whether the connection is still there."""
        method = "POST" if turn % 2 else "GET"
        body = self._body if turn % 2 else b""
        head = f"{method} {self.path} HTTP/1.1\r\nHost: t\r\nContent-Length: {len(body)}\r\n"
        head += "\r\n" if keep else "Connection: close\r\n\r\n"
        got = b""
        try:
            sock.sendall(head.encode() + body[:1000])
            sock.sendall(body[1000:])
        except OSError:
            pass  # what has been answered all the same is in the buffer
        try:
            while b"\r\n\r\n" not in got:
                part = sock.recv(65536)
                if not part:
                    # Between two requests the server may end it, in order: the client sends it again.
                    return ("cut" if got else "closed" if old else "sent"), False
                got += part
            top, _, rest = got.partition(b"\r\n\r\n")
            length = int(top.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            while len(rest) < length:
                part = sock.recv(65536)
                if not part:
                    return "cut", False
                rest += part
        except ConnectionResetError:
            return ("reset in the answer" if got else "reset of a kept one" if old else "reset"), False
        except OSError as error:
            return type(error).__name__, False
        with self._lock:
            self.bodies[rest] += 1
        if not top.startswith(b"HTTP/1.1 200"):
            return top.split(b"\r\n")[0].decode(), False
        return "answered", keep and b"connection: close" not in top.lower()
