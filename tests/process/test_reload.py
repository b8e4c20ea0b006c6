"""HUP, TTIN and TTOU under load, on every way of listening."""

from __future__ import annotations

import signal

import pytest

from tests.kit import eventually
from tests.process.crowd import Crowd
from tests.process.line import APP, RUNGS, Line, reach


@pytest.mark.parametrize(("bind", "options"), RUNGS)
def test_workers_are_replaced_under_load(bind: str, options: tuple[str, ...]) -> None:
    """No request is lost and no kept connection ends; afterwards every answer is the new code's."""
    with Line("--workers", "2", *options, bind=bind) as server, Crowd(reach(server)) as crowd:
        for number, version in enumerate(("the second", "and a third"), start=1):
            server.deploy(APP.format(version=version))
            server.tell(signal.SIGHUP)
            server.logged("Reloaded: generation", number)
            crowd.more(30)
            assert server.get(address=reach(server)).body.decode().startswith(version)
        for number, (signum, workers) in enumerate(
            ((signal.SIGTTIN, 3), (signal.SIGTTIN, 4), (signal.SIGTTOU, 3), (signal.SIGTTOU, 2))
        ):
            server.tell(signum)
            server.logged("Number of workers", number + 1)
            eventually(lambda wanted=workers: len(server.children()) == wanted, within=20)
            crowd.more(20)
        crowd.end()
        assert not crowd.lost, crowd.lost
        assert not crowd.closed
        assert not crowd.refused


def test_a_broken_deploy_under_load_is_not_noticed() -> None:
    """The canary dies; nobody outside sees it, and the log says why."""
    with Line("--workers", "2") as server, Crowd(reach(server)) as crowd:
        before = server.children()
        server.deploy("raise RuntimeError('a deploy that went wrong')\n")
        server.tell(signal.SIGHUP)
        server.logged("Reload failed, generation 1 serves on")
        assert "a deploy that went wrong" in server.log
        crowd.more(30)
        crowd.end()
        assert server.children() == before
        assert not crowd.lost, crowd.lost
        assert not crowd.closed
