"""From an address to a bound socket, and from a refusal of the kernel to words a person can use.

`system/listeners.py` makes groups of what is bound here. Every mistake becomes a BootError that says what
was refused, where, and what to do.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable
from dataclasses import dataclass

from threadcorn.errors import MORE_DESCRIPTORS, BootError
from threadcorn.system.addresses import Address, Kind

__all__ = [
    "FileMark",
    "Resolved",
    "adopt_fd",
    "bind_tcp",
    "bind_unix",
    "explain",
    "is_there",
    "resolve",
    "unlink_if_ours",
]

#: Bytes that the kernel takes for a client beyond those which are under way to it (tcp(7),
#: TCP_NOTSENT_LOWAT). Without it a client that does not read gets four megabytes copied for it, which
#: hundreds of them make seconds of the leader's time and all the memory that the kernel has for TCP. What is
#: under way is not bounded by this, so a fast client far away is served as fast as before.
UNSENT = 256 << 10


@dataclass(frozen=True, slots=True)
class Resolved:
    """A TCP address after the resolver has spoken: what socket() and bind() want."""

    family: socket.AddressFamily
    where: tuple[str, int] | tuple[str, int, int, int]
    v6only: bool

    def moved(self, where: tuple[str, int] | tuple[str, int, int, int]) -> Resolved:
        """The same with the port that the kernel chose."""
        return Resolved(self.family, where, self.v6only)


@dataclass(frozen=True, slots=True)
class FileMark:
    """Which file a path was when we made it. Somebody may replace it; then it is not ours to unlink."""

    path: str
    device: int
    inode: int


def resolve(address: Address) -> Resolved:
    """The first IPv4 address of a name, or its first IPv6 one: one bind is one listener, not a lottery."""
    try:
        found = socket.getaddrinfo(
            address.host, address.port, 0, socket.SOCK_STREAM, socket.IPPROTO_TCP, socket.AI_PASSIVE
        )
    except (socket.gaierror, UnicodeError) as error:
        text = error.strerror if isinstance(error, socket.gaierror) else "not a name that DNS can hold"
        raise BootError(
            f"cannot listen at {address}: the host {address.host!r} is not known ({text})",
            "check the spelling, or give a number: 127.0.0.1 for this machine only, 0.0.0.0 for all",
        ) from None
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    family, _, _, _, where = found[0]
    return Resolved(family, where, address.v6only)  # type: ignore[arg-type]  # bytes only for families we never ask for


def bind_tcp(
    at: Resolved, backlog: int, *, joins: bool, prepare: Callable[[socket.socket], None] | None = None
) -> socket.socket:
    """One listening TCP socket. `joins` is for every shard but the first; `prepare` gets it before bind().

    The first shard binds *without* SO_REUSEPORT: with it, a second server of the same user would join our
    group without an error and take its share of our connections.
    """
    sock = socket.socket(at.family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if at.family == socket.AF_INET6:
            # Said explicitly: the default is a sysctl, and members of one group must agree.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(at.v6only))
        if joins:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        _prepare_connections(sock)
        if prepare is not None:
            prepare(sock)
        sock.bind(at.where)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def bind_unix(
    address: Address, backlog: int, *, umask: int | None = None, owner: tuple[int, int] | None = None
) -> tuple[socket.socket, FileMark | None]:
    """A listening unix socket, and which file it made. A stale file is replaced, a live server is not."""
    if not address.abstract:
        _make_room(address)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        name = address.path.encode("utf-8", "surrogateescape")
        if address.abstract:
            sock.bind(name)
            sock.listen(backlog)
            return sock, None
        # bind() makes the mode from the umask. chmod afterwards would leave a moment in which anybody, or
        # nobody, could connect.
        before = None if umask is None else os.umask(umask)
        try:
            sock.bind(name)
        finally:
            if before is not None:
                os.umask(before)
        made = os.lstat(address.path)
        # Where it is, not how it was called: a reload may change the directory, and the end must find it.
        mark = FileMark(os.path.abspath(address.path), made.st_dev, made.st_ino)
        try:
            if owner is not None and owner != (made.st_uid, made.st_gid):
                os.lchown(address.path, *owner)
            sock.listen(backlog)
        except BaseException:
            unlink_if_ours(mark)
            raise
        return sock, mark
    except BaseException:
        sock.close()
        raise


def adopt_fd(fd: int) -> socket.socket:
    """A listening stream socket that somebody else opened: fd://N, systemd, our predecessor."""
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        raise BootError(
            f"cannot listen at fd://{fd}: descriptor {fd} is not open",
            "the program that starts threadcorn has to open it and let it be inherited",
        ) from None
    if not stat.S_ISSOCK(mode):
        raise BootError(
            f"cannot listen at fd://{fd}: descriptor {fd} is not a socket",
            "give the number of a TCP or unix stream socket",
        )
    sock = socket.socket(fileno=fd)
    family, kind = sock.family, sock.type
    if kind != socket.SOCK_STREAM or family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
        sock.detach()  # it is not ours to close
        raise BootError(
            f"cannot listen at fd://{fd}: it is a socket of {getattr(family, 'name', family)} and "
            f"{getattr(kind, 'name', kind)}",
            "give a TCP or unix stream socket",
        )
    if _connected(sock):
        sock.detach()
        raise BootError(
            f"cannot listen at fd://{fd}: it is a connection, not a listener",
            "under systemd write Accept=no in the socket unit",
        )
    os.set_inheritable(fd, False)
    sock.setblocking(False)
    if family != socket.AF_UNIX:
        _prepare_connections(sock)
    return sock


