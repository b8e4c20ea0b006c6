"""Whose heart is silent."""

from __future__ import annotations

from types import SimpleNamespace

from threadcorn.arbiter.pulse import AWAY, PERIOD, Pulse
from threadcorn.policy.cells import HEARTBEAT


def worker(beat):
    return SimpleNamespace(page=SimpleNamespace(cells={HEARTBEAT: int(beat * 1e9)}))


def test_a_silent_heart_is_seen():
    """With how long it has been silent."""
    well, ill = worker(99.9), worker(60.0)
    [(found, seconds)] = Pulse().silent([well, ill], 100.0, 30.0)
    assert found is ill
    assert seconds == 40.0


def test_a_worker_that_boots_has_no_heart_yet():
    """Its limit is boot_timeout."""
    assert Pulse().silent([worker(0)], 100.0, 30.0) == []


def test_no_limit():
    """timeout 0 is never."""
    assert Pulse().silent([worker(1.0)], 100_000.0, 0.0) == []


def test_not_more_often_than_it_must():
    """Between two rounds nobody is looked at."""
    pulse = Pulse()
    assert len(pulse.silent([worker(1.0)], 100.0, 30.0)) == 1
    assert pulse.silent([worker(1.0)], 100.0 + PERIOD / 2, 30.0) == []
    assert len(pulse.silent([worker(1.0)], 100.0 + PERIOD, 30.0)) == 1


def test_after_we_were_away_ourselves_everybody_is_spared_once():
    """A suspended machine, a debugger: the workers were away as well."""
    pulse = Pulse()
    pulse.silent([worker(100.0)], 100.0, 3.0)
    back = 100.0 + PERIOD + AWAY + 1.0
    assert pulse.silent([worker(100.0)], back, 3.0) == []
    assert len(pulse.silent([worker(100.0)], back + PERIOD, 3.0)) == 1
