"""Cases of the corpus: bytes of a client, and what becomes of them.

A case is two files, `NAME.http` with the bytes as they are on the wire and `NAME.json`:

    says      what the case is about, one sentence
    outcomes  what comes out, in order:
                {"refused": 400}                      an error response, and nothing behind it is parsed
                {"method": "GET", "path": "/x", ...}  a request that the application gets
                {"waits": true}                       the server waits for more bytes
    limits    optional, limits other than the defaults

Of a request any of method, path, query, host, body, protocol, keep, expect may be named, and `environ`: keys
with their values, null for one that must not be there.

`Conversation` is the server without sockets, threads and time: what it does with its buffer is what the
worker does, written to be read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from threadcorn.errors import ProtocolViolation
from threadcorn.http1.chunked import ChunkedDecoder
from threadcorn.http1.memory import Memory
from threadcorn.http1.parser import (
    BEGIN,
    CHUNKED,
    HeadParser,
    Limits,
    Partial,
    Request,
    check_partial,
    head_end,
    skip_blank,
)

__all__ = ["CORPUS", "TEMPLATE", "Case", "Conversation", "Outcome", "cases", "mismatch", "play", "splits"]

CORPUS = Path(__file__).parent.parent / "corpus"

#: What a listener puts into every environ, as far as a parser is concerned.
TEMPLATE = {
    "SCRIPT_NAME": "",
    "SERVER_NAME": "server",
    "SERVER_PORT": "80",
    "wsgi.url_scheme": "http",
    "wsgi.input": None,
    "REMOTE_ADDR": "192.0.2.1",
    "REMOTE_PORT": "1024",
}


@dataclass(frozen=True)
class Outcome:
    """A request that came out whole, a refusal with its status, or neither: it waits."""

    refused: int = 0
    environ: dict[str, Any] = field(default_factory=dict)
    body: bytes = b""
    keep: bool = False
    expect: bool = False

    @property
    def waits(self) -> bool:
        return not self.refused and not self.environ


@dataclass(frozen=True)
class Case:
    name: str
    says: str
    wire: bytes
    outcomes: list[dict[str, Any]]
    limits: Limits


def cases(folder: str = "") -> list[Case]:
    """All cases of the corpus, or those below one folder of it."""
    found = []
    for path in sorted((CORPUS / folder).rglob("*.json")):
        told = json.loads(path.read_text("utf-8"))
        found.append(
            Case(
                name=path.relative_to(CORPUS).with_suffix("").as_posix(),
                says=told["says"],
                wire=path.with_suffix(".http").read_bytes(),
                outcomes=told["outcomes"],
                limits=Limits(**told.get("limits", {})),
            )
        )
    return found


class Conversation:
    """One connection: bytes in, outcomes out."""

    def __init__(self, limits: Limits | None = None, parser: HeadParser | None = None) -> None:
        self.limits = limits or Limits()
        self.parser = parser or HeadParser(self.limits, Memory(TEMPLATE))
        self.outcomes: list[Outcome] = []
        self.closed = False
        self._buffer = bytearray()
        self._state = BEGIN
        self._skipped = 0
        self._request: Request | None = None
        self._decoder: ChunkedDecoder | None = None
        self._body = bytearray()

    def feed(self, data: bytes) -> None:
        self._buffer += data
        try:
            while not self.closed and (self._head() if self._request is None else self._take_body()):
                pass
        except ProtocolViolation as violation:
            self.closed = True
            self.outcomes.append(Outcome(refused=violation.status))

    @property
    def result(self) -> list[Outcome]:
        """The outcomes; the last one waits when the connection is still open."""
        return self.outcomes if self.closed else [*self.outcomes, Outcome()]

    def _head(self) -> bool:
        """Whether a whole head was there."""
        buffer = self._buffer
        start = skip_blank(buffer)
        if start != self._skipped:
            self._skipped, self._state = start, BEGIN
        end = head_end(buffer, start)
        if end < 0:
            self._state = check_partial(buffer, self.limits, self._state, start)
            assert isinstance(self._state, Partial)
            return False
        head = bytes(buffer[start:end])
        del buffer[:end]
        self._state, self._skipped = BEGIN, 0
        self._request = self.parser.parse(head)
        self._body.clear()
        self._decoder = ChunkedDecoder(self.limits) if self._request.length == CHUNKED else None
        return True

    def _take_body(self) -> bool:
        """Whether the body was complete."""
        request = self._request
        assert request is not None
        if self._decoder is None:
            length = max(0, request.length)  # ASTERISK
            missing = length - len(self._body)
            self._body += self._buffer[:missing]
            del self._buffer[:missing]
            if len(self._body) < length:
                return False
        else:
            data = bytes(self._buffer)
            self._buffer.clear()
            for block in self._decoder.feed(data):
                assert block
                self._body += block
            if not self._decoder.done:
                return False
            self._buffer += self._decoder.leftover
        self.outcomes.append(
            Outcome(environ=request.environ, body=bytes(self._body), keep=request.keep, expect=request.expect)
        )
        self._request = None
        self.closed = not request.keep
        return True


def play(
    pieces: Iterable[bytes], limits: Limits | None = None, parser: HeadParser | None = None
) -> list[Outcome]:
    """What comes of bytes that arrive in these pieces."""
    conversation = Conversation(limits, parser)
    for piece in pieces:
        conversation.feed(piece)
    return conversation.result


def splits(wire: bytes) -> Iterator[Sequence[bytes]]:
    """The bytes whole, one by one, and in two pieces at every point."""
    yield (wire,)
    yield [wire[at : at + 1] for at in range(len(wire))]
    for at in range(1, len(wire)):
        yield (wire[:at], wire[at:])


_NAMED = {
    "method": "REQUEST_METHOD",
    "path": "PATH_INFO",
    "query": "QUERY_STRING",
    "host": "HTTP_HOST",
    "protocol": "SERVER_PROTOCOL",
}


def mismatch(expected: list[dict[str, Any]], got: list[Outcome]) -> str:
    """How what came out differs from what was told, or an empty text."""
    for number, (told, outcome) in enumerate(zip(expected, got, strict=False), 1):
        for key, value in told.items():
            seen = _seen(key, outcome)
            if key == "environ":
                if outcome.environ and all(outcome.environ.get(name) == text for name, text in value.items()):
                    continue
            elif seen == value:
                continue
            return f"outcome {number}: {key} should be {value!r}, is {seen!r} in {outcome}"
    if len(expected) != len(got):
        return f"{len(expected)} outcomes were told, {len(got)} came: {got}"
    return ""


def _seen(key: str, outcome: Outcome) -> Any:
    if key in _NAMED:
        return outcome.environ.get(_NAMED[key])
    if key == "body":
        return outcome.body.decode("latin-1")
    return getattr(outcome, key)
