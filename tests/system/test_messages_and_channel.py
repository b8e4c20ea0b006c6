"""Messages survive the channel; nothing else does; the end of a peer is seen."""

from __future__ import annotations

import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from threadcorn import messages
from threadcorn.errors import InternalError
from threadcorn.messages import MAX_PACKET, Drain, Failed, Hello, Quit, Ready, RecycleMe, decode, encode
from threadcorn.system.channel import MAX_FDS, MAX_OUTBOX, Channel

TEXT = st.text(st.characters(codec=None), max_size=40)
MESSAGES = st.one_of(
    st.builds(Hello, st.integers(0, 2**31)),
    st.just(Ready()),
    st.just(Quit()),
    st.builds(Failed, st.integers(0, 255), TEXT),
    st.builds(RecycleMe, TEXT),
    st.builds(Drain, st.floats(0, 1e6, allow_nan=False), TEXT),
)


@pytest.fixture
def pair():
    left, right = Channel.pair()
    yield left, right
    left.close()
    right.close()


# -- messages ------------------------------------------------------------------------------------------


@given(MESSAGES)
def test_a_message_survives(message):
    """Whatever the text, lone surrogates and NULs included."""
    assert decode(encode(message)) == message


@pytest.mark.parametrize("letter", ["a", "\x00", "\u20ac", "\ud800", "\U0001f33d"])
def test_the_longest_text_fits_into_a_packet(letter):
    """It loses its beginning, because the last lines of a traceback name the error."""
    packet = encode(Failed(3, letter * 100_000 + "the end"))
    assert len(packet) <= MAX_PACKET
    assert decode(packet).text.endswith(letter * 100 + "the end")


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\xff",
        b"null",
        b"[]",
        b"[1]",
        b'["Unknown"]',
        b'["Ready", 1]',
        b'["Hello"]',
        b'["Hello", "1"]',
        b'["Hello", true]',
        b'["Hello", 1.5]',
        b'["Drain", 1, 2]',
        b'{"Ready": 1}',
        b'["Message"]',
    ],
)
def test_what_is_not_a_message_is_refused(packet):
    """By name, and as our fault: only we write into a channel."""
    with pytest.raises(InternalError):
        decode(packet)


def test_numbers_that_json_does_not_know_are_refused_when_sent():
    """Infinity would be a word that the other end cannot read."""
    with pytest.raises(ValueError, match=r"[Oo]ut of range"):
        encode(Drain(float("inf"), ""))


def test_every_message_is_in_the_table():
    """A class that is not could be sent and never be understood."""
    for name in messages.__all__:
        cls = getattr(messages, name)
        if hasattr(cls, "__dataclass_fields__") and name != "WorkerBoot":
            assert messages._CLASSES[name] is cls


# -- the channel ---------------------------------------------------------------------------------------


def test_messages_arrive_whole_and_in_order(pair):
    """Each one by itself."""
    left, right = pair
    sent = [Hello(1), Ready(), RecycleMe("a" * 5000), Quit()]
    for message in sent:
        assert left.send(message)
    assert right.receive() == sent
    assert right.receive() == []
    assert not right.ended


def test_receive_stops_at_its_limit(pair):
    """So that one chatty worker does not keep the arbiter from the others."""
    left, right = pair
    for n in range(5):
        left.send(Hello(n))
    assert [m.pid for m in right.receive(3)] == [0, 1, 2]
    assert [m.pid for m in right.receive(3)] == [3, 4]


def test_the_end_of_the_peer(pair):
    """What it sent before can still be read; then the channel has ended, and sending says no."""
    left, right = pair
    left.send(Ready())
    left.close()
    assert right.receive() == [Ready()]
    assert right.receive() == []
    assert right.ended
    assert not right.send(Quit())


def test_sending_to_the_dead_is_noticed(pair):
    """Also without having read its end."""
    left, right = pair
    right.close()
    assert not left.send(Ready())
    assert left.ended


def test_a_peer_that_does_not_read(pair):
    """Nothing waits: what does not fit is kept, goes out in order later, and has a bound."""
    left, right = pair
    sent = 0
    while left.send(Hello(sent)):
        sent += 1
        assert sent < 100_000
    assert left.wants_write
    assert not left.flush()
    received = []
    while left.wants_write or not received or received[-1] < sent - 1:
        received += [m.pid for m in right.receive()]
        left.flush()
    assert received == list(range(sent))
    assert sent > MAX_OUTBOX


def test_the_outbox_of_the_dead_is_dropped(pair):
    """With the copies of its descriptors."""
    left, right = pair
    reader, writer = os.pipe()
    while not left.wants_write:
        left.send(Hello(1))
    left.send(Hello(2), [writer])
    os.close(writer)
    right.close()
    left.flush()
    assert left.ended
    assert not left.wants_write
    assert os.read(reader, 1) == b"", "a copy of the descriptor was left open"
    os.close(reader)


def test_descriptors_travel_with_a_message(pair):
    """As copies, closed on exec; the sender keeps its own."""
    left, right = pair
    reader, writer = os.pipe()
    assert left.send(Ready(), [writer])
    os.close(writer)
    [(message, [copy])] = right.receive_with_fds()
    assert message == Ready()
    assert not os.get_inheritable(copy)
    os.write(copy, b"x")
    assert os.read(reader, 1) == b"x"
    os.close(copy)
    os.close(reader)


def test_descriptors_that_nobody_asked_for_are_closed(pair):
    """`receive` does not leak them."""
    left, right = pair
    reader, writer = os.pipe()
    left.send(Ready(), [writer])
    os.close(writer)
    assert right.receive() == [Ready()]
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_too_many_descriptors_are_refused(pair):
    """The kernel would refuse them with an error that names nothing."""
    with pytest.raises(ValueError, match=str(MAX_FDS)):
        pair[0].send(Ready(), [0] * (MAX_FDS + 1))


def test_strange_packets_raise_and_leak_nothing():
    """A descriptor that came with nonsense is closed."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel = Channel(ours)
    reader, writer = os.pipe()
    socket.send_fds(theirs, [b"nonsense"], [writer])
    os.close(writer)
    with pytest.raises(InternalError):
        channel.receive()
    assert os.read(reader, 1) == b""
    os.close(reader)
    theirs.close()
    channel.close()
