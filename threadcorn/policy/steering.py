"""Which shard the kernel gives a new connection to: weights, and the filter program that obeys them.

Everything here is data: weights in, a classic BPF program out as a tuple of instructions.
`system/listeners.py` packs and attaches it; the tests interpret it.

What the program is for, and what not. It keeps new connections away from a worker that boots, drains,
hangs or died, and lets a fresh one warm up. It is not a load balancer: the program has no memory, so
random weights spread no better than the kernel's hash, and rewriting it at every accept is worse than the
hash in a burst. Balance is made at accept time, by the workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "FULL",
    "LONGEST",
    "SYN_GATE",
    "Instruction",
    "Program",
    "SlotView",
    "Steering",
    "only",
    "quantise",
    "random_by_weight",
    "source_port_to",
    "weight",
]

# (code, jump if true, jump if false, k), the fields of struct sock_filter.
Instruction = tuple[int, int, int, int]
Program = tuple[Instruction, ...]

# The kernel refuses more instructions than this (BPF_MAXINSNS).
LONGEST = 4096

LOAD_WORD = 0x20  # LD W ABS
LOAD_HALF = 0x28  # LD H ABS
JUMP = 0x05  # JA K
JUMP_EQUAL = 0x15  # JEQ K
JUMP_GE = 0x35  # JGE K
RETURN = 0x06  # RET K

# Loads beyond SKF_AD_OFF are not packet bytes but facts. Nothing but these may be loaded in a program that
# stays: a load that fails ends it with 0, which is not "no opinion" but "shard 0".
PROTOCOL = 0xFFFFF000
RANDOM = 0xFFFFF038
# The source port, counted from the network header (SKF_NET_OFF). Both headers have their shortest form in a
# SYN of our own; only the program that fills the tombstone looks at it.
SOURCE_PORT_V4 = 0xFFF00014
SOURCE_PORT_V6 = 0xFFF00028
ETHERTYPE_V6 = 0x86DD

FULL = 256
FLOOR = 2
# A worker that has just become ready has cold caches and connections of its own to open: it gets an eighth
# first, twice as much at each quarter of this time.
WARM_UP_SECONDS = 2.0
WARM_UP_FIRST = 32
# A heartbeat older than this makes a worker suspect. It beats several times as often; a stopped process or a
# thread that keeps the GIL in C code does not.
SUSPECT_SECONDS = 0.150
# Two programs are at least this far apart, unless a worker changed its state.
SPACING_SECONDS = 0.005


# Not a program that chooses: on a listener it drops a pure SYN and lets the ACK of a handshake under way
# pass. For the last stop; newer kernels want CAP_NET_ADMIN for it.
SYN_GATE: Program = (
    (0x30, 0, 0, 13),  # LDB [13], the TCP flags
    (0x54, 0, 0, 0x12),  # AND SYN|ACK
    (JUMP_EQUAL, 0, 1, 0x02),  # SYN alone
    (RETURN, 0, 0, 0),
    (RETURN, 0, 0, 0xFFFFFFFF),
)


def only(index: int) -> Program:
    """Everything to one shard."""
    return ((RETURN, 0, 0, index),)


def random_by_weight(weights: Sequence[int]) -> Program:
    """Shard i with probability weights[i] / sum. Empty when every weight is 0: then nothing is to change.

    A threshold ladder over the kernel's random number: 2 instructions a live shard, and the last one
    has no test, so that every number ends at a live shard whatever the rounding did.
    """
    live = [(index, w) for index, w in enumerate(weights) if w > 0]
    if not live:
        return ()
    if len(live) == 1:
        return only(live[0][0])
    total = sum(w for _, w in live)
    program: list[Instruction] = [(LOAD_WORD, 0, 0, RANDOM)]
    below = 0
    for index, w in live[:-1]:
        below += w
        threshold = min((below << 32) // total, 0xFFFFFFFF)
        program += [(JUMP_GE, 1, 0, threshold), (RETURN, 0, 0, index)]
    program.append((RETURN, 0, 0, live[-1][0]))
    return tuple(program)


def source_port_to(port: int, index: int, rest: Program) -> Program:
    """Clients with this source port to shard `index`, all others by `rest`.

    For filling the tombstone: a program that sent everybody there would send a stranger's SYN there too, who
    would then wait in a queue that nobody accepts from.
    """
    claim: Program = ((JUMP_EQUAL, 0, 1, port), (RETURN, 0, 0, index))
    v6 = ((LOAD_HALF, 0, 0, SOURCE_PORT_V6), *claim)
    v4 = ((LOAD_HALF, 0, 0, SOURCE_PORT_V4), *claim)
    # A dual-stack listener sees both kinds of packet, so the program always asks which one it has. Whoever is
    # not our v6 client must not fall into the v4 test: its bytes mean something else there.
    over = (LOAD_WORD, 0, 0, PROTOCOL), (JUMP_EQUAL, 0, len(v6) + 1, ETHERTYPE_V6)
    past_v4 = (JUMP, 0, 0, len(v4))
    return (*over, *v6, past_v4, *v4, *rest)


def quantise(value: float) -> int:
    """The next power of two below, between FLOOR and FULL: small changes of lag must not rewrite programs."""
    whole = max(FLOOR, min(FULL, int(value)))
    return 1 << (whole.bit_length() - 1)


@dataclass(frozen=True, slots=True)
class SlotView:
    """What steering needs to know of the worker that owns a shard."""

    ready: bool = False  # not booting, draining, dead
    heartbeat_age: float = 0.0  # seconds
    lag: float = 0.0  # seconds the worker's loop was late
    ready_for: float = WARM_UP_SECONDS  # seconds since it became ready
    share: float = 1.0  # less than 1 for a canary or a saturated worker; 0 takes it out


def weight(view: SlotView) -> int:
    """What one slot is worth: 0 takes its shard out of the choice, FULL is a worker in good health."""
    if not view.ready or view.share <= 0 or view.heartbeat_age > SUSPECT_SECONDS:
        return 0
    lag_ms = view.lag * 1000
    value = FULL / (1 + lag_ms / 2) ** 2
    if view.ready_for < WARM_UP_SECONDS:
        steps = int(max(view.ready_for, 0.0) / WARM_UP_SECONDS * 4)  # 32, 64, 128, 256
        value = min(value, WARM_UP_FIRST << steps)
    return quantise(value * view.share)


class Steering:
    """Remembers what was asked last, so that a tick without news costs nothing in the kernel."""

    def __init__(self) -> None:
        self.weights: tuple[int, ...] = ()
        self._since = float("-inf")

    def decide(
        self, views: Sequence[SlotView], now: float, *, at_once: bool = False
    ) -> tuple[int, ...] | None:
        """New weights to attach, or None. `at_once` when a worker changed its state: no spacing then."""
        if not at_once and now - self._since < SPACING_SECONDS:
            return None
        wanted = tuple(weight(view) for view in views)
        if not any(wanted):
            # Nobody is fit. The last program stays: what it picks waits in a queue, and all queues are alike.
            return None
        # Warm-up is relative. When all are equally fresh the ladder of weights says nothing; scaled away,
        # four workers that boot together do not cause a program each half second.
        top = max(wanted)
        wanted = tuple(w * FULL // top for w in wanted)
        if wanted == self.weights:
            return None
        self.weights = wanted
        self._since = now
        return wanted
