"""Where an analysis may run that has failed before: if possible, not where it failed. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from drakcelery.host.slot import Slot
from drakcelery.model.capacity import is_in_use
from drakcelery.model.records import HostStatus, Record
from drakcelery.model.slot_state import OUT_OF_USE


def may_have(
    profile: str, slots: Sequence[Slot], failed: Collection[str], *, elsewhere: bool
) -> frozenset[str]:
    """The slots of this host for an analysis that has *failed* in some of them.

    No slot if other hosts have one for it (*elsewhere*); otherwise those of its profile in which it has not
    failed, even if they are busy. If it has failed in all of them, any of them.
    """
    if failed and elsewhere:
        return frozenset()
    mine = frozenset(slot.name for slot in slots if slot.profile == profile)
    return _untried(profile, slots, failed) or mine


def _untried(profile: str, slots: Iterable[Slot], failed: Collection[str]) -> frozenset[str]:
    """The slots of this host that are in use and in which it has not failed."""
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
    """Whether a slot in use is left for *record*, besides the *failed* ones of this *host*."""
    if record is None or record.place is None:
        return False
    return bool(_untried(record.place.profile, slots, failed)) or is_elsewhere(record, hosts, host=host)


def is_elsewhere(record: Record | None, hosts: Iterable[HostStatus], *, host: str) -> bool:
    """Whether another host than *host*, where *record* has not failed, has a slot for it in use."""
    if record is None or record.place is None or record.place.host is not None:
        return False
    avoided = {host, *(failure.host for failure in record.failures)}
    return any(
        status.host not in avoided
        and any(slot.profile == record.place.profile and is_in_use(status, slot) for slot in status.slots)
        for status in hosts
    )
