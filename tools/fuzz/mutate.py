"""Mutated requests through the parser seam, each verdict compared with the oracle of the tests.

    python tools/fuzz/mutate.py --seconds 60 --state /tmp/fuzz.json

Resumable: the state file keeps the seed and how many inputs have been tried, and the next run goes on behind
them. Input number N of a seed is always the same, so a finding is repeated by `--seed S --from N --count 1`.
Ends with 1 and writes the input beside the state when something differs.

What must hold of every input, whole and in two pieces:

* nothing but a refusal comes out of the seam, and no status of 5xx but 501 and 505;
* what the seam serves, the oracle serves: the same messages in the same order, or it serves fewer. The oracle
  sees whole messages only, and must not find one that the seam has neither served nor refused.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.kit import oracle  # noqa: E402 -- after the path
from tests.kit.cases import TEMPLATE, Outcome, cases, play  # noqa: E402
from threadcorn.http1.parser import HeadParser, Limits  # noqa: E402

#: Bytes that a parser may take for something else.
ODD = b'\x00\t\n\x0b\x0c\r ",-:;_\x7f\x80\x85\xa0\xad\xff'
#: Pieces that decide something.
WORDS = (
    b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"0\r\n\r\n", b"5\r\nhello\r\n", b"Content-Length: 5\r\n", b"chunked",
    b"Transfer-Encoding: chunked\r\n", b"Host: t\r\n", b"HTTP/1.1", b"HTTP/1.0", b" ", b"\t", b"close", b"*",
    b"Connection: keep-alive\r\n", b"http://t", b"OPTIONS", b"Expect: 100-continue\r\n", b"%00", b"/",
    b";a=b", b"GET /x HTTP/1.1\r\nHost: t\r\n\r\n", b"+", b"0x", b"_", b"[::1]", b":80", b"-",
)  # fmt: skip
#: Longer ones cost time and hold nothing that the short ones do not.
LONGEST = 2000

LIMITS = Limits()
#: A run that is killed has to try so many again.
SAVED = 20_000

#: The one difference that is left, and explained: behind the coding httptools takes a tab for a part of it,
#: which is right to refuse and right to serve, but does not look when there is an Upgrade.
TAB_IN_CODING = re.compile(rb"(?i)transfer-encoding:[^\r\n]*\t").search


def seeds() -> list[bytes]:
    return [case.wire for case in cases() if len(case.wire) <= LONGEST and case.limits == LIMITS]


def mutated(start: Sequence[bytes], seed: int, number: int) -> tuple[bytes, int]:
    """Input `number` of a seed, and where it is split."""
    rng = random.Random(seed << 40 | number)
    data = bytearray(rng.choice(start))
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 5))):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(9)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[at : at + rng.choice((1, 1, 1, 2, 4))]
        elif kind == 2:
            data[at:at] = data[at : at + rng.choice((1, 2, 8, 30))]
        elif kind == 3:
            data.insert(at, rng.choice(ODD))
        elif kind == 4 and at < len(data):
            data[at] = rng.choice(ODD)
        elif kind == 5:
            data[at:at] = rng.choice(WORDS)
        elif kind == 6:
            data[at : at + rng.choice((1, 4, 8))] = rng.choice(WORDS)
        elif kind == 7:
            other = rng.choice(start)
            cut = rng.randrange(len(other) + 1)
            data[at:] = other[cut:]
        else:
            data += rng.choice(start)
    del data[LONGEST:]
    return bytes(data), rng.randrange(len(data) + 1)


def difference(wire: bytes, at: int, parser: HeadParser) -> str:
    """What is wrong with the seam's verdict on these bytes, or an empty text."""
    try:
        whole = play([wire], LIMITS, parser)
        split = play([wire[:at], wire[at:]], LIMITS, parser)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
        return f"raised {error!r}"
    if whole != split:
        return f"split at {at}: {split}, whole: {whole}"
    for outcome in whole:
        if outcome.refused >= 500 and outcome.refused not in (501, 505):
            return f"blames the server: {outcome.refused}"
    served = [outcome for outcome in whole if outcome.environ]
    found = list(oracle.messages(wire))
    known = [message for message in found if isinstance(message, oracle.Message)]
    for number, outcome in enumerate(served):
        if number >= len(known):
            if TAB_IN_CODING(wire):
                return ""
            return f"serves what the oracle does not: {outcome}, oracle: {found[number:]}"
        if not same(outcome, known[number]):
            return f"message {number}: {outcome}, oracle: {known[number]}"
    limited = whole[-1].refused in (413, 414, 431)  # of limits the oracle knows nothing
    if len(known) > len(served) and not limited and not TAB_IN_CODING(wire):
        return f"does not serve {known[len(served)]}: {whole[len(served) :]}"
    if len(found) > len(known) and not whole[-1].refused and not (served and not served[-1].keep):
        return f"waits behind what the oracle refuses: {found[-1]}"
    return ""


def same(outcome: Outcome, message: oracle.Message) -> bool:
    environ = outcome.environ
    fields: dict[str, list[str]] = {}
    for name, value in message.fields:
        if b"_" not in name and name.lower() not in (b"proxy", b"host"):
            fields.setdefault(name.upper().replace(b"-", b"_").decode(), []).append(value.decode("latin-1"))
    return bool(
        environ["REQUEST_METHOD"].encode("latin-1") == message.method
        and environ["RAW_URI"].encode("latin-1") == message.target
        and outcome.body == message.body
        and outcome.keep == message.keep
        and (environ["SERVER_PROTOCOL"] == "HTTP/1.1") == message.version11
        and all(
            environ.get(name if name in ("CONTENT_TYPE", "CONTENT_LENGTH") else "HTTP_" + name)
            == ("; " if name == "COOKIE" else ", ").join(values)
            for name, values in fields.items()
        )
    )


def main() -> int:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--seconds", type=float, default=60.0)
    options.add_argument("--count", type=int, default=0, help="inputs at most (0: as many as time allows)")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--from", dest="first", type=int, default=0)
    options.add_argument("--state", type=Path, help="file to go on from, and to write how far this run came")
    told = options.parse_args()
    seed, number = told.seed, told.first
    if told.state is not None and told.state.exists():
        state = json.loads(told.state.read_text("utf-8"))
        seed, number = state["seed"], state["tried"]
    start = seeds()
    parser = HeadParser(LIMITS, TEMPLATE)
    first, until = number, time.monotonic() + told.seconds
    found, wire = "", b""
    while not found and time.monotonic() < until and not (told.count and number - first >= told.count):
        wire, at = mutated(start, seed, number)
        found = difference(wire, at, parser)
        number += 1
        if told.state is not None and number % SAVED == 0:
            told.state.write_text(json.dumps({"seed": seed, "tried": number}), "utf-8")
    verdict = "1 difference" if found else "no difference"
    print(f"seed {seed}: {number - first} inputs, {number} in all, {verdict}")
    if told.state is not None:
        told.state.write_text(json.dumps({"seed": seed, "tried": number}), "utf-8")
    if found:
        print(f"input {number - 1}: {wire!r}\n{found}")
        if told.state is not None:
            told.state.with_suffix(f".{number - 1}.http").write_bytes(wire)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
