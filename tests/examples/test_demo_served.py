from __future__ import annotations

import json

from tests.kit.client import Ended
from tests.kit.server import ServerProcess


def test_the_demo_is_served():
    """What the README's first command gives, page by page and on one connection."""
    with ServerProcess("threadcorn.demo:app") as server, server.connect() as connection:
        page = connection.get("/?q=<script>")
        assert page.status == 200
        assert "&lt;script&gt;" in page.text
        seen = json.loads(connection.get("/json", headers={"X-Test": "caf\xe9"}).body)
        assert seen["Server"]["Worker"] in {f"process {pid}" for pid in server.workers()}
        assert seen["WSGI"]["wsgi.multithread"] == "True"
        assert seen["Request"]["From"].startswith("127.0.0.1:")
        stream = connection.get("/stream?lines=5&ms=1")
        assert stream.ended is Ended.CHUNKED
        assert stream.text.count("\n") == 5
        echo = connection.get("/echo", method="POST", body=[b"in ", b"chunks"])
        assert echo.body == b"in chunks"
        big = connection.get("/echo", method="POST", body=b"x" * ((1 << 20) + 1))
        assert big.status == 413
        assert connection.get("/sleep?ms=5").text.startswith("Slept 5 ms")
