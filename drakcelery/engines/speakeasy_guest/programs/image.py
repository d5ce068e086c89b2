"""A program as Speakeasy loads it, read in a hundredth of the time.

Of a large program pefile reads each entry of the exception directory and counts all bytes, and Speakeasy
copies the whole of it for each import: ten seconds of processor time for 18 MB by Rust.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Final

from pefile import DIRECTORY_ENTRY
from speakeasy.windows.common import PeFile

READ: Final = ("EXPORT", "IMPORT", "RESOURCE", "TLS", "DELAY_IMPORT")
"""Directories that are looked at; those for moving a program are read when it is moved."""


class Image(PeFile):  # type: ignore[misc]  # the base has no types
    """The program."""

    mapped_image: bytes

    def __parse__(self, fname: str | None, data: bytes | None, _fast_load: bool) -> None:
        """Read headers, sections and directories."""
        super().__parse__(fname, data, True)
        wanted = [DIRECTORY_ENTRY[f"IMAGE_DIRECTORY_ENTRY_{name}"] for name in READ]
        self.parse_data_directories(directories=wanted)

    def _get_pe_exports(self) -> list[Any]:
        """In Speakeasy's form; its own fails for a name that is not UTF-8."""
        directory = getattr(self, "DIRECTORY_ENTRY_EXPORT", None)
        return [
            SimpleNamespace(
                name=(symbol.name or b"").decode("latin-1") or None,
                address=symbol.address + self.get_base(),
                forwarder=symbol.forwarder,
                ordinal=symbol.ordinal,
            )
            for symbol in (directory.symbols if directory else ())
        ]

    def _patch_imports(self) -> None:
        """Write the addresses by which the emulator knows a call of an imported function."""
        image = bytearray(self.mapped_image)
        for address, imported in self.imports.items():
            place = address - self.base
            image[place : place + self.ptr_size] = self.imp_id.to_bytes(self.ptr_size, "little")
            self.import_table[self.imp_id] = imported
            self.imp_id += self.imp_step
        self.mapped_image = bytes(image)
