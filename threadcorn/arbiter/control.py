"""The control socket: a table of commands, answered with plain data.

A request is a line of JSON, `{"command": NAME, "args": {...}}`. So is the answer: `"ok": true` and `data`, or
`"ok": false` and `error`. A command never waits: what takes longer is begun, and the client asks again
(`reload`, then `server`; `ask`, then `report`). Only root and the user of the server are let in.
"""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Callable, Mapping
from typing import Any

from threadcorn.arbiter.desk import Answer
from threadcorn.arbiter.view import Facts, View
from threadcorn.arbiter.worker_handle import WorkerHandle
from threadcorn.messages import Report, Reported, Threads
from threadcorn.policy import events as e
from threadcorn.policy.incarnation import State
from threadcorn.settings.show import masked
from threadcorn.settings.table import ROWS
from threadcorn.system.doorway import peer_uid

__all__ = ["Control", "Refused"]


#: Reloads whose end is remembered.
VERDICTS = 32


class Refused(Exception):
    """The command cannot be carried out, and why."""


class Control:
    """A service for the desk. `heard` and `noted` are told by the arbiter what happens meanwhile."""

    def __init__(
        self,
        view: View,
        tell: Callable[[e.Event], None],
        reload: Callable[[], tuple[int, str]],
        log: logging.Logger,
    ) -> None:
        self._view = view
        self._tell = tell
        self._begin_reload = reload  # the generation that is to serve, or why there is none
        self._log = log
        self._token = 0
        self._reports: dict[int, tuple[int, Facts]] = {}  # by age: token, what it said
        self._threads: int | None = None
        self._verdicts: dict[int, Facts] = {}  # by generation: how its reload ended
        self._refusal = ""
        self._commands: dict[str, Callable[[Facts], Any]] = {
            "server": lambda _: self._view.server(),
            "status": lambda _: self._view.status(),
            "workers": lambda _: self._view.workers(),
            "requests": lambda _: self._view.requests(),
            "finished": lambda _: self._view.finished(),
            "config": lambda _: self._config(),
            "ask": lambda _: self._ask(),
            "report": self._report,
            "scale": self._scale,
            "threads": self._set_threads,
            "reload": lambda _: self._reload(),
            "reloaded": self._reloaded,
            "recycle": self._recycle,
            "drain": lambda _: self._drain(),
            "stop": self._stop,
        }

    # -- the service

    def admit(self, sock: socket.socket) -> bool:
        uid = peer_uid(sock)
        if uid in (None, 0, os.geteuid()):
            return True
        self._log.warning("User %s was turned away from the control socket", uid)
        return False

    def answer(self, data: bytes) -> Answer | None:
        line, end, _ = data.partition(b"\n")
        if not end:
            return None
        try:
            body = {"ok": True, "data": self._perform(line)}
        except Refused as error:
            body = {"ok": False, "error": str(error)}
        return Answer(json.dumps(body).encode() + b"\n", len(line) + 1, keep=True)

    def _perform(self, line: bytes) -> Any:
        try:
            request = json.loads(line)
            name, args = request["command"], request.get("args") or {}
            command = self._commands[name]
            if not isinstance(args, dict):
                raise TypeError
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            known = ", ".join(sorted(self._commands))
            raise Refused(f"not a command: {line[:80]!r}; there is {known}") from None
        return command(args)

    # -- commands

    def _config(self) -> Facts:
        settings = self._view.settings()
        found: Facts = {}
        for name, row in ROWS.items():
            value = getattr(settings, name)
            if row.hidden or row.arity:
                continue
            found[name] = masked(value) if row.secret else _plain(value)
        return found

    def _ask(self) -> Facts:
        """Have every worker say what its threads do. The answers are fetched by `report`."""
        self._token += 1
        asked = []
        for incarnation, handle in self._view.incarnations():
            if incarnation.state in (State.READY, State.DRAINING):
                handle.channel.send(Report(self._token))
                asked.append({"pid": handle.pid, "slot": handle.slot})
        return {"token": self._token, "asked": asked}

    def _report(self, args: Facts) -> list[Facts]:
        token = _integer(args, "token")
        return [
            {"pid": handle.pid, "slot": handle.slot} | said
            for _, handle in self._view.incarnations()
            for known, said in [self._reports.get(handle.age, (0, {}))]
            if known == token
        ]

    def _scale(self, args: Facts) -> Facts:
        wanted = _integer(args, "workers")
        supervisor = self._view.supervisor
        most = len(supervisor.crew.slots)
        if not 1 <= wanted <= most:
            raise Refused(f"{wanted} workers: least is 1, most is {most} (max_workers)")
        before = supervisor.wanted
        if wanted != before:
            self._order(e.ScaleAsked(wanted - before))
        return {"workers_wanted": supervisor.wanted, "before": before}

    def _set_threads(self, args: Facts) -> Facts:
        count = _integer(args, "threads")
        if not 1 <= count <= 4096:
            raise Refused(f"{count} threads: least is 1, most is 4096")
        self._threads = count
        told = []
        for _, handle in self._view.incarnations():
            handle.channel.send(Threads(count))
            told.append(handle.pid)
        return {"threads": count, "told": told}

    def _reload(self) -> Facts:
        self._refusal = ""
        generation, trouble = self._begin_reload()
        if trouble or self._refusal:
            raise Refused(trouble or self._refusal)
        return {"accepted": True, "generation": generation}

    def _reloaded(self, args: Facts) -> Facts:
        """How the reload to a generation ended; nothing while it is under way. One that another has overtaken
        ends as that one does: what it has read is newer."""
        asked = _integer(args, "generation")
        supervisor = self._view.supervisor
        known = self._verdicts
        if asked in known:
            return known[asked]
        later = [known[generation] for generation in sorted(known) if generation > asked]
        for verdict in later:
            if verdict["ok"]:
                return verdict
        coming = [r.generation for r in (supervisor.candidate, supervisor.waiting) if r is not None]
        if any(generation >= asked for generation in coming):
            return {}
        if supervisor.generation >= asked:
            done = supervisor.phase is e.Phase.SERVE
            return self._served(supervisor.generation) if done else {}
        return later[-1] if later else {}

    def _recycle(self, args: Facts) -> Facts:
        slot = _integer(args, "slot")
        if self._view.supervisor.leaving is not None:
            raise Refused(_later(self._view.supervisor.phase.value))  # nobody is replaced any more
        for incarnation, handle in self._view.incarnations():
            if handle.slot == slot and incarnation.state is State.READY:
                self._tell(e.Judged(handle.age, e.Verdict.RECYCLE, "asked for by threadcornctl"))
                return {"slot": slot, "pid": handle.pid}
        raise Refused(f"no worker is ready in slot {slot}")

    def _drain(self) -> Facts:
        self._order(e.RetireAsked())
        return {"phase": self._view.supervisor.phase.value, "workers_wanted": self._view.supervisor.wanted}

    def _stop(self, args: Facts) -> Facts:
        self._tell(e.StopAsked(quick=bool(args.get("quick"))))
        return {"phase": self._view.supervisor.phase.value}

    def _order(self, event: e.Event) -> None:
        """Raises Refused when it comes at the wrong time."""
        self._refusal = ""
        self._tell(event)
        if self._refusal:
            raise Refused(self._refusal)

    # -- what happens meanwhile

    def heard(self, handle: WorkerHandle, message: object) -> bool:
        """A worker has said something. True if it was for us alone."""
        if not isinstance(message, Reported):
            return False
        try:
            said = message.unpack()
        except ValueError:
            said = {"error": "the report was too long"}
        self._reports[handle.age] = (message.token, said)
        return True

    def ready(self, handle: WorkerHandle) -> None:
        """A worker is ready: what was ordered of all holds for it as well."""
        if self._threads is not None:
            handle.channel.send(Threads(self._threads))

    def forget(self, handle: WorkerHandle) -> None:
        self._reports.pop(handle.age, None)

    def noted(self, note: e.Note) -> None:
        """Remember how reloads ended, and what was refused."""
        what, fields = note.what, note.fields
        if what is e.What.RELOAD_DONE:
            self._conclude(fields["generation"], self._served(fields["generation"]))
        elif what is e.What.RELOAD_FAILED:
            cause = f"the new worker: {fields['cause']}; generation {fields['generation']} serves on"
            self._conclude(fields["failed"], {"ok": False, "cause": cause, "text": fields["text"]})
        elif what is e.What.RELOAD_STUCK:
            cause = f"too many of its workers died; {fields['older']} old ones serve on"
            self._conclude(fields["generation"], {"ok": False, "cause": cause, "text": "see the error log"})
        elif what is e.What.REFUSED:
            self._refusal = _later(fields["phase"])

    def _served(self, generation: int) -> Facts:
        # Whoever deploys must not take the settings of a generation for its code.
        return {"ok": True, "generation": generation, "preloaded": self._view.settings().preload_app}

    def _conclude(self, generation: int, verdict: Facts) -> None:
        self._verdicts[generation] = verdict
        while len(self._verdicts) > VERDICTS:
            del self._verdicts[min(self._verdicts)]


def _later(phase: object) -> str:
    return f"the server is {phase}; try again when that is over"


def _integer(args: Facts, name: str) -> int:
    value = args.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise Refused(f"{name} must be a whole number")
    return value


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return str(value)
