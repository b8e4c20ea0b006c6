"""The sentences of the log."""

from __future__ import annotations

import logging
import string

import pytest

from tests.stateful.supervisor_world import World
from threadcorn.arbiter.notes import SENTENCES, render
from threadcorn.policy import events as e
from threadcorn.policy.events import Note, What

MADE_HERE = {"pid", "text", "replaced", "how"}


def test_there_is_a_sentence_for_everything():
    """And none for what cannot happen."""
    assert set(SENTENCES) == set(What)


@pytest.mark.parametrize("what", What)
def test_a_sentence_is_one_sentence(what):
    """With a level, and no line end of its own."""
    level, sentence = SENTENCES[what]
    assert logging.getLevelName(level) in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
    assert "\n" not in sentence


def stories():
    """Every note that a few lives of a supervisor bring."""
    world = World(target=2).serving()
    world.reload()
    world.failed(3, text="SyntaxError")
    world.reload()
    world.reload()
    world.everybody_boots()
    world.recycle(world.in_state("ready")[0])
    world.everybody_boots()
    world.tell(e.ScaleAsked(1))
    world.tell(e.ScaleAsked(-1))
    world.everybody_boots()
    world.tell(e.ScaleAsked(-5))
    world.tell(e.ScaleAsked(-5))
    world.tell(e.UpgradeAsked())
    world.tell(e.RetireAsked())
    world.successor = False
    world.tell(e.SuccessorFailed("it died"))
    world.everybody_boots()
    world.pass_time(5.0)
    world.exited(world.in_state("ready")[0], "killed by SIGSEGV")
    age = world.booting()[0]
    world.failed(age, text="no database")
    world.pass_time(5.0)
    world.ready(world.booting()[0])
    world.judged(world.in_state("ready")[0])
    world.pass_time(5.0)
    world.everybody_boots()
    world.judged(world.in_state("ready")[0], e.Verdict.KILL)
    world.pass_time(5.0)
    world.everybody_boots()
    world.tell(e.RetireAsked())
    world.tell(e.ScaleAsked(1))
    world.everybody_boots()
    world.tell(e.StopAsked(quick=False))
    world.tell(e.StopAsked(quick=True))
    world.pass_time(10.0)
    yield from world.commands
    world = World(target=1).start()
    world.failed(1)
    yield from world.commands
    world = World(target=1).serving()
    world.tell(e.UpgradeAsked())
    world.tell(e.SuccessorReady())
    yield from world.commands
    world = World(target=2).serving()
    world.reload()
    world.ready(3)
    world.exited(1)
    while world.sup.phase is e.Phase.RELOAD:
        world.failed(world.booting()[0])
        world.pass_time(40.0)
    yield from world.commands


NOTES = [command for command in stories() if isinstance(command, Note)]


@pytest.mark.parametrize("what", What)
def test_a_note_has_what_its_sentence_needs(what):
    """Each field that stands in braces was given, in every story, and nothing in braces is left."""
    notes = [note for note in NOTES if note.what is what]
    assert notes, "no story has it: add one"
    wanted = {name for _, name, _, _ in string.Formatter().parse(SENTENCES[what][1]) if name} - MADE_HERE
    for note in notes:
        assert wanted <= set(note.fields), note
        _, text = render(note, 4711)
        assert "{" not in text
        if "{pid}" in SENTENCES[what][1]:
            assert "4711" in text
            assert note.age is not None


def test_what_a_worker_said_stands_below_the_line():
    """So that a traceback does not begin in the middle of a sentence."""
    note = Note(
        What.RELOAD_FAILED,
        1,
        {"generation": 1, "failed": 2, "cause": "exited with code 3", "text": "Trace\nback\n"},
    )
    assert render(note, 5)[1].endswith("exited with code 3\nTrace\nback")


@pytest.mark.parametrize(("wait", "words"), [(0.0, "at once"), (1.26, "in 1.3 s"), (None, "not replaced")])
def test_when_a_crashed_worker_is_replaced(wait, words):
    """At once, later, or not at all."""
    note = Note(What.WORKER_CRASHED, 1, {"slot": 0, "cause": "killed by SIGSEGV", "wait": wait})
    assert words in render(note)[1]
