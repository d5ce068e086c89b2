"""DLLs that the program wrote and has Windows load: mapped, bound to what they import, their DllMain run."""

from __future__ import annotations

import ntpath
from collections.abc import Generator, Iterator
from typing import Any, Final

from speakeasy.windows.common import normalize_dll_name

from drakcelery.engines.speakeasy_guest.calling.guest_calls import GuestCall
from drakcelery.engines.speakeasy_guest.machine import cpuid, memory, timestamps
from drakcelery.engines.speakeasy_guest.programs.binding import Binding
from drakcelery.engines.speakeasy_guest.programs.library_image import (
    ERROR_DLL_INIT_FAILED,
    ERROR_MOD_NOT_FOUND,
    ERROR_NOT_ENOUGH_MEMORY,
    Library,
    Loaded,
    Unloadable,
    parse,
)
from drakcelery.engines.speakeasy_guest.programs.library_search import (
    is_known,
    of_windows,
    same_file,
    where,
    with_ending,
)

MAX_LOADED: Final = 64
"""Libraries of the program's own in one process."""

MAX_LOADS: Final = 1024
"""How often files are loaded in one run."""

MAX_DEPTH: Final = 8
"""So many libraries that import one another are followed."""

MAX_CALLBACKS: Final = 32
PROCESS_DETACH, PROCESS_ATTACH, THREAD_ATTACH, THREAD_DETACH = 0, 1, 2, 3
"""Why ``DllMain`` is called."""

GRANULARITY: Final = 0x10000
LOWEST: Final = 0x10000000
"""Where room is looked for when a library's own address is taken."""

Calls = Generator[GuestCall, int, bool]


