"""After a crash: what died and why, what each of its threads was doing, and what it had done last.

The page of the scoreboard outlives the worker. What it says was written by a process that may have written
over its own memory: text from it is made printable, and nothing in it is believed further than that.
"""

from __future__ import annotations

from collections.abc import Sequence

from threadcorn.policy.cells import RequestRecord

__all__ = ["tell"]

LAST = 5


def tell(pid: object, slot: int, cause: str, records: Sequence[RequestRecord], now: float) -> str:
    """A few lines for the log. `records`: the newest first."""
    running = [record for record in records if record.running]
    before = [record for record in records if not record.running][:LAST]
    lines = [f"Worker (pid: {pid}, slot: {slot}) {cause}."]
    if running:
        lines.append("It was running:")
        lines += [
            f"  {_line(r)} from {r.peer or '?'}, for {max(0.0, now - r.start):.3f} s (thread {r.thread})"
            for r in running
        ]
    else:
        lines.append("No request was running in it.")
    if before:
        lines.append("Before that:")
        lines += [
            f"  {_line(r)} from {r.peer or '?'}: {r.status or 'no answer'} in {r.duration * 1e3:.1f} ms, "
            f"{max(0.0, now - r.start):.1f} s ago (thread {r.thread})"
            for r in before
        ]
    return "\n".join(lines)


def _line(record: RequestRecord) -> str:
    text = "".join(char if " " <= char <= "~" else "?" for char in record.line)
    return text.rsplit(" HTTP/", 1)[0] or "(no request line)"
