"""What is known of a connection besides its descriptor, as bytes: to give it to another worker.

One line of JSON, then the bytes that were read from it and not used yet. Written by whoever has the
connection, read by whoever gets it; between them it may lie in an inbox, or with the arbiter
(system/custody.py).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

__all__ = ["FORMAT", "LARGEST", "Parcel", "pack", "served", "unpack"]

#: A worker of another version must not guess.
FORMAT = 1
#: Bytes that travel with a connection at most: a head and what follows it.
LARGEST = 128 << 10


@dataclass(frozen=True, slots=True)
class Parcel:
    """A connection between two requests, or before the end of a head."""

    group: int  # index of the address it came in by
    peer: str
    port: str
    fresh: bool  # its first request has not come yet
    trusted: bool  # whether the peer may speak for others
    announced: bool  # nothing of the PROXY protocol is to come any more


def pack(parcel: Parcel, data: bytes) -> bytes:
    head = {"format": FORMAT, **asdict(parcel)}
    return json.dumps(head, separators=(",", ":")).encode("ascii") + b"\n" + data


def unpack(packet: bytes) -> tuple[Parcel, bytes] | None:
    """The two parts; None when another version has written it."""
    head, _, data = packet.partition(b"\n")
    known = json.loads(head)
    if known.pop("format", None) != FORMAT:
        return None
    return Parcel(**known), data


def served(packet: bytes) -> bytes:
    """The same, of a connection that has had its first request by now."""
    known = unpack(packet)
    return packet if known is None else pack(replace(known[0], fresh=False), known[1])
