"""nginx and HAProxy in front of a server under test: real processes, and what each says that it forwarded.

Every request that a proxy forwards carries an id of the proxy's own in `X-Seq`, and the proxy logs the same
id. So what the application saw can be compared with what was forwarded, request by request.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tests.kit.client import connect
from tests.kit.eventually import eventually

__all__ = ["WAYS", "Logged", "Proxy", "compare"]

_NGINX = """
daemon off;
%(user)s
pid %(directory)s/pid;
error_log %(directory)s/error.log info;
worker_processes 1;
events { worker_connections 512; }
http {
    log_format seen escape=json '{"id":"$request_id","method":"$request_method",'
        '"status":"$status","upstream":"$upstream_status"}';
    access_log %(directory)s/access.log seen;
    client_body_temp_path %(directory)s/body;
    proxy_temp_path %(directory)s/proxy;
    fastcgi_temp_path %(directory)s/fastcgi;
    uwsgi_temp_path %(directory)s/uwsgi;
    scgi_temp_path %(directory)s/scgi;
    upstream site { server %(upstream)s; keepalive 16; }
    server {
        listen unix:%(directory)s/front;
        %(more)s
        location / {
            proxy_pass http://site;
            proxy_http_version 1.1;
            proxy_next_upstream off;
            proxy_set_header Connection "";
            proxy_set_header X-Seq $request_id;
            %(location)s
        }
    }
}
"""

_HAPROXY = """
global
    log stdout format raw local0
defaults
    mode http
    log global
    timeout connect 5s
    timeout client 10s
    timeout server 10s
    timeout http-request 3s
    %(more)s
frontend front
    bind unix@%(directory)s/front
    unique-id-format %%[uuid()]
    unique-id-header X-Seq
    log-format '{"id":"%%ID","method":"%%HM","status":"%%ST","server":"%%s","state":"%%ts"}'
    default_backend site
backend site
    http-reuse always
    server site unix@%(socket)s
"""

#: Ways to be configured: as the documentation of this project says, and as lenient as the proxy can be.
WAYS: dict[str, tuple[str, str, str]] = {
    "nginx": ("nginx", "", "proxy_set_header Host $host;"),
    "nginx-lenient": (
        "nginx",
        "ignore_invalid_headers off; underscores_in_headers on; merge_slashes off; client_max_body_size 0;",
        "proxy_set_header Host $http_host; proxy_request_buffering off;",
    ),
    "haproxy": ("haproxy", "", ""),
    "haproxy-lenient": ("haproxy", "option accept-invalid-http-request", ""),
}


@dataclass(frozen=True)
class Logged:
    """One request in a proxy's log. `upstream` is the status that the server behind it gave, 0 when the proxy
    forwarded the request and had no answer, None when it did not forward it."""

    id: str
    method: str
    status: int
    upstream: int | None


class Proxy:
    """One of `WAYS` in front of the unix socket of a server, as a context manager."""

    def __init__(self, way: str, program: str, upstream: str) -> None:
        self.way = way
        self._kind, more, location = WAYS[way]
        self._program = program
        self._directory = tempfile.TemporaryDirectory(prefix="tc-proxy-")
        values = {
            "directory": self._directory.name,
            "upstream": upstream,
            "socket": upstream.removeprefix("unix:"),
            "user": "user root;" if os.geteuid() == 0 else "",
            "more": more,
            "location": location,
        }
        self._path = Path(self._directory.name)
        text = (_NGINX if self._kind == "nginx" else _HAPROXY) % values
        (self._path / "conf").write_text(text, "utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"unix:{self._path}/front"

    def __enter__(self) -> Proxy:
        conf = str(self._path / "conf")
        command = [self._program, "-f", conf] if self._kind == "haproxy" else [self._program, "-c", conf]
        with open(self._path / "out", "wb") as out, open(self._path / "err", "wb") as err:
            self._process = subprocess.Popen(command, stdout=out, stderr=err, start_new_session=True)
        try:
            eventually(self._reachable, within=15)
        except BaseException:
            self.stop()
            raise
        return self

    def _reachable(self) -> None:
        """the proxy takes connections"""
        assert self._process is not None
        assert self._process.poll() is None, (self._path / "err").read_text("utf-8", "replace")
        try:
            connect(self.address).close()
        except OSError as error:
            raise AssertionError(f"{error}: {(self._path / 'err').read_text('utf-8', 'replace')}") from None

    def stop(self) -> None:
        """End it in order, so that all of its log is written."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGQUIT if self._kind == "nginx" else signal.SIGUSR1)
        try:
            process.wait(15)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(5)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._directory.cleanup()

    def logged(self) -> list[Logged]:
        """All requests of the log. Complete once the proxy has been stopped."""
        path = self._path / ("access.log" if self._kind == "nginx" else "out")
        found = []
        for line in path.read_bytes().decode("utf-8", "backslashreplace").split("\n"):
            if not line.startswith("{"):
                continue
            entry = json.loads(line)
            if self._kind == "nginx":
                said = entry["upstream"]
                upstream = None if said in ("", "-") else int(said) if said.isdecimal() else 0
                if said == "-" and entry["status"] == "499":
                    upstream = 0
            else:
                upstream = None if entry["server"] == "<NOSRV>" else max(0, int(entry["status"]))
                if entry["state"] != "--":
                    upstream = None if upstream is None else 0
            status = int(entry["status"]) if entry["status"].isdecimal() else 0
            found.append(Logged(entry["id"], entry["method"], status, upstream))
        return found


def compare(logged: Iterable[Logged], seen: Sequence[tuple[str, str, str]]) -> tuple[Counter[str], list[str]]:
    """Counts of what became of the requests, and what must not be. `seen`: id, method and URI of each request
    that the application saw."""
    counts: Counter[str] = Counter()
    wrong = []
    forwarded: dict[str, Logged] = {}
    for entry in logged:
        if entry.upstream is None:
            counts["answered by the proxy"] += 1
            continue
        counts["forwarded"] += 1
        if entry.id in forwarded:
            wrong.append(f"the proxy forwarded twice: {entry}")
        forwarded[entry.id] = entry
    times = Counter(entry for entry, _, _ in seen)
    for key, method, uri in seen:
        counts["served"] += 1
        known = forwarded.get(key)
        if known is None:
            wrong.append(f"nobody forwarded {method} {uri} ({key!r})")
        elif times[key] > 1:
            wrong.append(f"seen {times[key]} times: {known}")
        elif known.method != method:
            wrong.append(f"forwarded {known}, seen {method} {uri}")
    for key, entry in forwarded.items():
        if key in times:
            continue
        if entry.upstream in (400, 408, 413, 414, 417, 431, 501, 505):
            counts["refused"] += 1
        elif entry.upstream == 0:
            counts["not completed"] += 1
        elif entry.method == "OPTIONS" and entry.upstream == 200:
            counts["OPTIONS of the server"] += 1
        else:
            wrong.append(f"answered, and not seen: {entry}")
    return counts, wrong
