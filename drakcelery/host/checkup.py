"""How well the slots of this host are, by what became of their last runs (:mod:`drakcelery.host.history`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from drakcelery.errors import Blame
from drakcelery.host.health import WINDOW, SlotHealth, Trial, health
from drakcelery.host.history import Kind, Run
from drakcelery.host.silence import has_traffic, usual_snapshot

PUZZLING = 5
"""So many samples in a row that fail in a slot call for a canary. With one bad sample in twenty, each of
which fails three times, a healthy slot has them once in some 20,000 runs."""


@dataclass(frozen=True, kw_only=True)
class _Usual:
    """What runs of a profile leave, as far as this host has seen."""

    log: bool
    traffic: bool
    snapshot: str | None
    """Of two slots that had two snapshots from the first nobody knows which is the right one."""

    @classmethod
    def of(cls, slots: Sequence[Sequence[Run]]) -> _Usual:
        runs = [run for last in slots for run in last]
        return cls(
            log=any(run.facts.log_size for run in runs),
            traffic=any(has_traffic(run.facts) for run in runs),
            snapshot=usual_snapshot([run.facts for run in last] for last in slots),
        )

    def trial(self, run: Run) -> Trial:
        """What *run* says about its slot."""
        is_canary = run.kind.is_canary
        if run.kind in (Kind.FAILED, Kind.CANARY_FAILED):
            return Trial(
                failed=is_canary or run.charged,
                broke_off=True,
                seconds=run.facts.restore_seconds,
                canary=is_canary,
            )
        if run.blame is Blame.SAMPLE:  # what it lacks was missing in another slot, too
            return Trial(seconds=run.facts.restore_seconds)
        return Trial(
            empty_log=self.log and not run.facts.log_size,
            no_pcap=self.traffic and run.facts.traffic_due and not has_traffic(run.facts),
            other_snapshot=self.snapshot is not None and run.facts.snapshot not in (None, self.snapshot),
            seconds=run.facts.restore_seconds,
            canary=is_canary,
        )


def checkups(profiles: Mapping[str, str], runs: Iterable[Run]) -> dict[str, SlotHealth]:
    """How well each slot is. *profiles*: that of each slot; *runs*: theirs, oldest first.

    What was before a good canary is past.
    """
    found: dict[str, list[Run]] = {name: [] for name in profiles}
    for run in runs:
        if run.kind is Kind.CANARY_WORKED and run.slot in found:
            found[run.slot].clear()  # it has been fixed since
        if run.slot in found and _is_conclusive(run):
            found[run.slot].append(run)
    healths: dict[str, SlotHealth] = {}
    for profile in set(profiles.values()):
        healths |= _of_profile({name: found[name][-WINDOW:] for name in found if profiles[name] == profile})
    return {name: healths[name] for name in profiles}


def has_fallen(profiles: Mapping[str, str], runs: Sequence[Run], name: str) -> bool:
    """Whether the last run in a slot has made it unwell, which it was not before."""
    last = max((run for run in runs if run.slot == name), key=lambda run: run.number, default=None)
    if last is None or last.kind.is_canary:
        return False
    before = [run for run in runs if run is not last]
    return checkups(profiles, runs)[name].is_unwell and not checkups(profiles, before)[name].is_unwell


def is_puzzling(runs: Iterable[Run], name: str) -> bool:
    """Whether only a canary can say if it is the slot or its samples.

    Where a sample fails that has failed in it before, and where :data:`PUZZLING` in a row do, whoever is
    charged: two broken slots that fail the same samples take each other's charges back, and the only
    slot of a profile has nobody to take its charges. What Windows did not start, and so the sample is
    excused for, counts as well.
    """
    row: list[Run] = []
    for run in (one for one in runs if one.slot == name):
        if run.kind is Kind.WORKED and run.blame is Blame.SAMPLE and not run.facts.traffic_due:
            row.append(run)
        elif run.kind is not Kind.FAILED:
            row.clear()
        elif run.blame in (Blame.SLOT, Blame.SAMPLE):
            row.append(run)
    samples = {run.uid for run in row}
    return len(samples) >= PUZZLING or (bool(row) and row[-1].uid in {run.uid for run in row[:-1]})


def symptoms(profiles: Mapping[str, str], runs: Iterable[Run], last: Run) -> tuple[str, ...]:
    """What is not as it should be with *last* alone, by the runs of the other slots."""
    others = [run for run in runs if run.slot != last.slot]
    return checkups(profiles, [*others, last])[last.slot].reasons


def _of_profile(runs: Mapping[str, Sequence[Run]]) -> dict[str, SlotHealth]:
    """*runs*: the last ones of each slot of a profile."""
    usual = _Usual.of(list(runs.values()))
    trials = {slot: [usual.trial(run) for run in last] for slot, last in runs.items()}
    return {
        slot: health(own, [trial for other in trials if other != slot for trial in trials[other]])
        for slot, own in trials.items()
    }


def _is_conclusive(run: Run) -> bool:
    """Whether it says anything of its slot: where it is charged to the sample only its restore does."""
    return run.kind is not Kind.FAILED or run.charged or run.facts.restore_seconds is not None
