"""Who reconciles: each ingress and each vm worker, one of them at a time.

So it needs no process of its own, no broker and no free io process: while anybody is there for whom work
could go on, somebody sees to it that it does. It has a thread of its own, so that neither a Redis that
answers slowly nor a broker that does not keeps an ingress from its samples or a host from its report.
"""

from __future__ import annotations

import threading
import uuid

import structlog

from drakcelery.ledger import Ledger
from drakcelery.ledger.away import concerns_all
from drakcelery.recovery.reconcile import AskBroker, Reconciler, Send
from drakcelery.settings import Settings

log = structlog.get_logger(__name__)

TURN_SHARE = 0.8
"""For how much of the time between two runs."""
SITTING_OUT = 2
"""So many chances are left to others by who could not reach the broker: enough for each of them to look."""
PARTING_SECONDS = 2.0
"""How long the end of a run is waited for where the process ends: another one does the rest."""


class Turn:
    """The right to reconcile, which one of all who could has for a while. By Redis' clock."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._name = uuid.uuid4().hex
        self._lasts = TURN_SHARE * ledger.timeouts.reconcile

    def acquire(self) -> bool:
        """Whether a run is due, and ours. False if one has begun just now."""
        return self._ledger.take_turn(self._name, seconds=self._lasts)

    def keep(self) -> bool:
        """Have it for longer. False if it is somebody else's by now."""
        return self._ledger.keep_turn(self._name, seconds=self._lasts)


class Duty(threading.Thread):
    """Reconciles when it is this process' turn, for as long as the process lives."""

    def __init__(self, ledger: Ledger, settings: Settings, *, send: Send, ask_broker: AskBroker) -> None:
        """*send* and *ask_broker* are :class:`drakcelery.recovery.reconcile.Reconciler`'s."""
        super().__init__(name="reconcile", daemon=True)
        self._ledger = ledger
        self._settings = settings
        self._send = send
        self._ask_broker = ask_broker
        self._turn = Turn(ledger)
        self._over = threading.Event()
        self._sits_out = 0

    def stop(self) -> None:
        """End soon."""
        self._over.set()
        self.join(timeout=PARTING_SECONDS)

    def run(self) -> None:
        """Until :meth:`stop`."""
        while not self._over.wait(self._ledger.timeouts.check):
            try:
                with self._ledger.named():
                    self._attend()
            except Exception as error:
                if concerns_all(error):
                    log.warning("not_reconciled", error=str(error))
                else:
                    log.exception("reconcile_failed", error=str(error))

    def _attend(self) -> None:
        if self._sits_out:
            self._sits_out -= 1
            self._ledger.watch()  # it hears all the same
        elif self._turn.acquire() and not self._reconcile():
            self._sits_out = SITTING_OUT  # all look equally often: it might have the next turn as well

    def _reconcile(self) -> bool:
        """False if the broker was away, so that nothing could be sent; another may reach it."""
        reconciler = Reconciler(
            ledger=self._ledger,
            settings=self._settings,
            send=self._send,
            ask_broker=self._ask_broker,
            keep_turn=lambda: not self._over.is_set() and self._turn.keep(),
        )
        reconciler.run()
        return not reconciler.is_cut_off
