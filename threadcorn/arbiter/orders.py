"""Signals as the supervisor's words, in both directions."""

from __future__ import annotations

from collections.abc import Mapping

from threadcorn.policy import events as e
from threadcorn.policy.events import Force
from threadcorn.system.signals import Order, Sig

__all__ = ["ASKED_BY", "SIGNAL_OF"]

#: What is sent to a worker.
SIGNAL_OF: Mapping[Force, Sig] = {
    Force.TERM: Sig.SIGTERM,
    Force.ABRT: Sig.SIGABRT,
    Force.KILL: Sig.SIGKILL,
}

#: Orders that are the supervisor's to judge. The others the arbiter carries out itself.
ASKED_BY: Mapping[Order, e.Event] = {
    Order.STOP_GRACEFUL: e.StopAsked(quick=False),
    Order.STOP_QUICK: e.StopAsked(quick=True),
    Order.MORE_WORKERS: e.ScaleAsked(1),
    Order.FEWER_WORKERS: e.ScaleAsked(-1),
    Order.UPGRADE: e.UpgradeAsked(),
}
