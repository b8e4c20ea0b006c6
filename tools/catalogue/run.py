"""Sends a catalogue of cases (cases.py) to real servers and compares.

    python tools/catalogue/run.py CASES.json                       whole, byte by byte, behind good requests
    python tools/catalogue/run.py CASES.json --way splits          in two pieces, cut at every byte
    python tools/catalogue/run.py CASES.json --id CH-049 --way whole --show

Ends with 1 when a case is not as expected, when a request was served that nobody sent, when bad input got a
5xx other than 501 and 505, when a worker was replaced, or when a server does not answer afterwards.
"""

from __future__ import annotations

import argparse
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.kit import ServerProcess  # noqa: E402 -- after the path
from tests.kit.client import connect  # noqa: E402 -- after the path
from tools.catalogue.cases import SMUGGLED, Case, Seen, fault, load, parse  # noqa: E402 -- after the path

WAYS = ("whole", "bytes", "after-get", "after-post", "splits")
OPTIONS = {
    "proxy_protocol": "--proxy-protocol",
    "proxy_allow_ips": "--proxy-allow-from",
    "forwarded_allow_ips": "--forwarded-allow-ips",
    "max_body": "--max-body-size",
}
GET = b"GET /first HTTP/1.1\r\nHost: t\r\n\r\n"
POST = b"POST /_app/noread HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello"
#: Seconds: for an answer that must come; for silence behind the last one, and where none may come.
PATIENCE, QUIET, SILENCE = 8.0, 0.35, 0.9
#: Seconds between two pieces, so that the server reads them one by one.
PAUSE = 0.01


def pieces(case: Case, way: str) -> Iterator[list[bytes]]:
    """The ways in which the bytes of a case are sent."""
    raw = case.raw
    if way == "bytes":
        yield [raw[at : at + 1] for at in range(len(raw))]
    elif way == "splits":
        for at in range(1, len(raw)):
            yield [raw[:at], raw[at:]]
    else:
        marks = [0, *case.pauses, len(raw)]
        yield [raw[begin:end] for begin, end in pairwise(marks)]


def methods(case: Case) -> list[bytes]:
    """Of the requests of a case, as far as it matters to who reads the answers."""
    return [b"HEAD"] if case.raw.lstrip(b"\r\n").startswith(b"HEAD ") else []


def talk(address: str, case: Case, parts: Sequence[bytes], before: bytes = b"") -> Seen:
    """One connection: a good request before, if there is one, then the pieces, then whatever comes."""
    with connect(address) as connection:
        sock = connection.sock
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if before:
            connection.send(before)
            assert connection.reply().status == 200
        pause = PAUSE if len(parts) < 10 else 0.0003
        end = ""
        try:
            for number, part in enumerate(parts):
                if number:
                    time.sleep(pause)
                sock.sendall(part)
        except OSError:
            pass  # it has heard enough; what it said is still to be read
        data = b""
        began = time.monotonic()
        while not end:
            seen = parse(data, methods(case), end)
            done = len(seen.responses) >= case.wanted and all(answer.complete for answer in seen.responses)
            if not case.wanted or case.expect.get("or_wait"):
                limit = SILENCE
            elif done and not (case.expect.get("close") and time.monotonic() - began < PATIENCE):
                limit = QUIET
            else:
                limit = PATIENCE
            sock.settimeout(limit)
            try:
                more = sock.recv(1 << 16)
            except TimeoutError:
                break
            except ConnectionError:
                end = "reset"
            else:
                data += more
                end = "" if more else "closed"
        return parse(data, methods(case), end)


class Run:
    """What came of all conversations."""

    def __init__(self, show: bool) -> None:
        self.talked = 0
        self.wrong: list[str] = []
        self.smuggled = 0
        self.blamed = 0
        self._show = show

    def take(self, case: Case, how: str, seen: Seen) -> None:
        self.talked += 1
        if self._show:
            print(case.name, how, seen)
        if SMUGGLED.encode() in seen.raw:
            self.smuggled += 1
        allowed = set(case.expect["status"]) | {501, 505}
        if any(answer.status >= 500 and answer.status not in allowed for answer in seen.responses):
            self.blamed += 1
        wrong = fault(case, seen)
        if wrong:
            self.wrong.append(f"{case.name} {how}: {wrong}")


def serve(chosen: Sequence[Case], ways: Sequence[str], config: Sequence[tuple[str, str]], run: Run) -> None:
    """All cases that want this configuration, on a server of their own."""
    options = [part for name, value in config for part in (OPTIONS[name], value)]
    # All cases at once on a busy machine are an overload, and that is not what is asked here.
    options += ["--queue-timeout", "0", "--queue-target", "0"]
    application = "tools.catalogue.app:app"
    announced = any(name == "proxy_protocol" for name, _ in config)
    tolerate = ("please report", "Exception ignored", "ResourceWarning")
    with ServerProcess(application, *options, "--workers", "2", tolerate=tolerate) as server:
        before = server.workers()
        jobs: list[tuple[Case, str, list[bytes], bytes]] = []
        for way in ways:
            first = {"after-get": GET, "after-post": POST}.get(way, b"")
            if not (first and announced):
                jobs += [(case, way, parts, first) for case in chosen for parts in pieces(case, way)]

        def one(job: tuple[Case, str, list[bytes], bytes]) -> None:
            case, way, parts, first = job
            how = f"({way})" if way != "splits" else f"(cut at {len(parts[0])})"
            try:
                run.take(case, how, talk(server.address, case, parts, first))
            except (AssertionError, OSError) as error:
                run.wrong.append(f"{case.name} {how}: {error!r}")

        with ThreadPoolExecutor(48) as pool:
            for _ in pool.map(one, jobs):
                pass
        if not announced:
            with connect(server.address) as connection:
                connection.within = 1.0
                if connection.get("/fresh").status != 200:
                    run.wrong.append("no fresh request is answered afterwards")
        if server.workers() != before:
            run.wrong.append(f"workers were {before}, are {server.workers()}")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("catalogue", type=Path)
    parser.add_argument("--way", action="append", choices=WAYS, help="all but splits, when none is named")
    parser.add_argument("--group", action="append", default=[])
    parser.add_argument("--id", action="append", default=[])
    parser.add_argument("--show", action="store_true", help="print what was seen of each case")
    told = parser.parse_args()
    chosen = [
        case
        for case in load(told.catalogue)
        if (not told.group or case.group in told.group) and (not told.id or case.name in told.id)
    ]
    run = Run(told.show)
    began = time.monotonic()
    for config in sorted({case.config for case in chosen}):
        serve([case for case in chosen if case.config == config], told.way or WAYS[:-1], config, run)
    for line in run.wrong:
        print(line)
    print(
        f"{len(chosen)} cases, {run.talked} conversations in {time.monotonic() - began:.0f} s: "
        f"{len(run.wrong)} not as expected, {run.smuggled} smuggled requests, "
        f"{run.blamed} answers of 5xx to bad input"
    )
    return 1 if run.wrong or run.smuggled or run.blamed else 0


if __name__ == "__main__":
    sys.exit(main())
