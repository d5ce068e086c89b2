"""Unwinding of 64-bit frames by the tables that programs bring: ``.pdata`` and ``.xdata``.

Format: "x64 exception handling" of Microsoft's documentation of Visual C++. Tables are read from the
program's memory, so that what it has unpacked or generated counts; how far is bounded, for they are hostile.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from drakcelery.engines.speakeasy_guest.machine.processor import GENERAL_64, Registers

EXCEPTION_DIRECTORY = 3
ENTRY_SIZE = 12
MAX_ENTRIES = 1 << 20
MAX_CHAIN = 32

EHANDLER, UHANDLER, CHAINED = 1, 2, 4
"""Flags of ``UNWIND_INFO``: a handler for exceptions, one for unwinding, and more of the same function."""

_SLOTS = {0: 1, 2: 1, 3: 1, 4: 2, 5: 3, 6: 2, 7: 3, 8: 2, 9: 3, 10: 1}
"""16-bit slots that each kind of code takes; ALLOC_LARGE (1) takes two or three."""


@dataclass(frozen=True)
class Function:
    """An entry of ``.pdata``; addresses are relative to the image."""

    base: int
    place: int
    """Where the entry lies."""
    begin: int
    end: int
    unwind: int


@dataclass(frozen=True)
class Code:
    """One step of a prolog."""

    offset: int
    operation: int
    info: int
    operand: int


@dataclass(frozen=True)
class Info:
    """An ``UNWIND_INFO``."""

    flags: int
    prolog: int
    register: int
    distance: int
    codes: tuple[Code, ...]
    after: int
    """Address of what follows the codes: the handler, or the entry that it is chained to."""


@dataclass(frozen=True)
class Frame:
    """What unwinding one frame has found."""

    function: Function | None
    establisher: int
    handler: int = 0
    handler_data: int = 0


class Tables:
    """Where function tables lie: in images, and where the program said (``RtlAddFunctionTable``)."""

    def __init__(self, emu: Any) -> None:
        self._emu = emu
        self.added: dict[int, tuple[int, int]] = {}
        """Entries and base, by the table's address."""

    def find(self, pc: int) -> Function | None:
        """The function that an address is in."""
        for place, count, base, length in (*self._images(), *self._dynamic()):
            if base <= pc < base + length:
                found = self._search(place, count, base, pc - base)
                if found is not None:
                    return found
        return None

    def image_base(self, address: int) -> int:
        """The image that an address lies in; 0 for none."""
        for image, _, _ in self._emu.modules:
            if image.base <= address < image.base + image.image_size:
                return int(image.base)
        return 0

    def _images(self) -> Iterator[tuple[int, int, int, int]]:
        for image, _, _ in self._emu.modules:
            directories = image.OPTIONAL_HEADER.DATA_DIRECTORY
            if len(directories) > EXCEPTION_DIRECTORY:
                entry = directories[EXCEPTION_DIRECTORY]
                count = min(entry.Size // ENTRY_SIZE, MAX_ENTRIES)
                yield image.base + entry.VirtualAddress, count, image.base, image.image_size

    def _dynamic(self) -> Iterator[tuple[int, int, int, int]]:
        for place, (count, base) in self.added.items():
            yield place, min(count, MAX_ENTRIES), base, 1 << 32

    def _search(self, place: int, count: int, base: int, wanted: int) -> Function | None:
        low, high = 0, count
        while low < high:
            middle = (low + high) // 2
            entry = self.read(place + middle * ENTRY_SIZE, base)
            if wanted < entry.begin:
                high = middle
            elif wanted >= entry.end:
                low = middle + 1
            else:
                return self._direct(entry)
        return None

    def _direct(self, entry: Function) -> Function:
        """The entry itself where it refers to another one (bit 0 of its unwind address)."""
        return self.read(entry.base + (entry.unwind & ~1), entry.base) if entry.unwind & 1 else entry

    def read(self, place: int, base: int) -> Function:
        """The entry at an address."""
        begin, end, unwind = struct.unpack("<III", bytes(self._emu.mem_read(place, ENTRY_SIZE)))
        return Function(base=base, place=place, begin=begin, end=end, unwind=unwind)

    def info(self, function: Function) -> Info:
        """How a function is unwound."""
        place = function.base + function.unwind
        head, prolog, count, frame = bytes(self._emu.mem_read(place, 4))
        slots = struct.unpack(f"<{count}H", bytes(self._emu.mem_read(place + 4, 2 * count)))
        return Info(
            flags=head >> 3,
            prolog=prolog,
            register=frame & 0xF,
            distance=(frame >> 4) * 16,
            codes=tuple(_codes(slots)),
            after=place + 4 + 2 * (count + count % 2),
        )


def _codes(slots: tuple[int, ...]) -> Iterator[Code]:
    at = 0
    while at < len(slots):
        offset, operation, info = slots[at] & 0xFF, slots[at] >> 8 & 0xF, slots[at] >> 12
        length = _SLOTS.get(operation, 2 + (info == 1))
        operands = slots[at + 1 : at + length]
        value = sum(slot << 16 * number for number, slot in enumerate(operands))
        yield Code(offset=offset, operation=operation, info=info, operand=value)
        at += length


def unwind(emu: Any, tables: Tables, registers: Registers, wanted: int) -> Frame:
    """Change *registers* to those of the caller. Raises Unicorn's error for a bad stack.

    Args:
        emu: whose memory the stack lies in.
        tables: of the program.
        registers: where the program is; changed.
        wanted: flags of the handlers that are looked for.
    """
    pc = registers["rip"]
    function = tables.find(pc)
    if function is None:
        frame = Frame(function=None, establisher=registers["rsp"])
        _return(emu, registers)
        return frame
    return unwind_function(emu, tables, registers, function, wanted)


def unwind_function(emu: Any, tables: Tables, registers: Registers, function: Function, wanted: int) -> Frame:
    """:func:`unwind` for a function that is known."""
    pc = registers["rip"]
    info = tables.info(function)
    offset = pc - function.base - function.begin
    establisher = _establisher(registers, info, offset)
    in_prolog = offset < info.prolog and not info.flags & CHAINED
    moved = False
    current, part = function, info
    for _ in range(MAX_CHAIN):
        within = offset if current is function else 1 << 30
        moved = _undo(emu, registers, part, within) or moved
        if not part.flags & CHAINED:
            break
        current = tables.read(part.after, function.base)
        part = tables.info(current)
    if not moved:
        _return(emu, registers)
    if not part.flags & wanted or part.flags & CHAINED or in_prolog:
        return Frame(function=function, establisher=establisher)
    handler = function.base + int.from_bytes(emu.mem_read(part.after, 4), "little")
    return Frame(function=function, establisher=establisher, handler=handler, handler_data=part.after + 4)


def _establisher(registers: Registers, info: Info, offset: int) -> int:
    """The frame by which handlers know the function's variables."""
    set_up = offset >= info.prolog or info.flags & CHAINED
    set_up = set_up or any(code.operation == 3 and code.offset <= offset for code in info.codes)
    if info.register and set_up:
        return registers[GENERAL_64[info.register]] - info.distance
    return registers["rsp"]


def _undo(emu: Any, registers: Registers, info: Info, offset: int) -> bool:
    """Take back what a prolog did before *offset*; True if it was entered by an interrupt, and so undone."""
    base = registers["rsp"]
    if info.register and (offset >= info.prolog or info.flags & CHAINED):
        base = registers[GENERAL_64[info.register]] - info.distance
    for code in info.codes:
        if code.offset > offset:
            continue
        if code.operation == 10:  # PUSH_MACHFRAME: what an interrupt pushes
            place = registers["rsp"] + 8 * code.info
            registers["rip"], registers["rsp"] = emu.read_ptr(place), emu.read_ptr(place + 24)
            return True
        _undo_one(emu, registers, info, code, base)
    return False


def _undo_one(emu: Any, registers: Registers, info: Info, code: Code, base: int) -> None:
    if code.operation == 0:  # PUSH_NONVOL
        registers[GENERAL_64[code.info]] = emu.read_ptr(registers["rsp"])
        registers["rsp"] += 8
    elif code.operation == 1:  # ALLOC_LARGE
        registers["rsp"] += code.operand if code.info else code.operand * 8
    elif code.operation == 2:  # ALLOC_SMALL
        registers["rsp"] += code.info * 8 + 8
    elif code.operation == 3:  # SET_FPREG
        registers["rsp"] = registers[GENERAL_64[info.register]] - info.distance
    elif code.operation in (4, 5):  # SAVE_NONVOL, and _FAR
        distance = code.operand * 8 if code.operation == 4 else code.operand
        registers[GENERAL_64[code.info]] = emu.read_ptr(base + distance)
    elif code.operation in (8, 9):  # SAVE_XMM128, and _FAR
        distance = code.operand * 16 if code.operation == 8 else code.operand
        registers[f"xmm{code.info}"] = int.from_bytes(emu.mem_read(base + distance, 16), "little")


def _return(emu: Any, registers: Registers) -> None:
    registers["rip"] = emu.read_ptr(registers["rsp"])
    registers["rsp"] += 8
