"""Prefetch: the sample that a slot will probably get next is on the host before the slot is free.

Nothing is taken from the queue (I4): what waits there is only looked at, and if another host takes it up, its
sample was fetched for nothing. So samples are fetched late, and at most one for each guest. A failure here
does no harm: prepare fetches what it does not find (:class:`drakcelery.host.workspace.Prefetched`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from shutil import disk_usage

import structlog
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from drakcelery.errors import BadTask, DiskFull, SlotsUnusable, StorageError
from drakcelery.host.slot import Slot, SlotState
from drakcelery.host.workspace import Prefetched
from drakcelery.model.analysis import Step
from drakcelery.model.names import AttemptId
from drakcelery.recovery.isolation import Isolation
from drakcelery.stages.context import HostContext
from drakcelery.telemetry.logs import about

log = structlog.get_logger(__name__)

LOOK_SECONDS = 0.5
PASSING = (RedisError, OperationalError, StorageError, DiskFull, BadTask, SlotsUnusable, OSError)
"""What others tell of: nothing is fetched ahead as long as it lasts."""
LEAD_SECONDS = 10.0
"""Seconds before a guest's time is over, or before it may be stopped, at which the next sample is
fetched. If it were earlier, another host would often take that sample."""


class Prefetcher(threading.Thread):
    """Fetches samples ahead, one for each guest whose time is nearly over."""

    def __init__(self, context: HostContext, waiting: Callable[[Sequence[str]], list[Step]]) -> None:
        """*waiting* says which steps wait for slots of some profiles, the next one first."""
        super().__init__(name="prefetch", daemon=True)
        self._context = context
        self._waiting = waiting
        self._ahead = Prefetched.of(context.settings.drakcelery.state_dir)
        self._ends: dict[AttemptId, int] = {}
        """After how many seconds each guest may end."""
        self._served: set[AttemptId] = set()
        """Guests for whose slot a sample was fetched."""
        self._missing: set[AttemptId] = set()
        """Attempts whose fetched samples were wanted by nobody at the last look."""
        self._isolation = Isolation(context.ledger.quarantine, where="lookahead")
        self._over = threading.Event()

    def stop(self) -> None:
        """End soon; a sample that is still being fetched is given up."""
        self._over.set()

    def run(self) -> None:
        """Until :meth:`stop`."""
        while not self._over.wait(LOOK_SECONDS):
            try:
                self._prefetch()
            except PASSING as error:
                log.debug("not_prefetched", error=str(error))
            except Exception:
                log.exception("prefetch_failed")

    def _prefetch(self) -> None:
        slots = self._context.slots.all()
        running = [slot for slot in slots if slot.state is SlotState.RUNNING and slot.drain is None]
        self._forget({slot.holder for slot in running if slot.holder is not None})
        ending = self._ending([slot for slot in running if slot.holder not in self._served])
        if not ending and not self._ahead.all():
            return
        waiting = self._waiting(sorted({slot.profile for slot in slots}))
        self._drop({(step.uid, step.attempt) for step in waiting})
        for slot in ending:
            step = next((one for one in waiting if self._is_missing(one, slot)), None)
            if step is not None and slot.holder is not None and self._has_room(len(slots)):
                self._served.add(slot.holder)
                with self._isolation.item(step.uid):
                    self._fetch(step)

    def _ending(self, slots: Sequence[Slot]) -> list[Slot]:
        """The guests in *slots* whose time is nearly over."""
        ending: list[Slot] = []
        if slots:
            self._isolation.begin()
        for slot in slots:
            if slot.uid is not None and not self._isolation.skips(slot.uid):
                with self._isolation.item(slot.uid):
                    ending += [slot] if self._ends_soon(slot) else []
        return ending

    def _drop(self, waiting: set[AttemptId]) -> None:
        """Remove the samples that other hosts have taken: twice in a row they neither waited nor had a slot
        here.

        Once is not enough: for a moment, a message of this host is neither with the broker nor in the slot
        table.
        """
        held = {slot.holder for slot in self._context.slots.all()}
        missing = set(self._ahead.all()) - waiting - held
        self._ahead.remove(missing & self._missing)
        self._missing = missing

    def _forget(self, holders: set[AttemptId]) -> None:
        self._served &= holders
        self._ends = {holder: seconds for holder, seconds in self._ends.items() if holder in holders}

    def _ends_soon(self, slot: Slot) -> bool:
        if slot.holder is None:
            return False
        if slot.holder not in self._ends:
            record = self._context.ledger.get(slot.holder[0])
            if record is None or record.analysis is None:
                return False
            plan, timeout = record.analysis.watch, record.analysis.timeout
            self._ends[slot.holder] = timeout if plan is None else plan.earliest(timeout)
        return time.time() >= slot.since + self._ends[slot.holder] - LEAD_SECONDS

    def _is_missing(self, step: Step, slot: Slot) -> bool:
        return (
            step.profile == slot.profile
            and (step.uid, step.attempt) not in self._ahead.all()
            and not self._isolation.skips(step.uid)
        )

    def _has_room(self, slots: int) -> bool:
        ours = self._context.settings.drakcelery
        return len(self._ahead.all()) < slots and disk_usage(ours.state_dir).free >= ours.min_free_space

    def _fetch(self, step: Step) -> None:
        record = self._context.ledger.get(step.uid)
        if record is None or record.analysis is None or record.attempt != step.attempt:
            return
        with about(uid=step.uid, attempt=step.attempt):
            part = self._ahead.part()
            limit = self._context.settings.drakcelery.max_sample_size
            try:
                sha256 = self._context.storage.download(record.analysis.sample, part, max_size=limit)
                self._ahead.add(part, step.uid, step.attempt, sha256)
            except (StorageError, DiskFull, BadTask, OSError) as error:  # prepare says more of it
                log.debug("not_prefetched", error=str(error))
            else:
                log.debug("sample_prefetched", sha256=sha256)
