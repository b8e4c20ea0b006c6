"""Bind strings: what a person writes after `--bind`, and what we call it afterwards.

    HOST  HOST:PORT  :PORT  tcp://HOST:PORT  [V6]:PORT  unix:PATH  unix:@NAME  fd://N

Nothing here opens a socket or asks a resolver; `system/listeners.py` does. A mistake raises
`ConfigError` with a sentence that says what was wrong and how to write it instead.
"""

from __future__ import annotations

import ipaddress
import socket
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum

from threadcorn.errors import ConfigError

__all__ = ["DEFAULT_PORT", "Address", "Kind", "of_socket", "overlap", "parse", "parse_all", "separate"]

DEFAULT_PORT = 8000

# sockaddr_un.sun_path has 108 bytes with its final NUL; 104 on the BSDs and macOS. The kernel's own word for
# a longer one is ENAMETOOLONG or a silent cut, depending on the system.
LONGEST_UNIX_PATH = 107 if sys.platform == "linux" else 103


class Kind(Enum):
    """What stands behind an address."""

    TCP = "tcp"
    UNIX = "unix"
    FD = "fd"


@dataclass(frozen=True, slots=True)
class Address:
    """One place to listen at. `host` is a name or a number without brackets; `path` may begin with NUL."""

    kind: Kind
    host: str = ""
    port: int = 0
    path: str = ""
    fd: int = -1
    # IPv6 only: False makes `::` take IPv4 clients too. See `separate`.
    v6only: bool = False

    @property
    def abstract(self) -> bool:
        """A name in the kernel, not a file: nothing to chmod, nothing to unlink."""
        return self.kind is Kind.UNIX and self.path.startswith("\0")

    @property
    def is_v6(self) -> bool:
        return self.kind is Kind.TCP and ":" in self.host

    @property
    def bind_text(self) -> str:
        """The same address as a bind string; `parse(a.bind_text)` gives `a` back."""
        if self.kind is Kind.UNIX:
            return "unix:" + ("@" + self.path[1:] if self.abstract else self.path)
        if self.kind is Kind.FD:
            return f"fd://{self.fd}"
        return f"[{self.host}]:{self.port}" if self.is_v6 else f"{self.host}:{self.port}"

    @property
    def name(self) -> str:
        """For humans and logs: a URL where a browser could use it."""
        return f"http://{self.bind_text}" if self.kind is Kind.TCP else self.bind_text

    def __str__(self) -> str:
        return self.name


def parse(text: str) -> Address:
    """The address that a bind string means. Raises ConfigError."""
    text = text.strip()
    lowered = text.lower()
    if lowered.startswith("unix:"):
        return _parse_unix(text)
    if lowered.startswith("fd://"):
        return _parse_fd(text)
    rest = text
    if lowered.startswith("tcp://"):
        rest = text[6:].rstrip("/")
    elif "://" in text:
        scheme = text.split("://", 1)[0]
        what = "leave the scheme out"
        if scheme.lower() == "https":
            what += ", and let the proxy in front speak TLS"
        raise _wrong(text, f"{scheme}:// is not an address to listen at", f"write HOST:PORT and {what}")
    return _parse_tcp(text, rest)


def parse_all(texts: Iterable[str]) -> list[Address]:
    """All addresses, or one ConfigError with every mistake in them, repeated addresses included."""
    found: list[Address] = []
    problems: list[str] = []
    for text in texts:
        try:
            address = parse(text)
        except ConfigError as error:
            problems += error.problems
            continue
        if address in found and (address.kind is not Kind.TCP or address.port):
            problems.append(f"bind {text!r}: {address.bind_text} is given twice; leave one of them out")
        found.append(address)
    if problems:
        raise ConfigError(problems)
    return separate(found)


def separate(addresses: list[Address]) -> list[Address]:
    """Make `[::]:PORT` IPv6 only where an IPv4 address with the same port is in the list.

    A dual-stack `::` owns the port for IPv4 as well, and the second bind of the pair would fail with
    "address in use" although the person asked for something sensible.
    """
    v4_ports = {a.port for a in addresses if a.kind is Kind.TCP and not a.is_v6 and a.port}
    return [replace(a, v6only=True) if a.is_v6 and a.port in v4_ports else a for a in addresses]


