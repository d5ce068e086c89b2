"""The health of this host's slots, by their last runs (:mod:`drakcelery.host.history`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from drakcelery.errors import Blame
from drakcelery.host.health import WINDOW, SlotHealth, Trial, health
from drakcelery.host.history import Kind, Run
from drakcelery.host.silence import has_traffic, usual_snapshot

PUZZLING = 5
"""After so many failing samples in a row a slot needs a canary. If one sample in twenty is bad and fails
three times, this happens in a healthy slot once in some 20,000 runs."""


@dataclass(frozen=True, kw_only=True)
class _Usual:
    """What runs of a profile leave, as far as this host has seen."""

    log: bool
    traffic: bool
    snapshot: str | None
    """The usual snapshot; None if unknown, as with two slots that have had different ones from the start."""

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
        if run.blame is Blame.SAMPLE:  # what is missing was missing in another slot, too
            return Trial(seconds=run.facts.restore_seconds)
        return Trial(
            empty_log=self.log and not run.facts.log_size,
            no_pcap=self.traffic and run.facts.traffic_due and not has_traffic(run.facts),
            other_snapshot=self.snapshot is not None and run.facts.snapshot not in (None, self.snapshot),
            seconds=run.facts.restore_seconds,
            canary=is_canary,
        )


def checkups(profiles: Mapping[str, str], runs: Iterable[Run]) -> dict[str, SlotHealth]:
    """The health of each slot. *profiles*: the profile of each slot; *runs*: their runs, oldest first.

    Runs before a good canary do not count.
    """
    found = _conclusive(profiles, runs)
    healths: dict[str, SlotHealth] = {}
    for profile in set(profiles.values()):
        trials = _trials(profiles, found, profile)
        healths |= {name: _health(name, trials) for name in trials}
    return {name: healths[name] for name in profiles}


def checkup(profiles: Mapping[str, str], runs: Iterable[Run], name: str) -> SlotHealth:
    """The health of one slot: as :func:`checkups` says it, without a look at the others."""
    return _health(name, _trials(profiles, _conclusive(profiles, runs), profiles[name]))


def has_fallen(health: SlotHealth, profiles: Mapping[str, str], runs: Sequence[Run], name: str) -> bool:
    """Whether the slot, whose *health* is that by all *runs*, became unwell by its last one."""
    if not health.is_unwell:
        return False
    last = max((run for run in runs if run.slot == name), key=lambda run: run.number)
    before = [run for run in runs if run is not last]
    return not last.kind.is_canary and not checkup(profiles, before, name).is_unwell


def is_puzzling(runs: Iterable[Run], name: str) -> bool:
    """Whether only a canary can tell if the slot or its samples are to blame.

    True if a sample fails that has failed in the slot before, or if :data:`PUZZLING` samples in a row fail,
    whatever they are charged to. Charges alone do not show it: two broken slots in which the same samples
    fail take each other's charges back, and if a profile has only one slot, no other can. Samples that
    Windows did not start count as well, although they are excused.
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
    """What is wrong with the run *last*, compared with the runs of the other slots."""
    others = [run for run in runs if run.slot != last.slot]
    return checkup(profiles, [*others, last], last.slot).reasons


def _conclusive(profiles: Mapping[str, str], runs: Iterable[Run]) -> dict[str, list[Run]]:
    """The runs that count, of each slot, oldest first."""
    found: dict[str, list[Run]] = {name: [] for name in profiles}
    for run in runs:
        if run.kind is Kind.CANARY_WORKED and run.slot in found:
            found[run.slot].clear()  # the slot has been fixed since
        if run.slot in found and _is_conclusive(run):
            found[run.slot].append(run)
    return found


def _trials(
    profiles: Mapping[str, str], runs: Mapping[str, Sequence[Run]], profile: str
) -> dict[str, list[Trial]]:
    """What the last runs of each slot of a profile say about it."""
    last = {name: own[-WINDOW:] for name, own in runs.items() if profiles[name] == profile}
    usual = _Usual.of(list(last.values()))
    return {name: [usual.trial(run) for run in own] for name, own in last.items()}


def _health(name: str, trials: Mapping[str, Sequence[Trial]]) -> SlotHealth:
    """The health of one of the slots whose *trials* these are."""
    return health(trials[name], [trial for other in trials if other != name for trial in trials[other]])


def _is_conclusive(run: Run) -> bool:
    """Whether the run says anything about its slot: if it is charged to the sample, only its restore does."""
    return run.kind is not Kind.FAILED or run.charged or run.facts.restore_seconds is not None
