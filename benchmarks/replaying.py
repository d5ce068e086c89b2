"""Guests that are known in advance: a stack whose engine replays, and what its slots did with their time."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from drakcelery import settings
from drakcelery.embedded.background import background
from drakcelery.host.drains import Closed
from drakcelery.host.slots import SlotTable
from drakcelery.karton import submit
from drakcelery.karton.kept import Wishes
from drakcelery.model.analysis import State
from drakcelery.model.records import Record
from drakcelery.operators import analyses
from drakcelery.wiring import make_ledger, make_storage


@dataclass(frozen=True, kw_only=True)
class Guest:
    """The guest of one analysis, by what its host logged and by the ledger, UNIX times of one machine."""

    slot: str
    queued: float
    """When its sample was with the broker."""
    begun: float
    """The restore begins: the sample is there."""
    gone: float
    """The guest is destroyed; its slot is free."""


@contextlib.contextmanager
def replaying(
    recorded: Path, *, slots: int, restore: float = 0.0, run: float, spread: float = 0.0
) -> Iterator[settings.Settings]:
    """A stack with so many slots that replays *recorded*: seconds to restore a VM, seconds of a run."""
    replay = {
        "run_dir": str(recorded),
        "restore_seconds": str(restore),
        "run_seconds": str(run),
        "run_spread": str(spread),
    }
    overrides = {"drakcelery": {"engine": "replay"}, "replay": replay}
    names = {f"vm-{number}": "default" for number in range(1, slots + 1)}
    with (
        tempfile.TemporaryDirectory() as directory,
        background(Path(directory), slots=names, overrides=overrides) as stack,
    ):
        yield settings.load(stack.config)


def guests(ours: settings.Settings, *, samples: int, timeout: int, size: int = 1000) -> list[Guest]:
    """Analyse so many samples of *size* bytes, no two alike; returns their guests as they began.

    *timeout*: seconds after which a run ends at the latest, as each task says.

    Raises:
        SystemExit: an analysis failed.
    """
    ledger = make_ledger(ours)
    while not (ledger.fleet.hosts() and ledger.bound()):
        time.sleep(analyses.POLL_SECONDS)
    with tempfile.TemporaryDirectory() as scratch:
        sample = Path(scratch, "sample.bat")
        uids = set()
        slots = SlotTable(ours.drakcelery.state_dir, quarantine_after=ours.drakcelery.quarantine_after)
        slots.close(None, Closed.DRAINED, by="a benchmark")  # until all wait: large ones come slowly
        for _ in range(samples):
            sample.write_bytes(os.urandom(size))
            uids.add(submit.push(ours, submit.sample_task(sample, Wishes(timeout=timeout))))
        slots.reopen(None, Closed.DRAINED)
        while len(done := [one for one in ledger.done(newest=samples) if one.uid in uids]) < samples:
            time.sleep(analyses.POLL_SECONDS)
        if any(record.state is not State.PUBLISHED for record in done):
            raise SystemExit("an analysis failed; no figures")
        return sorted((_guest(ours, record, Path(scratch)) for record in done), key=lambda one: one.begun)


def _guest(ours: settings.Settings, record: Record, scratch: Path) -> Guest:
    log = scratch / record.uid
    key = f"{record.uid}/drakrun.log"
    found = make_storage(ours).peek(ours.drakcelery.bucket, key, 1_000_000)
    if found is None:
        raise SystemExit(f"{key} is gone; no figures")
    log.write_bytes(found[1])
    times, slot = {}, ""
    for line in map(json.loads, log.read_text().splitlines()):
        times[line["message"]], slot = float(line["created"]), line["slot"]
    return Guest(
        slot=slot,
        queued=record.entered[State.QUEUED],
        begun=times["sample_fetched"],
        gone=times["guest_destroyed"],
    )


def by_slot(found: Sequence[Guest]) -> dict[str, list[Guest]]:
    """The guests of each slot, one after the other."""
    inside = sorted(found, key=lambda one: (one.slot, one.begun))
    return {slot: list(group) for slot, group in itertools.groupby(inside, key=lambda one: one.slot)}
