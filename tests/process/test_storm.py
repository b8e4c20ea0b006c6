"""Signals at random: afterwards there are as many workers as wanted, no zombie, no descriptor too many."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter

import psutil
import pytest

from tests.kit import eventually
from tests.kit.processes import freeze
from tests.process.crowd import Crowd
from tests.process.line import RUNGS, Line, lives, reach

KINDS = (signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD)
# HUP and USR2 answered, each takes a good part of a second on a busy machine.
WEIGHTS = (3, 4, 4, 6, 1, 6)


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def storm(server: Line, seconds: float, seed: int) -> Counter[str]:
    """Signals to whoever serves, for so long."""
    dice = random.Random(seed)
    sent: Counter[str] = Counter()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        number = dice.choices(KINDS, WEIGHTS)[0]
        server.serving = server.named() or server.serving
        try:
            server.tell(number)
        except ProcessLookupError:
            continue  # it has just handed over
        sent[signal.Signals(number).name] += 1
        time.sleep(dice.expovariate(25))
    return sent


def calm(server: Line) -> None:
    """One arbiter, and no transition under way."""

    def quiet() -> None:
        server.serving = server.named()
        arbiters = [pid for pid in server.everybody() if "arbiter" in server.role(pid)]
        assert arbiters == [server.serving]
        assert len(server.children()) == server.wanted()

    eventually(quiet, within=40)


class Stormy(Line):
    def everybody(self) -> list[int]:
        return [process.pid for process in self._session()]

    def role(self, pid: int) -> str:
        """A worker is whoever has a parent among us, and no children."""
        try:
            process = psutil.Process(pid)
            worker = process.ppid() in self.everybody() and not process.children()
        except psutil.NoSuchProcess:
            return "gone"
        return "worker" if worker else "arbiter"

    def wanted(self) -> int:
        """As the arbiter has it: what it logged last."""
        found = 2
        for line in self.log.splitlines():
            if f"[{self.serving}]" in line and "Number of workers: " in line:
                found = int(line.partition("Number of workers: ")[2].split()[0])
        return found


def weather(bind: str, options: tuple[str, ...], seconds: float, seed: int) -> None:
    # The queue stands when the machine is busy, and is not to be refused in words here.
    flags = ("--workers", "2", "--max-workers", "5", "--queue-target", "0", *options)
    with Stormy(*flags, bind=bind) as server:
        before = open_files(server.serving)
        with Crowd(reach(server), keep=2, fresh=2) as crowd:
            sent = storm(server, seconds, seed)
            calm(server)
            crowd.more(20)
        print(f"seed {seed}: {dict(sent)}, answered {crowd.answered}, closed {crowd.closed}")
        assert not crowd.lost, (seed, crowd.lost)
        assert not crowd.refused
        # Two workers again, as at the beginning: then the numbers can be compared.
        while (more := server.wanted() - 2) != 0:
            server.tell(signal.SIGTTOU if more > 0 else signal.SIGTTIN)
            eventually(lambda now=more + 2: server.wanted() != now)
        eventually(lambda: len(server.children()) == 2, within=20)

        def all_reaped() -> None:
            """no zombie is left"""
            children = psutil.Process(server.serving).children()
            assert not [child.pid for child in children if not lives(child.pid)]

        eventually(all_reaped, within=30)  # a HUP alone takes the arbiter seconds on a machine that is full
        eventually(lambda: open_files(server.serving) <= before + 1, within=30)
        assert "Traceback" not in server.log
        server.end()


def test_all_at_once_kill_nobody() -> None:
    """What comes while a process is not run is delivered in one moment, one signal inside of the other."""
    with Line("--workers", "1", check_descriptors=False) as server:
        freeze(server.serving)
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGCHLD,
                       signal.SIGTERM, signal.SIGQUIT, signal.SIGINT):  # fmt: skip
            server.tell(number)
        os.kill(server.serving, signal.SIGCONT)
        assert server.wait(within=40) == 0


@pytest.mark.parametrize(("bind", "options"), RUNGS[:3])
def test_a_short_storm(bind: str, options: tuple[str, ...]) -> None:
    """Ten seconds in all."""
    weather(bind, options, 5.0, seed=7)


@pytest.mark.long
@pytest.mark.limit(300)
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(("bind", "options"), RUNGS)
def test_a_long_storm(bind: str, options: tuple[str, ...], seed: int) -> None:
    """A minute each."""
    weather(bind, options, 60.0, seed)
