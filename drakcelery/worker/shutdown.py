"""What SIGTERM means to a vm worker: running guests may finish, for a while; nothing new begins.

Celery's warm shutdown stops taking messages and waits for the tasks at work. This module does the rest. It
deals with restored guests, which would wait for a run message that nobody takes, and with guests that still
run when the time is up or a second SIGTERM comes. They are destroyed, and their analyses go elsewhere.
"""

from __future__ import annotations

import threading
import time

import structlog

from drakcelery.engines import end_guest
from drakcelery.errors import SlotsUnusable
from drakcelery.host.slot import Slot, SlotState
from drakcelery.model.analysis import Fault
from drakcelery.recovery.takeover import end_held
from drakcelery.stages.context import HostContext
from drakcelery.telemetry.logs import about

log = structlog.get_logger(__name__)

LOOK_SECONDS = 0.2


class Stopper(threading.Thread):
    """Ends the guests of a vm worker that shuts down, those that run last."""

    def __init__(self, context: HostContext) -> None:
        """*context* is this host's."""
        super().__init__(name="stopper", daemon=True)
        self._context = context
        self._hurry = threading.Event()

    def hurry(self) -> None:
        """A second signal: running guests are not waited for."""
        self._hurry.set()

    def run(self) -> None:
        """Until no attempt holds a slot."""
        patience = self._context.settings.drakcelery.stop_seconds
        deadline = time.monotonic() + patience
        log.info("stopping", patience=patience)
        while self._holds(late=self._hurry.is_set() or time.monotonic() >= deadline):
            time.sleep(LOOK_SECONDS)  # an Event to wait for would no longer make it wait once it is set
        log.info("stopped")

    def _holds(self, *, late: bool) -> bool:
        """End the guests that need not be waited for, or all if it is *late*; whether there were any."""
        try:
            held = [slot for slot in self._context.slots.all() if slot.holder is not None]
            for slot in held:
                if late or slot.is_canary or slot.state is SlotState.READY:
                    give_up(self._context, slot, "the host is stopping", Fault.STOPPED)
        except SlotsUnusable:  # which was told; nobody knows what runs
            return True
        return bool(held)


def on_signal(context: HostContext, running: Stopper | None) -> Stopper:
    """A signal to shut down has come: start a stopper, or hurry the one that is *running*. Returns it."""
    if running is not None:
        running.hurry()
        return running
    stopper = Stopper(context)
    stopper.start()
    return stopper


def give_up(context: HostContext, slot: Slot, reason: str, fault: Fault) -> None:
    """End the attempt that holds *slot*, destroy its guest, free the slot."""
    with about(**slot.log_fields):
        try:
            end_held(context, slot, reason, fault)
        except Exception as error:  # noqa: BLE001 the guest, and the other slots', must be ended whatever it was
            log.warning("left_to_reconcile", error=str(error))  # reconcile will find it silent
        if slot.holder is not None and context.slots.holds(slot.name, *slot.holder):
            end_guest(context.engine, slot.name)
    if slot.uid is not None and slot.attempt is not None:
        context.slots.soil(slot.uid, slot.attempt)
