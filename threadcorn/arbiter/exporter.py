"""The admin address: probes, metrics, status and a page, answered by the arbiter's own loop.

Never a pool thread: a probe that shares the application's threads fails exactly when it is needed. GET and
HEAD only, nothing can be changed here, and nothing is read beyond the head of a request.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus

from threadcorn.arbiter.desk import Answer
from threadcorn.arbiter.families import families
from threadcorn.arbiter.view import View
from threadcorn.errors import ProtocolViolation
from threadcorn.http1.memory import Memory
from threadcorn.http1.parser import HeadParser, Limits
from threadcorn.metrics import OPENMETRICS, TEXT, render
from threadcorn.policy.health import SILENT

__all__ = ["Exporter"]

_PAGES = os.path.join(os.path.dirname(os.path.dirname(__file__)), "web")
_TYPES = {"html": "text/html; charset=utf-8", "css": "text/css; charset=utf-8",
          "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}  # fmt: skip
_JSON = "application/json"
# The page loads nothing from elsewhere, and nobody may put it into a frame.
_GUARDS = (
    "Cache-Control: no-store\r\n"
    "X-Content-Type-Options: nosniff\r\n"
    "Content-Security-Policy: default-src 'self'; frame-ancestors 'none'\r\n"
)


class Exporter:
    """An HTTP service for the desk."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._parser = HeadParser(Limits(), Memory({}))
        self._routes: dict[str, Callable[[str], tuple[int, str, bytes]]] = {
            "/livez": self._livez,
            "/readyz": self._readyz,
            "/metrics": self._metrics,
            "/status": self._status,
        }
        for name in ("index.html", "style.css", "page.js"):
            self._routes["/" if name == "index.html" else f"/{name}"] = self._page(name)

    def admit(self, sock: socket.socket) -> bool:
        return True

    def answer(self, data: bytes) -> Answer | None:
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            return None
        head = data.startswith(b"HEAD ")
        try:
            request = self._parser.parse(data[:end])
        except ProtocolViolation as violation:
            return self._reply(violation.status, _JSON, _json({"error": violation.reason}), end, head=head)
        environ = request.environ
        if request.method not in ("GET", "HEAD"):
            return self._reply(405, _JSON, _json({"error": "GET or HEAD"}), end, extra="Allow: GET, HEAD\r\n")
        if request.length:
            return self._reply(413, _JSON, _json({"error": "no body is read here"}), end, head=head)
        route = self._routes.get(str(environ["PATH_INFO"]))
        if route is None:
            status, kind = 404, _JSON
            body = _json({"error": "there is /livez /readyz /metrics /status and /"})
        else:
            status, kind, body = route(str(environ.get("HTTP_ACCEPT", "")))
        return self._reply(status, kind, body, end, keep=request.keep, head=head)

    def _reply(
        self,
        status: int,
        kind: str,
        body: bytes,
        used: int,
        *,
        keep: bool = False,
        head: bool = False,
        extra: str = "",
    ) -> Answer:
        text = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
            f"Date: {formatdate(usegmt=True)}\r\n"
            f"Content-Type: {kind}\r\n"
            f"Content-Length: {len(body)}\r\n{extra}{_GUARDS}"
            f"Connection: {'keep-alive' if keep else 'close'}\r\n\r\n"
        )
        return Answer(text.encode() + (b"" if head else body), used, keep)

    # -- routes

    def _livez(self, _: str) -> tuple[int, str, bytes]:
        """The arbiter's loop goes round: that is what a restart of the whole could repair. Sick workers are
        its own business; they are named, so that a person sees the truth here as well."""
        view = self._view
        silent = [facts["pid"] for facts in view.workers() if (facts["heartbeat_age"] or 0.0) > SILENT]
        body = {"alive": True, "phase": view.supervisor.phase.value, "silent_workers": silent}
        return 200, _JSON, _json(body)

    def _readyz(self, _: str) -> tuple[int, str, bytes]:
        ready = self._view.readiness()
        body = {
            "ready": ready.ready,
            "reasons": list(ready.reasons),
            "workers": [
                {name: facts.get(name) for name in ("slot", "pid", "state", "verdict", "reason")}
                for facts in self._view.workers()
            ],
        }
        return 200 if ready.ready else 503, _JSON, _json(body)

    def _metrics(self, accept: str) -> tuple[int, str, bytes]:
        openmetrics = "application/openmetrics-text" in accept
        text = render(families(self._view), openmetrics=openmetrics)
        return 200, OPENMETRICS if openmetrics else TEXT, text

    def _status(self, _: str) -> tuple[int, str, bytes]:
        status = self._view.status()
        for row in (*status["requests"], *status["finished"]):
            # Nobody is asked who he is here, and queries have secrets in them.
            path, mark, _ = row["path"].partition("?")
            row["path"] = f"{path}?..." if mark else path
        return 200, _JSON, _json(status)

    def _page(self, name: str) -> Callable[[str], tuple[int, str, bytes]]:
        with open(os.path.join(_PAGES, name), "rb") as file:
            body = file.read()
        kind = _TYPES[name.rpartition(".")[2]]
        return lambda _: (200, kind, body)


def _json(body: object) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode() + b"\n"
