"""What a request may say: names, hosts, targets, framing. Pure, and judged by explicit ASCII tables.

Nothing here uses `int()`, `strip()`, `isdigit()`, `splitlines()` or a pattern with `\\d \\s \\w $` on bytes
of the wire: each of them takes more than ASCII (`"\\u0665"` is a digit, `\\x0b` is space, `$` lets a line
feed pass) and each of them was somebody's advisory. `tests/test_wire_bytes.py` holds that list.

Everything here is called for what the fast path of `parser.py` has not seen before, so it is written to
be read. What it learns is kept in small bounded caches (`KEYS`, `HOSTS`, `KEEPS`).
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from threadcorn.errors import ProtocolViolation

__all__ = [
    "CHUNKED",
    "HOSTS",
    "KEEPS",
    "KEYS",
    "METHODS",
    "Target",
    "address_text",
    "content_length",
    "is_host",
    "key_of",
    "learn_connection",
    "learn_key",
    "path_info",
    "transfer_encoding",
]

#: `Request.length` of a chunked body.
CHUNKED = -1

#: Bounds of the caches below. What a client sends must not grow a process for ever.
CACHED_NAMES = 1024
CACHED_HOSTS = 256
CACHED_CONNECTIONS = 64
CACHED_LENGTH = 80

TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
is_token = re.compile(TOKEN + rb"\Z").match

#: The methods that httptools takes, but for those of other protocols (RTSP, ICE, the HTTP/2 preface).
#: Anything else that is a token gets 501: it may be right, we just do not know it.
METHODS: dict[str, str] = {
    name: name
    for name in (  # noqa: SIM905 - a list would be a page
        "GET HEAD POST PUT DELETE OPTIONS PATCH TRACE CONNECT "
        "ACL BIND CHECKOUT COPY LINK LOCK M-SEARCH MERGE MKACTIVITY MKCALENDAR MKCOL MOVE NOTIFY PROPFIND "
        "PROPPATCH PURGE QUERY REBIND REPORT SEARCH SOURCE SUBSCRIBE UNBIND UNLINK UNLOCK UNSUBSCRIBE"
    ).split(" ")
}


# -- field names ---------------------------------------------------------------------------------------

_SEEDS = (  # noqa: SIM905 - a list would be a page
    "Accept Accept-Charset Accept-Encoding Accept-Language Access-Control-Request-Headers "
    "Access-Control-Request-Method Authorization Cache-Control Connection Content-Encoding Content-Language "
    "Content-Length Content-Type Cookie DNT Date Expect Forwarded From Host If-Match If-Modified-Since "
    "If-None-Match If-Range If-Unmodified-Since Keep-Alive Origin Pragma Priority Proxy-Authorization "
    "Proxy-Connection Range Referer Save-Data Sec-CH-UA Sec-CH-UA-Mobile Sec-CH-UA-Platform Sec-Fetch-Dest "
    "Sec-Fetch-Mode Sec-Fetch-Site Sec-Fetch-User Sec-GPC Sec-Purpose TE Traceparent Tracestate Trailer "
    "Transfer-Encoding Upgrade Upgrade-Insecure-Requests User-Agent Via X-Amzn-Trace-Id X-CSRFToken "
    "X-Correlation-ID X-Forwarded-For X-Forwarded-Host X-Forwarded-Port X-Forwarded-Prefix "
    "X-Forwarded-Proto X-Forwarded-Server X-Real-IP X-Request-ID X-Requested-With"
).split(" ")


def key_of(name: str) -> str:
    """The environ key of a field name. Right only for a token without an underscore."""
    # A token is ASCII. Of other text, upper() would turn one latin-1 letter into two ASCII ones.
    key = name.upper().replace("-", "_")
    return key if key == "CONTENT_TYPE" or key == "CONTENT_LENGTH" else "HTTP_" + key


_SEEDED = {
    spelt.encode(): key_of(spelt)
    for seed in _SEEDS
    for spelt in (seed, seed.lower(), seed.title(), seed.upper())
}

#: Field name as it stands on the wire to environ key. Holds plain names only: those that need a decision
#: (an underscore, `Proxy`) are never in it, so that the fast path falls out to where decisions are made.
KEYS: dict[bytes, str] = dict(_SEEDED)


def learn_key(name: bytes) -> str:
    """The environ key of a plain field name, kept in `KEYS`."""
    key = key_of(name.decode("ascii"))
    if len(name) <= CACHED_LENGTH:
        if len(KEYS) >= CACHED_NAMES:
            # Start again rather than stop learning: a client that invents names would otherwise push
            # everybody else's off the fast path for the life of the process. A thread that looks while
            # the table is short takes the slow path once, which gives the same answer.
            KEYS.clear()
            KEYS.update(_SEEDED)
        KEYS[name] = key
    return key


# -- Host ----------------------------------------------------------------------------------------------

# RFC 3986 section 3.2.2, without the comma of sub-delims: a list of two hosts is not a host.
_REG_NAME = r"(?:[A-Za-z0-9._~!$&'()*+;=-]|%[0-9A-Fa-f]{2})+"
_HOST = re.compile(
    rf"(?:{_REG_NAME}|\[(?P<v6>[0-9A-Fa-f:.]{{2,45}})\]|\[[vV][0-9A-Fa-f]+\.[A-Za-z0-9._~!$&'()*+;=:-]+\])"
    r"(?::(?P<port>[0-9]{0,5}))?\Z"
)

#: Values of Host that have been found right.
HOSTS: set[str] = set()


def is_host(host: str | None) -> bool:
    """Whether it is `uri-host [ ":" port ]` (RFC 9110 section 7.2). If so, it is remembered in `HOSTS`."""
    if host is None:
        return False
    match = _HOST.match(host)
    if match is None:
        return False
    if match["v6"] is not None:
        try:
            IPv6Address(match["v6"])
        except AddressValueError:
            return False
    # Same length, same digits: comparing text compares numbers.
    if match["port"] and match["port"].rjust(5, "0") > "65535":
        return False
    if len(host) <= CACHED_LENGTH:
        if len(HOSTS) >= CACHED_HOSTS:
            HOSTS.clear()
        HOSTS.add(host)
    return True


def address_text(address: IPv4Address | IPv6Address) -> str:
    """An address as the kernel writes it: of an IPv4 client of a socket for both families, Python writes one
    part in hexadecimal (until 3.13), and nobody would find that in a log or a list."""
    mapped = getattr(address, "ipv4_mapped", None)
    return str(address) if mapped is None else f"::ffff:{mapped}"


# -- framing -------------------------------------------------------------------------------------------

_LENGTH = re.compile(r"[0-9]{1,19}\Z")
_CODINGS = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:[ \t]*,[ \t]*[!#$%&'*+.^_`|~0-9A-Za-z-]+)*\Z")


def content_length(value: str) -> int:
    """The number in a Content-Length: one to nineteen ASCII digits and nothing else."""
    if not _LENGTH.match(value):
        raise ProtocolViolation(400, "Content-Length is not a number of at most 19 digits")
    return proven_digits(value)


def proven_digits(digits: str, base: int = 10) -> int:
    """`int()`, for text that a pattern has proven to be ASCII digits and nothing else.

    The one place where text of the wire becomes a number. `int()` by itself takes signs, spaces,
    underscores, prefixes and the digits of every script.
    """
    return int(digits, base)


def transfer_encoding(value: str) -> None:
    """Raise unless the one coding is `chunked`. 501 for codings unknown to us, 400 for bad framing."""
    value = value.lower()  # latin-1 text: no other letter's lower case is ASCII
    if value == "chunked":
        return
    if not _CODINGS.match(value):
        raise ProtocolViolation(400, "Transfer-Encoding is not a list of names")
    codings = [coding.strip(" \t") for coding in value.split(",")]
    if "chunked" in codings[:-1]:
        raise ProtocolViolation(400, "Transfer-Encoding has chunked twice, or not as the last coding")
    raise ProtocolViolation(501, "Transfer-Encoding has a coding other than chunked")


# -- Connection ----------------------------------------------------------------------------------------

#: Value of Connection to (says close, says keep-alive).
KEEPS: dict[str, tuple[bool, bool]] = {"keep-alive": (False, True), "close": (True, False)}


def learn_connection(value: str) -> tuple[bool, bool]:
    """Whether a Connection field, all its lines joined, says `close`, and whether `keep-alive`."""
    options = [option.strip(" \t") for option in value.lower().split(",")]
    said = ("close" in options, "keep-alive" in options)
    if len(value) <= CACHED_LENGTH and len(KEEPS) < CACHED_CONNECTIONS:
        KEEPS[value] = said
    return said


# -- the target ----------------------------------------------------------------------------------------

# Printable ASCII. `#` has no place in a request target, so a fragment is a mistake, or an attempt to have
# a proxy and us see different paths.
_ORIGIN = re.compile(r"/[\x21\x22\x24-\x7e]*\Z")
_ABSOLUTE = re.compile(r"[Hh][Tt][Tt][Pp][Ss]?://(?P<host>[^/?#@]+)(?P<rest>[/?][\x21\x22\x24-\x7e]*)?\Z")
_AUTHORITY = re.compile(r"[^/?#@]+:[0-9]{1,5}\Z")


_START = re.compile(
    r"([A-Z-]+) (/[\x21\x22\x24-\x3e\x40-\x7e]*)(?:\?([\x21\x22\x24-\x7e]*))? HTTP/1\.([01])\Z"
)


class Start(NamedTuple):
    """A request line of the usual kind: `METHOD /path?query HTTP/1.x`."""

    method: str
    target: str
    path: str  # decoded
    query: str
    version11: bool


def usual_start(line: str) -> Start | None:
    """The request line taken apart, or None when it is not of the usual kind, which need not be wrong."""
    match = _START.match(line)
    if match is None:
        return None
    method, path, query, minor = match.groups()
    if method not in METHODS or method == "CONNECT":
        return None
    target = path if query is None else path + "?" + query
    return Start(method, target, path_info(path), query or "", minor == "1")


class Target:
    """A request target, taken apart: RFC 9112 section 3.2."""

    __slots__ = ("host", "path", "query")

    def __init__(self, method: str, text: str) -> None:
        self.host: str | None = None
        self.path = ""
        self.query = ""
        if method == "CONNECT":
            if not _AUTHORITY.match(text) or not is_host(text):
                raise ProtocolViolation(400, "CONNECT needs HOST:PORT")
            raise ProtocolViolation(501, "CONNECT: this server is no proxy")
        if text == "*":
            if method != "OPTIONS":
                raise ProtocolViolation(400, "the target * is for OPTIONS")
            self.path = "*"
            return
        if not _ORIGIN.match(text):
            match = _ABSOLUTE.match(text)
            if match is None:
                raise ProtocolViolation(
                    400, "the target is no path, no http URL, or holds a forbidden character"
                )
            if not is_host(match["host"]):
                raise ProtocolViolation(400, "the host of the target is no host")
            self.host = match["host"]
            text = match["rest"] or "/"
            if text[0] == "?":
                text = "/" + text
        self.path, _, self.query = text.partition("?")


def path_info(path: str) -> str:
    """A path with its %XX decoded once, as latin-1 text (PEP 3333). `+` is a plus, `%2F` becomes `/`."""
    return unquote_to_bytes(path).decode("latin-1") if "%" in path else path
