"""The process of ingress."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import signal
import threading
from collections.abc import Iterator

import structlog

from drakcelery.broker.life import ask
from drakcelery.failpoints import arm
from drakcelery.ingress import Ingress, fleet_metrics
from drakcelery.ingress.waiting import Lane
from drakcelery.ledger.outbox import Outbox
from drakcelery.notifications.webhook import ANSWER_SECONDS, CONNECT_SECONDS, Notifier, Webhook
from drakcelery.recovery.duty import Duty
from drakcelery.settings import Settings, fault_plan
from drakcelery.stages.dispatch import send
from drakcelery.telemetry import logs, tracing
from drakcelery.wiring import make_client, make_ledger, make_storage

log = structlog.get_logger(__name__)


def run_ingress(settings: Settings) -> None:
    """Take samples from Karton until SIGTERM or SIGINT."""
    logs.start(settings)
    arm(fault_plan())
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    fleet_metrics.serve(settings)
    tracing.start(settings)
    client = make_client(settings)  # what it sends are names of tasks
    # Karton and its dashboard know who is online by the names of Redis connections
    ledger = make_ledger(settings, name=settings.drakrun.identity)
    ledger.deployment.claim()
    notifier = _notifier(settings, ledger.outbox, stop)
    # It uses connections of its own, without Karton's name
    mender = make_ledger(settings)
    duty = Duty(
        mender,
        settings,
        send=functools.partial(send, client, mender),
        ask_broker=functools.partial(ask, client),
    )
    duty.start()
    ingress = Ingress(
        settings=settings,
        ledger=ledger,
        inbox=ledger.inbox(),
        storage=make_storage(settings),
        send=functools.partial(send, client, ledger),
    )
    with _lane(ingress) as lane:
        dataclasses.replace(ingress, lane=lane).run(stop)
    duty.stop()
    tracing.stop()
    if notifier is not None:
        stop.set()
        notifier.join(timeout=CONNECT_SECONDS + ANSWER_SECONDS)
    log.info("ingress_stopped")


@contextlib.contextmanager
def _lane(ingress: Ingress) -> Iterator[Lane | None]:
    """The thread for tasks whose reuse takes time; None where nothing is reused."""
    if not ingress.settings.reuse.enabled:
        yield None
        return
    ledger = make_ledger(ingress.settings)
    lane = Lane(dataclasses.replace(ingress, ledger=ledger, inbox=ledger.inbox()))
    lane.start()
    try:
        yield lane
    finally:
        lane.stop()


def _notifier(settings: Settings, notices: Outbox, stop: threading.Event) -> Notifier | None:
    """Start the thread that sends notices; None if no webhook is set."""
    ours = settings.notifications
    if ours.url is None:
        return None
    notifier = Notifier(notices, Webhook(ours), events=ours.events, stop=stop)
    notifier.start()
    return notifier
