"""One line of the access log: built, and built and written to a file.

python perf/micro/accesslog.py
"""

from __future__ import annotations

import os
import sys
import tempfile
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent.parent)]

from scenarios import BROWSER  # noqa: E402 -- after the path
from timing import header, measure  # noqa: E402

from threadcorn.accessformat import JSON_DEFAULT, compile_json, compile_text  # noqa: E402
from threadcorn.accesslog import AccessLog, stamp  # noqa: E402
from threadcorn.settings import Settings  # noqa: E402

FIELDS = [("Content-Type", "text/plain"), ("Content-Length", "13")]
ENVIRON = {
    "REMOTE_ADDR": "127.0.0.1",
    "REQUEST_METHOD": "GET",
    "RAW_URI": "/path?page=2",
    "PATH_INFO": "/path",
    "QUERY_STRING": "page=2",
    "SERVER_PROTOCOL": "HTTP/1.1",
    **{"HTTP_" + name.upper().replace("-", "_"): value for name, value in BROWSER},
}
FORMATS = {
    "gunicorn's default format": Settings().access_log_format,
    "short": "%(m)s %(U)s %(s)s %(D)s",
    "common, with a header": '%(h)s %(t)s "%(r)s" %(s)s %(b)s %({x-request-id}i)s',
}


def main() -> None:
    header("access log lines")
    second = stamp(1_000_000)
    values = (ENVIRON, "200 OK", FIELDS, 13, second, 1_000_000.5, 0.0123, None)
    for name, text in FORMATS.items():
        measure(f"build: {name}", partial(compile_text(text, os.getpid), *values))
    evil = {**ENVIRON, "HTTP_USER_AGENT": 'x"\r\n'}
    default = compile_text(FORMATS["gunicorn's default format"], os.getpid)
    measure("build: the default, with a value to be escaped", partial(default, evil, *values[1:]))
    measure("build: JSON", partial(compile_json(JSON_DEFAULT, os.getpid), *values))
    with tempfile.TemporaryDirectory() as folder:
        log = AccessLog(Settings(accesslog=f"{folder}/access.log"))
        record = partial(log.record, ENVIRON, "200 OK", FIELDS, 13, 1_000_000.5, 0.0123)
        measure("build and write: gunicorn's default format", record)
        log.close()


if __name__ == "__main__":
    main()
