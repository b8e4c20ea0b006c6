from __future__ import annotations

import json

from tests.examples.driving import EXAMPLES
from tests.kit.server import ServerProcess


def test_an_application_that_brings_its_own_server():
    """The example as it is, but for the address and the ready descriptor, which every test needs."""
    script = (EXAMPLES / "standalone_app.py").read_text(encoding="utf-8")
    ready = '"ready_fd": os.environ.get("READY_FD"),\n            "workers": 2,'
    changed = script.replace('"workers": 2,', ready)
    assert changed != script
    with ServerProcess(script=changed) as server:
        answer = json.loads(server.get("/some/path").body)
        assert answer["path"] == "/some/path"
        assert answer["worker"] in server.workers()
        assert len(server.workers()) == 2
        for age in (1, 2):
            assert f"About to start worker {age}" in server.log
