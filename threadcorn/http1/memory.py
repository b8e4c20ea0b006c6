"""What clients repeat, and what it meant: HPACK's idea without its protocol.

A browser, a proxy, a health check send the same fields again and again, byte for byte, and many of them ask
for the same few paths. To compare bytes costs a tenth of parsing them.

A key is the whole block of a client and is compared whole, so what one client sent is found by nobody who
does not send the same. Everything is bounded, and forgotten when it is full: a client that sends something
new each time costs the others no more than a parse.

Shared by the parsers of all threads. Each operation on a dict is atomic by itself, and an entry that is
lost or made twice changes nothing.
"""

from __future__ import annotations

from typing import Any

from threadcorn.http1.rules import METHODS, path_info

__all__ = ["Memory", "Start"]

#: Entries, and the most bytes of one of them.
STARTS = 512
LONGEST_START = 80
BLOCKS = 256
LONGEST_BLOCK = 2048

#: Method, target, decoded path, query, and whether it is HTTP/1.1.
Start = tuple[str, str, str, str, bool]

_VERSIONS = {"HTTP/1.1": True, "HTTP/1.0": False}


class Memory:
    """Request lines and field blocks that were right. For one set of limits, since right depends on them."""

    __slots__ = ("blocks", "starts")

    def __init__(self) -> None:
        self.starts: dict[bytes, Start] = {}
        self.blocks: dict[bytes, dict[str, str]] = {}

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

    def keep_block(self, block: bytes, environ: dict[str, Any]) -> None:
        """Remember the fields of a request that was right and has no body."""
        if len(block) <= LONGEST_BLOCK:
            if len(self.blocks) >= BLOCKS:
                self.blocks.clear()
            self.blocks[block] = {
                key: environ[key] for key in environ if key[:5] == "HTTP_" or key == "CONTENT_TYPE"
            }
