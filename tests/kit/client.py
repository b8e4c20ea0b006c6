"""A raw HTTP client: it sends bytes as they are, reads exactly one answer and tells how that one ended.

No library is used on purpose. A library hides what these tests look at: whether a connection was
closed or reset, whether a second answer follows, whether there is a byte too many.
"""

from __future__ import annotations

import enum
import errno
import socket
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType

from tests.kit.eventually import Deadline

__all__ = ["Connection", "CutShort", "Ended", "Reply", "connect"]

WITHIN = 10.0

_NO_BODY = (204, 304)


class Ended(enum.Enum):
    """What told the client that the answer was whole."""

    NO_BODY = "there is no body in an answer of this kind"
    LENGTH = "Content-Length bytes were read"
    CHUNKED = "the last chunk was read"
    CLOSE = "the server closed the connection in order"


class CutShort(AssertionError):
    """The answer ended before it was whole, or was not HTTP.

    `how` is "closed", "reset", "timeout" or "malformed"; `got` is everything that was read of it.
    """

    def __init__(self, how: str, got: bytes, what: str) -> None:
        shown = got if len(got) <= 400 else got[:200] + b"..." + got[-200:]
        super().__init__(f"{how} while reading {what}; {len(got)} bytes so far: {shown!r}")
        self.how = how
        self.got = got


@dataclass
class Reply:
    """One answer, as it stood on the wire."""

    status: int
    reason: str
    version: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    ended: Ended = Ended.NO_BODY
    interim: list[int] = field(default_factory=list)  # the 1xx answers that came before
    trailers: list[tuple[str, str]] = field(default_factory=list)
    chunks: list[int] = field(default_factory=list)  # sizes, when it was chunked

    def all(self, name: str) -> list[str]:
        """All values of a header field, in order."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        """The one value of a header field, or None; two of them are an error."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} is there {len(values)} times: {values}"
        return values[0] if values else None

    @property
    def text(self) -> str:
        return self.body.decode("utf-8")

    @property
    def keeps(self) -> bool:
        """Whether the server says that the connection stays open."""
        tokens = {part.strip().lower() for value in self.all("Connection") for part in value.split(",")}
        if self.ended is Ended.CLOSE or "close" in tokens:
            return False
        return self.version == "HTTP/1.1" or "keep-alive" in tokens


