"""The sentences of the log, one for each thing that the supervisor may note.

A table, so that a test can show that there is one for each, and that each finds its fields. Where gunicorn
has a sentence that people search their logs for, it is the same.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from threadcorn.policy.events import Note, What

__all__ = ["SENTENCES", "render"]

_DEBUG, _INFO, _WARN, _ERROR, _CRIT = (
    logging.DEBUG,
    logging.INFO,
    logging.WARNING,
    logging.ERROR,
    logging.CRITICAL,
)

# {pid} is the worker's; {wait} and {seconds} are shortened; {text} stands on lines of its own.
SENTENCES: Mapping[What, tuple[int, str]] = {
    What.WORKER_READY: (_INFO, "Worker ready (pid: {pid}, slot: {slot}, {seconds} s)"),
    What.WORKER_DRAINS: (_INFO, "Worker draining (pid: {pid}, slot: {slot}): {reason}"),
    What.WORKER_LEFT: (_INFO, "Worker left (pid: {pid}, slot: {slot}): {cause}{text}"),
    What.WORKER_CRASHED: (_ERROR, "Worker (pid: {pid}, slot: {slot}) {cause}; {replaced}{text}"),
    What.WORKER_NOT_READY: (
        _ERROR,
        "Worker (pid: {pid}, slot: {slot}) did not start: {cause}; {replaced}{text}",
    ),
    What.WORKER_CONDEMNED: (_CRIT, "WORKER TIMEOUT (pid: {pid}, slot: {slot}): {reason}; aborting it"),
    # Not a timeout: whoever looks for those should not find it.
    What.WORKER_OUTLAWED: (_CRIT, "Worker ended by force (pid: {pid}, slot: {slot}): {reason}; aborting it"),
    What.WORKER_KILLED: (_WARN, "Killing worker (pid: {pid}, slot: {slot}): it did not leave in time"),
    What.WORKER_UNKILLABLE: (
        _ERROR,
        "Worker (pid: {pid}, slot: {slot}) does not die of KILL: it hangs in the kernel, and is forgotten",
    ),
    What.RECYCLE_ASKED: (_INFO, "Worker to be replaced (pid: {pid}, slot: {slot}): {reason}"),
    What.ALL_READY: (_INFO, "All workers are ready ({workers})"),
    What.SCALED: (_INFO, "Number of workers: {wanted} (was {before})"),
    What.SCALE_REFUSED: (
        _WARN,
        "The number of workers stays {wanted}: least is 1, most is {most} (max_workers)",
    ),
    What.RELOAD_BEGINS: (
        _INFO,
        "Reloading: generation {generation} boots one worker first, the others serve on",
    ),
    What.RELOAD_WAITS: (_INFO, "Reload waits: the server is {phase}"),
    What.RELOAD_DONE: (_INFO, "Reloaded: generation {generation} serves with {workers} workers"),
    What.RELOAD_FAILED: (
        _ERROR,
        "Reload failed, generation {generation} serves on. The new worker: {cause}{text}",
    ),
    What.RELOAD_STUCK: (
        _ERROR,
        "Reload stopped half-way: too many of generation {generation} died; {older} old workers serve on",
    ),
    What.RETIRED: (_INFO, "Draining all workers; the sockets stay open. TTIN or HUP brings workers back"),
    What.REFUSED: (_WARN, "{event} refused: the server is {phase}; try again when that is over"),
    What.UPGRADE_BEGINS: (_INFO, "Upgrading: the successor boots, we serve on"),
    What.UPGRADE_DONE: (_INFO, "Upgraded: the successor serves, we leave"),
    What.UPGRADE_FAILED: (_ERROR, "Upgrade failed, we serve on: {cause}"),
    What.STOP_BEGINS: (_INFO, "Stopping{how}"),
    What.STOP_QUICKER: (_WARN, "Stopping at once{how}"),
    What.GATED: (_DEBUG, "No new connections; those that wait are accepted"),
    What.FATAL: (_ERROR, "The server cannot start: a worker (pid: {pid}): {cause}{text}"),
    What.LEFT_BEHIND: (_ERROR, "Leaving {ages} behind: they do not die of KILL"),
}


_ORDERS = {
    "ReloadAsked": "Reload",
    "ScaleAsked": "Change of the number of workers",
    "RetireAsked": "Draining all workers",
    "UpgradeAsked": "Upgrade",
}
_DEATHS = frozenset((What.WORKER_LEFT, What.WORKER_CRASHED))


def render(note: Note, pid: object = "?", story: str = "") -> tuple[int, str]:
    """Level and sentence. `story`: what a worker was doing when it died, for the note that says so."""
    level, sentence = SENTENCES[note.what]
    if story and note.what in _DEATHS:
        text = "\n".join(filter(None, (str(note.fields.get("text", "")).strip(), story)))
        return max(level, _ERROR), sentence.format_map(_Fields({**note.fields, "text": text}, pid))
    return level, sentence.format_map(_Fields(note.fields, pid))


class _Fields(dict[str, str]):
    """The fields as people read them."""

    def __init__(self, fields: Mapping[str, Any], pid: object) -> None:
        super().__init__({name: _readable(value) for name, value in fields.items()})
        self["pid"] = str(pid)
        self["event"] = _ORDERS.get(self.get("event", ""), "Order")
        text = str(fields.get("text", "")).strip()
        self["text"] = f"\n{text}" if text else ""
        wait = fields.get("wait")
        if wait is None:
            self["replaced"] = "it is not replaced"
        else:
            self["replaced"] = f"the next try is in {wait:.1f} s" if wait > 0 else "it is replaced at once"
        if fields.get("last"):
            self["how"] = ": killing what is left"
        else:
            self["how"] = " quickly" if fields.get("quick") else ""


def _readable(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)