def _prepare_connections(listener: socket.socket) -> None:
    """What accepted sockets inherit, which saves a system call on each of them."""
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)


def is_there(mark: FileMark, path: str | None = None) -> bool:
    """Whether `path`, or the path at which it was made, still leads to it."""
    try:
        now = os.lstat(mark.path if path is None else path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # we may not look there any more
    return (now.st_dev, now.st_ino) == (mark.device, mark.inode)


def unlink_if_ours(mark: FileMark) -> bool:
    """Remove the socket file unless somebody has put another one at its place."""
    try:
        now = os.lstat(mark.path)
        if (now.st_dev, now.st_ino) != (mark.device, mark.inode):
            return False
        os.unlink(mark.path)
    except OSError:
        return False  # gone already, or no longer permitted: nothing that a stopping server could mend
    return True


def explain(error: OSError, address: Address, mine: Address | None = None) -> BootError:
    """The kernel's number in words. `mine` is another address of this command on the same port."""
    return BootError(*_words(error, address, mine))


def _words(error: OSError, address: Address, mine: Address | None) -> tuple[str, str]:
    start = f"cannot listen at {address}: "
    code = error.errno
    if code == errno.EADDRINUSE and mine is not None:
        return (
            start + f"--bind {mine.bind_text} of this same command takes that port already",
            f"leave {address.bind_text} out, or give it another port",
        )
    if code == errno.EADDRINUSE and address.kind is Kind.TCP:
        return (
            start + "the address is in use by another process",
            f"stop that process (ss -ltnp 'sport = :{address.port}' names it) or give another port to --bind",
        )
    if code == errno.EADDRINUSE:
        return start + "the name is in use by another process", "stop that process or choose another name"
    if code in (errno.EACCES, errno.EPERM) and address.kind is Kind.TCP:
        return (
            start + f"this user may not open port {address.port}",
            "take a port from 1024 up, or start as root with --user, or give CAP_NET_BIND_SERVICE to it",
        )
    if code in (errno.EACCES, errno.EPERM, errno.EROFS):
        return (
            start + f"no permission to make the socket file ({os.strerror(code)})",
            f"let this user write to {os.path.dirname(address.path) or '.'}, or choose another directory",
        )
    if code == errno.EADDRNOTAVAIL:
        return (
            start + f"no network interface of this machine has the address {address.host}",
            "give one that `ip address` shows, or 0.0.0.0 for all interfaces",
        )
    if code == errno.EAFNOSUPPORT and address.kind is Kind.TCP:
        return start + "this machine has no IPv6", "give an IPv4 address, 0.0.0.0 for all interfaces"
    if code in (errno.EINVAL, errno.ENODEV) and address.is_v6 and address.host.startswith("fe80"):
        return (
            start + "a link-local address needs the name of an interface that exists",
            "write it as [fe80::1%eth0]:8000",
        )
    if code in (errno.ENOENT, errno.ENOTDIR):
        return (
            start + f"the directory {os.path.dirname(address.path) or '.'} does not exist",
            "make it first, or choose another path",
        )
    if code in (errno.EMFILE, errno.ENFILE):
        return (
            start + "too many open descriptors",
            MORE_DESCRIPTORS,
        )
    return start + (error.strerror or str(error)).lower(), "choose another address with --bind"


def _connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def _make_room(address: Address) -> None:
    """Remove what a dead server left at the path, and refuse to remove anything else."""
    path = address.path
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise explain(error, address) from None
    if not stat.S_ISSOCK(found.st_mode):
        raise BootError(
            f"cannot listen at {address}: the path exists and is not a socket",
            "choose another path, or remove it yourself if nobody needs it",
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # Without blocking: a server whose queue is full answers EAGAIN, and it is alive all the same.
        probe.setblocking(False)
        refusal = probe.connect_ex(path)
    if refusal == errno.ENOENT:
        return
    if refusal in (errno.EACCES, errno.EPERM):
        raise BootError(
            f"cannot listen at {address}: the socket there belongs to another user, who may be using it",
            "choose another path, or remove it yourself if nobody needs it",
        )
    if refusal != errno.ECONNREFUSED:
        raise BootError(
            f"cannot listen at {address}: another process is serving there",
            f"stop that process (ss -lxp src {path} names it) or choose another path",
        )
    # Nobody listens. The file is looked at once more, so that what goes is what was tested.
    if not unlink_if_ours(FileMark(path, found.st_dev, found.st_ino)) and os.path.lexists(path):
        raise BootError(
            f"cannot listen at {address}: a stale socket file is there and cannot be removed",
            "remove it yourself, or choose another path",
        )
