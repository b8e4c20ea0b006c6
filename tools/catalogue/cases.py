"""Cases of a catalogue, what a client saw, and whether that is as expected.

A catalogue is a JSON list. A case has `id`, `group`, `raw` (bytes to send, as latin-1 text), `expect`, and
sometimes `config` (server options) and `send` (`split`: offsets at which the sender pauses). In `expect`:

    status      allowed final status codes of the first response; [] = none may come: the server waits
    responses   number of final responses; `responses_max`: at most so many; `status_seq`: codes of each
    close       true: closed after them; false: open; null: either
    environ     keys that the application saw; null: not there; a list: one of these; `wsgi.input` is the body
    interim     the 1xx codes in order; a null in the list: one that may be missing
    never       texts that must not occur in anything the server sends
    headers     of the first response: a text, "*" for exactly one of any value, null for none, a list for all
    body, body2, body_len, head, complete      of the first (second) response
    or_wait, or_close, close_unless_100        what is as good
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["SMUGGLED", "Case", "Seen", "fault", "load", "parse"]

#: What the application would say of a request that nobody sent.
SMUGGLED = '"PATH_INFO": "/_smuggled"'


@dataclass(frozen=True)
class Case:
    name: str
    group: str
    raw: bytes
    expect: dict[str, Any]
    config: tuple[tuple[str, str], ...] = ()
    pauses: tuple[int, ...] = ()

    @property
    def wanted(self) -> int:
        """Responses that are worth waiting for."""
        expect = self.expect
        if expect["status"] == [] and expect.get("responses") in (0, None):
            return 0
        wanted = expect.get("responses")
        return int(wanted if wanted is not None else len(expect.get("status_seq") or [1]))


@dataclass
class Response:
    status: int
    fields: list[tuple[str, str]]
    body: bytes = b""
    complete: bool = True

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key.lower() == name]


@dataclass
class Seen:
    raw: bytes = b""
    end: str = ""  # "closed", "reset", or "" when it is still open
    responses: list[Response] = field(default_factory=list)
    interim: list[int] = field(default_factory=list)
    rubbish: bytes = b""  # what is no response


def load(path: Path) -> list[Case]:
    told = json.loads(path.read_text("utf-8"))
    return [
        Case(
            case["id"],
            case["group"],
            case["raw"].encode("latin-1"),
            case["expect"],
            tuple(sorted((name, str(value)) for name, value in (case.get("config") or {}).items())),
            tuple((case.get("send") or {}).get("split", ())),
        )
        for case in told
    ]


_HEAD = re.compile(rb"HTTP/1\.[01] ([0-9]{3}) [^\r\n]*\r\n((?:[^\r\n:]+:[^\r\n]*\r\n)*)\r\n")
_SIZE = re.compile(rb"([0-9a-fA-F]+)\r\n")


def parse(data: bytes, methods: list[bytes], end: str) -> Seen:
    """What a client makes of the bytes of a connection; `methods`: of its requests, in order."""
    seen = Seen(data, end)
    at = 0
    while at < len(data):
        head = _HEAD.match(data, at)
        if head is None:
            seen.rubbish = data[at:]
            break
        at = head.end()
        status = int(head[1])
        lines = [line.partition(b":") for line in head[2].split(b"\r\n")[:-1]]
        response = Response(
            status,
            [(name.decode("latin-1"), value.strip(b" \t").decode("latin-1")) for name, _, value in lines],
        )
        if 100 <= status < 200 and status != 101:
            seen.interim.append(status)
            continue
        method = methods[len(seen.responses)] if len(seen.responses) < len(methods) else b"GET"
        seen.responses.append(response)
        if method == b"HEAD" or status in (101, 204, 304):
            continue
        at = _body(response, data, at, end)
    return seen


def _body(response: Response, data: bytes, at: int, end: str) -> int:
    lengths = response.all("content-length")
    if response.all("transfer-encoding"):
        while True:
            size = _SIZE.match(data, at)
            if size is None:
                response.complete = False
                return len(data)
            count = int(size[1], 16)
            if count == 0:
                response.complete = data.startswith(b"\r\n", size.end())
                return size.end() + 2
            response.body += data[size.end() : size.end() + count]
            at = size.end() + count + 2
    if lengths:
        count = int(lengths[0])
        response.body = data[at : at + count]
        response.complete = len(response.body) == count
        return at + count
    response.body = data[at:]
    response.complete = end == "closed"
    return len(data)


def fault(case: Case, seen: Seen) -> str:
    """How what was seen is not as expected, or an empty text."""
    expect = case.expect
    statuses = [response.status for response in seen.responses]
    for text in expect.get("never") or ():
        if text.encode("latin-1") in seen.raw:
            return f"{text!r} was sent"
    if seen.rubbish:
        return f"no HTTP: {seen.rubbish[:200]!r}"
    for response in seen.responses:
        if len(response.all("content-length")) + len(response.all("transfer-encoding")) > 1:
            return f"framed twice: {response.fields}"
    if not statuses:
        if expect.get("or_close") and seen.end:
            return ""
        if (expect.get("or_wait") and not seen.end) or expect["status"] == []:
            return _interim(expect, seen) or _close(expect, seen)
        return f"no response, {seen.end or 'open'}"
    if expect["status"] == []:
        return f"answered {statuses}"
    if statuses[0] not in expect["status"]:
        return f"answered {statuses}, expected {expect['status']}"
    for status, allowed in zip(statuses, expect.get("status_seq") or (), strict=False):
        if status not in allowed:
            return f"answered {statuses}, expected {expect['status_seq']}"
    if expect.get("responses") is not None and len(statuses) != expect["responses"]:
        return f"{len(statuses)} responses: {statuses}"
    if len(statuses) > expect.get("responses_max", len(statuses)):
        return f"{len(statuses)} responses: {statuses}"
    refused = _refusals(case, seen)
    return refused or _interim(expect, seen) or _close(expect, seen) or _content(expect, seen)


def _refusals(case: Case, seen: Seen) -> str:
    for response in seen.responses:
        if response.status >= 400 and case.group != "AP":
            if response.status >= 500 and response.status not in (501, 505):
                return f"blames the server: {response.status}"
            closing = [value.lower() for value in response.all("connection")] == ["close"]
            if not closing or not response.all("date") or not response.all("content-length"):
                return f"a refusal without Date, Content-Length or Connection: close: {response.fields}"
    return ""


def _interim(expect: dict[str, Any], seen: Seen) -> str:
    told = expect.get("interim")
    if told is None:
        return ""
    allowed = [told, [code for code in told if code is not None]]
    if None in told:
        allowed = [[code for code in told if code is not None], []]
    if seen.interim not in allowed:
        return f"interim {seen.interim}, expected {told}"
    return ""


def _close(expect: dict[str, Any], seen: Seen) -> str:
    wanted = expect.get("close")
    if expect.get("close_unless_100") and not seen.interim and not seen.end and seen.responses:
        return "open without having asked for the body"
    if wanted is True and not seen.end:
        return "still open"
    if wanted is False and seen.end:
        return f"{seen.end}, should be open"
    return ""


def _content(expect: dict[str, Any], seen: Seen) -> str:
    first = seen.responses[0]
    for name, value in (expect.get("headers") or {}).items():
        found = first.all(name)
        right = {True: len(found) == 1, False: found == (value if isinstance(value, list) else [value])}[
            value == "*"
        ]
        if not (right if value is not None else not found):
            return f"{name} is {found}, expected {value}"
    for key, number in (("body", 0), ("body2", 1)):
        if key in expect and seen.responses[number].body != expect[key].encode("latin-1"):
            return f"{key} is {seen.responses[number].body[:200]!r}"
    if "body_len" in expect and len(first.body) != expect["body_len"]:
        return f"{len(first.body)} bytes, expected {expect['body_len']}"
    if "complete" in expect and first.complete != expect["complete"]:
        return f"complete is {first.complete}"
    if expect.get("head") and first.body:
        return "content in the answer to HEAD"
    if expect.get("environ") and first.status == 200:
        environ = json.loads(first.body)
        for key, value in expect["environ"].items():
            if environ.get(key) not in (value if isinstance(value, list) else [value]):
                return f"{key} is {environ.get(key)!r}, expected {value!r}"
    return ""
