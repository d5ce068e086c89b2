"""Looks after the slots while the vm worker runs: left-over guests, quarantine, the report to the fleet."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable

import structlog
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from drakcelery.engines import Engine, end_guest
from drakcelery.records import HostStatus, SlotStatus
from drakcelery.slots import Slot, SlotState, SlotTable
from drakcelery.stages import Site
from drakcelery.workspace import Workspace

log = structlog.get_logger(__name__)

SYNC_SECONDS = 0.5
"""How soon a slot that was left dirty is looked at, and a change is reported."""
REPORT_SECONDS = 5.0


def clear_host(slots: SlotTable, engine: Engine, wanted: dict[str, str]) -> list[Slot]:
    """Define the table and destroy every guest of an earlier worker. A survivor's slot stays DIRTY.

    Returns the slots that attempts still held when that worker ended.
    """
    held = [slot for slot in slots.all() if slot.holder is not None]
    for name in [*slots.define(wanted), *wanted]:
        if end_guest(engine, name):
            slots.cleaned(name)
    return held


def tell(report: Callable[[], object]) -> None:
    """Do what needs Redis from where nothing may fail without it; reconcile does it later."""
    try:
        report()
    except (RedisError, OperationalError) as error:
        log.warning("not_told", error=str(error))


class Janitor(threading.Thread):
    """Destroys what was left in DIRTY slots and reports the host. A thread, since both may block."""

    def __init__(self, site: Site) -> None:
        """*site* is this host's."""
        super().__init__(name="janitor", daemon=True)
        self._site = site
        self._over = threading.Event()
        self._ending: dict[str, threading.Thread] = {}

    def stop(self) -> None:
        """End soon. The host is taken off the list, so that nobody counts on its slots."""
        self._over.set()
        self.join(timeout=REPORT_SECONDS)

    def run(self) -> None:
        """Until :meth:`stop`."""
        last: tuple[SlotStatus, ...] | None = None
        looked = reported = -REPORT_SECONDS
        while True:
            now = time.monotonic()
            try:
                self._clean()
                if now - looked >= REPORT_SECONDS:
                    self._look_after()
                    looked = now
            except Exception:
                log.exception("janitor_failed")  # without a janitor the host would be taken for dead
            status = host_status(self._site)
            if status.slots != last or now - reported >= REPORT_SECONDS:
                tell(functools.partial(_report, self._site, status))
                last, reported = status.slots, now
            if self._over.wait(SYNC_SECONDS):
                break
        tell(functools.partial(self._site.ledger.fleet.retire, self._site.host))

    def _clean(self) -> None:
        for slot in self._site.slots.all():
            busy = self._ending.get(slot.name)
            if slot.state is not SlotState.DIRTY or (busy is not None and busy.is_alive()):
                continue
            # A Xen that does not answer takes minutes; neither the other slots nor the report wait for it
            self._ending[slot.name] = threading.Thread(target=self._end, args=(slot.name,), daemon=True)
            self._ending[slot.name].start()

    def _end(self, name: str) -> None:
        if end_guest(self._site.engine, name):
            self._site.slots.cleaned(name)
            log.info("slot_cleaned", slot=name)
        else:
            self._site.slots.survived(name)
            self._over.wait(REPORT_SECONDS)  # before the next try

    def _look_after(self) -> None:
        """What is not urgent: slots in quarantine, slots and workspaces of attempts that are stale."""
        ours = self._site.settings.drakcelery
        for name in self._site.slots.probe(seconds=ours.quarantine_seconds):
            log.info("slot_probed", slot=name)
        try:
            for slot in self._site.slots.all():
                if slot.holder is not None and not self._site.ledger.is_current(*slot.holder):
                    log.warning("stale_holder", slot=slot.name, uid=slot.uid, attempt=slot.attempt)
                    self._site.slots.soil(*slot.holder)
            for workspace, uid, attempt in Workspace.all(ours.state_dir):
                if not self._site.ledger.is_current(uid, attempt):
                    workspace.remove()
                    log.info("workspace_removed", uid=uid, attempt=attempt)
        except (RedisError, OSError) as error:
            log.warning("not_looked_after", error=str(error))


def _report(site: Site, status: HostStatus) -> None:
    """Tell the others, in Redis' time: this host's clock may be wrong."""
    ahead = time.time() - site.ledger.now()
    slots = tuple(slot.model_copy(update={"since": slot.since - ahead}) for slot in status.slots)
    site.ledger.fleet.report(status.model_copy(update={"slots": slots}))


def host_status(site: Site) -> HostStatus:
    """This host as others see it."""
    return HostStatus(
        host=site.host,
        engine=site.engine.version(),
        slots=tuple(
            SlotStatus(
                name=slot.name,
                profile=slot.profile,
                state=slot.state.value,
                uid=slot.uid,
                attempt=slot.attempt,
                since=slot.since,
            )
            for slot in site.slots.all()
        ),
    )
