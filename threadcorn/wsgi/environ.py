"""The environ of PEP 3333: what is the same for every request of one listener.

`template()` makes the dict that the head parser copies for every request; the parser adds the fields, the
worker adds the peer and `wsgi.input`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from threadcorn import __version__
from threadcorn.settings import Settings
from threadcorn.wsgi.gateway import FileWrapper

__all__ = ["ErrorStream", "Listener", "template"]

DEFAULT_PORTS = {"http": "80", "https": "443"}


class _Address(Protocol):
    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...


class Listener(Protocol):
    """Something that has an address: a group of shards."""

    @property
    def address(self) -> _Address: ...


class ErrorStream:
    """`wsgi.errors`: the error log by its `put`, else standard error, as it is at the time of the write.

    An application that reports a fault must not get another one because the disk of the log is full or
    the pipe of the supervisor is closed; PEP 3333 gives it no means to handle that.
    """

    def __init__(self, put: Callable[[bytes], object] | None = None) -> None:
        self._put = put  # must not raise

    def write(self, text: str) -> int:
        if self._put is not None:
            self._put(text.encode("utf-8", "backslashreplace"))
            return len(text)
        stream = sys.stderr
        if stream is not None:
            try:
                stream.write(text)
            except (OSError, ValueError):
                pass
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        stream = sys.stderr
        if stream is not None:
            try:
                stream.flush()
            except (OSError, ValueError):
                pass


def template(
    settings: Settings, listener: Listener, scheme: str = "http", errors: ErrorStream | None = None
) -> dict[str, Any]:
    """The constants of all requests that come in at `listener`.

    SERVER_NAME and SERVER_PORT are those of the listener, never of a field of the request, and never
    empty: a unix socket has no port, so it says what a client of the scheme would assume. An IPv6 address
    stands in brackets (RFC 3875 section 4.1.14), so that name and port make a URL.
    """
    address = listener.address
    name = f"[{address.host}]" if ":" in address.host else address.host
    return {
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scheme,
        "wsgi.errors": errors or ErrorStream(),
        "wsgi.multithread": settings.threads != 1,
        "wsgi.multiprocess": settings.workers != 1,
        "wsgi.run_once": False,
        # Chunks are taken off here, so the input has an end also without CONTENT_LENGTH.
        "wsgi.input_terminated": True,
        "wsgi.file_wrapper": FileWrapper,
        "wsgi.input": None,
        "SERVER_SOFTWARE": f"threadcorn/{__version__}",
        "SERVER_NAME": name or "localhost",
        "SERVER_PORT": str(address.port) if address.port else DEFAULT_PORTS[scheme],
        "SCRIPT_NAME": "",
        "REMOTE_ADDR": "",
        "REMOTE_PORT": "",
        "threadcorn.client_gone": None,
        "wsgi.early_hints": None,
    }
