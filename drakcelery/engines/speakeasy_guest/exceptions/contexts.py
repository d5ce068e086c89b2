"""The structures by which Windows describes an exception (``winnt.h``): record, context, dispatcher."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

from drakcelery.engines.speakeasy_guest.machine.processor import GENERAL_64, VECTORS, Registers

RECORD_SIZE = {32: 0x50, 64: 0x98}
CONTEXT_SIZE = {32: 0x2CC, 64: 0x4D0}
DISPATCHER_SIZE = 0x50
MOST_PARAMETERS = 15

NONCONTINUABLE, UNWINDING, EXIT_UNWIND, STACK_INVALID = 0x1, 0x2, 0x4, 0x8
NESTED_CALL, TARGET_UNWIND, COLLIDED_UNWIND = 0x10, 0x20, 0x40
"""Flags of an exception record."""

_FLAGS_AT = {32: 0, 64: 0x30}
_ALL = {32: 0x1003F, 64: 0x10001F}
"""``CONTEXT_ALL``."""
_SEGMENTS_64 = (0x38, struct.pack("<6H", 0x33, 0x2B, 0x2B, 0x53, 0x2B, 0x2B))
"""Where the segment registers are, and what 64-bit Windows has in cs, ds, es, fs, gs and ss."""
_SEGMENTS_32 = (0x8C, struct.pack("<4I", 0x2B, 0x53, 0x2B, 0x2B))
_FIELDS_32 = {
    "edi": 0x9C,
    "esi": 0xA0,
    "ebx": 0xA4,
    "edx": 0xA8,
    "ecx": 0xAC,
    "eax": 0xB0,
    "ebp": 0xB4,
    "eip": 0xB8,
    "eflags": 0xC0,
    "esp": 0xC4,
}
_GENERAL_64_AT, _RIP_AT, _EFLAGS_64_AT, _XMM_AT = 0x78, 0xF8, 0x44, 0x1A0
_MXCSR_AT, _MXCSR = (0x34, 0x118), 0x1F80
_FPU_CONTROL_AT, _FPU_CONTROL = {32: 0x1C, 64: 0x100}, 0x27F


@dataclass
class ExceptionRecord:
    """What happened."""

    code: int
    address: int
    flags: int = 0
    parameters: tuple[int, ...] = field(default=())
    record: int = 0
    """Another record that this one came of."""


def write_record(emu: Any, place: int, record: ExceptionRecord) -> None:
    """Lay down an ``EXCEPTION_RECORD``."""
    size = emu.get_ptr_size()
    word = "I" if size == 4 else "Q"
    count = min(len(record.parameters), MOST_PARAMETERS)
    head = struct.pack(f"<II{word}{word}", record.code, record.flags, record.record, record.address)
    numbers = struct.pack("<I" if size == 4 else "<I4x", count)
    mask = (1 << 8 * size) - 1
    rest = b"".join((value & mask).to_bytes(size, "little") for value in record.parameters[:count])
    emu.mem_write(place, head + numbers + rest)


def read_record(emu: Any, place: int) -> ExceptionRecord:
    """Read an ``EXCEPTION_RECORD``."""
    size = emu.get_ptr_size()
    data = bytes(emu.mem_read(place, RECORD_SIZE[size * 8]))
    word = "I" if size == 4 else "Q"
    code, flags, other, address, count = struct.unpack_from(f"<II{word}{word}I", data)
    parameters = struct.unpack_from(
        f"<{min(count, MOST_PARAMETERS)}{word}", data, 0x14 if size == 4 else 0x20
    )
    return ExceptionRecord(code=code, address=address, flags=flags, parameters=parameters, record=other)


def set_flags(emu: Any, record: int, flags: int) -> None:
    """Change the flags of the record at an address."""
    emu.mem_write(record + 4, flags.to_bytes(4, "little"))


def write_context(emu: Any, place: int, registers: Registers) -> None:
    """Lay down a ``CONTEXT``: *registers*, those of vectors too in 64 bits where they are given."""
    bits = emu.get_ptr_size() * 8
    data = bytearray(CONTEXT_SIZE[bits])
    struct.pack_into("<I", data, _FLAGS_AT[bits], _ALL[bits])
    struct.pack_into("<H", data, _FPU_CONTROL_AT[bits], _FPU_CONTROL)
    if bits == 32:
        place_of, segments = _SEGMENTS_32
        data[place_of : place_of + len(segments)] = segments
        struct.pack_into("<I", data, 0xBC, 0x23)  # cs
        struct.pack_into("<I", data, 0xC8, 0x2B)  # ss
        for name, at in _FIELDS_32.items():
            struct.pack_into("<I", data, at, registers[name])
    else:
        place_of, segments = _SEGMENTS_64
        data[place_of : place_of + len(segments)] = segments
        for at in _MXCSR_AT:
            struct.pack_into("<I", data, at, _MXCSR)
        for number, name in enumerate(GENERAL_64):
            struct.pack_into("<Q", data, _GENERAL_64_AT + 8 * number, registers[name])
        struct.pack_into("<Q", data, _RIP_AT, registers["rip"])
        struct.pack_into("<I", data, _EFLAGS_64_AT, registers["eflags"] & 0xFFFFFFFF)
        for number, name in enumerate(VECTORS):
            at = _XMM_AT + 16 * number
            data[at : at + 16] = registers.get(name, 0).to_bytes(16, "little")
    emu.mem_write(place, bytes(data))


def read_context(emu: Any, place: int) -> Registers:
    """The registers of a ``CONTEXT``."""
    bits = emu.get_ptr_size() * 8
    data = bytes(emu.mem_read(place, CONTEXT_SIZE[bits]))
    if bits == 32:
        return {name: struct.unpack_from("<I", data, at)[0] for name, at in _FIELDS_32.items()}
    values = struct.unpack_from("<16Q", data, _GENERAL_64_AT)
    registers = dict(zip(GENERAL_64, values, strict=True))
    registers["rip"] = struct.unpack_from("<Q", data, _RIP_AT)[0]
    registers["eflags"] = struct.unpack_from("<I", data, _EFLAGS_64_AT)[0]
    for number, name in enumerate(VECTORS):
        at = _XMM_AT + 16 * number
        registers[name] = int.from_bytes(data[at : at + 16], "little")
    return registers


@dataclass
class Dispatcher:
    """A ``DISPATCHER_CONTEXT`` of 64 bits: the frame whose handler is called."""

    control_pc: int
    image_base: int
    function_entry: int
    establisher: int
    context: int
    handler: int
    handler_data: int
    target_ip: int = 0
    history: int = 0
    scope_index: int = 0

    def write(self, emu: Any, place: int) -> None:
        """Lay it down."""
        data = struct.pack(
            "<9QI4x",
            *(self.control_pc, self.image_base, self.function_entry, self.establisher, self.target_ip),
            *(self.context, self.handler, self.handler_data, self.history, self.scope_index),
        )
        emu.mem_write(place, data)

    @classmethod
    def read(cls, emu: Any, place: int) -> Dispatcher:
        """Read one that a handler may have changed."""
        values = struct.unpack("<9QI4x", bytes(emu.mem_read(place, DISPATCHER_SIZE)))
        pc, base, entry, establisher, target, context, handler, data, history, scope = values
        return cls(
            control_pc=pc,
            image_base=base,
            function_entry=entry,
            establisher=establisher,
            context=context,
            handler=handler,
            handler_data=data,
            target_ip=target,
            history=history,
            scope_index=scope,
        )
