"""The application of the catalogue, and a line in the file CATALOGUE_SEEN for each request that it gets."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable

from tools.catalogue.app import Environ, Start
from tools.catalogue.app import app as misbehaving

SEEN = os.open(os.environ["CATALOGUE_SEEN"], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def app(environ: Environ, start: Start) -> Iterable[bytes]:
    entry = (environ.get("HTTP_X_SEQ", ""), environ["REQUEST_METHOD"], environ["RAW_URI"])
    os.write(SEEN, (json.dumps(entry) + "\n").encode())
    return misbehaving(environ, start)
