"""Pipes without a name, by which programs read what those that they start print.

What a program prints that is not emulated beside the one that reads is not known: such a pipe is empty, and
broken once it is read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from speakeasy.windows.fileman import File

from drakcelery.engines.speakeasy_guest.apis.api import Api, put
from drakcelery.engines.speakeasy_guest.apis.handles import ERROR_BROKEN_PIPE, failed
from drakcelery.engines.speakeasy_guest.machine.disk import Opened

MOST: Final = 16 * 1024 * 1024
"""Bytes that are in a pipe at most."""

NAME: Final = "\\Device\\NamedPipe"


@dataclass
class Pipe(Opened):
    """An end of a pipe."""

    waiting: bytearray = field(default_factory=bytearray)
    """What was written and not read, the same for both ends."""

    def get_size(self) -> int:
        """Bytes that can be read."""
        return len(self.waiting)

    def get_data(self, size: int = -1, reset_pointer: bool = False) -> bytes:  # noqa: ARG002  # a file's
        """Take bytes out."""
        data = bytes(self.waiting if size < 0 else self.waiting[:size])
        del self.waiting[: len(data)]
        return data

    def add_data(self, data: bytes) -> None:
        """Put bytes in. Raises :class:`MemoryError` where it would be too much."""
        if len(self.waiting) + len(data) > MOST:
            raise MemoryError(f"a pipe may have {MOST} bytes")
        self.waiting += data


def _create(emu: Any, _name: str, argv: list[Any]) -> int:
    file, waiting = File(NAME), bytearray()
    for place in argv[:2]:
        handle = int(file.get_handle())
        emu.get_file_manager().file_handles[handle] = Pipe(emu.disk, file, is_pipe=True, waiting=waiting)
        emu.write_ptr(place, handle)
    return 1


def _peek(emu: Any, _name: str, argv: list[Any]) -> int:
    pipe = emu.disk.opened(argv[0])
    waiting = pipe.waiting if isinstance(pipe, Pipe) else b""
    data = bytes(waiting[: argv[2] & 0xFFFFFFFF]) if argv[1] else b""
    if data:
        emu.mem_write(argv[1], data)
    for place, value in ((argv[3], len(data)), (argv[4], len(waiting)), (argv[5], 0)):
        put(emu, place, value, 4)
    return 1 if isinstance(pipe, Pipe) else failed(emu, ERROR_BROKEN_PIPE)


APIS = {
    "CreatePipe": Api(words=4, answer=_create),
    "PeekNamedPipe": Api(words=6, answer=_peek),
}
