"""Through nginx and HAProxy: the server serves what the proxy forwarded, each request once, and nothing else.

A selection; all cases: tools/catalogue/behind.py.
"""

from __future__ import annotations

import pytest

from tests.kit.cases import cases
from tests.kit.proxies import WAYS, Logged, compare
from tests.kit.variations import variations
from tools.catalogue.behind import through

#: One case in so many, another one for each way.
EVERY = 8


@pytest.mark.parametrize("way", WAYS)
def test_the_server_sees_what_the_proxy_forwarded(way: str) -> None:
    wires = [case.wire for case in (*cases(), *variations())]
    counts, wrong = through(way, wires[list(WAYS).index(way) :: EVERY], quiet=0.4)
    assert not wrong
    assert counts["served"] > 30
    assert counts["refused"] > 3


@pytest.mark.parametrize(
    ("logged", "seen", "fault"),
    [
        ([Logged("a", "GET", 200, 200)], [("a", "GET", "/")], None),
        ([Logged("a", "GET", 200, 200)], [("a", "GET", "/"), ("", "GET", "/smuggled")], "nobody forwarded"),
        ([Logged("a", "GET", 200, 200)], [("a", "GET", "/"), ("a", "GET", "/")], "seen 2 times"),
        ([Logged("a", "GET", 200, 200)], [("a", "POST", "/")], "seen POST"),
        ([Logged("a", "GET", 200, 200)], [], "answered, and not seen"),
        ([Logged("a", "GET", 400, 400), Logged("b", "GET", 400, None)], [], None),
        ([Logged("a", "GET", 400, None)], [("a", "GET", "/")], "nobody forwarded"),
    ],
)
def test_the_comparison_finds(
    logged: list[Logged], seen: list[tuple[str, str, str]], fault: str | None
) -> None:
    _, wrong = compare(logged, seen)
    assert bool(wrong) == (fault is not None)
    assert fault is None or fault in wrong[0]
