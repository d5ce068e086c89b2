"""What is missing in a run although runs of other slots leave it. Pure.

The sample or the slot may be to blame, which one slot alone cannot settle.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from drakcelery.host.charges import SlotOfHost
from drakcelery.host.history import Facts, Kind, Run
from drakcelery.model.analysis import Failure

NO_TRAFFIC = 40
"""Bytes of a recording without a packet: the file header of pcap, and that of one record."""
RECENT = 10
"""How many of the newest runs of each slot a run is compared with."""


class Lack(enum.StrEnum):
    """Something that is missing."""

    LOG = "log"
    TRAFFIC = "traffic"
    SNAPSHOT = "snapshot"

    @property
    def words(self) -> str:
        """For people."""
        return _WORDS[self]


_WORDS: Mapping[Lack, str] = {
    Lack.LOG: "the log is empty",
    Lack.TRAFFIC: "no traffic was recorded",
    Lack.SNAPSHOT: "the VM was restored from another snapshot than those of the other slots",
}


def lacking(profiles: Mapping[str, str], runs: Iterable[Run], slot: str, facts: Facts) -> frozenset[Lack]:
    """What is missing in a run in *slot* that left *facts*, compared with earlier *runs* of this host, oldest
    first.

    Something counts as missing if fewer than half of the other slots' runs lack it. Without such runs, those
    of its own slot are used. Without these as well, an empty log counts as missing, and so does a recording
    if there is no file at all.
    """
    by_slot: dict[str, list[Facts]] = {name: [] for name in profiles if profiles[name] == profiles[slot]}
    for run in runs:
        if run.slot in by_slot and run.kind in (Kind.WORKED, Kind.CANARY_WORKED):
            by_slot[run.slot].append(run.facts)
    own = by_slot.pop(slot)[-RECENT:]
    known = [one for facts in by_slot.values() for one in facts[-RECENT:]] or own
    lacks = set()
    if not facts.log_size and _is_odd([not one.log_size for one in known], unknown=True):
        lacks.add(Lack.LOG)
    if facts.traffic_due and not has_traffic(facts):
        silent = [not has_traffic(one) for one in known if one.traffic_due]
        if _is_odd(silent, unknown=facts.pcap_size is None):
            lacks.add(Lack.TRAFFIC)
    usual = usual_snapshot([*by_slot.values(), [*own, facts]])
    if usual is not None and facts.snapshot not in (None, usual):
        lacks.add(Lack.SNAPSHOT)
    return frozenset(lacks)


def doubted(failures: Iterable[Failure], *, besides: SlotOfHost | None = None) -> frozenset[Lack]:
    """What an analysis was doubted for in earlier attempts, *besides* those in a certain slot."""
    return frozenset(
        lack
        for one in failures
        if (one.host, one.slot) != besides
        for lack in Lack
        if lack in (one.lacks or "").split(",")
    )


def has_traffic(facts: Facts) -> bool:
    """Whether at least one packet was recorded."""
    return (facts.pcap_size or 0) > NO_TRAFFIC


def usual_snapshot(slots: Iterable[Sequence[Facts]]) -> str | None:
    """The snapshot from which the *slots* of a profile are restored, by the runs of each, oldest first.

    It is the one of most slots' last runs. Without a majority it is the one with which all slots began, since
    slots with another one have changed. None if that is not known either.
    """
    seen = [found for runs in slots if (found := [one.snapshot for one in runs if one.snapshot])]
    last, first = Counter(one[-1] for one in seen), {one[0] for one in seen}
    for snapshot, count in last.most_common(1):
        if 2 * count > len(seen):
            return snapshot
    return first.pop() if len(first) == 1 else None


def _is_odd(silent: Sequence[bool], *, unknown: bool) -> bool:
    """Whether fewer than half of the others are *silent*; *unknown* is the answer if there are no others."""
    return 2 * sum(silent) < len(silent) if silent else unknown
