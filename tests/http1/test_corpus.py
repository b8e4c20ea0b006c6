"""Every case of the corpus: whole, byte by byte, split at every point, and behind other requests."""

from __future__ import annotations

import pytest

from tests.kit.cases import TEMPLATE, Case, Outcome, cases, mismatch, play, splits
from threadcorn.http1.memory import Memory
from threadcorn.http1.parser import HeadParser

CASES = cases()

GOOD = b"GET /good HTTP/1.1\r\nHost: t\r\nX-Good: 1\r\n\r\n"
WITH_BODY = b"POST /good HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\n\r\nabc"
CHUNKED = b"POST /good HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"

#: Longer ones are split into single bytes and at some points only.
SHORT = 800

ROOMY = [case for case in CASES if min(case.limits.head, case.limits.line, case.limits.field_size) > 1000]

every_case = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


def test_the_corpus_is_there() -> None:
    assert len(CASES) > 250
    assert all(case.outcomes and case.says.endswith(".") for case in CASES)


@every_case
def test_outcome(case: Case) -> None:
    assert not mismatch(case.outcomes, play([case.wire], case.limits)), case.says


@every_case
def test_the_outcome_does_not_depend_on_how_the_bytes_are_split(case: Case) -> None:
    whole = play([case.wire], case.limits)
    parser = HeadParser(case.limits, Memory(TEMPLATE))  # one for all: what it remembers must not matter
    for number, pieces in enumerate(splits(case.wire)):
        if len(case.wire) > SHORT and number > 1 and number % 500:
            continue
        assert play(pieces, case.limits, parser) == whole, [len(piece) for piece in pieces]


@pytest.mark.parametrize("case", ROOMY, ids=[case.name for case in ROOMY])
def test_the_outcome_is_the_same_behind_good_requests(case: Case) -> None:
    alone = play([case.wire], case.limits)
    for before in ([GOOD], [WITH_BODY], [CHUNKED], [GOOD, WITH_BODY, CHUNKED, GOOD]):
        outcomes = play([b"".join(before) + case.wire], case.limits)
        assert outcomes[len(before) :] == alone
        assert all(outcome.body in (b"", b"abc") and outcome.keep for outcome in outcomes[: len(before)])


@every_case
def test_the_next_request_is_taken_whatever_this_one_was(case: Case) -> None:
    parser = HeadParser(case.limits, Memory(TEMPLATE))
    good = b"GET /n HTTP/1.1\r\nHost: t\r\n\r\n"
    first = play([case.wire], case.limits)
    fresh = play([good], case.limits)
    for _ in range(20):  # often enough to be remembered
        assert play([case.wire], case.limits, parser) == first
        assert play([good], case.limits, parser) == fresh


def test_nothing_is_refused_with_a_status_that_blames_the_server() -> None:
    """501 and 505 say what the server does not do; no other 5xx is the client's to cause."""
    for case in CASES:
        for outcome in case.outcomes:
            assert outcome.get("refused", 400) in (400, 413, 414, 417, 431, 501, 505), case.name


def test_the_runner_tells_a_wrong_outcome() -> None:
    served = Outcome(environ={"REQUEST_METHOD": "GET", "PATH_INFO": "/", "HTTP_X": "1"}, keep=True)
    assert not mismatch([{"method": "GET", "path": "/", "keep": True, "environ": {"HTTP_X": "1"}}], [served])
    assert mismatch([{"refused": 400}], [served])
    assert mismatch([{"waits": True}], [served])
    assert mismatch([{"method": "GET"}, {"waits": True}], [served])
    assert mismatch([{"environ": {"HTTP_X": None}}], [served])
    assert mismatch([{"environ": {"HTTP_Y": "1"}}], [served])
    assert mismatch([{"environ": {"HTTP_X": "1"}}], [Outcome(refused=400)])
