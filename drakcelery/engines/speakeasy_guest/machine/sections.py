"""Files in memory, and memory that programs share: Windows calls both sections.

All views of a section are parts of one block, so that each sees what another one has written. A file and its
views are one: what is written to either is read from both, as Windows' cache has it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import PAGE, free_handle
from drakcelery.engines.speakeasy_guest.machine import memory

FIRST_HANDLE: Final = 0x4000
MAX_HANDLES: Final = 1024

READ_WRITE, EXECUTE_READ_WRITE = 0x04, 0x40
WRITABLE: Final = (READ_WRITE, EXECUTE_READ_WRITE)
IMAGE: Final = 0x1000000
"""``SEC_IMAGE``: the file is mapped as a program."""


@dataclass(eq=False)
class Section:
    """A file, or memory without one, that can be mapped."""

    size: int
    protection: int
    name: str = ""
    file: Any = None
    path: str = ""
    base: int = 0
    """Where it is; 0 until it is mapped first."""
    views: int = 0
    known: bytearray | None = None
    """What memory and file have in common, as far as it is known here."""

    @property
    def writes(self) -> bool:
        """Whether what is written to it gets into the file."""
        return self.file is not None and not self.protection & IMAGE and self.protection & 0xFF in WRITABLE


class Sections:
    """Those of the present process: by handle, and those that are mapped."""

    def __init__(self, emu: Any) -> None:
        self._emu = emu
        self.handles: dict[int, Section] = {}
        self.mapped: list[Section] = []

    def add(self, section: Section) -> int:
        """A handle of a section, which may have others; 0 if there are too many."""
        if len(self.handles) >= MAX_HANDLES:
            return 0
        handle = free_handle(self.handles, FIRST_HANDLE)
        self.handles[handle] = section
        return handle

    def close(self, handle: int) -> bool:
        """Forget a handle; the section lasts as long as it has another one, or a view. False for none."""
        section = self.handles.pop(handle, None)
        if section is not None:
            self._let_go(section)
        return section is not None

    def named(self, name: str) -> Section | None:
        """The one of that name."""
        return next((one for one in self.handles.values() if name and one.name == name.lower()), None)

    def at(self, address: int) -> Section | None:
        """The one that has a view at an address."""
        return next((one for one in self.mapped if one.base <= address < one.base + one.size), None)

    def longest(self, file: Any) -> int:
        """How long a file has to stay because of its sections; 0 for one without."""
        every = (*self.handles.values(), *self.mapped)
        return max((one.size for one in every if one.file is file and not one.protection & IMAGE), default=0)

    def unmap(self, section: Section) -> None:
        """A view is gone; the memory goes with the last one, that without a file only with its handles."""
        self.flush(section)
        section.views -= 1
        self._let_go(section)

    def _let_go(self, section: Section) -> None:
        held = any(one is section for one in self.handles.values())
        if not section.base or section.views > 0 or (held and section.file is None):
            return
        self.mapped.remove(section)
        block = self._emu.get_address_map(section.base)
        section.base = 0
        if block is not None:
            memory.dump_freed(self._emu, block)
            memory.release(self._emu, block)

    # A file and its views.

    def flush(self, section: Section, start: int = 0, size: int | None = None) -> None:
        """Write what was changed in memory to the file, page by page, never beyond the file's end."""
        end = min(section.size, self._emu.disk.size(section.file)) if section.writes else 0
        end = end if size is None else min(end, start + size)
        start -= start % PAGE
        if section.known is None or start >= end or self._emu.get_address_map(section.base) is None:
            return
        content = bytes(self._emu.mem_read(section.base + start, end - start))
        if content == section.known[start:end]:
            return
        total = 0
        for place, data in list(_changed(content, bytes(section.known[start:end]))):
            section.known[start + place : start + place + len(data)] = data
            self._emu.disk.write(section.file, start + place, data)
            total += len(data)
        self._emu.recorder.log_file_access(None, section.path, "write", size=total)

    def before_read(self, file: Any, position: int, size: int) -> None:
        """A file is going to be read: what its views have is in it."""
        for one in self.mapped:
            if one.file is file:
                self.flush(one, position, size)

    def after_write(self, file: Any, position: int, data: bytes) -> None:
        """A file was written: its views have it too."""
        for one in self.mapped:
            if one.file is file and not one.protection & IMAGE and one.known is not None:
                piece = data[: max(one.size - position, 0)]
                if piece and one.known[position : position + len(piece)] != piece:
                    one.known[position : position + len(piece)] = piece
                    self._emu.mem_write(one.base + position, piece)

    def end(self) -> None:
        """The process is over: what it left in views gets into the files, and the sections are gone."""
        for one in self.mapped:
            self.flush(one)
        self.handles.clear()
        self.mapped.clear()


def _changed(content: bytes, known: bytes) -> Iterator[tuple[int, bytes]]:
    """The pages of *content* that are others than in *known*: where, and what."""
    for place in range(0, len(content), PAGE):
        page = content[place : place + PAGE]
        if page != known[place : place + PAGE]:
            yield place, page
