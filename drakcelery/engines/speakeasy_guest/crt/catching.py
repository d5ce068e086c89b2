"""What a C++ exception is, and which ``catch`` takes it: the tables of Visual C++ (``ehdata.h``).

Addresses in them are relative to the image in 64 bits, and absolute in 32.
"""

from __future__ import annotations

import struct
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from drakcelery.engines.speakeasy_guest.calling.guest_calls import GuestCall
from drakcelery.engines.speakeasy_guest.crt.machine import Machine

CXX_EXCEPTION = 0xE06D7363
MAGIC = (0x19930520, 0x19930521, 0x19930522)
MAX_ENTRIES = 65536
NO_STATE = -1
"""Of a function that has nothing to clean up."""

REFERENCE, SIMPLE, VIRTUAL_BASES = 0x8, 0x1, 0x4
"""Bits of a catch's adjectives (the first) and of a catchable type."""


@dataclass(frozen=True)
class Thrown:
    """An object that was thrown, and the tables of its type."""

    object: int
    info: int
    base: int
    """Of the image that threw it; 0 in 32 bits."""


@dataclass(eq=False)
class Caught:
    """An object whose catch block runs."""

    thrown: Thrown
    frame: int = 0
    """In 64 bits: that of the function with the ``try``."""
    state: int = -1
    """The state around that."""


@dataclass(frozen=True)
class Catch:
    """A ``catch`` block."""

    adjectives: int
    type: int
    """Its type's descriptor; 0 for all."""
    variable: int
    """Where the object goes, from the frame's address; 0 for nowhere."""
    handler: int
    parent: int = 0
    """In 64 bits: where a catch's frame holds the address of the function's."""
    places: tuple[int, ...] = ()
    """Where the function goes on, if the catch gives a number of these instead of an address."""


@dataclass(frozen=True)
class Catchable:
    """A type that the object can be caught as."""

    properties: int
    type: int
    displacement: tuple[int, int, int]
    size: int
    copy: int


@dataclass(frozen=True)
class Tables:
    """``FuncInfo``: the states, ``try`` blocks and places of one function."""

    machine: Machine
    place: int
    base: int

    def _words(self, place: int, count: int) -> tuple[int, ...]:
        return struct.unpack(f"<{count}i", self.machine.read(place, 4 * count))

    def absolute(self, value: int) -> int:
        """An address of the tables."""
        return self.base + (value & 0xFFFFFFFF) if value else 0

    @property
    def is_known(self) -> bool:
        """Whether these are tables that are understood."""
        return self.machine.number(self.place, 4) & 0x1FFFFFFF in MAGIC

    def unwound(self, state: int) -> tuple[int, int]:
        """The state around *state*, and what has to run when it is left."""
        _, count, place = self._words(self.place, 3)
        if not 0 <= state < min(count, MAX_ENTRIES):
            return -1, 0
        outer, action = self._words(self.absolute(place) + 8 * state, 2)
        return outer, self.absolute(action)

    def leaving(self, state: int, frame: int) -> tuple[int, GuestCall | None]:
        """In 64 bits: the state around *state*, and what has to run when it is left."""
        outer, action = self.unwound(state)
        return outer, GuestCall(action, (0, frame)) if action else None

    def state_at(self, pc: int) -> int:
        """In 64 bits: the state of the function at a place in it."""
        *_, count, place = self._words(self.place, 7)
        state = -1
        for number in range(min(max(count, 0), MAX_ENTRIES)):
            start, there = self._words(self.absolute(place) + 8 * number, 2)
            if self.absolute(start) > pc:
                break
            state = there
        return state

    @property
    def unwind_help(self) -> int:
        """In 64 bits: where the frame holds its state while it is unwound."""
        return self._words(self.place, 8)[7]

    def tries(self) -> Iterator[tuple[int, int, list[Catch]]]:
        """The ``try`` blocks, inner ones first: first and last state, and their catches."""
        *_, count, place = self._words(self.place, 5)
        for number in range(min(max(count, 0), MAX_ENTRIES)):
            low, high, _, catches, array = self._words(self.absolute(place) + 20 * number, 5)
            yield low, high, list(self._catches(self.absolute(array), min(max(catches, 0), 256)))

    def _catches(self, place: int, count: int) -> Iterator[Catch]:
        words = 5 if self.machine.is_64 else 4
        for number in range(count):
            adjectives, kind, variable, handler, *more = self._words(place + 4 * words * number, words)
            parent = more[0] if more else 0
            yield Catch(adjectives, self.absolute(kind), variable, self.absolute(handler), parent)


def type_name(machine: Machine, descriptor: int) -> bytes:
    """The decorated name in a type's descriptor; empty for ``catch (...)``."""
    return machine.string(descriptor + 2 * machine.size, 1, 4096) if descriptor else b""


def catchables(machine: Machine, thrown: Thrown) -> Iterator[Catchable]:
    """The types that an object can be caught as, the most special first."""
    array = thrown.base + machine.number(thrown.info + 12, 4)
    for number in range(min(machine.number(array, 4), 256)):
        place = thrown.base + machine.number(array + 4 + 4 * number, 4)
        properties, kind, *displacement, size, copy = struct.unpack("<IIiiiiI", machine.read(place, 28))
        yield Catchable(
            properties,
            thrown.base + kind,
            (displacement[0], displacement[1], displacement[2]),
            size,
            thrown.base + copy if copy else 0,
        )


def caught_as(machine: Machine, catch: Catch, thrown: Thrown) -> Catchable | None:
    """As what a catch takes the object; None if it does not. A catch of all takes it as what it is."""
    name = type_name(machine, catch.type)
    for catchable in catchables(machine, thrown):
        if not name or type_name(machine, catchable.type) == name:
            return catchable
    return None


def _adjusted(machine: Machine, place: int, displacement: tuple[int, int, int]) -> int:
    member, pointer, virtual = displacement
    place += member
    if pointer >= 0:
        table = machine.number(place - member + pointer)
        place += pointer + machine.number(table + virtual, 4, signed=True)
    return place


def deliver(
    machine: Machine, catch: Catch, catchable: Catchable, thrown: Thrown, frame: int
) -> Generator[GuestCall, int, None]:
    """Put the object where a catch wants it."""
    if not catch.variable or not type_name(machine, catch.type):
        return
    target = frame + catch.variable
    if catch.adjectives & REFERENCE:
        machine.put(target, _adjusted(machine, thrown.object, catchable.displacement))
    elif catchable.properties & SIMPLE:
        machine.write(target, machine.read(thrown.object, catchable.size))
        if catchable.size == machine.size and machine.number(target):
            machine.put(target, _adjusted(machine, machine.number(target), catchable.displacement))
    else:
        source = _adjusted(machine, thrown.object, catchable.displacement)
        if not catchable.copy:
            machine.write(target, machine.read(source, catchable.size))
        else:
            more = (1,) if catchable.properties & VIRTUAL_BASES else ()
            yield method(machine, catchable.copy, target, source, *more)


def method(machine: Machine, address: int, this: int, *arguments: int) -> GuestCall:
    """The call of a C++ method."""
    if machine.is_64:
        return GuestCall(address, (this, *arguments))
    return GuestCall(address, arguments, registers={"ecx": this})
