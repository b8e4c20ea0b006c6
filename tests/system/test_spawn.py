"""Real processes: forked, killed, reaped, told of in words."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from tests.kit import eventually
from threadcorn.errors import BootError
from threadcorn.system import signals, spawn
from threadcorn.system.signals import Sig, SignalReader
from threadcorn.system.spawn import Child, Death


def waited(child: Child) -> Death:
    """The death of this child; others that die meanwhile are not ours."""
    deaths: dict[int, Death] = {}

    def dead() -> bool:
        deaths.update({death.pid: death for death in spawn.reap()})
        return child.pid in deaths

    eventually(dead, what="the child is reaped")
    child.close()
    return deaths[child.pid]


def asleep() -> int:
    signals.become_child()
    while True:
        signal.pause()


@pytest.mark.parametrize("code", [0, 3, 255])
def test_the_exit_code_of_a_child(code):
    """Is what its function returned."""
    death = waited(spawn.fork(lambda: code))
    assert (death.code, death.signal) == (code, None)
    assert death.words() == f"exited with code {code}"


@pytest.mark.parametrize("number", [Sig.SIGTERM, Sig.SIGKILL, Sig.SIGABRT])
def test_a_child_that_is_killed(number):
    """Told by name."""
    child = spawn.fork(asleep)
    # Held back until the child has default dispositions, so there is nothing to wait for.
    assert spawn.kill(child, number)
    death = waited(child)
    assert (death.code, death.signal) == (None, number)
    assert death.words().startswith(f"killed by {number.name}")


def test_killing_the_dead_is_no_error():
    """It says so, with a pidfd and without."""
    child = spawn.fork(lambda: 0)
    pidfd = os.dup(child.pidfd)
    waited(child)
    assert not spawn.kill(Child(child.pid, pidfd), Sig.SIGKILL)
    assert not spawn.kill(Child(child.pid), Sig.SIGKILL)
    os.close(pidfd)


def test_an_exception_in_the_child_stays_there(capfd):
    """It never comes back into the parent's code; its text is on standard error."""
    child = spawn.fork(lambda: 1 // 0)
    assert waited(child).code == 1
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_what_was_printed_before_is_printed_once(capfd):
    """The buffers of the parent are empty when the child gets its copy."""
    sys.stdout.write("once")
    waited(spawn.fork(lambda: 0))
    sys.stdout.flush()
    assert capfd.readouterr().out == "once"


def test_a_signal_for_the_child_never_reaches_its_parents_loop():
    """A TERM that meets it between fork and its own code ends it, and the parent hears CHLD only."""
    reader = SignalReader((Sig.SIGTERM, Sig.SIGCHLD))
    try:
        for _ in range(30):
            child = spawn.fork(asleep)
            spawn.kill(child, Sig.SIGTERM)
            assert waited(child).signal == Sig.SIGTERM
        assert Sig.SIGTERM not in reader.read()
    finally:
        reader.close()


def test_a_booting_child_ignores_what_is_not_for_it():
    """HUP, USR1, USR2, WINCH, TTIN and TTOU to the whole process group do not end it."""
    ready, told = os.pipe()

    def live() -> int:
        signals.become_child()
        os.write(told, b"!")
        while True:
            signal.pause()

    child = spawn.fork(live)
    os.read(ready, 1)
    for number in (Sig.SIGHUP, Sig.SIGUSR1, Sig.SIGUSR2, Sig.SIGWINCH, Sig.SIGTTIN, Sig.SIGTTOU):
        spawn.kill(child, number)
    spawn.kill(child, Sig.SIGINT)
    assert waited(child).signal == Sig.SIGINT
    os.close(ready)
    os.close(told)


def test_after_a_fork_our_own_mask_is_as_before():
    """Signals are held back for the fork only."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    waited(spawn.fork(lambda: 0))
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_everybody_is_reaped_also_grandchildren_that_became_ours(monkeypatch):
    """Several deaths, one call: signals merge."""
    children = [spawn.fork(lambda: 0) for _ in range(5)]
    deaths: set[int] = set()
    eventually(lambda: deaths.update(d.pid for d in spawn.reap()) or len(deaths) >= 5)
    assert deaths >= {child.pid for child in children}
    assert spawn.reap() == []
    for child in children:
        child.close()


def test_alive():
    """We are, and what has ended is not, whether it was reaped or not."""
    child = spawn.fork(lambda: 0)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not spawn.is_alive(child.pid)
    waited(child)
    assert spawn.is_alive(os.getpid())
    assert spawn.is_alive(1)
    assert not spawn.is_alive(child.pid)


def test_the_words_for_memory():
    """Only KILL can be the kernel's."""
    assert "memory" in Death(1, None, 9).words(out_of_memory=True)
    assert "memory" not in Death(1, None, 9).words()
    assert "memory" not in Death(1, None, 11).words(out_of_memory=True)
    assert Death(1, None, 11, dumped=True).words() == "killed by SIGSEGV, core dumped"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
class TestBecome:
    """Another user for good."""

    def ids(self, user, group, *, initgroups=False):
        """(resuid, resgid, groups, could it come back) of a child that became them."""
        reader, writer = os.pipe()

        def live() -> int:
            spawn.become(user, group, initgroups=initgroups)
            back = True
            try:
                os.setuid(0)
            except PermissionError:
                back = False
            text = repr((os.getresuid(), os.getresgid(), sorted(os.getgroups()), back))
            os.write(writer, text.encode())
            return 0

        assert waited(spawn.fork(live)).code == 0
        os.close(writer)
        text = os.read(reader, 4096).decode()
        os.close(reader)
        return eval(text)

    def test_user_and_group(self):
        """All three ids, the groups are replaced, and there is no way back."""
        assert self.ids(65534, 65534) == ((65534,) * 3, (65534,) * 3, [65534], False)

    def test_a_user_alone_brings_its_group(self):
        """Root's group would stay otherwise."""
        import pwd

        primary = pwd.getpwuid(65534).pw_gid
        assert self.ids(65534, None) == ((65534,) * 3, (primary,) * 3, [primary], False)

    def test_a_group_alone(self):
        """The user stays."""
        assert self.ids(None, 65534)[:3] == ((0,) * 3, (65534,) * 3, [65534])

    def test_all_groups_of_the_user(self):
        """As the system's table has them."""
        import pwd

        name = pwd.getpwuid(65534).pw_name
        expected = sorted(set(os.getgrouplist(name, 65534)))
        assert self.ids(65534, 65534, initgroups=True)[2] == expected

    def test_a_number_without_a_name(self):
        """Containers have those."""
        assert self.ids(54321, 54321) == ((54321,) * 3, (54321,) * 3, [54321], False)

    def test_nobody_cannot_become_somebody(self):
        """One sentence: what, and what to do."""

        def live() -> int:
            spawn.become(65534, 65534, initgroups=False)
            try:
                spawn.become(65533, None, initgroups=False)
            except BootError as error:
                return 7 if "start the server as root" in str(error) else 8
            return 9

        assert waited(spawn.fork(live)).code == 7
