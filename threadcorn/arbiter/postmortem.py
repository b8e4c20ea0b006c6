"""After a crash: what died and why, what each of its threads was doing, and what it had done last.

The page of the scoreboard outlives the worker. What it says was written by a process that may have written
over its own memory: text from it is made printable, and nothing in it is believed further than that.
"""

from __future__ import annotations

from collections.abc import Sequence

from threadcorn.policy.cells import RequestRecord

__all__ = ["tell"]

LAST = 5
NAMED = 3


def tell(cause: str, records: Sequence[RequestRecord], now: float) -> tuple[str, str]:
    """The cause with the requests that ran, in one line, and the lines that go below it.

    `records`: the newest first."""
    running = [record for record in records if record.running]
    before = [record for record in records if not record.running][:LAST]
    if running:
        named = [record.request for record in reversed(running)]  # the oldest first
        others = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
        cause = f"{cause} while it ran {', '.join(named[:NAMED])}{others}"
    lines = ["It was running:"] if running else ["No request was running in it."]
    lines += [
        f"  {r.request} from {r.peer or '?'}, for {max(0.0, now - r.start):.3f} s (thread {r.thread})"
        for r in running
    ]
    if before:
        lines.append("Before that:")
    lines += [
        f"  {r.request} from {r.peer or '?'}: {r.status or 'no answer'} in {r.duration * 1e3:.1f} ms, "
        f"{max(0.0, now - r.start):.1f} s ago (thread {r.thread})"
        for r in before
    ]
    return cause, "\n".join(lines)
