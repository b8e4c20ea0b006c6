"""Calling what the user gave us."""

from __future__ import annotations

import logging

import pytest

from threadcorn.arbiter import hooks
from threadcorn.errors import BootError, ExitCode

LOG = logging.getLogger("tests.hooks")


def test_no_hook():
    """Not set is not called."""
    hooks.call(LOG, "on_exit", None, 1)


def test_arguments():
    """As they are."""
    seen = []
    hooks.call(LOG, "nworkers_changed", lambda *args: seen.append(args), "server", 2, None)
    assert seen == [("server", 2, None)]


@pytest.mark.parametrize("error", [ValueError("wrong"), SystemExit(3)])
def test_what_it_raises_is_logged(caplog, error):
    """By the name of the hook, with the traceback; sys.exit() too."""

    def hook(server):
        raise error

    hooks.call(LOG, "on_reload", hook, None)
    assert "on_reload" in caplog.text
    assert type(error).__name__ in caplog.text


@pytest.mark.parametrize("code", [0, 7, None])
def test_sys_exit_in_on_starting_is_a_refusal(code):
    """No slip of the pen: a lock that another server has, a directory that must not be there."""

    def hook(server):
        raise SystemExit(code)

    with pytest.raises(BootError, match=r"on_starting .*sys\.exit") as caught:
        hooks.call(LOG, "on_starting", hook, None)
    assert caught.value.exit_code == ExitCode.BOOT_FAILED


def test_what_must_not_be_stopped_is_not():
    """A KeyboardInterrupt is not the hook's."""

    def hook(server):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hooks.call(LOG, "on_reload", hook, None)
