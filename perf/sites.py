"""The example sites under load: every page, form, upload and stream, and every answer looked at.

    python perf/sites.py                  both sites, 10 s a page, with 2 workers and 8 threads
    python perf/sites.py --seconds 3 --rounds 2 flask

wrk drives one page after the other; a script in it compares status and body of each answer. At the end the
database must hold what was answered. The exit code is 1 if anything was lost or wrong.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from running import ROOT, Running, free_port, need, running

CLIENTS = 32
FORM = "application/x-www-form-urlencoded"
PICTURE = bytes(range(256)) * 400  # 100 KiB: more than one read
BOUNDARY = "--------------------------sites"

LUA = """
wrk.method = %(method)s
wrk.body = %(body)s
%(headers)s
local threads = {}
function setup(thread) table.insert(threads, thread) end
function init() wrong = 0; right = 0 end
function response(status, headers, body)
  if status == %(status)d and string.find(body, %(mark)s, 1, true) then right = right + 1
  else
    if wrong == 0 then io.write("WRONG ", status, " ", string.sub(body, 1, 300), "\\n") end
    wrong = wrong + 1
  end
end
function done()
  local r, w = 0, 0
  for _, thread in ipairs(threads) do r = r + thread:get("right"); w = w + thread:get("wrong") end
  io.write("RIGHT ", r, " OTHERS ", w, "\\n")
end
"""


@dataclass(frozen=True)
class Page:
    """One request, and what its answer must be."""

    path: str
    mark: str  # in the body
    status: int = 200
    kind: str = ""
    body: bytes = b""
    cookie: str = ""
    adds: bool = False  # a row for each answer


def multipart(fields: dict[str, str], name: str) -> bytes:
    """A form with a file."""
    parts = [f'name="{key}"\r\n\r\n{value}'.encode() for key, value in fields.items()]
    parts.append(f'name="{name}"; filename="p.bin"\r\nContent-Type: image/x-own\r\n\r\n'.encode() + PICTURE)
    lead = f"--{BOUNDARY}\r\nContent-Disposition: form-data; ".encode()
    return b"".join(lead + part + b"\r\n" for part in parts) + f"--{BOUNDARY}--\r\n".encode()


def quoted(data: bytes | str) -> str:
    """A string of Lua's."""
    data = data.encode() if isinstance(data, str) else data
    return '"' + "".join(f"\\{byte:03d}" for byte in data) + '"'


def flask_pages(_: Running) -> list[Page]:
    """Streams before forms: a table that grows makes its own export slower."""
    return [
        Page("/", "Guest book"),
        Page("/count", '"entries":'),
        Page("/report.csv", "id,name,text\n"),
        Page("/upload", hashlib.sha256(PICTURE).hexdigest(),
             kind=f"multipart/form-data; boundary={BOUNDARY}", body=multipart({}, "file")),
        Page("/sign", "Redirecting", 303, FORM, b"name=wrk&text=%3C%26%3E", adds=True),
    ]  # fmt: skip


def django_pages(server: Running) -> list[Page]:
    """The token of a form belongs to a cookie, as in a browser."""
    with urlopen(f"http://127.0.0.1:{server.port}/") as answer:
        cookie = answer.headers["Set-Cookie"].partition(";")[0]
        match = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', answer.read().decode())
    assert match is not None
    fields = {"csrfmiddlewaretoken": match[1], "title": "wrk", "text": "<&>"}
    # One note with a file, for the download.
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    first = multipart(fields, "attachment")
    headers = {"Content-Type": kind, "Cookie": cookie}
    with urlopen(Request(f"http://127.0.0.1:{server.port}/new/", first, headers)) as answer:
        assert answer.status == 200
    return [
        Page("/", "csrfmiddlewaretoken"),
        Page("/count/", '"notes":'),
        Page("/notes.csv", "id,title,text\r\n"),
        Page("/1/file/", PICTURE[:64].decode("latin-1")),
        Page("/new/", "", 302, kind, first, cookie, adds=True),
        Page("/new/", "", 302, FORM, urlencode(fields).encode(), cookie, adds=True),
    ]


