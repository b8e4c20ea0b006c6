from __future__ import annotations

from signal import SIGHUP

from tests.examples.driving import EXAMPLES
from tests.kit.eventually import eventually
from tests.kit.server import ServerProcess

IN_ORDER = ("on_starting", "when_ready", "pre_fork", "post_fork", "post_worker_init")


def test_every_hook_of_the_example_is_called_at_its_time():
    with ServerProcess(
        "threadcorn.demo:app", "-c", str(EXAMPLES / "hooks.conf.py"), "--log-level", "debug"
    ) as server:
        first = server.log
        places = [first.index(f"hook: {name}") for name in IN_ORDER]
        assert places == sorted(places)
        assert server.get("/text").status == 200
        eventually(lambda: "hook: post_request GET /text, 200 OK" in server.log)
        assert "hook: pre_request GET /text" in server.log
        server.signal(SIGHUP)
        eventually(lambda: "Reloaded" in server.log, within=30.0)
        assert "hook: on_reload" in server.log
        eventually(lambda: server.log.count("hook: child_exit") == 2)
        assert server.log.count("hook: worker_exit") == 2
        assert server.stop() == 0
        assert "hook: on_exit" in server.log
