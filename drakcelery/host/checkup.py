"""How well the slots of this host are, by what became of their last runs (:mod:`drakcelery.host.history`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from drakcelery.host.health import WINDOW, SlotHealth, Trial, health
from drakcelery.host.history import Kind, Run

NO_TRAFFIC = 40
"""Bytes of a recording without a packet: pcap's own header, and that of a record."""


@dataclass(frozen=True, kw_only=True)
class _Usual:
    """What runs of a profile leave, as far as this host has seen."""

    log: bool
    traffic: bool
    snapshot: str | None
    """That of most slots: of two slots with two snapshots nobody knows which is the right one."""

    @classmethod
    def of(cls, slots: Sequence[Sequence[Run]]) -> _Usual:
        alike = [[run.facts.snapshot for run in last if run.facts.snapshot] for last in slots]
        snapshots = Counter(last[-1] for last in alike if last)
        most, runs = snapshots.most_common(1), [run for last in slots for run in last]
        return cls(
            log=any(run.facts.log_size for run in runs),
            traffic=any(_has_traffic(run) for run in runs),
            snapshot=most[0][0] if most and 2 * most[0][1] > snapshots.total() else None,
        )

    def trial(self, run: Run) -> Trial:
        """What *run* says of its slot."""
        is_canary = run.kind.is_canary
        if run.kind in (Kind.FAILED, Kind.CANARY_FAILED):
            return Trial(failed=True, canary=is_canary)
        return Trial(
            empty_log=self.log and not run.facts.log_size,
            no_pcap=self.traffic and run.facts.traffic_due and not _has_traffic(run),
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
            found[run.slot].clear()  # it has been mended since
        if run.slot in found and _tells(run):
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


def _tells(run: Run) -> bool:
    """Whether it says anything of its slot: what is put down to the sample does not."""
    return run.kind is not Kind.FAILED or run.charged


def _has_traffic(run: Run) -> bool:
    return (run.facts.pcap_size or 0) > NO_TRAFFIC
