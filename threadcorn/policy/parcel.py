"""What is known of a connection besides its descriptor, as bytes: to give it to another worker.

One line of words, then the bytes that were read from it and not used yet. Written by whoever has the
connection, read by whoever gets it; between them it may lie in an inbox, or with the arbiter
(system/custody.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["LARGEST", "Parcel", "pack", "served", "unpack"]

#: A worker of another version must not guess.
FORMAT = "2"
#: Bytes that travel with a connection at most: a head and what follows it.
LARGEST = 128 << 10


@dataclass(frozen=True, slots=True)
class Parcel:
    """A connection between two requests, or before the end of a head."""

    group: int  # index of the address it came in by
    peer: str  # an address, or nothing: no spaces in it
    port: str
    fresh: bool  # its first request has not come yet
    trusted: bool  # whether the peer may speak for others
    announced: bool  # nothing of the PROXY protocol is to come any more


def pack(parcel: Parcel, data: bytes) -> bytes:
    p = parcel
    head = f"{FORMAT} {p.group} {p.peer} {p.port} {p.fresh:d}{p.trusted:d}{p.announced:d}\n"
    return head.encode("ascii") + data


def unpack(packet: bytes) -> tuple[Parcel, bytes] | None:
    """The two parts; None when another version has written it."""
    head, _, data = packet.partition(b"\n")
    form, *words = head.decode("ascii", "replace").split(" ")
    if form != FORMAT or len(words) != 4:
        return None
    group, peer, port, marks = words
    fresh, trusted, announced = (mark == "1" for mark in marks)
    return Parcel(int(group), peer, port, fresh, trusted, announced), data


def served(packet: bytes) -> bytes:
    """The same, of a connection that has had its first request by now."""
    known = unpack(packet)
    return packet if known is None else pack(replace(known[0], fresh=False), known[1])