class Libraries:
    """The program's own libraries in the present process."""

    def __init__(self, emu: Any) -> None:
        self._emu = emu
        self.loaded: list[Loaded] = []
        self.binding = Binding(emu, self.loaded)
        self._loads = 0

    # Finding.

    def at(self, base: int) -> Loaded | None:
        """The library at an address; also of a handle that says in its low bits that it is for data."""
        return next((one for one in self.loaded if one.image.base == base & ~3), None)

    def named(self, name: str) -> Loaded | None:
        """One that is loaded, by its path or name as ``GetModuleHandle`` takes it."""
        wanted = with_ending(name)
        if is_known(wanted):
            return None
        full = self._emu.disk.full(wanted).lower()
        for one in self.loaded:
            if one.path.lower() == full or ("\\" not in wanted and same_file(one.path, wanted)):
                return one
        return None

    # Loading.

    def load(self, name: str, *, runs: bool = True, data: bool = False) -> Generator[GuestCall, int, int]:
        """``LoadLibrary``: the address; 0, and the thread's last error, where Windows has none.

        Args:
            name: as the program gives it.
            runs: whether it gets its imports, and ``DllMain`` is called.
            data: whether it may be for another processor.
        """
        fresh: list[Loaded] = []
        try:
            loaded = self.get(name, fresh, runs=runs and not data, data=data)
            if loaded is None:
                return self._windows_own(name)
            loaded.count += 1
        except Unloadable as error:
            return self._give_up(fresh, error.code)
        except MemoryError:
            return self._give_up(fresh, ERROR_NOT_ENOUGH_MEMORY)
        for number, one in enumerate(fresh):
            if not (yield from self.attach(one)):
                yield from self._notify(one, PROCESS_DETACH, 0)
                for before in reversed(fresh[:number]):
                    yield from self._detach(before, 0)
                return self._give_up(fresh, ERROR_DLL_INIT_FAILED)
        return int(loaded.image.base)

    def _windows_own(self, name: str) -> int:
        stem = ntpath.splitext(with_ending(ntpath.basename(name)))[0]
        if ntpath.dirname(name) and not of_windows(self._emu, name):
            raise Unloadable(ERROR_MOD_NOT_FOUND)
        base = int(self._emu.load_library(normalize_dll_name(stem)))
        if not base:
            raise Unloadable(ERROR_MOD_NOT_FOUND)
        return base

    def _give_up(self, fresh: list[Loaded], code: int) -> int:
        for one in reversed(fresh):
            self._unmap(one)
        self._emu.set_last_error(code)
        return 0

    def get(
        self, name: str, fresh: list[Loaded], near: str = "", depth: int = 0, **how: bool
    ) -> Loaded | None:
        """The library that *name* means, which is loaded if it was not; None for Windows' own, and for none.

        All that is new goes to *fresh*, in the order of calls. *near*: the folder of the one that asks.

        Raises:
            Unloadable: Windows would not; what is in *fresh* is to be taken away again.
            MemoryError: there is no room.
        """
        found = self.named(name)
        if found is None and (path := where(self._emu, name, near)) is not None:
            found = self.named(path) or self._bring(path, fresh, depth, **how)
        return found

    def _bring(
        self, path: str, fresh: list[Loaded], depth: int, *, runs: bool = True, data: bool = False
    ) -> Loaded:
        """Map the file at *path*, and what it needs."""
        self._loads += 1
        if len(self.loaded) >= MAX_LOADED or self._loads > MAX_LOADS or depth > MAX_DEPTH:
            raise Unloadable(ERROR_NOT_ENOUGH_MEMORY)
        content = self._emu.get_module_data_from_emu_file(path) or b""
        image = parse(content, path, bits=0 if data else self._emu.get_ptr_size() * 8)
        base = self._room(image)
        mapped = image.mapped(base)
        image.base = base
        loaded = Loaded(image, path, runs=runs and image.runs)
        self._add(loaded)
        try:
            if loaded.runs:
                folder = ntpath.dirname(path)
                self.binding.library(loaded, mapped, lambda name: self.get(name, fresh, folder, depth + 1))
        finally:
            fresh.append(loaded)
        image.mapped_image = bytes(mapped)
        self._emu.mem_write(base, image.mapped_image)
        if loaded.runs:
            self._settle(image)
        memory.dump_image(self._emu, image, reason="Library that the program wrote", method="LoadLibrary")
        return loaded

    def _add(self, loaded: Loaded) -> None:
        image = loaded.image
        tag = f"emu.module.{image.get_base_name()}"
        self._emu.mem_map(image.image_size, base=image.base, tag=tag)
        self._emu.modules.append((image, (image.base, image.image_size), loaded.path))
        self._emu.get_user_modules().append(image)
        self.loaded.append(loaded)

    def _room(self, image: Library) -> int:
        preferred, size = int(image.OPTIONAL_HEADER.ImageBase), image.image_size
        base, _ = self._emu.get_valid_ranges(size, preferred)
        if base == preferred:
            return preferred
        top = min(1 << (8 * self._emu.get_ptr_size() - 1), 1 << 46)
        base, _ = memory.first_free(memory.taken(self._emu), size, LOWEST, top, GRANULARITY)
        return int(base)

    def _settle(self, image: Library) -> None:
        """What else the emulator does for code."""
        # Speakeasy looks for functions in the table of the module in which a run began
        image.import_table = self._emu.image.import_table
        cpuid.look_after(self._emu, image)
        timestamps.look_after(self._emu, image)
        image.ran = memory.watch_data(self._emu, image)
        self._emu.add_storage(image)
        self._emu.link_variables(image)
        process = self._emu.curr_process
        if process is not None and self._emu.get_address_map(process.get_peb_ldr().address):
            process.add_module_to_peb(image)

    def bind(self, image: Any) -> list[Loaded]:
        """Have a program find what it imports from libraries beside it: these, in the order of calls.

        Raises:
            Unloadable, MemoryError: as :meth:`get`.
        """
        fresh: list[Loaded] = []
        self.binding.program(image, lambda name: self.get(name, fresh))
        return fresh

    # Calling.

    def attach(self, loaded: Loaded, reserved: int = 0) -> Calls:
        """Call ``DllMain`` for a new library; False where it refuses."""
        if not loaded.runs:
            return True
        loaded.attached = True
        done = yield from self._notify(loaded, PROCESS_ATTACH, reserved)
        loaded.attached = done and loaded in self.loaded
        return done

    def _notify(self, loaded: Loaded, reason: int, reserved: int) -> Calls:
        image = loaded.image
        for callback in callbacks(image):
            yield GuestCall(callback, (image.base, reason, reserved))
        if not image.entry or not loaded.runs:
            return True
        return bool((yield GuestCall(image.entry, (image.base, reason, reserved))) & 0xFFFFFFFF)

    def notify_threads(self, reason: int) -> Generator[GuestCall, int, None]:
        """A thread begins or ends."""
        for one in list(self.loaded):
            if one.attached and one.tells_threads:
                yield from self._notify(one, reason, 0)

    def _detach(self, loaded: Loaded, reserved: int) -> Generator[GuestCall, int, None]:
        if loaded.attached:
            loaded.attached = False
            yield from self._notify(loaded, PROCESS_DETACH, reserved)

    def detach_all(self) -> Generator[GuestCall, int, None]:
        """The process ends."""
        for one in reversed(list(self.loaded)):
            yield from self._detach(one, 1)

    def free(self, base: int) -> Generator[GuestCall, int, bool]:
        """``FreeLibrary``: False if there is no such library of the program's own."""
        found = self.at(base)
        if found is None:
            return False
        yield from self._release(found)
        return True

    def _release(self, loaded: Loaded) -> Generator[GuestCall, int, None]:
        loaded.count -= 1
        if loaded.count > 0 or loaded not in self.loaded:
            return
        yield from self._detach(loaded, 0)
        self._unmap(loaded, self._back())
        for one in loaded.needs:
            yield from self._release(one)

    def _unmap(self, loaded: Loaded, back: int = 0) -> None:
        """Take a library away; its memory stays where the program goes on in it, at *back*."""
        emu, image = self._emu, loaded.image
        if loaded not in self.loaded:
            return
        self.loaded.remove(loaded)
        emu.modules[:] = [one for one in emu.modules if one[0] is not image]
        emu.user_modules[:] = [one for one in emu.user_modules if one is not image]
        block = emu.get_address_map(image.base)
        if image.base <= back < image.base + image.image_size:
            return
        memory.dump_changed(emu, image, image.ran)
        memory.release(emu, block)

    def _back(self) -> int:
        """Where the function of ours that waits returns to; 0 for none."""
        pending = self._emu.guest_calls.pending
        return int(self._emu.read_ptr(pending[-1].registers[self._emu.processor.sp])) if pending else 0

    def forget(self) -> None:
        """The process is over, and its memory dumped."""
        for one in list(self.loaded):
            self._unmap(one)

    def images(self) -> Iterator[Library]:
        """Those whose code may run."""
        return (one.image for one in self.loaded if one.runs)


def callbacks(image: Any) -> list[int]:
    """The addresses of what a module wants called before its entry point."""
    moved = image.base - image.OPTIONAL_HEADER.ImageBase
    return [callback + moved for callback in image.get_tls_callbacks()[:MAX_CALLBACKS]]
