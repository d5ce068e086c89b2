"""The canary: a known harmless sample that goes through a slot to see whether it works.

Prepare, run and destroy, without Karton and Celery, by threads of the vm worker's main process: the slot is
held meanwhile as by any guest. A canary is good if it executed, wrote a log, shows no symptom that the runs
of the other slots do not show (:mod:`drakcelery.host.checkup`), was not restored more slowly than before on
this host, and did what good canaries with the same profile, snapshot and engine do. The first good canaries
show what that is, and all hosts share it. A bad canary puts its slot into quarantine, and a good one releases
it.
"""

from __future__ import annotations

import itertools
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import structlog
from redis.exceptions import RedisError

from drakcelery.engines import Detonation, end_guest
from drakcelery.errors import Blame, DrakceleryError, EngineError, is_full
from drakcelery.host import state_dir as directories
from drakcelery.host.canaries import Due, due
from drakcelery.host.checkup import symptoms
from drakcelery.host.history import UNKNOWN, Facts, Kind, Run, facts_of
from drakcelery.host.judgement import may_put_aside
from drakcelery.host.silence import has_traffic
from drakcelery.host.slot import CANARY, Slot, SlotState
from drakcelery.host.workspace import Workspace
from drakcelery.ledger.canaries import Known
from drakcelery.model.analysis import Execution, Outcome
from drakcelery.stages.context import HostContext
from drakcelery.telemetry.logs import about
from drakcelery.worker import behaviour

log = structlog.get_logger(__name__)

SAMPLE = "behaviour32.exe"
"""For 32 bit, since it runs in any Windows."""
IN_GUEST = "canary.exe"
MAGIC = "PE32 executable (GUI) Intel 80386, for MS Windows"
MOST_LINES = 200_000
"""Lines of its log that are looked at."""
SLOW = 3.0
"""A restore is too slow if it takes this many times as long as the fastest one on the host,"""
SLOW_SECONDS = 2.0
"""and at least this many seconds longer."""
TRAFFIC = "traffic"
"""The feature of a canary whose recording has packets."""
SHOWN = 3
"""Features that a verdict names."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a canary found."""

    trouble: str | None
    """Why the slot is not as it should be; None if it is."""
    facts: Facts = UNKNOWN


def run_canary(context: HostContext, slot: Slot, sample: Path) -> Verdict:
    """Run the canary, *sample*, in *slot*, which nobody else has. Its guest may still be there afterwards.

    Raises:
        redis.RedisError: what it should have done is not known.
        DrakceleryError: the host is to blame (its network, or a full disk, for example), not the slot.
        OSError: likewise.
    """
    workspace = workspace_of(context.settings.drakcelery.state_dir, slot.name)
    try:
        workspace.create()
        job = _job(context, slot, workspace)
        shutil.copyfile(sample, job.sample)
        started = time.monotonic()
        context.engine.prepare(job)
        restored = time.monotonic() - started
        outcome = context.engine.run(job)
        facts = facts_of(job, outcome, seconds=time.monotonic() - started, restore_seconds=restored)
        known = context.ledger.canaries.get(slot.profile, _kind(context, facts))
        facts = replace(facts, traffic_due=not _is_quiet(known))
        return Verdict(trouble=_trouble_of(context, slot, job, outcome, facts, known), facts=facts)
    except DrakceleryError as error:
        if is_full(error) or (isinstance(error, EngineError) and error.blames is Blame.HOST):
            raise
        return Verdict(trouble=str(error))
    finally:
        workspace.remove()


def workspace_of(state_dir: Path, slot: str) -> Workspace:
    """The workspace of a canary in *slot*. Its name does not end with a number, so no attempt has the
    same."""
    return Workspace(root=directories.workspaces(state_dir) / f"{CANARY}-{slot}-")


def _job(context: HostContext, slot: Slot, workspace: Workspace) -> Detonation:
    return Detonation(
        uid=CANARY,
        slot=slot.name,
        sample=workspace.root / "sample" / IN_GUEST,
        extension="exe",
        magic=MAGIC,
        start_command="%f",
        plugins=context.settings.plugins_of("_all_"),
        timeout=context.settings.canary.timeout,
        raw=workspace.raw,
        hooks=None,
    )


def _kind(context: HostContext, facts: Facts) -> str:
    return f"{context.engine.version()}|{facts.snapshot}"


def _is_quiet(known: Known) -> bool:
    """Whether no traffic is expected: a canary makes some only if its guest has a network."""
    return len(known.runs) >= behaviour.LEARNED and TRAFFIC not in behaviour.known(known.runs)


def _trouble_of(
    context: HostContext, slot: Slot, job: Detonation, outcome: Outcome, facts: Facts, known: Known
) -> str | None:
    """What is wrong with the canary's run. If nothing is, what it did is learned."""
    if outcome.execution is Execution.NOT_EXECUTED:
        return f"the canary was not started: {outcome.reason}"
    if not facts.log_size and context.settings.engine != "replay":  # whose record may have none
        return "the canary left an empty log"
    if odd := _unlike_peers(context, slot, facts):
        return "; ".join(odd)
    seen, restored = _seen(job, facts), facts.restore_seconds or 0
    trouble = compare(known, seen, restored=restored, host=context.host)
    if trouble is None:
        found = learn(known, seen, restored=restored, host=context.host)
        context.ledger.canaries.put(slot.profile, _kind(context, facts), found)
    return trouble


