"""Listening sockets that are not for clients: the admin address and the control socket.

The control socket gives orders to the server: nobody else may own it, stand in its place, or connect to it.
It is bound under a mask, not changed afterwards: there is no instant at which others could connect.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct

from threadcorn.errors import BootError
from threadcorn.system.addresses import Kind, parse

__all__ = ["Doorway", "open_admin", "open_private", "peer_uid"]

BACKLOG = 64
_PEERCRED = struct.Struct("3i")


class Doorway:
    """A listener, and the file that must go with it."""

    def __init__(self, sock: socket.socket, path: str | None, name: str) -> None:
        self.sock = sock
        self.path = path
        self.name = name
        self._inode = os.lstat(path).st_ino if path is not None else 0

    @classmethod
    def adopt(cls, fd: int) -> Doorway:
        """One that a predecessor has opened."""
        sock = socket.socket(fileno=fd)
        sock.setblocking(False)
        if sock.family == socket.AF_UNIX:
            path = os.fsdecode(sock.getsockname())
            return cls(sock, path if os.path.lexists(path) else None, f"unix:{path}")
        return cls(sock, None, _name(sock))

    @property
    def everywhere(self) -> bool:
        """Whether it is open on every network of the machine."""
        return self.sock.family != socket.AF_UNIX and self.sock.getsockname()[0] in ("0.0.0.0", "::")

    @property
    def hidden(self) -> bool:
        """Whether it is a unix socket whose file is gone: nobody finds the way to it."""
        return self.sock.family == socket.AF_UNIX and self.path is None

    def close(self) -> None:
        """Close it, and remove its file unless somebody else has put one there."""
        self.sock.close()
        if self.path is None:
            return
        try:
            if os.lstat(self.path).st_ino == self._inode:
                os.unlink(self.path)
        except OSError:
            pass  # gone already, or a directory that is read-only by now
        self.path = None

    def forget(self) -> None:
        """In a child: close the descriptor only."""
        self.sock.close()


def open_admin(text: str) -> Doorway:
    """--admin-bind: HOST:PORT or unix:PATH. Raises BootError."""
    address = parse(text)
    if address.kind is Kind.UNIX and not address.abstract:
        return open_private(address.path, "admin_bind", mask=0o117)
    if address.kind is not Kind.TCP:
        raise BootError(f"admin_bind {text}: not an address to listen at", "use HOST:PORT or unix:PATH")
    sock = socket.socket(socket.AF_INET6 if address.is_v6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setblocking(False)
        sock.bind((address.host, address.port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise BootError(
            f"admin_bind {text}: cannot listen there: {error.strerror}",
            "give --admin-bind an address of this machine and a free port, like 127.0.0.1:9000",
        ) from error
    return Doorway(sock, None, _name(sock))


def _name(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def open_private(path: str, setting: str = "control_socket", mask: int = 0o177) -> Doorway:
    """A unix socket that is its owner's alone. Raises BootError."""
    path = os.path.abspath(path)
    _judge_directory(path, setting)
    _clear(path, setting)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(mask)
    try:
        sock.bind(path)
    except OSError as error:
        sock.close()
        raise BootError(
            f"{setting} {path}: cannot be made: {error.strerror or error}",
            "name a path in a directory of your own",
        ) from error
    finally:
        os.umask(before)
    sock.setblocking(False)
    sock.listen(BACKLOG)
    return Doorway(sock, path, f"unix:{path}")


def _judge_directory(path: str, setting: str) -> None:
    directory = os.path.dirname(path)
    try:
        found = os.stat(directory)
    except OSError as error:
        raise BootError(f"{setting} {path}: {directory}: {error.strerror}", "make the directory") from error
    if found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX:
        # Whoever may write there may take our socket away and put one of theirs in its place.
        raise BootError(
            f"{setting} {path}: others may write to {directory}",
            "use a directory of your own, for example under /run",
        )


def _clear(path: str, setting: str) -> None:
    """Take away what a server that was killed has left. Anything else there is refused."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise BootError(f"{setting} {path}: {error.strerror}", "name another path") from error
    if not stat.S_ISSOCK(found.st_mode):
        kind = "a symbolic link" if stat.S_ISLNK(found.st_mode) else "no socket"
        raise BootError(f"{setting} {path}: what is there is {kind}", "remove it, or name another path")
    if found.st_uid != os.geteuid():
        raise BootError(f"{setting} {path}: the socket there is another user's", "name another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except OSError as error:
            if error.errno not in (errno.ECONNREFUSED, errno.ENOENT):
                raise BootError(f"{setting} {path}: {error.strerror}", "name another path") from error
        else:
            raise BootError(f"{setting} {path}: a server answers there", "stop it, or name another path")
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def peer_uid(sock: socket.socket) -> int | None:
    """Who is at the other end of a unix socket; None where the system does not tell."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None or sock.family != socket.AF_UNIX:
        return None
    return int(_PEERCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, option, _PEERCRED.size))[1])
