"""The exception tree, and what a person reads at the end of a process."""

from __future__ import annotations

import pytest

from tests.kit.descriptors import room_for
from threadcorn.errors import (
    BootError,
    ConfigError,
    ExitCode,
    InternalError,
    ProtocolViolation,
    ThreadcornError,
    explain,
    traceback_text,
)
from threadcorn.settings import values
from threadcorn.system.poller import EdgePoller


def test_every_exit_code_has_a_sentence() -> None:
    assert [code.value for code in ExitCode] == [0, 1, 2, 3, 4, 5]
    assert all(code.sentence for code in ExitCode)


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ConfigError(["a", "b"]), ExitCode.USAGE, "a\nb"),
        (ConfigError("a"), ExitCode.USAGE, "a"),
        (BootError("port 80: permission denied", "start as root"), ExitCode.BOOT_FAILED,
         "port 80: permission denied\nstart as root"),
        (BootError("x", exit_code=ExitCode.TOO_MANY_DEATHS), ExitCode.TOO_MANY_DEATHS, "x"),
        (InternalError("x"), ExitCode.INTERNAL, "x (this is a fault of threadcorn; please report it)"),
        (ProtocolViolation(400, "no"), ExitCode.INTERNAL, "400: no"),
    ],
)  # fmt: skip
def test_our_own_errors_are_sentences(error: ThreadcornError, code: int, text: str) -> None:
    assert explain(error) == (code, text)


def test_problems_are_kept_apart() -> None:
    assert ConfigError(["a", "b"]).problems == ["a", "b"]


def test_what_our_own_code_raised_is_whole_and_asks_to_be_reported() -> None:
    with pytest.raises(AttributeError) as caught:
        values.parse_value(None, 1)  # type: ignore[arg-type]
    code, text = explain(caught.value)
    assert code == ExitCode.INTERNAL
    assert "values.py" in text and "please report" in text


def test_a_limit_on_descriptors_is_nobodys_fault() -> None:
    """It can strike anywhere; the traceback alone would not say what to do."""
    with room_for(0), pytest.raises(OSError) as caught:
        EdgePoller()
    code, text = explain(caught.value)
    assert code == ExitCode.BOOT_FAILED
    assert "poller.py" in text and "ulimit -n" in text and "please report" not in text


def test_a_ring_of_contexts_ends() -> None:
    one, two = ValueError("one"), ValueError("two")
    one.__context__, two.__context__ = two, one
    assert "one" in traceback_text(one)


def test_frames_before_and_of_ours_are_cut_but_not_those_the_application_calls() -> None:
    class Odd:
        def __fspath__(self) -> str:
            # The application, called by us, calls us.
            return values.text(3)

    with pytest.raises(ValueError, match="expected text, got 3") as caught:
        values.text(Odd())
    frames = [line for line in traceback_text(caught.value).splitlines() if line.startswith("  File")]
    assert [frame.rpartition(" in ")[2] for frame in frames] == ["__fspath__", "text"]
