"""What a program or library imports: from libraries that the program wrote, or from Windows."""

from __future__ import annotations

import ntpath
from typing import TYPE_CHECKING, Any, Final

from drakcelery.engines.speakeasy_guest.programs.library_image import (
    ERROR_MOD_NOT_FOUND,
    ERROR_NOT_ENOUGH_MEMORY,
    ERROR_PROC_NOT_FOUND,
    Loaded,
    Unloadable,
)
from drakcelery.engines.speakeasy_guest.programs.library_search import of_windows

if TYPE_CHECKING:
    from collections.abc import Callable

    Get = Callable[[str], Loaded | None]
    """Gives the library of that name, which is loaded if it was not; None for Windows' own, and for none."""

MAX_FUNCTIONS: Final = 3800
"""Windows' functions that have an address of their own, of Speakeasy's 4096."""

MAX_FORWARDS: Final = 8


class Binding:
    """The addresses of what is imported, in the present process."""

    def __init__(self, emu: Any, loaded: list[Loaded]) -> None:
        self._emu = emu
        self._loaded = loaded

    def library(self, loaded: Loaded, mapped: bytearray, get: Get) -> None:
        """Fill in the slots of a library whose image is *mapped*.

        Raises:
            Unloadable: something is not there.
        """
        for name, slots in loaded.image.wanted():
            needed = get(name)
            if needed is not None:
                loaded.needs.append(needed)
                needed.count += 1
            elif not of_windows(self._emu, name):
                raise Unloadable(ERROR_MOD_NOT_FOUND)
            stem, size = ntpath.splitext(name)[0], self._emu.get_ptr_size()
            for place, wanted in slots:
                if needed is None:
                    spelt = _spelt(wanted)
                    loaded.image.imports[loaded.image.base + place] = (stem, spelt)
                    address = self.function(stem, spelt)
                else:
                    address = self.export(needed, wanted)
                if not address:
                    raise Unloadable(ERROR_PROC_NOT_FOUND)
                mapped[place : place + size] = address.to_bytes(size, "little")

    def program(self, image: Any, get: Get) -> None:
        """Have a program find what it imports from libraries beside it; Windows' functions it has already.

        Raises:
            Unloadable: something is not there.
        """
        libraries = {stem: get(f"{stem}.dll") for stem, _ in image.imports.values()}
        for slot, (stem, name) in image.imports.items():
            library = libraries[stem]
            if library is None:
                continue
            number = name.removeprefix("ordinal_")
            address = self.export(library, int(number) if number != name and number.isdigit() else name)
            if not address:
                raise Unloadable(ERROR_PROC_NOT_FOUND)
            library.count = max(library.count, 1)
            self._emu.write_ptr(slot, address)

    def function(self, library: str, name: str) -> int:
        """The address of a function, or of data, of Windows'.

        Raises:
            Unloadable: there is no room for more.
        """
        emu = self._emu
        _, handler = emu.api.get_data_export_handler(library, name)
        if handler:
            return int(emu.handle_import_data(library, name) or 0)
        if len(emu.dyn_imps) >= MAX_FUNCTIONS:
            raise Unloadable(ERROR_NOT_ENOUGH_MEMORY)
        return int(emu.get_proc(library, name))

    def export(self, loaded: Loaded, wanted: str | int, depth: int = 0) -> int:
        """The address of an export; 0 for none. What another DLL does for it is looked for there."""
        export = loaded.image.export(wanted)
        if export is None or depth > MAX_FORWARDS:
            return 0
        if not export.forwarder:
            return int(loaded.image.base) + export.address
        return self._forwarded(export.forwarder, depth)

    def place_of(self, item: Any) -> int:
        """The address of an export in Speakeasy's form, or of what does it in another DLL; 0 for nothing."""
        if not item.forwarder:
            return int(item.address)
        return self._forwarded(item.forwarder.decode("latin-1"), 0)

    def _forwarded(self, forwarder: str, depth: int) -> int:
        library, _, name = forwarder.rpartition(".")
        target: str | int = int(name[1:]) if name[:1] == "#" and name[1:].isdigit() else name
        for other in self._loaded:
            if other.image.get_base_name().lower() == library.lower():
                return self.export(other, target, depth + 1)
        return self.function(library, _spelt(target)) if of_windows(self._emu, library) else 0


def _spelt(wanted: str | int) -> str:
    return f"ordinal_{wanted}" if isinstance(wanted, int) else wanted
