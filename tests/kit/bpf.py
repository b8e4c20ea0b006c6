"""A machine for classic BPF, as small as the programs of ours need it, to see what they would do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from threadcorn.policy.steering import PROTOCOL, RANDOM, Program

__all__ = ["Packet", "run", "verify"]


@dataclass(frozen=True)
class Packet:
    """What a program may ask about: facts (`SKF_AD_...`) and bytes by their offset."""

    random: int = 0
    protocol: int = 0x0800
    data: Mapping[int, int] = field(default_factory=dict)  # offset to value, for half words and bytes

    def load(self, at: int) -> int | None:
        if at == RANDOM:
            return self.random
        if at == PROTOCOL:
            return self.protocol
        return self.data.get(at)


def verify(program: Program) -> None:
    """What the kernel's checker refuses: endless, without a RET, jumps over the end."""
    assert 0 < len(program) <= 4096
    for at, (code, jt, jf, k) in enumerate(program):
        assert 0 <= jt < 256 and 0 <= jf < 256 and 0 <= k < 1 << 32
        if code in (0x15, 0x35):
            assert at + 1 + max(jt, jf) < len(program), f"instruction {at} jumps over the end"
        elif code == 0x05:
            assert at + 1 + k < len(program), f"instruction {at} jumps over the end"
        else:
            assert code in (0x20, 0x28, 0x30, 0x54, 0x06), f"unknown instruction {code:#x}"
    assert program[-1][0] == 0x06, "falls off the end"


def run(program: Program, packet: Packet) -> int:
    """What the program returns. A load that fails ends it with 0, as in the kernel."""
    at, a = 0, 0
    while True:
        code, jt, jf, k = program[at]
        at += 1
        if code in (0x20, 0x28, 0x30):
            loaded = packet.load(k)
            if loaded is None:
                return 0
            a = loaded
        elif code == 0x54:
            a &= k
        elif code == 0x15:
            at += jt if a == k else jf
        elif code == 0x35:
            at += jt if a >= k else jf
        elif code == 0x05:
            at += k
        elif code == 0x06:
            return k
        else:
            raise AssertionError(f"unknown instruction {code:#x}")
