"""``fputc`` and ``fgetc`` as code of the program's own, over a buffer that its stream lends to it.

mingw's ``printf`` calls ``fputc`` for each character, and many programs read a file by ``fgetc``: with a call
of ours for each a file of a megabyte takes a minute. As in Microsoft's runtime, ``FILE`` says where the next
character is and how many there are, and only who finds none left calls us. So the log has the first calls.
"""

from __future__ import annotations

from typing import Final, Protocol

from drakcelery.engines.speakeasy_guest.crt.machine import Machine

ROOM: Final = 4096
"""Bytes that are lent."""

PATIENCE: Final = 32
"""Calls for a single character, after which a stream lends."""

PUT: Final = {
    # sub [stream.count], 1; js slow; mov ax, [stream]; mov [ax], cl; add [stream], 1; movzx eax, cl; ret
    8: bytes.fromhex("836a0801 780d 488b02 8808 48830201 0fb6c1 c3"),
    # mov edx, [esp+8]; the same, with the character in [esp+4]
    4: bytes.fromhex("8b542408 836a0401 780f 8b02 8b4c2404 8808 830201 0fb6c1 c3"),
}
GET: Final = {
    # sub [stream.count], 1; js slow; mov ax, [stream]; add [stream], 1; movzx eax, byte [ax]; ret
    8: bytes.fromhex("83690801 780b 488b01 48830101 0fb600 c3"),
    4: bytes.fromhex("8b4c2404 83690401 7809 8b01 830101 0fb600 c3"),
}
NAMES: Final = {
    **dict.fromkeys(("fputc", "putc", "_fputc_nolock", "_putc_nolock"), PUT),
    **dict.fromkeys(("fgetc", "getc", "_fgetc_nolock", "_getc_nolock"), GET),
}
"""Functions that have code, by name."""

MAX_CODE: Final = 64


class Lender(Protocol):
    """A stream, as this module knows it."""

    address: int
    lent: int
    lent_at: int


def has_code(name: str) -> bool:
    """Whether a function of that name has code here."""
    return name in NAMES


class LentBuffers:
    """What the streams of one process have lent."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._code = 0
        self._places: dict[str, int] = {}

    def code(self, name: str, function: int) -> int:
        """The address of code for a function, which jumps to *function* where it cannot go on."""
        if name not in self._places:
            if not self._code:
                self._code = self._machine.allocate(MAX_CODE * len(NAMES), "emu.crt.characters")
            size = self._machine.size
            place = self._code + MAX_CODE * len(self._places)
            code = NAMES[name][size]
            target = place + len(code) + 6
            operand = target if size == 4 else 0  # jmp [target], which is behind it
            jump = b"\xff\x25" + operand.to_bytes(4, "little")
            self._machine.write(place, code + jump + function.to_bytes(size, "little"))
            self._places[name] = place
        return self._places[name]

    def lend(self, stream: Lender, place: int, data: bytes, *, room: int) -> None:
        """Let the program have *room* bytes at *place*, with *data* there."""
        stream.lent, stream.lent_at = room, place
        self._machine.write(place, data)
        self._machine.put(stream.address, place)
        self._machine.put(stream.address + self._machine.size, room, 4)

    def take_back(self, stream: Lender) -> bytes:
        """End that; the bytes that the program has gone through."""
        used = self._machine.number(stream.address) - stream.lent_at
        used = used if 0 <= used <= stream.lent else 0
        stream.lent = 0
        self._machine.put(stream.address + self._machine.size, 0, 4)
        return self._machine.read(stream.lent_at, used)
