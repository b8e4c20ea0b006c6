"""The thread pool as a state machine: the real pool, reactor, intake and service, real threads and sockets.

An application whose requests stay in it until they are let go decides what every thread does, so nothing here
depends on time: a rule ends when each thread is in the one place that it must be in. The caretaker is the
worker's own tick, in a thread of its own.

Whatever is sent, held, let go, resized and switched: a request is run once, by a thread of the pool, as soon
as one is free, and in its turn; each is answered; no thread is lost, and none is left over.
"""

from __future__ import annotations

import logging
import os
import queue
import socket
import threading
from time import monotonic
from types import SimpleNamespace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.kit import Connection as Client
from tests.kit import eventually
from threadcorn.http1.memory import Memory
from threadcorn.http1.parser import HeadParser, Limits
from threadcorn.settings import Config
from threadcorn.system.poller import Waiter
from threadcorn.worker.connection import FOREVER, Connection
from threadcorn.worker.departure import Departure
from threadcorn.worker.intake import Intake
from threadcorn.worker.limits import WorkerLimits
from threadcorn.worker.pool import Pool
from threadcorn.worker.reactor import Reactor
from threadcorn.worker.serve import Hooks, Service
from threadcorn.worker.telemetry import Telemetry
from threadcorn.worker.thread import PoolThread
from threadcorn.worker.worker import Worker
from threadcorn.wsgi.environ import template

#: Far beyond what any machine gives: a thread with such a stack cannot be started.
TOO_LARGE = 1 << 45
LOG = logging.getLogger("threadcorn.tests.pool")
LOG.propagate = False
LOG.addHandler(logging.NullHandler())


class World(Worker):
    """A worker of which there is only what has to do with threads."""

    def __init__(self) -> None:
        config = Config()
        for name, value in (("queue_timeout", 0), ("queue_target", 0), ("max_queued", 0)):
            config.set(name, value)
        limits = WorkerLimits.of(config.freeze())
        http_limits = Limits()
        listener = SimpleNamespace(address=SimpleNamespace(host="127.0.0.1", port=8000))
        memory = Memory(template(config.freeze(), listener), limits.forwarding.keys)
        self._reactor = Reactor(limits)
        self._intake = Intake(self._reactor, http_limits, LOG)
        service = Service(
            self.app,
            self._reactor,
            access=SimpleNamespace(enabled=False),
            log=LOG,
            hooks=Hooks(None, None, None),
        )
        self._attention_r, self._attention_w = os.pipe()
        os.set_blocking(self._attention_r, False)
        os.set_blocking(self._attention_w, False)
        self._waiter = Waiter()
        self._waiter.watch(self._attention_r)
        self._telemetry = Telemetry(None)
        self._pool = Pool(
            self._reactor,
            self._intake,
            service,
            lambda: [HeadParser(http_limits, memory)],
            self._wake,
            self.died,
            self._telemetry,
        )
        self._last_seen = (None, 0)
        self._departure = None
        self._leave_at = None
        self._exit = None
        self._max_requests = 0
        self._signals = SimpleNamespace(fileno=lambda: -1)  # nobody sends any
        self._channel = SimpleNamespace(fileno=lambda: -1, ended=False)
        self._tuner = SimpleNamespace(eager=True, tick=lambda now: None)  # the machine decides the size
        # There are no siblings.
        self._handover = SimpleNamespace(
            pass_on=lambda conn: False, look=lambda: False, take=lambda berth: None, give=lambda conn: None
        )
        self._neighbours = SimpleNamespace(expects_somebody=False, own=None)
        self._stuck = SimpleNamespace(lost=0)
        self.deaths: queue.SimpleQueue[BaseException] = queue.SimpleQueue()
        self.entered: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.gates: dict[str, threading.Lock] = {}
        self.run_by: dict[str, threading.Thread] = {}
        self.caretaker = threading.Thread(target=self.serve, daemon=True)

    def leave(self) -> None:
        self._departure = Departure(
            self._pool, self._handover, self._neighbours, now=monotonic(), seconds=1000.0, alone=False
        )

    def died(self, error: BaseException) -> None:
        self.deaths.put(error)

    def _beat(self) -> None:
        pass  # nobody looks at the heart

    def _leave(self, code: int) -> int:
        return code

    def app(self, environ: dict[str, Any], start: Any) -> list[bytes]:
        name = environ["PATH_INFO"][1:]
        assert name not in self.run_by, "run twice"
        self.run_by[name] = threading.current_thread()
        self.entered.put(name)
        if name in self.gates:
            self.gates[name].acquire()
        if name.startswith("die"):
            # What only a fault of ours could do: the thread finds its connection broken behind the request.
            del environ["threadcorn.client_gone"].__self__.rest
        start("200 OK", [("Content-Length", str(len(name)))])
        return [name.encode()]


class PoolMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.pool = self.world._pool
        self.wanted = 0
        self.short = False  # the system gave fewer threads than were wanted
        self.number = 0
        self.held: list[str] = []
        self.waiting: list[str] = []
        self.clients: dict[str, Client] = {}  # of what is not answered yet
        self.idle: list[Client] = []
        self.draining = False
        self.over = False

    @initialize(threads=st.integers(1, 4))
    def begin(self, threads: int) -> None:
        self.world.caretaker.start()
        self.wanted = self.pool.resize(threads)
        assert self.wanted == threads
        self.settle()

    # -- what is done to it

    @precondition(lambda self: not (self.over or self.draining))
    @rule(hold=st.booleans(), kept=st.booleans())
    def request(self, hold: bool, kept: bool) -> None:
        self.number += 1
        name = f"{self.number}{'-held' if hold else ''}"
        if hold:
            self.world.gates[name] = gate = threading.Lock()
            gate.acquire()
        client = self.idle.pop() if kept and self.idle else self.connect()
        self.clients[name] = client
        client.request(f"/{name}")
        self.waiting.append(name)
        self.settle()

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 9))
    def let_go(self, which: int) -> None:
        name = self.held.pop(which % len(self.held))
        self.world.gates[name].release()
        self.answered(name)
        self.settle()

    @precondition(lambda self: not self.over)
    @rule(threads=st.integers(1, 5))
    def resize(self, threads: int) -> None:
        self.wanted = threads
        self.short = False
        self.pool.resize(threads)
        self.settle()

    @precondition(lambda self: not self.over and not self.short)
    @rule(more=st.integers(1, 3))
    def grow_beyond_what_the_system_gives(self, more: int) -> None:
        before = list(self.pool.threads)
        self.wanted = max(self.wanted, len(before)) + more
        usual = threading.stack_size(TOO_LARGE)
        try:
            assert self.pool.resize(self.wanted) == len(before)
        finally:
            threading.stack_size(usual)
        assert self.pool.threads == before
        self.short = True
        self.settle()

    @precondition(lambda self: not self.over)
    @rule(inline=st.booleans())
    def switch(self, inline: bool) -> None:
        if inline != self.pool.inline:
            (self.pool.enter_inline if inline else self.pool.leave_inline)()
        self.settle()

    @precondition(lambda self: not self.over and not self.draining)
    @rule()
    def drain(self) -> None:
        """The worker leaves: what is held or waits is answered, and that is the end of it."""
        self.draining = True
        self.world.leave()
        for client in self.idle:
            client.close()
        self.idle.clear()

    @precondition(lambda self: not (self.over or self.draining) and len(self.held) < len(self.pool.threads))
    @rule()
    def a_thread_dies(self) -> None:
        """It says so, once; the worker then ends, which is no business of the pool's."""
        self.over = True
        client = self.connect()
        client.request("/die")
        error = self.world.deaths.get(timeout=10)
        assert isinstance(error, AttributeError)
        client.close()

    @precondition(lambda self: self.over)
    @rule()
    def nothing_more(self) -> None:
        pass

    # -- what must hold

    def connect(self) -> Client:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.world._reactor.add(Connection(ours, "127.0.0.1", "1", 0, self.world._reactor), FOREVER)
        return Client(theirs)

    def answered(self, name: str) -> None:
        client = self.clients.pop(name)
        reply = client.reply()
        assert (reply.status, reply.text) == (200, name)
        assert isinstance(self.world.run_by[name], PoolThread)
        assert reply.keeps is not self.draining, (reply, self.draining)
        if reply.keeps:
            self.idle.append(client)
        else:
            client.close()

    def settle(self) -> None:
        """Whoever has his turn enters; then everybody is where he belongs."""
        if self.over:
            return
        eventually(self.at_rest)
        assert self.world.entered.empty(), "more run than there are threads"
        assert self.world.deaths.empty()

    def has_entered(self, name: str) -> None:
        # Several threads may take their next requests at the same instant, and one too many may have left.
        assert name in self.waiting[: len(self.pool.threads) + 1], f"{name} is run before {self.waiting}"
        self.waiting.remove(name)
        if name in self.world.gates:
            self.held.append(name)
        else:
            self.answered(name)

    def at_rest(self) -> None:
        """each thread is in one place, and nothing is left that somebody could do"""
        pool, reactor = self.pool, self.world._reactor
        while not self.world.entered.empty():
            self.has_entered(self.world.entered.get())
        with pool.mutex:
            threads = list(pool.threads)
            running = [thread for thread in threads if thread.in_app]
            parked = list(pool.parked)
            leader = pool.leader
            waiting = len(pool.waiting)
            wake_up = len(reactor.ready) + len(reactor.later)
        assert len(running) == len(self.held)
        assert waiting == len(self.waiting)
        assert wake_up == 0
        leads = [leader] if leader in threads else [pool.caretaker] if leader is pool.caretaker else []
        assert leads, "nobody leads"
        places = [*running, *parked, *(one for one in leads if one is not pool.caretaker)]
        assert len(places) == len(set(places)) == len(threads), f"{running} {parked} {leads} {threads}"
        assert all(thread.is_alive() for thread in threads)
        assert len(threads) >= self.wanted or self.short
        assert len(threads) <= self.wanted or not parked, "one too many stays"
        assert not (waiting and (parked or leader is not pool.caretaker)), "who could run it does not"

    def teardown(self) -> None:
        world, pool = self.world, self.pool
        if world.caretaker.ident is None:
            return
        threads = list(pool.threads)
        try:
            while self.held:
                self.let_go(0)
            assert self.over or not self.waiting
            if self.draining:
                world.caretaker.join(10)
                assert not world.caretaker.is_alive(), "all is answered, and the worker does not leave"
                assert not world._reactor.connections
        finally:
            for gate in world.gates.values():
                if gate.locked():
                    gate.release()
            pool.stop()
            for thread in threads:
                thread.join(10)
            world._exit = 0
            world._wake()
            world.caretaker.join(10)
            for client in (*self.idle, *self.clients.values()):
                client.close()
            for conn in world._reactor.snapshot():
                conn.sock.close()
            world._reactor.poller.close()
            for fd in (world._reactor._bell_reader(), world._attention_r, world._attention_w):
                os.close(fd)
        assert not any(thread.is_alive() for thread in (*threads, world.caretaker))
        assert self.over or pool.threads == []


PoolMachine.TestCase.settings = settings(max_examples=120, stateful_step_count=40)
TestPool = PoolMachine.TestCase
