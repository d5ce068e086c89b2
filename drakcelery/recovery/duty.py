"""Who reconciles: each ingress and each vm worker, one of them at a time.

So reconciling needs no process of its own, no broker and no free io process: it happens as long as there is
any process that could go on with the work. It runs in a thread of its own, so that neither a slow Redis nor
an absent broker keeps an ingress from its samples or a host from its report.
"""

from __future__ import annotations

import threading
import uuid

import structlog

from drakcelery.ledger import Ledger
from drakcelery.ledger.away import concerns_all
from drakcelery.recovery.reconcile import AskBroker, Reconciler
from drakcelery.settings import Settings
from drakcelery.stages.dispatch import Send

log = structlog.get_logger(__name__)

TURN_SHARE = 0.8
"""How long a turn lasts, as a share of the time between two runs."""
SITTING_OUT = 2
"""How many turns a process leaves to the others after it could not reach the broker: enough for each to
try."""
PARTING_SECONDS = 2.0
"""Seconds that a process which ends waits for its run to end; another process does the rest."""


class Turn:
    """The right to reconcile, which one process at a time has for a while, by Redis' clock."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._name = uuid.uuid4().hex
        self._lasts = TURN_SHARE * ledger.timeouts.reconcile

    def acquire(self) -> bool:
        """Take the turn, if a run is due. False if another process has begun one just now."""
        return self._ledger.take_turn(self._name, seconds=self._lasts)

    def keep(self) -> bool:
        """Keep the turn for longer. False if it is somebody else's by now."""
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
            self._ledger.watch()  # this process still hears Redis
        elif self._turn.acquire() and not self._reconcile():
            self._sits_out = SITTING_OUT  # otherwise this process might get the next turn as well

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
