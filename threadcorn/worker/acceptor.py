"""Accepting: from a listener's queue to a connection in the reactor.

Descriptor exhaustion does not spin: a level-triggered listener that cannot be accepted from would wake the
leader for ever, so accepting pauses, says so once, and resumes by itself.
"""

from __future__ import annotations

import errno
import logging
import socket
import threading
from collections.abc import Sequence
from functools import partial

from threadcorn.worker.connection import Connection
from threadcorn.worker.reactor import Reactor

#: Connections taken from one listener before the others get their turn.
BATCH = 32
#: Pause after the system had no descriptor or memory left (seconds).
PAUSE = 0.5
_EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
_NOTHING = frozenset((errno.EAGAIN, errno.EWOULDBLOCK))


class Acceptor:
    """Owns which listeners are polled. Used by the leader; `close` by the caretaker as well."""

    def __init__(self, reactor: Reactor, listeners: Sequence[socket.socket], log: logging.Logger) -> None:
        self._reactor = reactor
        self._log = log
        self._listeners = list(listeners)
        self._polled = False
        self._closed = False
        self._paused_until = 0.0
        self._complained = False
        self._lock = threading.Lock()  # the caretaker closes while the leader pauses and resumes
        reactor.on_room = self.resume
        reactor.on_tick = self.resume
        reactor.on_crowd = self.pause

    def open(self) -> None:
        """Begin to accept."""
        with self._lock:
            if self._polled or self._closed:
                return
            self._polled = True
            for group, listener in enumerate(self._listeners):
                listener.setblocking(False)
                self._reactor.watch(listener.fileno(), partial(self._accept, group))

    def pause(self) -> None:
        """Stop accepting; connections wait in the kernel."""
        with self._lock:
            if self._polled:
                self._polled = False
                for listener in self._listeners:
                    self._reactor.unwatch(listener.fileno())

    def close(self) -> None:
        """Stop accepting for good. The listeners themselves belong to the arbiter."""
        self._closed = True
        self.pause()

    def resume(self) -> None:
        """Accept again if the reason not to is gone. Called whenever a connection ends, and each tick."""
        reactor = self._reactor
        if self._polled or self._closed or reactor.crowded:
            return
        if reactor.now >= self._paused_until and len(reactor.connections) < reactor.limits.connections:
            self.open()

    def _accept(self, group: int) -> None:
        reactor = self._reactor
        listener = self._listeners[group]
        unix = listener.family == socket.AF_UNIX
        deadline = reactor.now + reactor.limits.header_timeout
        for _ in range(BATCH):
            if len(reactor.connections) >= reactor.limits.connections:
                self.pause()
                return
            try:
                sock, address = listener.accept()
            except OSError as error:
                self._accept_failed(error)
                return
            sock.setblocking(False)
            if unix:
                conn = Connection(sock, "", "", group, reactor)
            else:
                conn = Connection(sock, address[0], str(address[1]), group, reactor)
            reactor.add(conn, deadline)
        self._complained = False

    def _accept_failed(self, error: OSError) -> None:
        if error.errno in _NOTHING:
            return
        if error.errno in _EXHAUSTED:
            self._paused_until = self._reactor.now + PAUSE
            self.pause()
            if not self._complained:
                self._complained = True
                self._log.error(
                    "Cannot accept: %s. Accepting pauses until connections end; raise the limit on open "
                    "files (ulimit -n, LimitNOFILE=) or lower worker_connections.",
                    error.strerror,
                )
            return
        # Anything else belongs to the one connection that was being accepted (accept(2), "error handling").
        self._log.debug("accept: %s", error)