def drive(server: Running, page: Page, seconds: int, scratch: Path) -> tuple[int, str]:
    """Answers that were right, and what was not ('' if nothing)."""
    headers = {"Content-Type": page.kind, "Cookie": page.cookie}
    lines = [f"wrk.headers[{quoted(k)}] = {quoted(v)}" for k, v in headers.items() if v]
    script = scratch / "page.lua"
    script.write_text(
        LUA
        % {
            "method": quoted("POST" if page.body else "GET"),
            "body": quoted(page.body) if page.body else "nil",
            "headers": "\n".join(lines),
            "status": page.status,
            "mark": quoted(page.mark.encode("latin-1")),
        },
        encoding="ascii",
    )
    url = f"http://127.0.0.1:{server.port}{page.path}"
    command = [need("wrk", "wrk"), "-t2", f"-c{CLIENTS}", f"-d{seconds}s", "--timeout", "30s"]
    done = subprocess.run([*command, "-s", str(script), url], capture_output=True, text=True, check=True)
    counts = re.search(r"RIGHT (\d+) OTHERS (\d+)", done.stdout)
    assert counts is not None, done.stdout
    troubles = re.findall(r"Socket errors:.*|Non-2xx or 3xx responses:.*|WRONG .*", done.stdout)
    if int(counts[2]):
        troubles.append(f"{counts[2]} answers were not as they must be")
    return int(counts[1]), "; ".join(troubles)


def entries(server: Running, path: str) -> int:
    """Rows in the table, once what wrk has left behind is done."""
    before = -1
    while True:
        now = int(next(iter(json.loads(server.get(path, within=30.0)).values())))
        if now == before:
            return now
        before = now
        time.sleep(0.3)


def site(name: str, seconds: int) -> bool:
    """One round of one site; whether all was right."""
    good = True
    with tempfile.TemporaryDirectory(prefix="tc-sites-") as scratch:
        port = free_port()
        env = {**os.environ, "GUESTS_DB": f"{scratch}/guests.db", "NOTES_DATA": scratch}
        env["NOTES_HOSTS"] = "test"  # what Running.get calls us
        where = ROOT / "examples" / f"{name}_site"
        if name == "django":
            migrate = [sys.executable, "manage.py", "migrate", "-v0"]
            subprocess.run(migrate, cwd=where, env=env, check=True)
        target = "app:app" if name == "flask" else "project.wsgi:application"
        command = [sys.executable, "-m", "threadcorn", "--chdir", str(where), "-b", f"127.0.0.1:{port}"]
        command += ["--workers", "2", "--threads", "8", target]
        with running(command, port=port, env=env, core=None) as server:
            pages = flask_pages(server) if name == "flask" else django_pages(server)
            counter = "/count" if name == "flask" else "/count/"
            for page in pages:
                before = entries(server, counter)
                right, trouble = drive(server, page, seconds, Path(scratch))
                grown = entries(server, counter) - before
                # When wrk ends it leaves a request of each client unanswered; those were run as well.
                if page.adds and not right <= grown <= right + CLIENTS:
                    trouble = f"{trouble}; {right} were answered, {grown} are in the table".lstrip("; ")
                what = f"{'POST' if page.body else 'GET'} {page.path} {page.kind.partition(';')[0]}"
                print(f"{name:7} {what:45} {right:7} right, {trouble or 'nothing else'}", flush=True)
                good = good and not trouble and right > 0
            log = server.text()
            for word in ("ERROR", "CRITICAL", "Traceback"):
                if word in log:
                    good = False
                    print(f"{name:7} the log has {word}:\n{log[-3000:]}")
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("site", nargs="*", default=["flask", "django"])
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    results = [site(name, given.seconds) for _ in range(given.rounds) for name in given.site]
    print("all right" if all(results) else "NOT all right")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
