"""Low-level files: the numbers that ``_open`` gives, over the emulated files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.machine.disk import Disk, Opened

EBADF, ENOENT, EEXIST, EMFILE, EACCES, EINVAL, ENOSPC, ERANGE = 9, 2, 17, 24, 13, 22, 28, 34

O_WRONLY, O_RDWR, O_APPEND, O_CREAT, O_TRUNC, O_EXCL = 0x1, 0x2, 0x8, 0x100, 0x200, 0x400
O_TEXT, O_BINARY = 0x4000, 0x8000
O_WTEXT, O_U16TEXT, O_U8TEXT = 0x10000, 0x20000, 0x40000
"""Flags of ``fcntl.h``."""

MAX_OPEN: Final = 2048
STANDARD = {0: -10, 1: -11, 2: -12}
"""``STD_INPUT_HANDLE`` and so on, by descriptor."""

SEEK_SET, SEEK_CUR, SEEK_END = 0, 1, 2


@dataclass
class Descriptor:
    """An open file; the console where *opened* is None."""

    handle: int
    path: str
    opened: Opened | None
    """What the handle stands for, too: Windows' functions and these share the position."""
    flags: int

    @property
    def file(self) -> Any:
        """The file itself."""
        return None if self.opened is None else self.opened.file

    @property
    def position(self) -> int:
        """Where the next byte is."""
        return 0 if self.opened is None else self.opened.position

    @position.setter
    def position(self, value: int) -> None:
        if self.opened is not None:
            self.opened.position = value

    @property
    def is_text(self) -> bool:
        """Whether line ends are translated."""
        return not self.flags & O_BINARY

    @property
    def encoding(self) -> str:
        """How wide text is written; empty where it is narrowed."""
        if self.flags & O_U8TEXT:
            return "utf-8"
        return "utf-16-le" if self.flags & (O_WTEXT | O_U16TEXT) else ""


class Descriptors:
    """The open files of one process."""

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime
        self.disk: Disk = runtime.emu.disk
        self._open: dict[int, Descriptor] = {}
        for number in STANDARD:
            self._open[number] = Descriptor(0, "", None, O_RDWR | O_TEXT)

    def get(self, number: int) -> Descriptor | None:
        """The open file of that number."""
        return self._open.get(number)

    def open(self, path: str, flags: int) -> int:
        """Open or create; -1 with ``errno`` set if that cannot be."""
        if not path:
            return int(self._runtime.fail(EINVAL))
        number = next((item for item in range(3, MAX_OPEN) if item not in self._open), 0)
        if not number:
            return int(self._runtime.fail(EMFILE))
        file = self.disk.find(path)
        if file is None and not flags & O_CREAT:
            self.disk.note(path, "open", disposition="OPEN_EXISTING", access=_access(flags))
            return int(self._runtime.fail(ENOENT))
        if file is not None and flags & O_CREAT and flags & O_EXCL:
            return int(self._runtime.fail(EEXIST))
        event = "open"
        if file is None or flags & O_TRUNC:
            file, event = self.disk.create(path), "create"
        opened = Opened(self.disk, file)
        handle = self.disk.add(opened)
        self._open[number] = Descriptor(handle, self.disk.full(path), opened, flags)
        self.disk.note(path, event, disposition=_disposition(flags), access=_access(flags), handle=handle)
        return number

    def adopt(self, handle: int, flags: int) -> int:
        """A descriptor for a handle of Windows."""
        file = self._runtime.emu.get_file_manager().get_file_from_handle(handle)
        if file is None:
            return int(self._runtime.fail(EBADF))
        number = next(item for item in range(3, MAX_OPEN + 1) if item not in self._open)
        opened = file if isinstance(file, Opened) else Opened(self.disk, file)
        self._open[number] = Descriptor(handle, file.get_path(), opened, flags | O_RDWR)
        return number

    def duplicate(self, number: int, wanted: int | None = None) -> int:
        """Another number for the same file."""
        found = self._open.get(number)
        if found is None:
            return int(self._runtime.fail(EBADF))
        if wanted is None:
            wanted = next(item for item in range(MAX_OPEN + 1) if item not in self._open)
        self._open[wanted] = found
        return wanted

    def close(self, number: int) -> int:
        """Close; -1 if it is not open."""
        found = self._open.pop(number, None)
        if found is None:
            return int(self._runtime.fail(EBADF))
        if found.file is not None and not any(other is found for other in self._open.values()):
            self.disk.close(found.handle)
        return 0

    def write(self, number: int, data: bytes, *, raw: bool = False) -> int:
        """Write; the number of bytes of *data*, or -1."""
        found = self._open.get(number)
        if found is None or not found.flags & (O_WRONLY | O_RDWR):
            return int(self._runtime.fail(EBADF))
        if found.opened is None:
            return len(data)
        out = data.replace(b"\n", b"\r\n") if found.is_text and not raw else data
        if found.flags & O_APPEND:
            found.position = self.disk.size(found.file)
        try:
            found.opened.add_data(out)
        except MemoryError:
            return int(self._runtime.fail(ENOSPC))
        if out:
            self.disk.note(found.path, "write", size=len(out))
        return len(data)

    def read(self, number: int, size: int) -> bytes | None:
        """Read up to *size* bytes; None if that is not possible."""
        found = self._open.get(number)
        if found is None or found.flags & O_WRONLY:
            self._runtime.fail(EBADF)
            return None
        if found.opened is None:
            return b""
        data = found.opened.get_data(size)
        if found.is_text and data.endswith(b"\r"):  # the end of its line belongs to it
            data += found.opened.get_data(1)
        if data:
            self.disk.note(found.path, "read", size=len(data))
        if found.is_text:
            data = data.partition(b"\x1a")[0].replace(b"\r\n", b"\n")
        return data

    def seek(self, number: int, offset: int, whence: int) -> int:
        """Move; the new position, or -1."""
        found = self._open.get(number)
        if found is None or found.file is None:
            return int(self._runtime.fail(EBADF))
        start = {SEEK_SET: 0, SEEK_CUR: found.position}.get(whence, self.disk.size(found.file))
        if start + offset < 0 or whence not in (SEEK_SET, SEEK_CUR, SEEK_END):
            return int(self._runtime.fail(EINVAL))
        found.position = start + offset
        return found.position

    def position(self, number: int) -> int:
        """Where the next byte comes from."""
        found = self._open.get(number)
        return 0 if found is None else found.position

    def length(self, number: int) -> int:
        """Bytes of the file, or -1."""
        found = self._open.get(number)
        if found is None:
            return int(self._runtime.fail(EBADF))
        return 0 if found.file is None else self.disk.size(found.file)

    def os_handle(self, number: int) -> int:
        """The handle of Windows behind a descriptor, or -1."""
        found = self._open.get(number)
        if found is None:
            return int(self._runtime.fail(EBADF))
        if found.file is None:
            process = self._runtime.emu.get_current_process()
            return int(process.get_std_handle(STANDARD.get(number, -11) & 0xFFFFFFFF) or 0)
        return found.handle


def _access(flags: int) -> tuple[str, ...]:
    if flags & O_RDWR:
        return ("GENERIC_READ", "GENERIC_WRITE")
    return ("GENERIC_WRITE",) if flags & O_WRONLY else ("GENERIC_READ",)


def _disposition(flags: int) -> str:
    if flags & O_CREAT:
        return "CREATE_ALWAYS" if flags & O_TRUNC else "OPEN_ALWAYS"
    return "TRUNCATE_EXISTING" if flags & O_TRUNC else "OPEN_EXISTING"
