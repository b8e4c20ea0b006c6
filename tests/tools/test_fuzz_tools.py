"""The fuzz runs work, and a short one finds nothing. Long ones: tools/fuzz/mutate.py."""

from __future__ import annotations

from collections import Counter

import pytest

from tools.fuzz import mutate


@pytest.mark.parametrize("seam", ["requests", "tiny", "announcements", "fields"])
def test_a_short_run_finds_nothing(seam: str) -> None:
    assert mutate.run(seam, 7, 0, seconds=50, count=3000, state=None, told=Counter()) == 0


def test_a_run_is_repeatable_and_goes_on(tmp_path) -> None:
    state = tmp_path / "state.json"
    for _ in range(2):
        assert mutate.run("fields", 7, 0, seconds=50, count=400, state=state, told=Counter()) == 0
    _, start, words = mutate.seam("requests")
    assert mutate.one_input(start, words, 1, 17) == mutate.one_input(start, words, 1, 17)
    assert mutate.one_input(start, words, 1, 17) != mutate.one_input(start, words, 2, 17)


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        (b"GET / HTTP/1.1\nHost: t\r\n\r\n", "CRLF alone ends a line"),
        (b"GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", "a Host that is one"),
        (
            b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n3;=\r\nabc\r\n0\r\n\r\n",
            "the grammar of chunk extensions",
        ),
        (b"GET http:///x HTTP/1.1\r\nHost: t\r\n\r\n", "the forms of a target"),
    ],
)
def test_a_difference_from_h11_has_its_rule(wire: bytes, reason: str) -> None:
    tested = mutate.requests.Seam()
    assert tested.difference(wire, [3]) == ""
    assert tested.differs == {"stricter: " + reason: 1}


def test_a_difference_without_a_rule_is_found(monkeypatch) -> None:
    monkeypatch.setattr(mutate.requests.second_parser, "STRICTER", ())
    assert "refuses with 400" in mutate.requests.Seam().difference(b"GET / HTTP/1.1\nHost: t\r\n\r\n", [3])
