"""Signals become bytes, and bytes become numbers; a child has none of its parent's."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

import pytest

from threadcorn.system import signals
from threadcorn.system.signals import (
    ARBITER_SIGNALS,
    TABLE,
    WORKER_IGNORED,
    WORKER_SIGNALS,
    Order,
    Sig,
    SignalReader,
)


@pytest.fixture
def reader():
    reader = SignalReader((Sig.SIGUSR1, Sig.SIGUSR2, Sig.SIGTERM, Sig.SIGTTIN))
    yield reader
    reader.close()


def test_a_signal_wakes_and_names_itself(reader):
    """The descriptor becomes readable, and the number is what was sent."""
    assert reader.read() == []
    os.kill(os.getpid(), signal.SIGUSR1)
    assert select.select([reader], [], [], 5.0)[0]
    assert reader.read() == [Sig.SIGUSR1]
    assert reader.read() == []


def test_different_signals_keep_their_order(reader):
    """As far as the kernel delivers them one by one."""
    for number in (signal.SIGUSR2, signal.SIGTERM, signal.SIGUSR1):
        os.kill(os.getpid(), number)
    assert reader.read() == [signal.SIGUSR2, signal.SIGTERM, signal.SIGUSR1]


def test_a_flood_of_signals_neither_blocks_nor_loses_the_last_kind(reader):
    """More than the pair holds: the process goes on, and is awake."""
    for _ in range(20_000):
        os.kill(os.getpid(), signal.SIGUSR1)
    assert reader.read() == [Sig.SIGUSR1]
    os.kill(os.getpid(), signal.SIGTERM)
    assert reader.read() == [Sig.SIGTERM]


def test_what_came_several_times_is_told_once_unless_it_counts(reader):
    """Two TERM are one; two TTIN are two workers."""
    for number in (signal.SIGTTIN, signal.SIGTERM, signal.SIGTTIN, signal.SIGTERM, signal.SIGUSR2):
        os.kill(os.getpid(), number)
    assert reader.read() == [signal.SIGTTIN, signal.SIGTERM, signal.SIGTTIN, signal.SIGUSR2]


def test_a_signal_of_somebody_elses_is_not_told(reader):
    """The interpreter writes every signal that has a handler in Python to the one wake-up descriptor."""
    before = signal.signal(signal.SIGALRM, lambda number, frame: None)
    try:
        os.kill(os.getpid(), signal.SIGALRM)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert reader.read() == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGALRM, before)


def test_closing_puts_back_what_was_there():
    """A program that embeds us lives on with its own handlers."""
    seen = []
    before = signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
    try:
        reader = SignalReader((Sig.SIGUSR1,))
        reader.close()
        os.kill(os.getpid(), signal.SIGUSR1)
        assert seen == [1]
        assert signal.set_wakeup_fd(-1) == -1
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_closing_for_the_end_makes_deaf():
    """What comes in the last moments of a process does not change how it ends."""
    before = signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    try:
        SignalReader((Sig.SIGUSR1,)).close(deaf=True)
        os.kill(os.getpid(), signal.SIGUSR1)  # would end this process
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_signals_that_were_blocked_by_our_parent_are_heard():
    """A mask survives exec; a server that nobody can stop does not."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        reader = SignalReader((Sig.SIGUSR1,))
        os.kill(os.getpid(), signal.SIGUSR1)
        assert reader.read() == [Sig.SIGUSR1]
        reader.close()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})


ALL_AT_ONCE = """
import os
from threadcorn.system.signals import {numbers}, SignalReader, block_all, restore
reader = SignalReader({numbers}{early})
mask = block_all()
for number in {numbers}:
    os.kill(os.getpid(), number)
restore(mask)
{listen}
print(sorted(reader.read()) == sorted({numbers}))
"""


@pytest.mark.parametrize("early", [False, True])
def test_all_signals_at_once_fit_on_the_stack_of_faulthandler(early):
    """They are delivered one inside of the other; what overflows is killed without a word."""
    how = {"numbers": "ARBITER_EARLY" if early else "ARBITER_SIGNALS"}
    how |= {"early": ", early=ARBITER_EARLY" if early else "", "listen": "reader.listen()" if early else ""}
    command = [sys.executable, "-X", "faulthandler", "-c", ALL_AT_ONCE.format(**how)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (0, "True\n"), done


def test_the_sets_come_from_the_table():
    """And cover it: what a worker neither obeys nor ignores would end it."""
    assert set(ARBITER_SIGNALS) == {n for n, row in TABLE.items() if row.arbiter}
    assert {*WORKER_SIGNALS, *WORKER_IGNORED, Sig.SIGABRT, Sig.SIGCHLD} == set(TABLE)
    assert Sig.SIGHUP in WORKER_IGNORED
    assert {row.arbiter for row in TABLE.values()} >= set(Order) - {Order.ABORT}


def test_names():
    """Also of numbers that have none."""
    assert signals.name_of(15) == "SIGTERM"
    assert signals.name_of(60) == "signal 60"