class Connection:
    """One client connection. Reads never go beyond the answer asked for: the rest stays in `buffer`."""

    def __init__(self, sock: socket.socket, *, within: float = WITHIN) -> None:
        self.sock = sock
        self.within = within
        self.buffer = bytearray()

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.sock.close()

    def reset(self) -> None:
        """Close with a reset instead of an orderly end, as a client that was killed does."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def half_close(self) -> None:
        """Send the end of our side; go on reading."""
        self.sock.shutdown(socket.SHUT_WR)

    def send(self, data: bytes, *, within: float | None = None) -> None:
        """Send all of `data` as it is."""
        deadline = Deadline(self.within if within is None else within)
        view = memoryview(data)
        while view:
            self.sock.settimeout(max(deadline.left(), 0.001))
            sent = self.sock.send(view)
            view = view[sent:]

    def send_slowly(self, data: bytes, size: int = 1) -> None:
        """Send `data` in pieces of `size` bytes, each a system call of its own (and Nagle switched off)."""
        if self.sock.family != socket.AF_UNIX:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(data), size):
            self.send(data[start : start + size])

    def request(
        self,
        path: str = "/",
        *,
        method: str = "GET",
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        body: bytes | Iterable[bytes] | None = None,
        version: str = "HTTP/1.1",
        host: str = "test",
    ) -> None:
        """Send one well-formed request: bytes as a body of known length, any other iterable as chunks."""
        fields = list(headers.items() if isinstance(headers, Mapping) else headers)
        names = {name.lower() for name, _ in fields}
        if version == "HTTP/1.1" and "host" not in names:
            fields.insert(0, ("Host", host))
        if isinstance(body, bytes):
            if "content-length" not in names:
                fields.append(("Content-Length", str(len(body))))
        elif body is not None:
            fields.append(("Transfer-Encoding", "chunked"))
        lines = [f"{method} {path} {version}", *(f"{name}: {value}" for name, value in fields), "", ""]
        head = "\r\n".join(lines).encode("latin-1")
        if body is None:
            self.send(head)
        elif isinstance(body, bytes):
            self.send(head + body)
        else:
            self.send(head)
            for chunk in body:
                self.send(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            self.send(b"0\r\n\r\n")

    def get(self, path: str = "/", **how: object) -> Reply:
        """One GET (or another method with `method=`) and its answer, on this connection."""
        self.request(path, **how)  # type: ignore[arg-type]  # passed through as given
        return self.reply(method=str(how.get("method", "GET")))

    def reply(self, *, method: str = "GET", within: float | None = None) -> Reply:
        """Read exactly one answer. Interim (1xx) answers are noted on it, 101 is an answer."""
        deadline = Deadline(self.within if within is None else within)
        interim: list[int] = []
        while True:
            reply = self._head(deadline)
            if 100 <= reply.status < 200 and reply.status != 101:
                interim.append(reply.status)
                continue
            break
        reply.interim = interim
        if method == "HEAD" or reply.status in _NO_BODY or reply.status < 200:
            reply.ended = Ended.NO_BODY
            return reply
        coding = reply.get("Transfer-Encoding")
        length = reply.get("Content-Length")
        if coding is not None:
            if coding.lower() != "chunked" or length is not None:
                raise CutShort("malformed", bytes(self.buffer), f"framing {coding!r} with length {length!r}")
            self._chunks(reply, deadline)
        elif length is not None:
            if not (length.isascii() and length.isdigit()):
                raise CutShort("malformed", length.encode(), "Content-Length")
            reply.body = self._exactly(int(length), deadline, "a body of known length")
            reply.ended = Ended.LENGTH
        else:
            reply.body, how = self._to_end(deadline)
            if how != "closed":
                raise CutShort(how, reply.body, "a body that ends with the connection")
            reply.ended = Ended.CLOSE
        return reply

    def interim(self, *, within: float | None = None) -> Reply:
        """Read exactly one interim answer (for instance 100 Continue), body bytes left alone."""
        reply = self._head(Deadline(self.within if within is None else within))
        if not 100 <= reply.status < 200:
            raise CutShort("malformed", b"", f"an interim answer; this one is final: {reply.status}")
        return reply

    def to_end(self, *, within: float | None = None) -> tuple[bytes, str]:
        """Everything until the end, and how it ended: "closed", "reset" or "timeout"."""
        return self._to_end(Deadline(self.within if within is None else within))

    def end(self, *, within: float | None = None) -> str:
        """Wait for the end of the connection, which must come with no further byte: "closed" or "reset"."""
        data, how = self.to_end(within=within)
        if data or how == "timeout":
            raise CutShort(how if not data else "malformed", data, "the end of the connection")
        return how

    def silent(self, seconds: float) -> bool:
        """Whether nothing at all, neither a byte nor an end, comes for `seconds`."""
        if self.buffer:
            return False
        self.sock.settimeout(seconds)
        try:
            data = self.sock.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            return True
        except ConnectionResetError:
            return False
        assert isinstance(data, bytes)
        return False

    # -- reading

    def _more(self, deadline: Deadline) -> str | None:
        """Append what there is to the buffer; None, or how the connection ended."""
        left = deadline.left()
        if not left:
            return "timeout"
        self.sock.settimeout(left)
        try:
            data = self.sock.recv(65536)
        except TimeoutError:
            return "timeout"
        except OSError as error:
            if error.errno in (errno.ECONNRESET, errno.EPIPE):
                return "reset"
            raise
        if not data:
            return "closed"
        self.buffer += data
        return None

    def _line(self, deadline: Deadline, what: str) -> bytes:
        while True:
            at = self.buffer.find(b"\n")
            if at >= 0:
                line = bytes(self.buffer[: at + 1])
                del self.buffer[: at + 1]
                if not line.endswith(b"\r\n"):
                    raise CutShort("malformed", line, f"{what}: a line that ends without CR")
                return line[:-2]
            how = self._more(deadline)
            if how is not None:
                raise CutShort(how, bytes(self.buffer), what)

    def _exactly(self, size: int, deadline: Deadline, what: str) -> bytes:
        while len(self.buffer) < size:
            how = self._more(deadline)
            if how is not None:
                raise CutShort(how, bytes(self.buffer), f"{what} ({len(self.buffer)} of {size} bytes)")
        data = bytes(self.buffer[:size])
        del self.buffer[:size]
        return data

    def _to_end(self, deadline: Deadline) -> tuple[bytes, str]:
        while (how := self._more(deadline)) is None:
            pass
        data = bytes(self.buffer)
        self.buffer.clear()
        return data, how

    def _fields(self, deadline: Deadline, what: str) -> list[tuple[str, str]]:
        fields = []
        while line := self._line(deadline, what):
            name, colon, value = line.partition(b":")
            if not colon or not name or name != name.strip():
                raise CutShort("malformed", line, what)
            fields.append((name.decode("latin-1"), value.strip(b" \t").decode("latin-1")))
        return fields

    def _head(self, deadline: Deadline) -> Reply:
        line = self._line(deadline, "a status line")
        version, _, rest = line.decode("latin-1").partition(" ")
        status, _, reason = rest.partition(" ")
        if version not in ("HTTP/1.1", "HTTP/1.0") or len(status) != 3 or not status.isdigit():
            raise CutShort("malformed", line, "a status line")
        return Reply(int(status), reason, version, self._fields(deadline, "a header field"))

    def _chunks(self, reply: Reply, deadline: Deadline) -> None:
        parts = []
        while True:
            line = self._line(deadline, "a chunk's size").partition(b";")[0]
            try:
                size = int(line, 16)
            except ValueError:
                raise CutShort("malformed", line, "a chunk's size") from None
            if not size:
                break
            parts.append(self._exactly(size, deadline, "a chunk"))
            reply.chunks.append(size)
            if self._exactly(2, deadline, "the end of a chunk") != b"\r\n":
                raise CutShort("malformed", line, "the end of a chunk")
        reply.trailers = self._fields(deadline, "a trailer field")
        reply.body = b"".join(parts)
        reply.ended = Ended.CHUNKED


def connect(address: str, *, within: float = WITHIN, receive_buffer: int | None = None) -> Connection:
    """Connect to "HOST:PORT", "[V6]:PORT" or "unix:PATH", the form in which the server names addresses.

    `receive_buffer` is set before the connection is made, so that the window the peer sees is small
    from the first byte: what a test of slow readers needs.
    """
    if address.startswith("unix:"):
        sock = socket.socket(socket.AF_UNIX)
        target: object = address[len("unix:") :]
    else:
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        target = (host, int(port))
    try:
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(within)
        sock.connect(target)  # type: ignore[arg-type]  # a path or a pair, by family
    except BaseException:
        sock.close()
        raise
    return Connection(sock, within=within)
