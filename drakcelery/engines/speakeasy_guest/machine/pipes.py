"""Pipes: what is written at one end is read at the other, by another thread too.

What a program prints that is not emulated beside the one that reads is not known: such a pipe is empty, and
broken once nobody is left who could write to it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from speakeasy.windows.fileman import File

from drakcelery.engines.speakeasy_guest.machine.disk import Disk, Opened

PREFIX: Final = "\\\\.\\pipe\\"
"""What the names of pipes begin with."""

UNNAMED: Final = "\\Device\\NamedPipe"
"""What the log calls a pipe without a name."""

MOST: Final = 16 * 1024 * 1024
"""Bytes that wait in a pipe at most."""


@dataclass(eq=False)
class Pipe(Opened):
    """One end of a pipe."""

    is_pipe: bool = True
    serves: bool = False
    """Whether it was made by name, and waits for others to open that."""
    at_once: bool = False
    """Whether reads do not wait (``PIPE_NOWAIT``)."""
    connected: bool = False
    other: Pipe | None = None
    waiting: bytearray = field(default_factory=bytearray)
    """What was written at the other end and not read here."""

    def get_size(self) -> int:
        """Bytes that can be read."""
        return len(self.waiting)

    def get_data(self, size: int = -1, reset_pointer: bool = False) -> bytes:  # noqa: ARG002  # a file's
        """Take bytes out."""
        data = bytes(self.waiting if size < 0 else self.waiting[:size])
        del self.waiting[: len(data)]
        return data

    def add_data(self, data: bytes) -> None:
        """Have bytes read at the other end. Raises :class:`MemoryError` where it would be too much."""
        other = self.other
        if other is None or len(other.waiting) + len(data) > MOST:
            raise MemoryError(f"a pipe may have {MOST} bytes")
        other.waiting += data

    def has_writer(self) -> bool:
        """Whether more may come: somebody has a handle of the other end."""
        return self.other is not None and self.disk.is_open(self.other)

    def readable(self) -> bool:
        """Whether a read need not wait."""
        return bool(self.waiting) or not self.has_writer()

    def connect(self) -> Pipe:
        """The other end, for somebody who opens the name."""
        other = Pipe(self.disk, self.file, connected=True, other=self)
        self.other, self.connected = other, True
        return other

    def disconnect(self) -> None:
        """Let somebody else open the name."""
        if self.other is not None:
            self.other.other = None
        self.other, self.connected = None, False
        self.waiting.clear()


def pair(disk: Disk) -> tuple[Pipe, Pipe]:
    """Both ends of a pipe without a name."""
    first = Pipe(disk, File(UNNAMED))
    return first, first.connect()


def served(disk: Disk, path: str) -> list[Pipe]:
    """The ends that were made by a name and are open."""
    name = path.lower()
    return [
        one for one in disk.all_opened() if isinstance(one, Pipe) and one.serves and one.path.lower() == name
    ]
