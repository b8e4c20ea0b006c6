"""What a trusted proxy says of the client: scheme, address, mount point.

Called only for a connection whose peer may say so (decided when it was accepted), and only when the head has
a field that could matter; from everybody else these fields are ordinary ones that change nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv6Address, ip_address
from typing import Any

from threadcorn.errors import ProtocolViolation
from threadcorn.http1.rules import address_text

__all__ = ["Forwarding"]

_FOR = "HTTP_X_FORWARDED_FOR"
_FORWARDED = "HTTP_FORWARDED"
_PORT_DIGITS = frozenset("0123456789")
_hidden_port = re.compile(r"_[0-9A-Za-z._-]+\Z").match


def _set_scheme(environ: dict[str, Any], scheme: str) -> None:
    environ["wsgi.url_scheme"] = scheme
    if scheme == "https":
        environ["HTTPS"] = "on"
    else:
        environ.pop("HTTPS", None)


class Forwarding:
    """The rules of one worker. `hops`: proxies in front of us that each append to the list; 0: the list is
    not read. `source`: "x-forwarded-for" or "forwarded". Only one is read: a proxy that writes one of them
    hands on what the client wrote into the other."""

    def __init__(
        self,
        secure: Mapping[str, str],
        names: Iterable[str],
        hops: int = 0,
        source: str = "x-forwarded-for",
        *,
        refuse: bool = False,
    ) -> None:
        # Who is told to read Forwarded has a proxy that writes it, and that hands X-Forwarded-Proto on as the
        # client wrote it.
        self._secure = {
            "HTTP_" + name.upper().replace("-", "_"): text
            for name, text in secure.items()
            if source != "forwarded"
        }
        self._names = frozenset(name.upper() for name in names) & {"SCRIPT_NAME", "PATH_INFO"}
        self._refuse = refuse
        self._hops = hops
        self._source = _FORWARDED if source == "forwarded" else _FOR
        #: Keys that make `apply` worth calling.
        self.keys = frozenset(self._secure) | (frozenset((self._source,)) if hops else frozenset())

    def apply(self, environ: dict[str, Any], head: bytes) -> None:
        """Change an environ by what the proxy says. Raises ProtocolViolation when it contradicts itself."""
        self._scheme(environ)
        if self._hops and self._source in environ:
            self._client(environ, environ[self._source])
        # The target * is no path: it asks the server, wherever an application is mounted.
        if self._names and b"_" in head and environ["PATH_INFO"] != "*":
            self._mount(environ, head)

    def _scheme(self, environ: dict[str, Any]) -> None:
        said = {
            part.strip(" \t").lower() == secure.lower()
            for key, secure in self._secure.items()
            if key in environ
            for part in self._outermost(environ[key].split(","))
        }
        if len(said) > 1:
            raise ProtocolViolation(400, "the proxy's fields contradict each other about the scheme")
        if said:
            _set_scheme(environ, "https" if said.pop() else "http")

    def _outermost(self, entries: list[str]) -> list[str]:
        """Where each of the proxies has appended what it saw, the entry of the one that met the client: that
        the others were asked in another scheme contradicts nothing. A field that fewer appended to must
        say one thing."""
        return [entries[-self._hops]] if 0 < self._hops <= len(entries) else entries

    def _client(self, environ: dict[str, Any], value: str) -> None:
        # X-Forwarded-For knows no quotes: one that a client opens must not hide what the proxy put behind it.
        entries = _split(value, ",") if self._source == _FORWARDED else value.split(",")
        # Shorter than the chain of proxies: somebody went round one of them, and nothing of it is certain.
        if len(entries) < self._hops:
            return
        entry = entries[-self._hops].strip(" \t")
        if self._source == _FORWARDED:
            pairs = _pairs(entry)
            if pairs is None:
                raise ProtocolViolation(400, "the field Forwarded is malformed")
            if pairs.get("proto", "").lower() in ("http", "https"):
                _set_scheme(environ, pairs["proto"].lower())
            entry = pairs.get("for", "")
        node = _node(entry)
        if node is not None:
            environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = node

    def deny(self, head: bytes) -> None:
        """The same for a peer who may not say it. Raises ProtocolViolation where names with an underscore are
        refused (`header_map`): the parser has let those pass that a proxy may use."""
        if self._refuse and any(True for _ in self._said(head)):
            raise ProtocolViolation(400, "a name with an underscore")

    def _said(self, head: bytes) -> Iterator[tuple[str, str]]:
        for line in head.split(b"\r\n")[1:]:
            raw, _, value = line.partition(b":")
            if b"_" in raw and (name := raw.decode("latin-1").upper()) in self._names:
                yield name, value.strip(b" \t").decode("latin-1")

    def _mount(self, environ: dict[str, Any], head: bytes) -> None:
        said: dict[str, str] = {}
        for name, value in self._said(head):
            if name in said:
                raise ProtocolViolation(400, f"{name} came twice")
            said[name] = value
        if "PATH_INFO" in said:
            if not said["PATH_INFO"].startswith("/"):
                raise ProtocolViolation(400, "PATH_INFO does not begin with a slash")
            environ["PATH_INFO"] = said["PATH_INFO"]
        script = said.get("SCRIPT_NAME", "").rstrip("/")
        if script:
            if not script.startswith("/"):
                raise ProtocolViolation(400, "SCRIPT_NAME does not begin with a slash")
            environ["SCRIPT_NAME"] = script
            path = environ["PATH_INFO"]
            if "PATH_INFO" not in said:
                if path != script and not path.startswith(script + "/"):
                    raise ProtocolViolation(400, "the path is not below SCRIPT_NAME")
                environ["PATH_INFO"] = path[len(script) :]


def _split(text: str, mark: str) -> list[str]:
    """Cut at `mark`, but not inside quotes. Raises ProtocolViolation when they do not end: a quote that a
    client opens would hide what the proxies put behind it, and the client's entries be counted for theirs."""
    parts, begin, quoted, escaped = [], 0, False, False
    for at, char in enumerate(text):
        if escaped:
            escaped = False
        elif quoted and char == "\\":
            escaped = True
        elif char == '"':
            quoted = not quoted
        elif char == mark and not quoted:
            parts.append(text[begin:at])
            begin = at + 1
    if quoted:
        raise ProtocolViolation(400, "the field Forwarded is malformed")
    parts.append(text[begin:])
    return parts


def _pairs(element: str) -> dict[str, str] | None:
    """One element of Forwarded (RFC 7239 section 4), or None when it is not one."""
    pairs: dict[str, str] = {}
    for part in _split(element, ";"):
        name, sign, value = part.strip(" \t").partition("=")
        name = name.lower()
        if not name and not sign:
            continue
        if not sign or not name or name in pairs:
            return None
        if value.startswith('"'):
            if len(value) < 2 or not value.endswith('"') or "\\" in value or '"' in value[1:-1]:
                return None
            value = value[1:-1]
        elif not value or '"' in value:
            return None
        pairs[name] = value
    return pairs


def _node(text: str) -> tuple[str, str] | None:
    """Address and port of a node; None for `unknown`, a pseudonym, or what is no address."""
    port = ""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            return None
        port = rest[1:]
        wanted_v6 = True
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
        wanted_v6 = False
    else:
        host = text
        wanted_v6 = ":" in text
    if _hidden_port(port):
        port = ""  # RFC 7239 section 6.2: the proxy hides the port, not the address
    if port and (len(port) > 5 or not _PORT_DIGITS.issuperset(port)):
        return None
    try:
        address = ip_address(host)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) != wanted_v6 or "%" in host:
        return None
    return address_text(address), port
