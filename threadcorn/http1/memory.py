"""What clients repeat, and what it meant: HPACK's idea without its protocol.

Browsers, proxies and health checks send the same field lines again and again, byte for byte, and many of them
ask for the same few paths. To find the bytes again costs a fraction of taking them apart.

Nothing here decides whether a request is right: httptools sees every head, remembered or not. A field that
carries a secret is not remembered. Everything is bounded, and forgotten when it is full: a client that sends
something new each time costs the others no more than taking theirs apart.

Shared by the parsers of all threads. Each operation on a dict is atomic by itself, and an entry that is
lost or made twice changes nothing.
"""

from __future__ import annotations

from threadcorn.http1.rules import METHODS, path_info

__all__ = ["Memory", "Start"]

#: Entries, and the most bytes of one of them.
STARTS = 512
LONGEST_START = 80
FIELDS = 1024
LONGEST_FIELD = 256

#: Fields whose values are secrets, or never come again.
_FORGOTTEN = frozenset(
    ("HTTP_COOKIE", "HTTP_AUTHORIZATION", "HTTP_PROXY_AUTHORIZATION", "HTTP_X_API_KEY", "CONTENT_LENGTH")
)

#: Method, target, decoded path, query, and whether it is HTTP/1.1.
Start = tuple[str, str, str, str, bool]

_VERSIONS = {"HTTP/1.1": True, "HTTP/1.0": False}


class Memory:
    """Request lines and field lines, taken apart."""

    __slots__ = ("fields", "starts")

    def __init__(self) -> None:
        self.starts: dict[bytes, Start] = {}
        self.fields: dict[bytes, tuple[str, str]] = {}

    def start(self, line: bytes) -> Start | None:
        """A request line of the usual kind, `METHOD /path?query HTTP/1.x`, taken apart.

        None when it is of another kind, which need not be wrong. Called for a line that is not in `starts`.
        """
        text = line.decode("latin-1")
        try:
            method, target, version = text.split(" ")
            version11 = _VERSIONS[version]
            method = METHODS[method]
        except (ValueError, KeyError):
            return None
        if (
            target[:1] != "/"
            or "#" in target
            or not (target.isascii() and target.isprintable())  # together: 0x20 to 0x7e
            or method == "CONNECT"
        ):
            return None
        if "?" in target:
            path, _, query = target.partition("?")
        else:
            path, query = target, ""
        start = (method, target, path_info(path) if "%" in path else path, query, version11)
        # What has a query is hardly ever the same twice, and may hold what had better be forgotten.
        if len(line) <= LONGEST_START and not query:
            if len(self.starts) >= STARTS:
                self.starts.clear()
            self.starts[line] = start
        return start

    def keep_field(self, line: bytes, field: tuple[str, str]) -> None:
        """Remember key and value of a field line."""
        if len(line) <= LONGEST_FIELD and field[0] not in _FORGOTTEN:
            if len(self.fields) >= FIELDS:
                self.fields.clear()
            self.fields[line] = field
