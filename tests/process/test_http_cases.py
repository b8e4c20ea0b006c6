"""Corpus and variations (tests/kit) over real sockets: what the seam decides is what the client gets.

The client sends a case, closes its half and reads to the end, so that no test waits for silence; a client
that has closed its half gets every answer that it would have got. It is nobody whom the server trusts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from tests.kit import ServerProcess
from tests.kit.cases import CORPUS, TEMPLATE, Case, Outcome, cases, mismatch
from tests.kit.client import Connection, CutShort, Reply, connect
from tests.kit.variations import variations
from threadcorn.http1.parser import Limits

APP = """
import json

def app(environ, start):
    body = environ["wsgi.input"].read()
    seen = {key: value for key, value in environ.items() if isinstance(value, str)}
    seen["body"] = body.decode("latin-1")
    start("200 OK", [("Content-Type", "text/plain"), ("X-Seen", json.dumps(seen))])
    return [b"served"]
"""

GROUPS = sorted(path.name for path in CORPUS.iterdir() if path.is_dir())
#: Longer ones are not sent byte by byte here.
SHORT = 800
CLIENTS = 8
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess(None, "--forwarded-allow-ips", "192.0.2.1", source=APP) as running:
        yield running


def talk(address: str, case: Case, *, slowly: bool) -> str:
    """Send the case and tell how the answers differ from its outcomes."""
    with connect(address) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):
            if slowly:
                connection.send_slowly(case.wire)
            else:
                connection.send(case.wire)
        with suppress(OSError):
            connection.half_close()
        try:
            wrong = answers(connection, case)
        except CutShort as cut:
            wrong = str(cut)
    return wrong and f"{case.name} ({'byte by byte' if slowly else 'whole'}): {wrong}"


def answers(connection: Connection, case: Case) -> str:
    told: list[dict[str, Any]] = []
    got: list[Outcome] = []
    first, _, target = case.wire[:40].decode("latin-1").partition(" ")
    for number, outcome in enumerate(case.outcomes):
        if outcome.get("waits"):
            break
        method = outcome.get("method", first if number == 0 else "GET")
        reply = connection.reply(method=method)
        if method == "OPTIONS" and (outcome.get("path") == "*" or (number == 0 and target.startswith("* "))):
            # Asked of the server, not of the application.
            if reply.status != 200 or reply.body or reply.get("X-Seen"):
                return f"OPTIONS * got {reply}"
            continue
        told.append({key: value for key, value in outcome.items() if key != "expect"})
        got.append(seen(reply))
        if reply.status >= 400:
            fault = refusal_fault(reply)
            if fault:
                return fault
    rest, how = connection.to_end()
    if how != "closed" or rest not in (b"", CONTINUE):
        return f"{how} behind {rest!r}"
    return mismatch(told, got)


def seen(reply: Reply) -> Outcome:
    if reply.status != 200:
        return Outcome(refused=reply.status)
    environ = json.loads(reply.get("X-Seen") or "")
    # The corpus has a listener and a client of its own.
    environ["REMOTE_ADDR"] = TEMPLATE["REMOTE_ADDR"] if environ["REMOTE_ADDR"] == "127.0.0.1" else "wrong"
    return Outcome(environ=environ, body=environ["body"].encode("latin-1"), keep=reply.keeps)


def refusal_fault(reply: Reply) -> str:
    if reply.status >= 500 and reply.status not in (501, 505):
        return f"blames the server: {reply.status}"
    if reply.all("Connection") != ["close"] or not reply.get("Date") or reply.get("Content-Length") is None:
        return f"a refusal without Date, Content-Length or Connection: close: {reply.headers}"
    return ""


@pytest.mark.parametrize("group", GROUPS)
def test_the_corpus_over_a_socket(server: ServerProcess, group: str) -> None:
    over_sockets(server, [case for case in cases(group) if case.limits == Limits()])


def test_the_variations_over_a_socket(server: ServerProcess) -> None:
    over_sockets(server, [case for case in variations() if case.limits == Limits()])


def over_sockets(server: ServerProcess, chosen: list[Case]) -> None:
    before = server.workers()
    jobs = [(case, False) for case in chosen]
    jobs += [(case, True) for case in chosen if len(case.wire) <= SHORT]
    with ThreadPoolExecutor(CLIENTS) as pool:
        wrong = list(pool.map(lambda job: talk(server.address, job[0], slowly=job[1]), jobs))
    assert not [line for line in wrong if line]
    assert server.get("/fresh").status == 200
    assert server.workers() == before
