"""The parser seam under fuzzing: what must hold of every stream of bytes.

* nothing but a refusal comes out of the seam, and no status of 5xx but 501 and 505;
* the verdict is the same whole and in pieces;
* what the seam serves, the oracle of the tests serves: the same messages in the same order, or it serves
  fewer; and nothing is served or awaited that the oracle refuses;
* where h11 and the seam differ, there is a rule of ours that says so (second_parser.py).
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence

from tests.kit import oracle
from tests.kit.cases import TEMPLATE, Outcome, cases, play
from tests.kit.variations import variations
from threadcorn.http1.memory import Memory
from threadcorn.http1.parser import HeadParser, Limits
from tools.fuzz import second_parser
from tools.fuzz.inputs import LONGEST

__all__ = ["LIMITS", "TINY", "WORDS", "Seam", "seeds"]

#: Pieces that decide something.
WORDS = (
    b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"0\r\n\r\n", b"5\r\nhello\r\n", b"Content-Length: 5\r\n", b"chunked",
    b"Transfer-Encoding: chunked\r\n", b"Host: t\r\n", b"HTTP/1.1", b"HTTP/1.0", b" ", b"\t", b"close", b"*",
    b"Connection: keep-alive\r\n", b"http://t", b"OPTIONS", b"Expect: 100-continue\r\n", b"%00", b"/",
    b";a=b", b"GET /x HTTP/1.1\r\nHost: t\r\n\r\n", b"+", b"0x", b"_", b"[::1]", b":80", b"-", b"\r\n ",
    b"Upgrade: h2c\r\n", b"Connection: upgrade\r\n", b"Content-Type: a/b\r\n", b';a="\\""',
    b"0005\r\nhello", b"ffffffffffffffff\r\n", b"Trailer: X\r\n", b"HTTP/2.0",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"CONNECT t:80 ",
)  # fmt: skip

LIMITS = Limits()
#: Limits that a short input breaks. The oracles know nothing of limits, so what is refused says less here.
TINY = Limits(line=40, fields=4, field_size=40, head=120, body=8)

#: The difference that is left to the oracle of the tests, and explained: behind the coding httptools takes a
#: tab for a part of it, which is right to refuse and right to serve, but does not look with an Upgrade.
_TAB_IN_CODING = re.compile(rb"(?i)transfer-encoding:[^\r\n]*\t").search
_OF_LIMITS = (413, 414, 431)


def seeds() -> list[bytes]:
    known = (*cases(), *variations())
    return [case.wire for case in known if len(case.wire) <= LONGEST and case.limits == LIMITS]


class Seam:
    """The seam with one set of limits; counts by which rule h11 differs from it."""

    def __init__(self, limits: Limits = LIMITS, *, h11: bool = True) -> None:
        self.limits = limits
        self.differs: Counter[str] = Counter()
        self._parser = HeadParser(limits, Memory(TEMPLATE))
        self._h11 = h11

    def difference(self, wire: bytes, cuts: Sequence[int]) -> str:
        """What is wrong with the verdict on these bytes, whole and cut at `cuts`, or an empty text."""
        marks = [0, *sorted(cuts), len(wire)]
        pieces = [wire[begin:end] for begin, end in itertools.pairwise(marks)]
        try:
            whole = play([wire], self.limits, self._parser)
            split = play(pieces, self.limits, self._parser)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
            return f"raised {error!r}"
        if whole != split:
            return f"cut at {list(cuts)}: {split}, whole: {whole}"
        for outcome in whole:
            if outcome.refused >= 500 and outcome.refused not in (501, 505):
                return f"blames the server: {outcome.refused}"
        return self._by_patterns(wire, whole) or (self._by_h11(wire, whole) if self._h11 else "")

    def _by_patterns(self, wire: bytes, whole: list[Outcome]) -> str:
        served = [outcome for outcome in whole if outcome.environ]
        found = list(oracle.messages(wire))
        known = [message for message in found if isinstance(message, oracle.Message)]
        for number, outcome in enumerate(served):
            if number >= len(known):
                if _TAB_IN_CODING(wire):
                    return ""
                return f"serves what the oracle does not: {outcome}, oracle: {found[number:]}"
            if not same(outcome, known[number]):
                return f"message {number}: {outcome}, oracle: {known[number]}"
        limited = whole[-1].refused in _OF_LIMITS
        if len(known) > len(served) and not limited and not _TAB_IN_CODING(wire):
            return f"does not serve {known[len(served)]}: {whole[len(served) :]}"
        if len(found) > len(known) and not whole[-1].refused and not (served and not served[-1].keep):
            return f"waits behind what the oracle refuses: {found[-1]}"
        return ""

    def _by_h11(self, wire: bytes, whole: list[Outcome]) -> str:
        served = [outcome for outcome in whole if outcome.environ]
        found, refused, rest = second_parser.messages(wire)
        for outcome, read in zip(served, found, strict=False):
            if not same(outcome, read.message, also_keep=read.message.version11):
                return f"{outcome}, h11: {read}"
        if len(found) > len(served):
            status = whole[-1].refused
            if served and not served[-1].keep:
                return f"h11 serves behind the last request: {found[len(served)]}"
            if not status:
                return f"waits for more of what h11 serves: {found[len(served)]}"
            reason = "limits" if status in _OF_LIMITS else second_parser.why(found[len(served)])
            if not reason:
                return f"refuses with {status} what h11 serves: {found[len(served)]}"
            self.differs["stricter: " + reason] += 1
        elif len(served) > len(found):
            before = found[-1] if found else None
            reason = next((name for name, applies in second_parser.LOOSER if applies(rest, before)), "")
            if not reason:
                return f"serves {served[len(found)]}, h11 {'refuses' if refused else 'waits'}: {rest[:200]!r}"
            self.differs["looser: " + reason] += 1
        return ""


def same(outcome: Outcome, message: oracle.Message, *, also_keep: bool = True) -> bool:
    environ = outcome.environ
    fields: dict[str, list[str]] = {}
    for name, value in message.fields:
        if b"_" not in name and name.lower() not in (b"proxy", b"host"):
            fields.setdefault(name.upper().replace(b"-", b"_").decode(), []).append(value.decode("latin-1"))
    return bool(
        environ["REQUEST_METHOD"].encode("latin-1") == message.method
        and environ["RAW_URI"].encode("latin-1") == message.target
        and outcome.body == message.body
        and (outcome.keep == message.keep or not also_keep)
        and (environ["SERVER_PROTOCOL"] == "HTTP/1.1") == message.version11
        and all(
            environ.get(name if name in ("CONTENT_TYPE", "CONTENT_LENGTH") else "HTTP_" + name)
            == ("; " if name == "COOKIE" else ", ").join(values)
            for name, values in fields.items()
            if name != "TRANSFER_ENCODING"  # h11 gives it in small letters; it can only be "chunked"
        )
    )
