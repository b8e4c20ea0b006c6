"""Sends cases through real proxies to a real server, and compares what was forwarded with what was served.

    python tools/catalogue/behind.py                        the cases of the tests
    python tools/catalogue/behind.py --catalogue CASES.json --way nginx --way haproxy-lenient

A proxy may be more lenient than the server, or stricter: what it refuses by itself counts for nothing. What
must hold: the server serves no request that was not forwarded, none twice, none with another method, and
refuses, by its own count, as many as the proxy was told. Ends with 1 otherwise.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.kit import ServerProcess  # noqa: E402 -- after the path
from tests.kit.admin import ADMIN, metrics  # noqa: E402 -- after the path
from tests.kit.cases import cases  # noqa: E402 -- after the path
from tests.kit.client import connect  # noqa: E402 -- after the path
from tests.kit.eventually import eventually  # noqa: E402 -- after the path
from tests.kit.proxies import WAYS, Proxy, compare  # noqa: E402 -- after the path
from tests.kit.tools import need  # noqa: E402 -- after the path
from tests.kit.variations import variations  # noqa: E402 -- after the path
from tools.catalogue.cases import load  # noqa: E402 -- after the path

QUIET = 0.8
CLIENTS = 32


def send(address: str, wire: bytes, quiet: float = QUIET) -> bytes:
    """The bytes of one connection, and what comes until it is quiet or closed."""
    data = b""
    with connect(address) as connection, suppress(OSError):
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.send(wire)
        connection.sock.settimeout(quiet)
        while more := connection.sock.recv(1 << 16):
            data += more
    return data


def through(way: str, wires: Sequence[bytes], quiet: float = QUIET) -> tuple[Counter[str], list[str]]:
    """All of them through one proxy; counts, and what must not be."""
    program = need(WAYS[way][0])
    with tempfile.TemporaryDirectory(prefix="tc-seen-") as directory:
        path = Path(directory) / "seen"
        path.touch()
        env = {"CATALOGUE_SEEN": str(path)}
        # A trusted peer may say more; the proxies here say nothing of the client, and hand on what it wrote.
        options = ("--workers", "2", "--forwarded-allow-ips", "192.0.2.1", *ADMIN)
        tolerate = ("please report", "Exception ignored", "ResourceWarning")
        application = "tools.catalogue.counted:app"
        with ServerProcess(application, *options, bind="unix", env=env, tolerate=tolerate) as server:
            before = server.workers()
            with Proxy(way, program, server.address) as proxy:
                with ThreadPoolExecutor(CLIENTS) as pool:
                    answers = list(pool.map(lambda wire: send(proxy.address, wire, quiet), wires))
                fresh = send(proxy.address, b"GET /fresh HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n", 5)
                proxy.stop()
                lines = path.read_text("utf-8").splitlines()
                counts, wrong = compare(proxy.logged(), [tuple(json.loads(line)) for line in lines])

            def told() -> None:
                """the server has refused what the proxy was told"""
                own = sum(metrics(server)["threadcorn_requests_refused_total"].values())
                given_up = counts["not completed"]
                assert counts["refused"] <= own <= counts["refused"] + given_up, (own, counts)

            try:
                eventually(told, within=5)
            except AssertionError as error:
                wrong.append(f"refusals: {error}")
            if server.workers() != before:
                wrong.append(f"workers were {before}, are {server.workers()}")
        if not fresh.startswith(b"HTTP/1.1 200 "):
            wrong.append(f"a fresh request got {fresh[:100]!r}")
    counts["connections"] = len(wires)
    counts["answers"] = sum(answer.count(b"HTTP/1.1 ") for answer in answers)
    return counts, wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--catalogue", type=Path, help="a catalogue in place of the cases of the tests")
    parser.add_argument("--way", action="append", choices=tuple(WAYS))
    told = parser.parse_args()
    if told.catalogue is not None:
        wires = [case.raw for case in load(told.catalogue)]
    else:
        wires = [case.wire for case in (*cases(), *variations())]
    faults = 0
    for way in told.way or WAYS:
        began = time.monotonic()
        counts, wrong = through(way, wires)
        faults += len(wrong)
        print(f"{way}: {dict(counts)} in {time.monotonic() - began:.0f} s; {len(wrong)} must not be")
        for line in wrong:
            print("   ", line)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