def _unlike_peers(context: HostContext, slot: Slot, facts: Facts) -> tuple[str, ...]:
    """How it differs from the runs of the other slots with this profile on this host."""
    run = Run(
        number=0,
        slot=slot.name,
        uid=CANARY,
        attempt=slot.attempt or 0,
        at=time.time(),
        kind=Kind.CANARY_WORKED,
        blame=None,
        charged=False,
        open=False,
        facts=facts,
        error=None,
    )
    profiles = {one.name: one.profile for one in context.slots.all()}
    return symptoms(profiles, context.slots.history(), run)


def _seen(job: Detonation, facts: Facts) -> frozenset[str]:
    """What it did."""
    seen = frozenset({TRAFFIC}) if has_traffic(facts) else frozenset[str]()
    if not facts.log_size:
        return seen
    with job.log.open("rb") as log_file:
        return seen | behaviour.features(itertools.islice(log_file, MOST_LINES), process=IN_GUEST)


def compare(known: Known, seen: frozenset[str], *, restored: float, host: str) -> str | None:
    """What is wrong with a canary that did what was *seen* and was *restored* in so many seconds."""
    if len(known.runs) >= behaviour.LEARNED:
        lacking = behaviour.missing(seen, behaviour.known(known.runs))
        if lacking:
            return (
                f"the canary did not do {len(lacking)} things it does elsewhere: {'; '.join(lacking[:SHOWN])}"
            )
    fastest = known.restore.get(host)
    if fastest is not None and restored > max(SLOW * fastest, fastest + SLOW_SECONDS):
        return f"the restore took {restored:.1f} s, {fastest:.1f} s at other times"
    return None


def learn(known: Known, seen: frozenset[str], *, restored: float, host: str) -> Known:
    """What is known after a good canary."""
    runs = known.runs if len(known.runs) >= behaviour.LEARNED else (*known.runs, seen)
    fastest = min(restored, known.restore.get(host, restored))
    return Known(runs=runs, restore={**known.restore, host: fastest})


class CanaryRunner:
    """Runs the canaries that are due, each in a thread of its own."""

    def __init__(self, context: HostContext, sample: Path) -> None:
        """*sample* is the canary, :data:`SAMPLE`."""
        self._context = context
        self._sample = sample
        self._began = time.time()
        self._asked: frozenset[str] = frozenset()
        self._closed: frozenset[str] = frozenset()
        self._lost: deque[Slot] = deque()

    def start_due(self, start: Callable[[threading.Thread], None] = lambda thread: thread.start()) -> None:
        """Begin with what is due now. Called every few seconds."""
        self._return_lost()
        slots = self._context.slots.all()
        closed = frozenset(slot.name for slot in slots if slot.drain is not None)
        self._asked |= self._closed - closed  # undrained, or released
        self._closed = closed
        for one in due(
            slots,
            self._context.slots.history(),
            asked=self._asked,
            settings=self._context.settings,
            began=self._began,
            now=time.time(),
        ):
            held = self._context.slots.borrow(one.slot)
            if held is None:
                continue
            self._asked -= {one.slot}
            try:
                start(threading.Thread(target=self._run, args=(held, one), name="canary", daemon=True))
            except RuntimeError as error:  # no room for another thread
                log.warning("canary_not_judged", slot=one.slot, error=str(error))
                self._context.slots.give_back(one.slot, held.attempt or 0, was=held.state, gone=True)

    def _run(self, slot: Slot, why: Due) -> None:
        try:
            self._try(slot, why)
        except Exception as error:  # noqa: BLE001 whatever it was, the slot must not be held forever
            log.warning("canary_not_judged", slot=slot.name, error=f"{type(error).__name__}: {error}")
            self._lost.append(slot)

    def _return_lost(self) -> None:
        """Give back slots that their canaries could not give back, for example because the slot file could
        not be written."""
        while self._lost:
            slot = self._lost[0]
            self._context.slots.give_back(slot.name, slot.attempt or 0, was=slot.state, gone=False)
            self._lost.popleft()

    def _try(self, slot: Slot, why: Due) -> None:
        name, number = slot.name, slot.attempt or 0
        with about(slot=name):
            log.info("canary_begun", why=why.why)
            verdict = self._verdict(slot)
            if verdict is not None and verdict.trouble is not None and self._is_unproved(slot, why):
                log.warning("canary_not_judged", error=verdict.trouble)
                verdict = None
            gone = end_guest(self._context.engine, name)
            if verdict is None:
                self._context.slots.give_back(name, number, was=slot.state, gone=gone)
                return
            if not self._context.slots.tried(
                name, number, facts=verdict.facts, trouble=verdict.trouble, gone=gone
            ):
                return  # it was ended with its worker
            if verdict.trouble is None:
                log.info("canary_good", seconds=round(verdict.facts.seconds, 1))
            else:
                log.warning("canary_bad", reason=verdict.trouble)

    def _is_unproved(self, slot: Slot, why: Due) -> bool:
        """Whether the slot is in use and no canary was ever good in its profile, so the canary may be to
        blame.

        False if samples fail in the slot as well, as long as enough slots of its profile stay in use.
        """
        if slot.state is not SlotState.FREE:
            return False
        context = self._context
        try:
            if context.ledger.canaries.has(slot.profile):
                return False
        except RedisError:
            return True
        return why.why != "score" or not may_put_aside(
            context.slots, context.ledger.fleet, host=context.host, name=slot.name
        )

    def _verdict(self, slot: Slot) -> Verdict | None:
        """None if it could not be judged."""
        if not end_guest(self._context.engine, slot.name):  # one that was left in quarantine
            return Verdict(trouble="a guest that was left in it does not die")
        try:
            return run_canary(self._context, slot, self._sample)
        except (RedisError, DrakceleryError, OSError) as error:
            log.warning("canary_not_judged", error=str(error))
            return None
        except Exception as error:
            log.exception("canary_crashed")
            return Verdict(trouble=f"{type(error).__name__}: {error}")
