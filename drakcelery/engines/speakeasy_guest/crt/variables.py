"""The variables that C runtimes export: each has its own memory, which holds what Windows would hold there.

An import of one of them is its address. The functions ``__p_<name>`` return the same address.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from drakcelery.engines.speakeasy_guest.crt.command_line import split
from drakcelery.engines.speakeasy_guest.crt.machine import Machine, named

STREAMS = 20
"""``FILE`` structures in ``_iob``."""

UPPER, LOWER, DIGIT, SPACE, PUNCT, CONTROL, BLANK, HEX, ALPHA = (
    *(0x1, 0x2, 0x4, 0x8, 0x10, 0x20, 0x40, 0x80),
    0x100,
)
"""Bits of a character's kind (``ctype.h``)."""


def kind_of(code: int) -> int:
    """The bits of a character in the C locale."""
    if code > 127:
        return 0
    kind = 0
    char = chr(code)
    if "A" <= char <= "Z":
        kind |= UPPER | ALPHA
    if "a" <= char <= "z":
        kind |= LOWER | ALPHA
    if char.isdigit():
        kind |= DIGIT
    if char in "0123456789abcdefABCDEF":
        kind |= HEX
    if char in "\t\n\v\f\r ":
        kind |= SPACE
    if char == " ":
        kind |= BLANK
    if code < 32 or code == 127:
        kind |= CONTROL
    if 32 < code < 127 and not char.isalnum():
        kind |= PUNCT
    return kind


class Variables:
    """The exported variables of one process, made when they are first asked for."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._addresses: dict[str, int] = {}

    def knows(self, name: str) -> bool:
        """Whether there is a variable of this name."""
        return name in MAKERS

    def address(self, name: str) -> int:
        """Where the variable lies. Raises KeyError if there is none."""
        if name not in self._addresses:
            self._addresses[name] = MAKERS[name](self)
        return self._addresses[name]

    def set_pointer(self, name: str, value: int) -> None:
        """Change a variable that is a pointer."""
        self._machine.put(self.address(name), value)

    def block(self, data: bytes) -> int:
        """Fresh memory that holds *data*."""
        address = self._machine.allocate(len(data), "emu.crt.data")
        self._machine.write(address, data)
        return address

    def shared(self, name: str, size: int) -> int:
        """A buffer that functions return, always the same one of that name."""
        if name not in self._addresses:
            self._addresses[name] = self.block(bytes(size))
        return self._addresses[name]

    def text(self, value: str, width: int) -> int:
        """A string that functions return, kept once for all calls."""
        name = f'"{width}:{value}'
        if name not in self._addresses:
            self._addresses[name] = self.block(named(value + "\0", width))
        return self._addresses[name]

    def pointer_to(self, address: int) -> int:
        """A variable that holds *address*."""
        return self.block(address.to_bytes(self._machine.size, "little"))

    def vector(self, texts: list[str], width: int) -> int:
        """An array of pointers to strings, with NULL at its end."""
        size = self._machine.size
        encoded = [named(text, width) + bytes(width) for text in texts]
        address = self._machine.allocate((len(texts) + 1) * size + sum(map(len, encoded)), "emu.crt.data")
        place = address + (len(texts) + 1) * size
        pointers = b""
        for item in encoded:
            pointers += place.to_bytes(size, "little")
            place += len(item)
        self._machine.write(address, pointers + bytes(size) + b"".join(encoded))
        return address

    @property
    def machine(self) -> Machine:
        """The processor."""
        return self._machine

    # What the process was started with.

    def command_line(self) -> str:
        """As Windows hands it to the process."""
        return str(self._machine.emu.command_line or "")

    def arguments(self) -> list[str]:
        """The command line's parts."""
        return split(self.command_line())

    def program(self) -> str:
        """The program's path."""
        return (self.arguments() or [""])[0]

    def environment(self) -> dict[str, str]:
        """Environment variables, their names in capital letters."""
        return {str(name).upper(): str(value) for name, value in self._machine.emu.get_env().items()}

    def environment_changed(self) -> None:
        """Make the arrays anew that hold the environment."""
        for name, width in (("_environ", 1), ("_wenviron", 2)):
            if name in self._addresses:
                self.set_pointer(name, self.vector(self.environment_strings(), width))

    def environment_strings(self) -> list[str]:
        """``NAME=value``, one each."""
        return [f"{name}={value}" for name, value in self.environment().items()]


Maker = Callable[[Variables], int]


def _number(value: int, size: int = 4) -> Maker:
    return lambda variables: variables.block((value & ((1 << (8 * size)) - 1)).to_bytes(size, "little"))


def _bytes(size: int) -> Maker:
    return lambda variables: variables.block(bytes(size))


