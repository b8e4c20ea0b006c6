"""Requests at the edges of every rule: what a reader of the policy would try next.

Each row says what must come out, by the policy alone: numbers of refusals, K for a request that is served and
keeps its connection, L for one that is the last, W when more bytes are awaited. Behind what must be refused
stands a request (N) that nobody sent; serving it is a desync. Rows are tried whole and in pieces, over
sockets, behind proxies, and are seeds for fuzzing. Cases that need telling are in tests/corpus.
"""

from __future__ import annotations

from typing import Any

from tests.kit.cases import Case
from threadcorn.http1.parser import Limits

__all__ = ["SMUGGLED", "variations"]

SMUGGLED = "/_smuggled"
K, L, W = "kept", "last", "waits"
H = b"Host: t\r\n"
N = b"GET /_smuggled HTTP/1.1\r\n" + H + b"\r\n"
TE = b"Transfer-Encoding: chunked\r\n"

_CASES: list[Case] = []


def g(fields: bytes = b"", line: bytes = b"GET /x HTTP/1.1", host: bytes = H) -> bytes:
    return line + b"\r\n" + host + fields + b"\r\n"


def p(fields: bytes, body: bytes = b"", version: bytes = b"1.1") -> bytes:
    return b"POST /x HTTP/" + version + b"\r\n" + H + fields + b"\r\n" + body


def c(body: bytes) -> bytes:
    return p(TE, body)


def rows(table: list[tuple[str, bytes, Any]]) -> list[tuple[str, bytes, int | str]]:
    """A table of names, bytes and outcomes, for mypy, which sees objects in it."""
    return table


def add(
    name: str,
    wire: bytes,
    *outcomes: int | str,
    limits: dict[str, int] | None = None,
    env: dict[str, str | None] | None = None,
    body: bytes | None = None,
) -> None:
    told: list[dict[str, Any]] = []
    for outcome in outcomes:
        if isinstance(outcome, int):
            told.append({"refused": outcome})
        elif outcome == W:
            told.append({"waits": True})
        else:
            told.append({"keep": outcome == K})
    if outcomes[-1] == K:
        told.append({"waits": True})
    if env is not None:
        told[0]["environ"] = env
    if body is not None:
        told[0]["body"] = body.decode("latin-1")
    _CASES.append(Case(name, "", wire, told, Limits(**limits) if limits else Limits()))  # type: ignore[arg-type]


def variations() -> list[Case]:
    """All of them."""
    from tests.kit.variations import framing, heads  # noqa: F401 -- they add theirs

    return list(_CASES)
