"""Puts a slot aside whose score says that it is broken, as long as enough slots of its profile stay in use.

If its score has just fallen, or its samples may be to blame, a canary tries the slot first.

This is one of several ways into quarantine, and none out of it:

===========================================================  =============================================
into it                                                      where
===========================================================  =============================================
by its score, once it is given back                          :func:`judge`, ``SlotRuns.put_aside``
``quarantine_after`` failed runs in a row are charged to it  ``SlotFile._free``, ``SlotRuns.settle_charge``
a canary failed in it                                        ``SlotCanaries.tried``
a guest that was left in it does not die, again and again    ``SlotTable.survived``
an operator says so                                          ``SlotTable.close``
===========================================================  =============================================

========================================================  ==========================================
out of it                                                 where
========================================================  ==========================================
a canary was good                                         ``SlotCanaries.tried``
after ``quarantine_seconds``, on a host without canaries  ``SlotTable.probe``
a failed run turns out to be its sample's fault           ``SlotRuns.settle_charge``
an operator says so                                       ``SlotRuns.forgive``, ``SlotTable.reopen``
the vm worker begins, or its file of slots was lost       ``SlotTable.define``
========================================================  ==========================================

What an operator has closed, only an operator opens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import structlog
from redis.exceptions import RedisError

from drakcelery.host.checkup import has_fallen, is_puzzling
from drakcelery.host.health import SlotHealth, most_aside
from drakcelery.host.history import Run
from drakcelery.host.slot import Slot, SlotState
from drakcelery.host.slots import SlotTable
from drakcelery.ledger.fleet import Fleet
from drakcelery.model.records import HostStatus

log = structlog.get_logger(__name__)


def judge(
    slots: SlotTable, holder: tuple[str, str, int], health: SlotHealth, fleet: Fleet, *, host: str
) -> bool:
    """Put a slot aside after a run, before another sample gets it, if its health calls for it.

    Args:
        slots: this host's.
        holder: the slot, and the uid and attempt that have it.
        health: the slot's, with that run.
        fleet: what other hosts report; while Redis is away nothing is known of them.
        host: this one.
    """
    if not health.is_sick:
        return False
    name, mine, reasons = holder[0], slots.all(), "; ".join(health.reasons)
    if not (
        # Before the hosts are read: what another host did in its turn is in its report by now
        _has_turn(fleet, _profile(mine, name), host)
        and slots.put_aside(*holder, most=most_here(mine, known_hosts(fleet), host=host, name=name))
    ):
        log.warning("slot_sick", slot=name, score=health.score, reasons=reasons)
        return False
    log.error("slot_put_aside", slot=name, score=health.score, reasons=reasons)
    return True


def known_hosts(fleet: Fleet) -> list[HostStatus]:
    """What hosts say about themselves; none if Redis is away."""
    try:
        return fleet.hosts()
    except RedisError as error:
        log.warning("not_asked", error=str(error))
        return []


def _has_turn(fleet: Fleet, profile: str, host: str) -> bool:
    """Whether this host may judge now: two at once would not see what the other puts aside. False if Redis is
    away."""
    try:
        return fleet.may_judge(profile, host)
    except RedisError as error:
        log.warning("not_asked", error=str(error))
        return False


def is_doubtful(health: SlotHealth, profiles: Mapping[str, str], runs: Sequence[Run], name: str) -> bool:
    """Whether a canary should try a slot after a run, to find out what is wrong."""
    return has_fallen(health, profiles, runs, name) or is_puzzling(runs, name)


def may_put_aside(slots: SlotTable, fleet: Fleet, *, host: str, name: str) -> bool:
    """Whether a slot may be put aside by its score alone: enough of its profile stay in use."""
    mine = slots.all()
    # First, as above
    return _has_turn(fleet, _profile(mine, name), host) and is_allowed(
        mine, known_hosts(fleet), host=host, name=name
    )


def is_allowed(mine: Sequence[Slot], hosts: list[HostStatus], *, host: str, name: str) -> bool:
    """Whether one more slot of that profile may be put aside: *mine* are this host's, and fresher."""
    profile = _profile(mine, name)
    aside = [slot for slot in mine if slot.profile == profile and slot.name != name and _is_aside(slot.state)]
    return len(aside) < most_here(mine, hosts, host=host, name=name)


def most_here(mine: Sequence[Slot], hosts: list[HostStatus], *, host: str, name: str) -> int:
    """How many slots of that profile may be aside on this host, given those that are aside on others."""
    profile = _profile(mine, name)
    elsewhere = [
        slot.state
        for status in hosts
        if status.host != host
        for slot in status.slots
        if slot.profile == profile
    ]
    here = sum(slot.profile == profile for slot in mine)
    return most_aside(here + len(elsewhere)) - sum(_is_aside(state) for state in elsewhere)


def _profile(mine: Iterable[Slot], name: str) -> str:
    return next(slot.profile for slot in mine if slot.name == name)


def _is_aside(state: str) -> bool:
    return state == SlotState.QUARANTINED
