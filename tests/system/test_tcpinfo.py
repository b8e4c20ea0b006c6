"""What the kernel says of connections, asked of real ones."""

from __future__ import annotations

import socket

from threadcorn.system.tcpinfo import written


def test_what_the_kernel_was_given_to_send() -> None:
    """Whether the peer has confirmed it, has it unread, or cannot take it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
        with client, accepted:
            accepted.setblocking(False)
            assert written(accepted) == 0
            given = accepted.send(b"x" * 1000)
            assert written(accepted) == given
            while True:
                try:
                    given += accepted.send(b"x" * 100_000)
                except BlockingIOError:
                    break
            assert written(accepted) == given
            left = given
            while left:
                left -= len(client.recv(left))
            assert written(accepted) == given


def test_a_unix_socket_does_not_tell() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.send(b"x")
        assert written(ours) == -1
