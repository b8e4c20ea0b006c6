"""The server at the other end: questions, answers, and why there is none."""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
import time
from typing import Any

__all__ = ["INTERRUPTED", "NO", "NOBODY", "OK", "PAUSE", "USAGE", "Facts", "Server", "Trouble"]

#: Exit codes.
OK, NO, USAGE, NOBODY = 0, 1, 2, 3
INTERRUPTED = 130  # as the shell has it for SIGINT
#: Seconds to wait for an answer, for the workers' reports, and between two questions whether they are there.
PATIENCE = 10.0
REPORTS = 3.0
PAUSE = 0.05

Facts = dict[str, Any]

_WHY_NOBODY = {
    errno.ENOENT: "there is no such socket; does the server run, and with this --control-socket?",
    errno.ECONNREFUSED: "no server is behind it (any more)",
    errno.EACCES: "permission denied; only root and the server's own user may ask",
}


class Trouble(Exception):
    """What to say, and the exit code."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


class Server:
    """A connection to the control socket."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(PATIENCE)
        self._rest = b""
        try:
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            why = _WHY_NOBODY.get(error.errno or 0, error.strerror or str(error))
            if os.path.exists(path) and not stat.S_ISSOCK(os.stat(path).st_mode):
                why = "it is not a socket"
            raise Trouble(f"nobody answers at {path}: {why}", NOBODY) from error

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, command: str, **args: Any) -> Any:
        """The data of the answer. Raises Trouble."""
        try:
            self._socket.sendall(json.dumps({"command": command, "args": args}).encode() + b"\n")
            while b"\n" not in self._rest:
                data = self._socket.recv(65536)
                if not data:
                    raise ConnectionResetError
                self._rest += data
        except ConnectionError as error:
            who = "it has ended, or you are neither root nor its user"
            raise Trouble(f"the server at {self._path} has closed the connection: {who}", NOBODY) from error
        except OSError as error:
            raise Trouble(f"the server at {self._path} does not answer: {error}", NOBODY) from error
        line, _, self._rest = self._rest.partition(b"\n")
        try:
            answer = json.loads(line)
            if answer["ok"]:
                return answer["data"]
            refusal = str(answer["error"])
        except (ValueError, LookupError, TypeError) as error:
            text = f"what answers at {self._path} is not threadcorn's control socket"
            raise Trouble(text, NOBODY) from error
        raise Trouble(refusal, NO)

    def reports(self) -> list[Facts]:
        """What the threads of all workers do. One that is wedged has an `error` in place of `threads`."""
        asked, until = self.ask("ask"), time.monotonic() + REPORTS
        found: list[Facts] = []
        while len(found) < len(asked["asked"]) and time.monotonic() < until:
            time.sleep(PAUSE)
            found = self.ask("report", token=asked["token"])
        heard = {report["pid"] for report in found}
        found += [who | {"error": "does not answer"} for who in asked["asked"] if who["pid"] not in heard]
        return sorted(found, key=lambda report: (report["slot"], report["pid"]))