def _pointer(value: int = 0) -> Maker:
    return lambda variables: variables.pointer_to(value)


def _argument_count(variables: Variables) -> int:
    return variables.block(len(variables.arguments()).to_bytes(4, "little"))


def _argument_vector(width: int) -> Maker:
    return lambda variables: variables.pointer_to(variables.vector(variables.arguments(), width))


def _environment(width: int) -> Maker:
    return lambda variables: variables.pointer_to(variables.vector(variables.environment_strings(), width))


def _same(name: str) -> Maker:
    """Another variable with the same content at first."""
    return lambda variables: variables.pointer_to(variables.machine.number(variables.address(name)))


def _text(what: Callable[[Variables], str], width: int) -> Maker:
    return lambda variables: variables.pointer_to(variables.block(named(what(variables) + "\0", width)))


def _kinds(variables: Variables) -> int:
    table = struct.pack("<257H", 0, *map(kind_of, range(256)))
    return variables.pointer_to(variables.block(table) + 2)


def _wide_kinds(variables: Variables) -> int:
    return variables.pointer_to(variables.block(struct.pack("<256H", *map(kind_of, range(256)))))


def _time_zone_names(variables: Variables) -> int:
    return variables.vector(["Coordinated Universal Time"] * 2, 1)


def _stream_table(variables: Variables) -> int:
    return variables.block(bytes(STREAMS * file_size(variables.machine)))


def file_size(machine: Machine) -> int:
    """Bytes of a ``FILE``."""
    return 48 if machine.is_64 else 32


def _virtual_table(variables: Variables) -> int:
    """That of ``exception``, which the others inherit: the deleting destructor, and ``what``."""
    size, emu = variables.machine.size, variables.machine.emu
    wanted = ("??_Gexception@@UAEPAXI@Z", "?what@exception@@UBEPBDXZ")
    functions = [int(emu.get_proc("msvcrt", name)) for name in wanted]
    return variables.block(b"".join(item.to_bytes(size, "little") for item in functions))


MAKERS: dict[str, Maker] = {
    "errno": _number(0),
    "doserrno": _number(0),
    "_fmode": _number(0x4000),
    "_commode": _number(0),
    "_adjust_fdiv": _number(0),
    "_adj_fdiv": _number(0),
    "__argc": _argument_count,
    "__argv": _argument_vector(1),
    "__wargv": _argument_vector(2),
    "_environ": _environment(1),
    "_wenviron": _environment(2),
    "__initenv": _same("_environ"),
    "__winitenv": _same("_wenviron"),
    "_acmdln": _text(Variables.command_line, 1),
    "_wcmdln": _text(Variables.command_line, 2),
    "_pgmptr": _text(Variables.program, 1),
    "_wpgmptr": _text(Variables.program, 2),
    "_iob": _stream_table,
    "_pctype": _kinds,
    "_wctype": lambda variables: variables.address("_pctype"),
    "_pwctype": _wide_kinds,
    "_mbctype": _bytes(257),
    "__mb_cur_max": _number(1),
    "_HUGE": lambda variables: variables.block(struct.pack("<d", float("inf"))),
    "_daylight": _number(0),
    "_timezone": _number(0),
    "_dstbias": _number(0),
    "_tzname": _time_zone_names,
    "_osver": _number(19045),
    "_osplatform": _number(2),
    "_winver": _number(0x0A00),
    "_winmajor": _number(10),
    "_winminor": _number(0),
    "_sys_nerr": _number(43),
    "_sys_errlist": lambda variables: variables.vector(["No error"] * 43, 1),
    "_umaskval": _number(0),
    "__lc_codepage": _number(1252),
    "__lc_handle": _bytes(24),
    "__lc_collate_cp": _number(0),
    "__unguarded_readlc_active": _number(0),
    "__setlc_active": _number(0),
    "__badioinfo": _bytes(64),
    "__pioinfo": _bytes(64 * 8),
    "_aexit_rtn": _pointer(),
    "_cpumode": _number(0),
    "__native_startup_state": _number(0),
    "__native_dllmain_reason": _number(0xFFFFFFFF),
    "__native_vcclrit_reason": _number(0xFFFFFFFF),
    "??_7type_info@@6B@": _virtual_table,
    "??_7exception@@6B@": _virtual_table,
    "??_7exception@std@@6B@": _virtual_table,
    "??_7bad_alloc@std@@6B@": _virtual_table,
    "??_7bad_cast@@6B@": _virtual_table,
    "??_7bad_typeid@@6B@": _virtual_table,
    "??_7__non_rtti_object@@6B@": _virtual_table,
}
"""How each variable is made."""
