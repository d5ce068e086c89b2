"""C++'s types at run time, as Visual C++ lays them out: ``dynamic_cast``, ``typeid``, pointers to members.

Before a virtual table lies a pointer to the class's *complete object locator*: signature, offset, constructor
displacement, type, hierarchy. The hierarchy lists the bases: the type of each, how many it contains itself,
and where it lies. In 64 bits the pointers in these are offsets from the image, whose start the locator tells.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from drakcelery.engines.speakeasy_guest.crt.abi import Function
from drakcelery.engines.speakeasy_guest.crt.machine import Machine
from drakcelery.engines.speakeasy_guest.crt.runtime import Runtime

MAX_BASES = 4096
MAX_NAME = 4096
NOT_VISIBLE = 0x1
"""Attribute of a base that is private."""


@dataclass(frozen=True)
class Base:
    """One class of an object: its type, and where it lies in the whole (``PMD``)."""

    type: int
    member: int
    """Bytes from the start of the object that contains it."""
    table: int
    """Where the pointer to a table of virtual bases is; negative where there is none."""
    slot: int
    """Place in that table."""
    visible: bool


@dataclass(frozen=True)
class Complete:
    """A whole object, found from a pointer to one of its parts."""

    address: int
    type: int
    bases: tuple[Base, ...]


def adjusted(machine: Machine, address: int, member: int, table: int, slot: int) -> int:
    """The address of a base in the object at *address*."""
    place = address + member
    if table >= 0:
        virtual = machine.number(address + table)
        place += table + machine.number(virtual + slot, 4, signed=True)
    return place


def complete(machine: Machine, address: int) -> Complete:
    """The whole object around the part at *address*. Raises UcError for what is no object."""
    locator = machine.number(machine.number(address) - machine.size)
    offset, displacement, kind, hierarchy = (machine.number(locator + 4 * at, 4) for at in range(1, 5))
    image = locator - machine.number(locator + 20, 4) if machine.is_64 else 0
    start = address - offset
    if displacement:
        start -= machine.number(address - displacement, 4, signed=True)
    return Complete(start, image + kind, tuple(_bases(machine, image + hierarchy, image)))


def _bases(machine: Machine, hierarchy: int, image: int) -> Iterator[Base]:
    count, array = (machine.number(hierarchy + at, 4) for at in (8, 12))
    for number in range(min(count, MAX_BASES)):
        entry = image + machine.number(image + array + 4 * number, 4)
        member, table, slot = (machine.number(entry + at, 4, signed=True) for at in (8, 12, 16))
        visible = not machine.number(entry + 20, 4) & NOT_VISIBLE
        yield Base(image + machine.number(entry, 4), member, table, slot, visible)


def _is(machine: Machine, one: int, other: int) -> bool:
    """Whether two types are the same: each module may have its own description, with the same name."""
    if one == other:
        return True
    first, second = (machine.string(place + 2 * machine.size, 1, MAX_NAME) for place in (one, other))
    return first == second


def _cast(crt: Runtime, part: int, _offset: int, _source: int, target: int, _reference: int) -> int:
    """``dynamic_cast``; 0 where the object has no such class, for references too."""
    if not part:
        return 0
    machine = crt.machine
    whole = complete(machine, part)
    for base in whole.bases:
        if base.visible and _is(machine, base.type, target):
            return adjusted(machine, whole.address, base.member, base.table, base.slot)
    return 0


def _type(crt: Runtime, part: int) -> int:
    return complete(crt.machine, part).type if part else 0


def _whole(crt: Runtime, part: int) -> int:
    return complete(crt.machine, part).address if part else 0


def _adjust(crt: Runtime, address: int, place: int) -> int:
    member, table, slot = (crt.machine.number(place + 4 * at, 4, signed=True) for at in range(3))
    return adjusted(crt.machine, address, member, table, slot)


FUNCTIONS: dict[str, Function] = {
    "__RTDynamicCast": Function("pippi", _cast),
    "__RTtypeid": Function("p", _type),
    "__RTCastToVoid": Function("p", _whole),
    "__AdjustPointer": Function("pp", _adjust),
}
"""Functions by name."""