def of_socket(sock: socket.socket) -> Address:
    """What a bound socket is really bound to: port 0 has become a number, a descriptor has got a name."""
    where = sock.getsockname()
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        v6only = False
        if sock.family == socket.AF_INET6:
            v6only = bool(sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))
        host = str(where[0])
        if sock.family == socket.AF_INET6 and where[3] and "%" not in host:
            host = f"{host}%{where[3]}"  # a link-local address says nothing without its interface
        return Address(Kind.TCP, host=host, port=int(where[1]), v6only=v6only)
    if sock.family == socket.AF_UNIX:
        # Linux gives abstract names as bytes, everything else as str.
        path = where.decode("utf-8", "surrogateescape") if isinstance(where, bytes) else str(where)
        return Address(Kind.UNIX, path=path)
    return Address(Kind.FD, fd=sock.fileno())


def _wrong(text: str, what: str, instead: str) -> ConfigError:
    return ConfigError(f"bind {text!r}: {what}; {instead}")


def _parse_unix(text: str) -> Address:
    path = text[5:].removeprefix("//")  # unix:///run/app.sock, as gunicorn takes it
    if path.startswith("@"):
        path = "\0" + path[1:]
    if path in {"", "\0"}:
        raise _wrong(text, "there is no path", "write unix:/run/myapp.sock")
    if "\0" in path[1:]:
        raise _wrong(text, "a path cannot hold a NUL byte", "write unix:@NAME for an abstract socket")
    size = len(path.encode("utf-8", "surrogateescape"))
    if size > LONGEST_UNIX_PATH:
        raise _wrong(text, f"the path is {size} bytes long, a socket's may have {LONGEST_UNIX_PATH}",
                     "take a shorter one, for example below /run")  # fmt: skip
    return Address(Kind.UNIX, path=path)


def _parse_fd(text: str) -> Address:
    number = text[5:]
    if not _digits(number) or len(number) > 6:
        raise _wrong(text, f"{number!r} is not the number of a descriptor", "write fd://3")
    return Address(Kind.FD, fd=int(number))


def _parse_tcp(text: str, rest: str) -> Address:
    host, port = rest, ""
    if rest.startswith("["):
        host, bracket, port = rest[1:].partition("]")
        if not bracket:
            raise _wrong(text, "the bracket is not closed", "write [::1]:8000")
        if port and not port.startswith(":"):
            raise _wrong(text, f"{port!r} stands after the bracket", "write [::1]:8000")
        if not _is_v6(host):
            raise _wrong(text, f"{host!r} is not an IPv6 address", "brackets are for those only")
        has_port, port = bool(port), port[1:]
    elif rest.count(":") > 1:
        if _is_v6(rest):
            raise _wrong(text, "an IPv6 address needs brackets", f"write [{rest}]:{DEFAULT_PORT}")
        raise _wrong(text, "there is more than one colon", "write HOST:PORT, or [V6]:PORT")
    else:
        host, colon, port = rest.partition(":")
        has_port = bool(colon)
        if not has_port and _digits(host):
            # "8000" would go to the resolver and come back as the address 0.0.31.64.
            raise _wrong(text, f"{host} alone is a host", f"write :{host} or 127.0.0.1:{host} for a port")
    if "/" in host or "/" in port:
        raise _wrong(text, "an address to listen at has no path",
                     "write HOST:PORT, or unix:PATH for a socket file")  # fmt: skip
    if any(c.isspace() or c < " " for c in host):
        raise _wrong(text, f"{host!r} is not a host", "write HOST:PORT")
    number = DEFAULT_PORT
    if has_port:
        if not _digits(port):
            raise _wrong(
                text, f"{port!r} is not a port", "write a number from 1 to 65535, 0 for any free port"
            )
        number = int(port) if len(port) < 6 else 65536
        if number > 65535:
            raise _wrong(text, f"{port} is above 65535", "write a port from 1 to 65535, 0 for any free port")
    return Address(Kind.TCP, host=host.lower() or "0.0.0.0", port=number)


def _digits(text: str) -> bool:
    # isdigit() alone also takes the digits of other scripts, which int() would then take too.
    return text.isascii() and text.isdigit()


def _is_v6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False


def overlap(one: Address, other: Address) -> bool:
    """Whether one of them takes the port of the other."""
    if not one.kind is other.kind is Kind.TCP or one.port != other.port:
        return False
    return one.host == other.host or not {one.host, other.host}.isdisjoint(("0.0.0.0", "::"))
