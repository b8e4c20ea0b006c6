"""When a dead worker is replaced."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from threadcorn.policy.restart import CAP, FIRST, JITTER, LIMIT, Restart, Tally


def test_the_first_deaths_double_the_wait():
    """0.5, 1, 2, 4 seconds without jitter."""
    restart = Restart(lambda: 0.0)
    assert [restart.delay(n) for n in range(5)] == [0.0, FIRST, 2 * FIRST, 4 * FIRST, 8 * FIRST]


@given(st.integers(-3, 10**9), st.floats(0, 1, exclude_max=True))
def test_never_longer_than_the_cap_and_its_jitter(deaths, chance):
    """However often it died, somebody who mends the cause waits half a minute at most."""
    wait = Restart(lambda: chance).delay(deaths)
    assert 0.0 <= wait <= CAP * (1 + JITTER)


@given(st.integers(1, 60), st.floats(0, 1, exclude_max=True))
def test_never_shorter_than_with_one_death_less(deaths, chance):
    """The wait grows."""
    restart = Restart(lambda: chance)
    assert restart.delay(deaths + 1) >= restart.delay(deaths)


def test_the_tally_counts_within_its_window():
    """Three in ten seconds are too many; three in eleven are not."""
    tally = Tally(3, 10.0)
    assert [tally.add(t) for t in (0.0, 5.0, 11.0)] == [False, False, False]
    assert tally.add(14.0)


def test_workers_that_hang_at_import_are_counted_too():
    """One slot, each try hangs until boot_timeout: the window is long enough to see LIMIT of them."""
    tally = Tally.of_boots(60.0)
    times = [n * (60.0 + CAP) for n in range(LIMIT)]
    assert [tally.add(t) for t in times] == [False] * (LIMIT - 1) + [True]
