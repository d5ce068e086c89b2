"""How C functions are called: their arguments, what they return, and calls back into the program.

A signature has a letter for each argument and, after ``>``, one for the result if it is no pointer or int:

``p`` pointer or size, ``i`` signed and ``u`` unsigned 32 bits, ``q`` signed 64 bits, ``d`` double, ``f``
float, ``s`` and ``w`` pointers to narrow and wide text (the log shows the text), ``t`` a C++ method's object,
``v`` a ``va_list``, ``.`` further arguments (a :class:`Variadic`).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from drakcelery.engines.speakeasy_guest.calling.guest_calls import Elsewhere, Steps
from drakcelery.engines.speakeasy_guest.crt.machine import Machine

SHOWN = 1024
"""Characters of a string argument that the log shows."""

INT_REGISTERS = ("rcx", "rdx", "r8", "r9")


Result = int | float | Elsewhere | None
Answer = Callable[..., Result | Steps]


@dataclass(frozen=True)
class Function:
    """A function of the C runtime: its signature, and what answers it."""

    signature: str
    answer: Answer
    pops: int = 0
    """Words that it takes from the stack itself in 32 bit: those of a C++ method."""

    @property
    def arguments(self) -> str:
        """The letters of its arguments."""
        return self.signature.partition(">")[0]

    @property
    def returns(self) -> str:
        """The letter of its result."""
        return self.signature.partition(">")[2] or "p"


class Variadic:
    """Arguments behind the named ones, in the order in which they are asked for."""

    def __init__(self, machine: Machine, address: int) -> None:
        self._machine = machine
        self.address = address

    def _next(self, size: int) -> bytes:
        data = self._machine.read(self.address, size)
        self.address += max(size, self._machine.size)
        return data

    def integer(self, size: int = 4, *, signed: bool = True) -> int:
        """An integer of *size* bytes."""
        data = self._next(max(4, size))
        return int.from_bytes(data[:size], "little", signed=signed)

    def pointer(self) -> int:
        """A pointer or a size."""
        return int.from_bytes(self._next(self._machine.size), "little")

    def double(self) -> float:
        """A double."""
        return float(struct.unpack("<d", self._next(8))[0])


def signed(value: int, bits: int = 32) -> int:
    """*value*'s lowest *bits* as a signed number."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def read_arguments(machine: Machine, letters: str) -> list[Any]:
    """What a function was called with, from where its signature says it lies."""
    return _read_64(machine, letters) if machine.is_64 else _read_32(machine, letters)


def _read_32(machine: Machine, letters: str) -> list[Any]:
    address = machine.stack + 4
    values: list[Any] = []
    for letter in letters:
        if letter == ".":
            values.append(Variadic(machine, address))
            break
        if letter == "t":
            values.append(machine.register("ecx"))
            continue
        size = 8 if letter in "qd" else 4
        values.append(_value(machine, letter, machine.read(address, size)))
        address += size
    return values


def _read_64(machine: Machine, letters: str) -> list[Any]:
    home = machine.stack + 8
    values: list[Any] = []
    for number, letter in enumerate(letters):
        if letter == ".":
            for register in range(number, 4):
                machine.put(home + 8 * register, machine.register(INT_REGISTERS[register]))
            values.append(Variadic(machine, home + 8 * number))
            break
        if number >= 4:
            data = machine.read(home + 8 * number, 8)
        elif letter in "df":
            data = machine.xmm(number).to_bytes(16, "little")
        else:
            data = machine.register(INT_REGISTERS[number]).to_bytes(8, "little")
        values.append(_value(machine, letter, data))
    return values


def _value(machine: Machine, letter: str, data: bytes) -> Any:
    match letter:
        case "i":
            return int.from_bytes(data[:4], "little", signed=True)
        case "u":
            return int.from_bytes(data[:4], "little")
        case "q":
            return int.from_bytes(data[:8], "little", signed=True)
        case "d":
            return struct.unpack("<d", data[:8])[0]
        case "f":
            return struct.unpack("<f", data[:4])[0]
        case "v":
            return Variadic(machine, int.from_bytes(data[: machine.size], "little"))
        case _:
            return int.from_bytes(data[: machine.size], "little")


def shown(machine: Machine, letters: str, values: list[Any]) -> tuple[list[int], list[Any]]:
    """Arguments for the log: as numbers, and with the text that pointers point to."""
    raw: list[int] = []
    texts: list[Any] = []
    for letter, value in zip(letters, values, strict=False):
        if letter in ".v":
            break
        raw.append(value if isinstance(value, int) else int.from_bytes(struct.pack("<d", value), "little"))
        texts.append(str(value) if isinstance(value, float) else value)
        if letter in "sw" and value:
            try:
                texts[-1] = machine.text(value, 1 if letter == "s" else 2, SHOWN)
            except Exception:  # noqa: BLE001  # Unicorn's error: a bad pointer is shown as a number
                texts[-1] = value
    return raw, texts


class Returns:
    """Hands results to the program; doubles in 32 bit by a few instructions of its own."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._stub = 0

    def hand_over(self, result: Result, letter: str, *, pops: int = 0) -> None:
        """Return from the function that was called: its return address is on top of the stack."""
        machine = self._machine
        if isinstance(result, Elsewhere):
            return
        if letter in "df" and not machine.is_64:
            machine.jump(self._load(float(result or 0)))
            return
        if letter in "df":
            kind = "<d" if letter == "d" else "<f"
            machine.set_xmm(0, int.from_bytes(_pack(kind, float(result or 0)), "little"))
        else:
            value = int(result or 0)
            machine.set_register("rax" if machine.is_64 else "eax", value)
            if letter == "q" and not machine.is_64:
                machine.set_register("edx", value >> 32)
        stack = machine.stack
        target = machine.number(stack)
        machine.stack = stack + machine.size * (1 + (0 if machine.is_64 else pops))
        machine.jump(target)

    def _load(self, value: float) -> int:
        if not self._stub:
            self._stub = self._machine.allocate(16, "emu.crt.load")
        slot = self._stub + 8
        code = b"\xdd\x05" + slot.to_bytes(4, "little") + b"\xc3"  # fld qword [slot]; ret
        self._machine.write(self._stub, code.ljust(8, b"\x90") + _pack("<d", value))
        return self._stub


def _pack(kind: str, value: float) -> bytes:
    try:
        return struct.pack(kind, value)
    except OverflowError:
        return struct.pack(kind, float("inf") if value > 0 else float("-inf"))
