"""The words between the arbiter and a worker, and what a worker is born with.

Laws:

1. A message is a frozen value. Nothing in it refers to a process, a socket or a lock.
2. One message is one packet, so nobody ever holds half a message.
3. Orders travel as messages and are obeyed between requests. A signal can break a database driver in
   mid-query; only the two signals that end a process by force (ABRT, KILL) are ever sent to a worker.

Both ends are the same program, forked from the same memory, so there is no version to negotiate. A
packet that cannot be decoded means that somebody else wrote into the channel: that is refused loudly.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from logging import Logger
from typing import Any, Protocol, TypeAlias, get_args

from threadcorn.errors import InternalError
from threadcorn.settings import Settings

__all__ = [
    "MAX_PACKET",
    "MAX_TEXT",
    "ChannelEnd",
    "Drain",
    "Draining",
    "Failed",
    "Hello",
    "Message",
    "Quit",
    "Ready",
    "RecycleMe",
    "ReopenLogs",
    "Report",
    "Reported",
    "Threads",
    "WorkerBoot",
    "decode",
    "encode",
]

# Characters of free text in one message. A traceback longer than this loses its beginning: the last
# lines name the error. JSON needs at most twelve bytes a character, which stays below MAX_PACKET, and
# MAX_PACKET stays below the smallest default socket buffer we have met (212,992 bytes), so that a packet
# never fails with EMSGSIZE.
MAX_TEXT = 10_000
MAX_PACKET = 131_072
MAX_REPORT = 1 << 24  # unpacked: what a worker sends must not use up the arbiter


# -- worker to arbiter -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hello:
    """The child runs our code. It has not loaded the application yet."""

    pid: int


@dataclass(frozen=True, slots=True)
class Ready:
    """The application is loaded and the worker polls its shards."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The worker could not boot and is about to leave with `exit_code`; `text` is for a person."""

    exit_code: int
    text: str


@dataclass(frozen=True, slots=True)
class Draining:
    """The worker has stopped accepting, whoever asked for it."""

    reason: str


@dataclass(frozen=True, slots=True)
class RecycleMe:
    """The worker serves on, but would like to be replaced (max_requests)."""

    reason: str


@dataclass(frozen=True, slots=True)
class Reported:
    """The answer to `Report`: what the threads do, packed. Their stacks are long and nearly the same."""

    token: int
    text: str

    @staticmethod
    def pack(report: dict[str, Any]) -> str | None:
        """None: too long for a message."""
        text = base64.b85encode(zlib.compress(json.dumps(report).encode("ascii"))).decode("ascii")
        return text if len(text) <= MAX_TEXT else None

    def unpack(self) -> dict[str, Any]:
        """Raises ValueError for what `pack` did not write."""
        try:
            data = zlib.decompressobj().decompress(base64.b85decode(self.text), MAX_REPORT)
        except zlib.error as error:
            raise ValueError(str(error)) from error
        report: dict[str, Any] = json.loads(data)
        return report


# -- arbiter to worker -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Drain:
    """Accept nothing more, finish what runs within `seconds`, leave."""

    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class Quit:
    """Leave now; what runs is lost."""


@dataclass(frozen=True, slots=True)
class ReopenLogs:
    """Open the log files again by name (they were rotated)."""


@dataclass(frozen=True, slots=True)
class Threads:
    """Run this many pool threads from now on."""

    n: int


@dataclass(frozen=True, slots=True)
class Report:
    """Say what your threads do: a person has asked."""

    token: int


Message: TypeAlias = (
    Hello | Ready | Failed | Draining | RecycleMe | Reported | Drain | Quit | ReopenLogs | Threads | Report
)

# The table. The word on the wire is the class's own name.
_CLASSES: dict[str, type[Any]] = {cls.__name__: cls for cls in get_args(Message)}
_TYPES: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,)}


def encode(message: Message) -> bytes:
    """One message as one packet: a JSON list of the class's name and its fields in order."""
    row: list[object] = [type(message).__name__]
    for spec in fields(message):
        value = getattr(message, spec.name)
        if isinstance(value, str) and len(value) > MAX_TEXT:
            value = "[...] " + value[-MAX_TEXT:]
        row.append(value)
    # ASCII only: text may hold lone surrogates (a file name in a traceback), which UTF-8 refuses.
    return json.dumps(row, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode("ascii")


def decode(packet: bytes) -> Message:
    """The message in one packet. Raises InternalError for anything `encode` did not write."""
    try:
        row = json.loads(packet.decode("ascii"))
    except ValueError as error:
        raise InternalError(f"a packet on the channel is not a message: {packet[:80]!r}") from error
    cls = _CLASSES.get(row[0]) if isinstance(row, list) and row and isinstance(row[0], str) else None
    if cls is None:
        raise InternalError(f"a packet on the channel names no message: {packet[:80]!r}")
    specs = fields(cls)
    if len(specs) != len(row) - 1:
        raise InternalError(f"{cls.__name__} on the channel has {len(row) - 1} fields, not {len(specs)}")
    for spec, value in zip(specs, row[1:], strict=True):
        # `spec.type` is text: annotations are not evaluated here. A bool is an int to Python, not to us.
        if isinstance(value, bool) or not isinstance(value, _TYPES[str(spec.type)]):
            raise InternalError(f"{cls.__name__}.{spec.name} on the channel is {value!r}, not {spec.type}")
    message: Message = cls(*row[1:])
    return message


# -- what a worker is born with ----------------------------------------------------------------------


class ChannelEnd(Protocol):
    """What a worker may do with its end of the channel (the real one: system/channel.py)."""

    ended: bool

    def fileno(self) -> int: ...
    def send(self, message: Message, fds: Sequence[int] = ()) -> bool: ...
    def flush(self) -> bool: ...
    def receive(self, limit: int = 64) -> list[Message]: ...
    def close(self) -> None: ...


@dataclass(slots=True, kw_only=True)
class WorkerBoot:
    """Everything that `run_worker(boot)` gets; made by the arbiter, used in the forked child only.

    `Any` stands for what upper layers make: this module is pure and may not import them.
    """

    slot: int
    generation: int
    age: int  # counts forks, from 1; unique in the life of the arbiter, unlike the slot
    pid_of_arbiter: int
    settings: Settings
    load: Callable[[], Callable[..., Any]]
    channel: ChannelEnd
    berths: Sequence[Any]  # system/berths.py Berth, all of them, in slot order
    groups: Sequence[Any]  # system/listeners.py ShardGroup, one an address
    page: Any  # system/scoreboard.py Page of this process
    custody: Any = None  # system/custody.py Custody, where there is a vault
    log: Logger
    access: Any  # accesslog.py AccessLog
    server: Any  # the arbiter as hooks see it: log, cfg, pid, num_workers, workers
    worker: Any  # the worker as hooks see it: pid, age, ppid, log, cfg, slot
