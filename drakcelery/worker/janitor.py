"""Looks after the slots while the vm worker runs: left-over guests, quarantine, the report to the fleet."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from drakcelery.engines import Engine, end_guest
from drakcelery.errors import Blame, SettingsError, SlotsLost, SlotsUnusable, UnreadableRecord
from drakcelery.host import charges
from drakcelery.host.history import Run
from drakcelery.host.slot import Slot, SlotState
from drakcelery.host.slots import SlotTable
from drakcelery.host.workspace import Workspace
from drakcelery.ledger import Standing
from drakcelery.model.halt import Halt
from drakcelery.model.names import AttemptId
from drakcelery.model.records import HostStatus
from drakcelery.model.slot_state import OUT_OF_USE
from drakcelery.model.timeouts import Watch
from drakcelery.recovery.isolation import Isolation
from drakcelery.recovery.reroute import reroute
from drakcelery.stages import suspicion
from drakcelery.stages.context import HostContext
from drakcelery.stages.dispatch import Send
from drakcelery.telemetry.logs import about
from drakcelery.worker.canary import CanaryRunner
from drakcelery.worker.report import host_status, report

log = structlog.get_logger(__name__)

SYNC_SECONDS = 0.5
"""How soon a slot that was left dirty is looked at, and a change is reported."""
ABSENT_SECONDS = 24 * 3600.0
"""Seconds for which files are kept whose analysis the ledger does not know."""
LOOK_SECONDS = 5.0
"""Seconds between two looks at what is not urgent, and between two tries to end a guest. Never less than
between two reports."""


class Absent:
    """Attempts that have files or a guest here but no record in Redis, and for how long that was watched.

    A Redis that was emptied or replaced must not cost the hosts their files: if its data is restored, they
    are all still there. When the watch is interrupted, the time counts from zero again.
    """

    def __init__(self) -> None:
        self._since: dict[AttemptId, float] = {}

    def lasts(self, holder: AttemptId, watch: Watch) -> float:
        """Seconds of an uninterrupted *watch* for which the attempt had no record."""
        if holder not in self._since:
            log.warning("record_absent", uid=holder[0], attempt=holder[1], kept=ABSENT_SECONDS)
        self._since[holder] = max(self._since.get(holder, watch.now), watch.since)
        return watch.now - self._since[holder]

    def forget(self, holder: AttemptId) -> None:
        """The attempt has a record."""
        self._since.pop(holder, None)


def clear_host(slots: SlotTable, engine: Engine, wanted: dict[str, str]) -> list[Slot]:
    """Define the table and destroy every guest of an earlier worker. A survivor's slot stays DIRTY.

    Returns the slots that attempts still held when that worker ended.
    """
    held = [slot for slot in slots.all() if slot.holder is not None]
    for name in [*slots.define(wanted), *wanted]:
        if end_guest(engine, name):
            slots.cleaned(name)
    return held


def or_leave_it(report: Callable[[], object]) -> None:
    """Do something that needs Redis, the broker or the slots' file; if that fails, leave it to reconcile, or
    to the janitor."""
    try:
        report()
    except (RedisError, OperationalError, SlotsUnusable, UnreadableRecord) as error:
        log.warning("left_to_reconcile", error=str(error))


class Janitor(threading.Thread):
    """Destroys guests that were left in DIRTY slots and reports the host. A thread, since both may block."""

    def __init__(self, context: HostContext, send: Send, *, canaries: CanaryRunner | None = None) -> None:
        """*context* is this host's; *send* sends the current attempt of a record on its way.

        Without *canaries* a slot leaves quarantine by time alone.
        """
        super().__init__(name="janitor", daemon=True)
        self._context = context
        self._send = send
        self._shut: frozenset[str] = frozenset()
        self._rerouted: frozenset[str] = frozenset()
        self._over = threading.Event()
        self._woken = threading.Event()
        self._ending: dict[str, threading.Thread] = {}
        self._isolation = Isolation(context.ledger.quarantine, where="janitor")
        self._absent = Absent()
        self._canaries = canaries if context.settings.canary.enabled else None

    def stop(self) -> None:
        """End soon. The host is taken off the list, so that nobody counts on its slots."""
        self._over.set()
        self._woken.set()
        self.join(timeout=LOOK_SECONDS)

    def wake(self) -> None:
        """Look now: an operator has changed something."""
        self._woken.set()

    def run(self) -> None:
        """Until :meth:`stop`."""
        last: HostStatus | None = None
        looked = reported = -LOOK_SECONDS
        every = self._context.ledger.timeouts.report
        while True:
            now, woken = time.monotonic(), self._woken.is_set()
            self._woken.clear()
            try:
                self._clean()
                self._context.snapshots.check_soon()
                if now - looked >= LOOK_SECONDS:
                    self._clean_up()
                    looked = now
                else:
                    self._try_doubted(woken=woken)
            except SlotsLost as error:
                self._begin_anew(error)
            except SlotsUnusable:  # which was told; the fleet hears no more of this host until it is mended
                pass
            except Exception:
                log.exception("janitor_failed")  # without a janitor the host would be taken for dead
            try:
                status = host_status(self._context)
                if status != last or now - reported >= every:
                    self._report(status)
                    last, reported = status, now
            except SlotsUnusable:  # the next round begins anew, if the file is gone
                last = None
            except Exception:
                log.exception("host_not_reported")
            self._woken.wait(SYNC_SECONDS)
            if self._over.is_set():
                break
        self._retire()

    def _report(self, status: HostStatus) -> None:
        """Tell the fleet; what Redis does not hear, the next report says."""
        try:
            report(self._context, status)
        except RedisError as error:
            log.warning("host_not_reported", error=str(error))

    def _retire(self) -> None:
        """Take the host off the list; where Redis does not hear that, its last report expires."""
        try:
            self._context.ledger.fleet.retire(self._context.host)
        except RedisError as error:
            log.warning("left_to_expire", error=str(error))

    def _begin_anew(self, lost: SlotsLost) -> None:
        """Nobody knows what runs in the slots: destroy every guest, as when a worker starts."""
        log.error("slots_lost", error=str(lost))
        try:
            self._context.slots.define(dict(self._context.settings.slots))
        except SettingsError as error:
            log.error("slots_not_made", error=str(error))

    def _clean(self) -> None:
        # Asked before the table is: what was DIRTY may be another's guest by the time its ender is over
        busy = {name for name, ender in self._ending.items() if ender.is_alive()}
        for slot in self._context.slots.all():
            if slot.state is not SlotState.DIRTY or slot.name in busy:
                continue
            # A Xen that does not answer takes minutes; neither the other slots nor the report wait for it
            ender = threading.Thread(target=self._end, args=(slot.name,), daemon=True)
            try:
                ender.start()
            except RuntimeError as error:  # no room for another thread: the others may have theirs
                log.warning("slot_not_cleaned", slot=slot.name, error=str(error))
            else:
                self._ending[slot.name] = ender

    def _end(self, name: str) -> None:
        try:
            with about(slot=name):
                ended = end_guest(self._context.engine, name)
            if ended:
                self._context.slots.cleaned(name)
                log.info("slot_cleaned", slot=name)
                return
            self._context.slots.survived(name)
        except SlotsUnusable:  # as above
            pass
        except Exception:
            log.exception("slot_not_cleaned", slot=name)
        self._over.wait(LOOK_SECONDS)  # before the next try

    def _try_doubted(self, *, woken: bool) -> None:
        """Act on what an operator has changed, and run canaries in the slots that are waiting for one."""
        if self._canaries is None:
            return
        if woken or any(slot.awaits_canary for slot in self._context.slots.all()):
            self._canaries.start_due()

    def _clean_up(self) -> None:
        """Do what is not urgent: slots in quarantine, slots and workspaces of stale attempts."""
        ours = self._context.settings.drakcelery
        if self._canaries is not None:
            self._canaries.start_due()
        else:
            for name in self._context.slots.probe(seconds=ours.quarantine_seconds):
                log.info("slot_probed", slot=name)
        try:
            self._isolation.begin()
            for run in self._context.slots.open_charges():
                if not self._isolation.skips(run.uid):
                    with self._isolation.item(run.uid):
                        self._judge(run)
            for slot in self._context.slots.all():
                if (
                    slot.holder is not None
                    and not slot.is_canary
                    and not self._isolation.skips(slot.holder[0])
                ):
                    with self._isolation.item(slot.holder[0]):
                        self._check_slot(slot, slot.holder)
            for workspace, uid, attempt in Workspace.all(ours.state_dir):
                if not self._isolation.skips(uid):
                    with self._isolation.item(uid):
                        self._check_workspace(workspace, uid, attempt)
            self._reroute()
        except (RedisError, OperationalError, OSError) as error:
            log.warning("not_cleaned_up_after", error=self._context.ledger.describe(error))

    def _judge(self, run: Run) -> None:
        """Ask the record whether a failed run is still charged to its slot."""
        found = charges.state_of(
            self._context.ledger.get(run.uid),
            run.attempt,
            blame=run.blame or Blame.SLOT,
            charged=run.charged,
            where=(self._context.host, run.slot),
        )
        if found.charged != run.charged:
            log.info("charge_moved", slot=run.slot, uid=run.uid, attempt=run.attempt, charged=found.charged)
        if (found.charged, found.settled) != (run.charged, False):
            self._context.slots.settle_charge(run, charged=found.charged, settled=found.settled)
        if found.charged and not run.charged:
            suspicion.charge_moved(self._context, run.slot)

    def _check_slot(self, slot: Slot, holder: AttemptId) -> None:
        if self._is_stale(holder, is_idle=slot.state is SlotState.READY):
            log.warning("stale_holder", slot=slot.name, uid=slot.uid, attempt=slot.attempt)
            self._context.slots.soil(*holder)

    def _check_workspace(self, workspace: Workspace, uid: str, attempt: int) -> None:
        if self._is_stale((uid, attempt)):
            workspace.remove()
            log.info("workspace_removed", uid=uid, attempt=attempt)

    def _is_stale(self, holder: AttemptId, *, is_idle: bool = False) -> bool:
        """Whether an attempt is not the current one, or was absent for so long that it will not come back.

        *is_idle*: it is a restored guest that nobody works with; it occupies a slot, and restoring it again
        costs little.
        """
        standing = self._context.ledger.standing(*holder)
        if standing is not Standing.UNKNOWN:
            self._absent.forget(holder)
            return standing is Standing.STALE
        patience = self._context.ledger.timeouts.lost if is_idle else ABSENT_SECONDS
        return self._absent.lasts(holder, self._context.ledger.watch()) > patience

    def _reroute(self) -> None:
        """Send elsewhere what was sent here by preference, once all senders know that this host takes
        nothing."""
        why = self._context.readiness.halted()
        if why in (Halt.NO_BROKER, Halt.NO_SLOTS):
            return  # nothing could be sent, so no attempt is used up for it; if others can, reconcile does
        slots = self._context.slots.all()
        profiles = {slot.profile for slot in slots}
        in_use = {slot.profile for slot in slots if why is None and slot.status not in OUT_OF_USE}
        shut = frozenset(profiles - in_use)
        late = (shut & self._shut) - self._rerouted  # since the last look, so it was reported meanwhile
        self._shut = shut
        self._rerouted &= shut
        if late:
            reroute(self._context.ledger, self._send, late)
            self._rerouted |= late
