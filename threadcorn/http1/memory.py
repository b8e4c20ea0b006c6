"""What clients repeat, and what it meant: HPACK's idea without its protocol.

Browsers, proxies and health checks send the same field lines again and again, byte for byte, and many of them
ask for the same few paths. To find the bytes again costs a fraction of taking them apart.

Nothing here decides whether a request is right: httptools sees every head, remembered or not. A field that
carries a secret is not remembered. Everything is bounded, and forgotten when it is full: a client that sends
something new each time costs the others no more than taking theirs apart.

One for each listener, shared by its parsers in all threads, which have the same limits. Each operation on a
dict is atomic by itself, and an entry that is lost or made twice changes nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from typing import Any

from threadcorn.http1.rules import METHODS, path_info

__all__ = ["Memory", "Start"]

#: Entries, and the most bytes of one of them.
STARTS = 256
LONGEST_START = 80
FIELDS = 1024
LONGEST_FIELD = 256

#: Fields whose values are secrets, or never come again.
_FORGOTTEN = frozenset(
    ("HTTP_COOKIE", "HTTP_AUTHORIZATION", "HTTP_PROXY_AUTHORIZATION", "HTTP_X_API_KEY", "CONTENT_LENGTH")
)

#: The environ of a request without fields, method, and whether it is HTTP/1.1.
Start = tuple[dict[str, Any], str, bool]

#: Keys that a request line sets. They are in the template, too, so that the number of keys that the fields
#: added can be told from the size of the dict.
_OF_THE_LINE = {
    "REQUEST_METHOD": "",
    "RAW_URI": "",
    "REQUEST_URI": "",
    "PATH_INFO": "",
    "QUERY_STRING": "",
    "SERVER_PROTOCOL": "HTTP/1.1",
}

#: Fields that fit into an environ without building its table anew.
_ROOM = 16

_VERSIONS = {"HTTP/1.1": True, "HTTP/1.0": False}


class Memory:
    """Request lines and field lines, taken apart.

    `template`: what every environ of the listener begins with. `watched`: keys that somebody has to look at;
    as long as no request had one of them, `seen` is false, and nobody has to look for them.
    """

    __slots__ = ("_watched", "fields", "seen", "starts", "template")

    def __init__(self, template: Mapping[str, Any], watched: Collection[str] = ()) -> None:
        self.template = _with_room({**_OF_THE_LINE, **template})
        self.starts: dict[bytes, Start] = {}
        self.fields: dict[bytes, tuple[str, str]] = {}
        self._watched = frozenset(watched)
        self.seen = False

    def start(self, line: bytes) -> Start | None:
        """A request line of the usual kind, `METHOD /path?query HTTP/1.x`, taken apart. The environ must be
        copied before it is changed.

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
        path, _, query = target.partition("?")
        environ = self.template.copy()
        environ["REQUEST_METHOD"] = method
        environ["RAW_URI"] = environ["REQUEST_URI"] = target
        environ["PATH_INFO"] = path_info(path) if "%" in path else path
        environ["QUERY_STRING"] = query
        environ["SERVER_PROTOCOL"] = version
        start = (environ, method, version11)
        # What has a query is hardly ever the same twice, and may hold what had better be forgotten.
        if len(line) <= LONGEST_START and not query:
            if len(self.starts) >= STARTS:
                self.starts.clear()
            self.starts[line] = start
        return start

    def watch(self, key: str) -> None:
        """A field with this key has come. Called before anybody can find it in an environ."""
        if key in self._watched:
            self.seen = True

    def keep_field(self, line: bytes, field: tuple[str, str]) -> None:
        """Remember key and value of a field line."""
        if len(line) <= LONGEST_FIELD and field[0] not in _FORGOTTEN:
            if len(self.fields) >= FIELDS:
                self.fields.clear()
            self.fields[line] = field


def _with_room(template: dict[str, Any]) -> dict[str, Any]:
    """An equal dict whose copies have room for the fields of a browser.

    A copy has the table of its original, free places and all, and a table that is full is built anew at the
    next key, which would cost every request 0.1 us. A table grows at the first key too many, and stays when
    that key is taken away; but when too many are taken away, a copy is built key by key, which is worse.
    """
    for extra in range(len(template)):
        roomy = dict(template)
        for number in range(extra):
            roomy[f"room {number}"] = None
        for number in range(extra):
            del roomy[f"room {number}"]
        probe = roomy.copy()
        size = sys.getsizeof(probe)
        for number in range(_ROOM):
            probe[f"room {number}"] = None
        if sys.getsizeof(probe) == size:
            return roomy
    return template
