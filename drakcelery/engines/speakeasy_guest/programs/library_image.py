"""A DLL that the program wrote, as Windows maps it: which file it refuses, its exports, its relocation."""

from __future__ import annotations

import ntpath
import struct
from dataclasses import dataclass, field
from typing import Any, Final

from speakeasy.windows.common import PeFile

from drakcelery.engines import loading
from drakcelery.engines.speakeasy_guest.programs.images import bits_of, in_whole_sectors
from drakcelery.model.program_file import Image

ERROR_MOD_NOT_FOUND: Final = 126
ERROR_PROC_NOT_FOUND: Final = 127
ERROR_NOT_ENOUGH_MEMORY: Final = 8
ERROR_BAD_EXE_FORMAT: Final = 193
ERROR_INVALID_ADDRESS: Final = 487
ERROR_DLL_INIT_FAILED: Final = 1114

MAX_FILE: Final = 64 * 1024 * 1024
"""Bytes of a file that is loaded."""

RELOCATIONS: Final = 5
COM_DESCRIPTOR: Final = 14
"""Numbers of data directories (winnt.h)."""

RELOCS_STRIPPED: Final = 0x1
WIDTHS: Final = {3: 4, 10: 8}
"""Bytes that a relocation changes, by its kind: ``IMAGE_REL_BASED_HIGHLOW`` and ``DIR64``."""


class Unloadable(Exception):
    """Windows does not load a file; its error code is the only argument."""

    @property
    def code(self) -> int:
        """What ``GetLastError`` says."""
        return int(self.args[0])


@dataclass(frozen=True, kw_only=True)
class Export:
    """What a DLL exports."""

    name: str
    ordinal: int
    address: int
    """Relative to the image."""
    forwarder: str
    """``library.function`` where it is another DLL's; else empty."""


class Library(PeFile):  # type: ignore[misc]  # the base has no types
    """A DLL, or a program whose resources are read, that lies in the emulated file system."""

    def __init__(self, data: bytes, path: str) -> None:
        self.ran: set[int] = set()
        self._by_key: dict[str | int, Export] = {}
        super().__init__(data=data)
        self.path = self.emu_path = path
        self.bits = bits_of(data)
        self.image_size: int = -(-self.OPTIONAL_HEADER.SizeOfImage // loading.PAGE) * loading.PAGE

    @property
    def runs(self) -> bool:
        """Whether there is machine code to call when it is loaded."""
        directories = self.OPTIONAL_HEADER.DATA_DIRECTORY
        managed = len(directories) > COM_DESCRIPTOR and directories[COM_DESCRIPTOR].VirtualAddress
        return bool(self.FILE_HEADER.Characteristics & loading.IMAGE_FILE_DLL) and not managed

    @property
    def entry(self) -> int:
        """The address of ``DllMain``, or what runs before it; 0 for none."""
        return int(self.base + self.ep) if self.ep else 0

    def export(self, wanted: str | int) -> Export | None:
        """An export by its name or number."""
        return self._by_key.get(wanted)

    def get_base_name(self) -> str:
        """The name without its ending, as Speakeasy's modules have it."""
        return ntpath.splitext(ntpath.basename(self.path))[0]

    def get_exports(self) -> Any:
        """In Speakeasy's form, at the addresses where they are now."""
        return self._get_pe_exports()

    def _get_pe_exports(self) -> list[Any]:
        """Keep them by name and number too; Speakeasy's own fails for names that are not UTF-8."""
        directory = getattr(self, "DIRECTORY_ENTRY_EXPORT", None)
        for symbol in directory.symbols if directory else ():
            export = Export(
                name=(symbol.name or b"").decode("latin-1"),
                ordinal=symbol.ordinal,
                address=symbol.address,
                forwarder=(symbol.forwarder or b"").decode("latin-1"),
            )
            self._by_key.setdefault(export.ordinal, export)
            if export.name:
                self._by_key.setdefault(export.name, export)
        return []

    def _get_pe_imports(self) -> dict[int, tuple[str, str]]:
        return {}

    def wanted(self) -> list[tuple[str, list[tuple[int, str | int]]]]:
        """What it imports: for each DLL the places of its slots in the image, with names or numbers."""
        preferred = self.OPTIONAL_HEADER.ImageBase
        return [
            (
                entry.dll.decode("latin-1"),
                [
                    (
                        item.address - preferred,
                        item.ordinal if item.import_by_ordinal else item.name.decode("latin-1"),
                    )
                    for item in entry.imports
                ],
            )
            for entry in getattr(self, "DIRECTORY_ENTRY_IMPORT", ())
        ]

    def mapped(self, base: int) -> bytearray:
        """The image for *base*, relocated.

        Raises:
            Unloadable: it can be at its own address only.
        """
        image = bytearray(self.mapped_image[: self.image_size]).ljust(self.image_size, b"\0")
        preferred = self.OPTIONAL_HEADER.ImageBase
        if base != preferred:
            if self.FILE_HEADER.Characteristics & RELOCS_STRIPPED:
                raise Unloadable(ERROR_INVALID_ADDRESS)
            directories = self.OPTIONAL_HEADER.DATA_DIRECTORY
            if len(directories) > RELOCATIONS:
                where = directories[RELOCATIONS]
                relocate(image, where.VirtualAddress, where.Size, base - preferred)
            wide = self.bits == 64
            place = self.DOS_HEADER.e_lfanew + 24 + (24 if wide else 28)
            image[place : place + self.bits // 8] = base.to_bytes(self.bits // 8, "little")
        return image


@dataclass(eq=False)
class Loaded:
    """A library in the process."""

    image: Library
    path: str
    count: int = 0
    runs: bool = True
    """False for what was loaded for its resources, or without being called."""
    tells_threads: bool = True
    needs: list[Loaded] = field(default_factory=list)
    attached: bool = False


def relocate(image: bytearray, place: int, size: int, delta: int) -> None:
    """Add *delta* to the addresses in *image* that its relocations, at *place*, name."""
    end = min(place + size, len(image))
    while place + 8 <= end:
        page, length = struct.unpack_from("<II", image, place)
        if length < 8:
            break
        entries = bytes(image[place + 8 : min(place + length, end)])
        for (entry,) in struct.iter_unpack("<H", entries[: len(entries) & ~1]):
            width, at = WIDTHS.get(entry >> 12, 0), page + (entry & 0xFFF)
            if width and at + width <= len(image):
                value = int.from_bytes(image[at : at + width], "little") + delta
                image[at : at + width] = (value % (1 << 8 * width)).to_bytes(width, "little")
        place += length


def parse(data: bytes, path: str, *, bits: int) -> Library:
    """The file *data* as a DLL for a program of *bits* (0: for its resources only).

    Raises:
        Unloadable: Windows does not load it.
    """
    if len(data) > MAX_FILE:
        raise Unloadable(ERROR_NOT_ENOUGH_MEMORY)
    try:
        head = Image(data=data, fast_load=True)
        if loading.refused(head, len(data)) or not _within(head) or bits not in (0, bits_of(data)):
            raise Unloadable(ERROR_BAD_EXE_FORMAT)
        return Library(in_whole_sectors(data), path)
    except MemoryError:
        raise
    except Unloadable:
        raise
    except Exception as error:  # the file may be anything, and so may what pefile raises
        raise Unloadable(ERROR_BAD_EXE_FORMAT) from error


def _within(image: Any) -> bool:
    """Whether no section lies behind the end of the image."""
    return all(section.VirtualAddress <= image.OPTIONAL_HEADER.SizeOfImage for section in image.sections)
