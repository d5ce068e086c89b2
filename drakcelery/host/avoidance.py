"""Where an analysis may run that has failed before: not where it failed, if it can. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from drakcelery.host.slot import Slot
from drakcelery.model.capacity import OUT_OF_USE, is_in_use
from drakcelery.model.records import HostStatus, Record


def may_have(
    profile: str, slots: Sequence[Slot], failed: Collection[str], *, elsewhere: bool
) -> frozenset[str]:
    """The slots of this host for an analysis that has *failed* in some of them.

    None of them where others have a slot of its profile (*elsewhere*), or where another of this host has work
    yet: then it waits. Where all have failed it, one more try in any of them is all there is.
    """
    if failed and elsewhere:
        return frozenset()
    mine = frozenset(slot.name for slot in slots if slot.profile == profile)
    return _untried(profile, slots, failed) or mine


def _untried(profile: str, slots: Iterable[Slot], failed: Collection[str]) -> frozenset[str]:
    """The slots in use of this host's that it has not failed in."""
    in_use = {slot.name for slot in slots if slot.profile == profile and slot.status not in OUT_OF_USE}
    return frozenset(in_use - {*failed})


def is_another(
    record: Record | None,
    slots: Sequence[Slot],
    hosts: Iterable[HostStatus],
    *,
    host: str,
    failed: Collection[str],
) -> bool:
    """Whether *record* may have another slot in use than those of this *host* that are of *failed*."""
    if record is None or record.place is None:
        return False
    return bool(_untried(record.place.profile, slots, failed)) or is_elsewhere(record, hosts, host=host)


def is_elsewhere(record: Record | None, hosts: Iterable[HostStatus], *, host: str) -> bool:
    """Whether a host other than *host*, on which *record* has not failed, has a slot for it in use."""
    if record is None or record.place is None or record.place.host is not None:
        return False
    avoided = {host, *(failure.host for failure in record.failures)}
    return any(
        status.host not in avoided
        and any(slot.profile == record.place.profile and is_in_use(status, slot) for slot in status.slots)
        for status in hosts
    )
