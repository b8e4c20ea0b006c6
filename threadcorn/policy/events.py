"""What the supervisor is told and what it orders. Values only.

An incarnation (one process in one slot, from fork to exit) is named by its `age`, which counts forks and is
never used twice. A process id would be: by the time an order is carried out it may be somebody else's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, unique
from typing import Any, TypeAlias

from threadcorn.messages import Message

__all__ = ["AbandonSuccessor", "Announce", "CloseListeners", "Command", "Event", "Exit", "Exited", "Force",
           "Gate", "Heard", "Judged", "Kill", "Milestone", "NotForked", "Note", "Phase", "Promote",
           "QueuesEmpty", "ReloadAsked", "RetireAsked", "Rules", "ScaleAsked", "Spawn", "StartSuccessor",
           "Steer", "StopAsked", "SuccessorFailed", "SuccessorReady", "Tell", "Tick", "UpgradeAsked",
           "Verdict", "What"]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The settings that the supervisor obeys, of one generation. Seconds and workers."""

    boot_timeout: float = 60.0
    graceful_timeout: float = 30.0
    lame_duck: float = 0.0
    surge: int = 1


@unique
class Phase(Enum):
    """What the arbiter is doing."""

    BOOT = "booting"
    SERVE = "serving"
    RELOAD = "reloading"
    UPGRADE = "upgrading"
    DRAIN = "leaving"
    DONE = "done"


# -- events ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A worker has sent a message."""

    age: int
    message: Message


@dataclass(frozen=True, slots=True)
class Exited:
    """A worker has been reaped, and nothing more will be heard of it. `cause` is in words."""

    age: int
    cause: str


@dataclass(frozen=True, slots=True)
class NotForked:
    """A `Spawn` could not be carried out."""

    age: int
    cause: str


@unique
class Verdict(Enum):
    """What the health policy says of a worker; FINE is not told."""

    RECYCLE = "replace it when its successor is ready"
    SILENT = "it makes no progress: end it"
    KILL = "it has done what it must not: end it"


@dataclass(frozen=True, slots=True)
class Judged:
    """A worker has been judged."""

    age: int
    verdict: Verdict
    reason: str


@dataclass(frozen=True, slots=True)
class ScaleAsked:
    """So many workers more, or less."""

    by: int


@dataclass(frozen=True, slots=True)
class ReloadAsked:
    """The settings of a new generation are built and correct. `workers` is None unless they changed."""

    generation: int
    rules: Rules
    workers: int | None = None


@dataclass(frozen=True, slots=True)
class RetireAsked:
    """Drain all workers, but stay (WINCH)."""


@dataclass(frozen=True, slots=True)
class UpgradeAsked:
    """Start a successor arbiter."""


@dataclass(frozen=True, slots=True)
class SuccessorReady:
    """The successor serves."""


@dataclass(frozen=True, slots=True)
class SuccessorFailed:
    """The successor has died, or said that it cannot."""

    cause: str


@dataclass(frozen=True, slots=True)
class StopAsked:
    """Stop: gracefully, or quickly; asked twice to be quick, even quicker."""

    quick: bool


@dataclass(frozen=True, slots=True)
class QueuesEmpty:
    """Behind the gate no connection waits to be accepted."""


Event: TypeAlias = (
    Tick
    | Heard
    | Exited
    | NotForked
    | Judged
    | ScaleAsked
    | ReloadAsked
    | RetireAsked
    | UpgradeAsked
    | SuccessorReady
    | SuccessorFailed
    | StopAsked
    | QueuesEmpty
)


# -- commands ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Spawn:
    """Fork a worker. Answered by `NotForked` if that fails, and by `Exited` sooner or later if not."""

    slot: int
    generation: int
    age: int


@dataclass(frozen=True, slots=True)
class Tell:
    """Send a worker a message."""

    age: int
    message: Message


@unique
class Force(Enum):
    """The signals that a worker is ever sent."""

    TERM = "ends a worker that boots, by default action; nothing runs in it yet"
    ABRT = "dumps all stacks and ends it"
    KILL = "ends it"


@dataclass(frozen=True, slots=True)
class Kill:
    """Send a worker a signal."""

    age: int
    force: Force


@dataclass(frozen=True, slots=True)
class Steer:
    """Who serves each slot's shard: ages in slot order, None for nobody."""

    owners: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Gate:
    """Let no new connection in; `QueuesEmpty` is expected once what waits has been accepted."""


@dataclass(frozen=True, slots=True)
class CloseListeners:
    """The last worker is gone. `ours`: nobody else serves at these addresses from now on."""

    ours: bool


@dataclass(frozen=True, slots=True)
class Promote:
    """The generation has proved itself: its settings are the arbiter's from now on."""

    generation: int


@dataclass(frozen=True, slots=True)
class StartSuccessor:
    """Execute the program on disk with our descriptors."""


@dataclass(frozen=True, slots=True)
class AbandonSuccessor:
    """End the successor."""


@unique
class Milestone(Enum):
    """What the world outside may want to know."""

    READY = "all workers of the first generation are ready"
    RELOADING = "a new generation boots"
    RELOADED = "it serves"
    RELOAD_FAILED = "it does not, and the old one serves on"
    STOPPING = "we leave"
    UPGRADED = "we leave, and a successor serves"


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell whoever wants to know."""

    milestone: Milestone


@unique
class What(Enum):
    """What a `Note` is about. The sentences are in arbiter/notes.py."""

    WORKER_READY = "worker ready"
    WORKER_DRAINS = "worker drains"
    WORKER_LEFT = "worker left"
    WORKER_CRASHED = "worker crashed"
    WORKER_NOT_READY = "worker died before it was ready"
    WORKER_CONDEMNED = "worker is ended by force: its time is up"
    WORKER_OUTLAWED = "worker is ended by force: a limit, or a fault"
    WORKER_KILLED = "worker did not leave in time"
    WORKER_UNKILLABLE = "worker does not die"
    RECYCLE_ASKED = "worker to be replaced"
    ALL_READY = "all workers ready"
    SCALED = "number of workers changed"
    SCALE_REFUSED = "number of workers not changed"
    RELOAD_BEGINS = "reload begins"
    RELOAD_WAITS = "reload waits"
    RELOAD_DONE = "reload done"
    RELOAD_FAILED = "reload failed"
    RELOAD_STUCK = "reload stopped half-way"
    RETIRED = "workers retired"
    REFUSED = "order refused"
    UPGRADE_BEGINS = "upgrade begins"
    UPGRADE_DONE = "upgrade done"
    UPGRADE_FAILED = "upgrade failed"
    STOP_BEGINS = "stop begins"
    STOP_QUICKER = "stop quicker"
    GATED = "no new connections"
    FATAL = "cannot start"
    LEFT_BEHIND = "workers left behind"


@dataclass(frozen=True, slots=True)
class Note:
    """A line for the log. `age` where it is about a worker: the reader knows the process id."""

    what: What
    age: int | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Exit:
    """The end, with this exit code."""

    code: int


Command: TypeAlias = (
    Spawn
    | Tell
    | Kill
    | Steer
    | Gate
    | CloseListeners
    | Promote
    | StartSuccessor
    | AbandonSuccessor
    | Announce
    | Note
    | Exit
)
