"""Going to the background, with one wire back to the person at the terminal.

The process that was started stays until the server is ready or has failed, prints why, and exits with
the server's exit code. Without that wire `--daemon` would say that all is well and the port would be
taken by somebody else.
"""

from __future__ import annotations

import os
import socket
import sys

from threadcorn.errors import ExitCode

__all__ = ["Wire", "daemonise", "fill_standard"]

# Longer than any explanation; a traceback that does not fit loses its beginning.
LONGEST = 60_000


class Wire:
    """The daemon's end. `ready_fd` takes the line that the arbiter writes when it is ready."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        # A copy: who writes the ready line closes the descriptor, and its number may then be anybody's.
        self.ready_fd = os.dup(end.fileno())

    def failed(self, code: int, text: str) -> None:
        """Tell the terminal. Nobody may be there any more, and that is fine."""
        try:
            self._end.sendall(f"failed {code}\n{text[-LONGEST:]}".encode("utf-8", "replace"))
        except OSError:  # the terminal's process was told that we are ready, or was killed
            pass
        self.close()

    def close(self) -> None:
        """The server has ended as it was told to."""
        self._end.close()


def fill_standard() -> None:
    """Put /dev/null where standard input, output or error is closed. The first socket or file that is opened
    would get its number, and what a library writes to standard error would reach a client."""
    for standard in (0, 1, 2):
        try:
            os.fstat(standard)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, standard)  # for programs that we start as well
            if null != standard:
                os.close(null)


def daemonise(patience: float) -> Wire:
    """Return in the daemon only. The calling process waits up to `patience` seconds, and exits.

    Call it before anything else is opened: descriptors, threads and locks would be duplicated.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # closed by whoever started us
            stream.flush()
    ours, theirs = socket.socketpair()
    if os.fork():
        theirs.close()
        _stay_for_the_news(ours, patience)
    # A session of its own, and no leader of it: it can never get a terminal again.
    os.setsid()
    if os.fork():
        os._exit(ExitCode.OK)
    ours.close()
    os.umask(0o022)
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    if null > 2:
        os.close(null)
    return Wire(theirs)


def _stay_for_the_news(end: socket.socket, patience: float) -> None:
    end.settimeout(patience)
    news = b""
    try:
        while part := end.recv(65536):
            news += part
            if news.startswith(b"ready"):
                break
    except TimeoutError:
        _leave(ExitCode.BOOT_FAILED, f"the server was not ready within {patience:g} s; it goes on trying")
    if news.startswith(b"ready"):
        _leave(ExitCode.OK, "")
    head, _, text = news.decode("utf-8", "replace").partition("\n")
    word, _, code = head.partition(" ")
    if word == "failed" and code.isascii() and code.isdigit():
        _leave(int(code), text)
    _leave(ExitCode.BOOT_FAILED, "the server died before it was ready; see its error log")


def _leave(code: int, text: str) -> None:
    if text and sys.stderr is not None:
        sys.stderr.write(f"threadcorn: {text}\n")
        sys.stderr.flush()
    # Not sys.exit: what the daemon's process will do at its end is none of ours.
    os._exit(code)
