"""The compressed tables of Visual C++ for x64 since 2019, ``__CxxFrameHandler4`` (``ehdata4_export.h``).

Numbers are of one to five bytes; states are written as one more than they are; places in a function are
offsets from its beginning, each from the one before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from drakcelery.engines.speakeasy_guest.calling.guest_calls import GuestCall
from drakcelery.engines.speakeasy_guest.crt.catching import MAX_ENTRIES, NO_STATE, Catch
from drakcelery.engines.speakeasy_guest.crt.machine import Machine

IS_CATCH, IS_SEPARATED, HAS_FLAGS, HAS_STATES, HAS_TRIES = 0x1, 0x2, 0x4, 0x8, 0x10
"""Bits of a function's head."""

HAS_ADJECTIVES, HAS_TYPE, HAS_OBJECT, IS_ABSOLUTE = 0x1, 0x2, 0x4, 0x8
"""Bits of a catch's head; two more say how many places there are to continue at."""

OBJECT, POINTER_TO_OBJECT = 1, 2
"""What a state's action gets: an object of the frame, or what a pointer in the frame points to."""

LENGTHS: Final = (1, 2, 1, 3, 1, 2, 1, 4, 1, 2, 1, 3, 1, 2, 1, 5)
"""Bytes of a number, by the lower half of its first one."""


class Cursor:
    """Reads one thing after another."""

    def __init__(self, machine: Machine, place: int) -> None:
        self._machine = machine
        self.place = place

    def byte(self) -> int:
        """One byte."""
        self.place += 1
        return self._machine.number(self.place - 1, 1)

    def word(self) -> int:
        """Four bytes."""
        self.place += 4
        return self._machine.number(self.place - 4, 4)

    def number(self) -> int:
        """A number of one to five bytes."""
        length = LENGTHS[self._machine.number(self.place, 1) & 0xF]
        value = int.from_bytes(self._machine.read(self.place, length), "little")
        self.place += length
        return value >> (8 if length == 5 else length)


@dataclass(frozen=True)
class State:
    """What is around a state, and what runs when it is left."""

    outer: int
    kind: int
    action: int
    object: int


class CompressedTables:
    """``FuncInfo4``: the states, ``try`` blocks and places of one function or catch block."""

    unwind_help = 0
    """Frames note nothing."""

    def __init__(self, machine: Machine, place: int, base: int, begin: int) -> None:
        self._machine, self._base, self._begin = machine, base, begin
        cursor = Cursor(machine, place)
        self._head = cursor.byte()
        if self._head & HAS_FLAGS:
            cursor.number()
        states = cursor.word() if self._head & HAS_STATES else 0
        self._tries = cursor.word() if self._head & HAS_TRIES else 0
        self._places = cursor.word()
        self._frame_at = cursor.number() if self._head & IS_CATCH else 0
        self._states = self._read_states(base + states) if states else []

    @property
    def is_catch(self) -> bool:
        """Whether they are those of a catch block."""
        return bool(self._head & IS_CATCH)

    def function_frame(self, establisher: int) -> int:
        """The function's frame, from its own or that of one of its catches."""
        if self.is_catch:
            return self._machine.number(establisher + self._frame_at)
        return establisher

    def _read_states(self, place: int) -> list[State]:
        cursor = Cursor(self._machine, place)
        numbers: dict[int, int] = {}
        found = []
        for number in range(min(cursor.number(), MAX_ENTRIES)):
            start = cursor.place
            numbers[start] = number
            back, kind = divmod(cursor.number(), 4)
            action = cursor.word() if kind else 0
            offset = cursor.number() if kind in (OBJECT, POINTER_TO_OBJECT) else 0
            outer = numbers.get(start - back, NO_STATE) if back else NO_STATE
            found.append(State(outer, kind, self._base + action if action else 0, offset))
        return found

    def leaving(self, state: int, frame: int) -> tuple[int, GuestCall | None]:
        """The state around *state*, and what has to run when it is left."""
        if not 0 <= state < len(self._states):
            return NO_STATE, None
        found = self._states[state]
        if not found.action:
            return found.outer, None
        if found.kind in (OBJECT, POINTER_TO_OBJECT):
            place = frame + found.object
            this = self._machine.number(place) if found.kind == POINTER_TO_OBJECT else place
            return found.outer, GuestCall(found.action, (this,))
        return found.outer, GuestCall(found.action, (0, frame))

    def state_at(self, pc: int) -> int:
        """The state of the function at a place in it."""
        cursor = Cursor(self._machine, self._base + self._map())
        place, state = self._begin, NO_STATE
        for _ in range(min(cursor.number(), MAX_ENTRIES)):
            place += cursor.number()
            if place > pc:
                break
            state = cursor.number() - 1
        return state

    def _map(self) -> int:
        """The table of places; of a function that lies in several parts, the part's."""
        if not self._head & IS_SEPARATED:
            return self._places
        cursor = Cursor(self._machine, self._base + self._places)
        parts = {cursor.word(): cursor.word() for _ in range(min(cursor.number(), MAX_ENTRIES))}
        return parts.get(self._begin - self._base, 0)

    def tries(self) -> Iterator[tuple[int, int, list[Catch]]]:
        """The ``try`` blocks, inner ones first: first and last state, and their catches."""
        if not self._tries:
            return
        cursor = Cursor(self._machine, self._base + self._tries)
        for _ in range(min(cursor.number(), MAX_ENTRIES)):
            low, high, _ = (cursor.number() - 1 for _ in range(3))
            yield low, high, list(self._catches(self._base + cursor.word()))

    def _catches(self, place: int) -> Iterator[Catch]:
        cursor = Cursor(self._machine, place)
        for _ in range(min(cursor.number(), 256)):
            head = cursor.byte()
            adjectives = cursor.number() if head & HAS_ADJECTIVES else 0
            kind = cursor.word() if head & HAS_TYPE else 0
            variable = cursor.number() if head & HAS_OBJECT else 0
            handler = cursor.word()
            places = [
                self._base + cursor.word() if head & IS_ABSOLUTE else self._begin + cursor.number()
                for _ in range(head >> 4 & 3)
            ]
            yield Catch(
                adjectives=adjectives,
                type=self._base + kind if kind else 0,
                variable=variable,
                handler=self._base + handler,
                places=tuple(places),
            )
