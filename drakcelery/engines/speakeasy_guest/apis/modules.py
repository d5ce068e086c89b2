"""Modules of the process: loading and finding them, their functions, and what they are called."""

from __future__ import annotations

import ntpath
from typing import Any, Final

from speakeasy.windows.common import normalize_dll_name

from drakcelery.engines.speakeasy_guest.apis.api import Api, put, read_counted, read_text, text_argument
from drakcelery.engines.speakeasy_guest.calling.guest_calls import Steps
from drakcelery.engines.speakeasy_guest.machine.ansi import ANSI
from drakcelery.engines.speakeasy_guest.programs.library_image import (
    ERROR_MOD_NOT_FOUND,
    ERROR_PROC_NOT_FOUND,
)
from drakcelery.engines.speakeasy_guest.programs.library_search import of_windows, same_file, with_ending

ERROR_INVALID_PARAMETER: Final = 87
ERROR_INSUFFICIENT_BUFFER: Final = 122
STATUS_SUCCESS, STATUS_DLL_NOT_FOUND, STATUS_ENTRYPOINT_NOT_FOUND = 0, 0xC0000135, 0xC0000139

DONT_RESOLVE, AS_DATAFILE, IMAGE_RESOURCE, EXCLUSIVE = 0x1, 0x2, 0x20, 0x40
"""Flags of ``LoadLibraryEx``, by which a library is not called."""

PIN, UNCHANGED, FROM_ADDRESS = 0x1, 0x2, 0x4
"""Flags of ``GetModuleHandleEx``."""

RVA_BASED = 1
"""``IMAGE_DELAYLOAD_DESCRIPTOR.Attributes``: its addresses are relative to the module."""


def _load_library(emu: Any, name: str, argv: list[Any]) -> Steps:
    flags = argv[2] & 0xFFFFFFFF if len(argv) > 2 else 0
    wanted = text_argument(emu, name, argv, 0)
    if not wanted.strip():
        emu.set_last_error(ERROR_INVALID_PARAMETER)
        return 0
    data = bool(flags & (AS_DATAFILE | IMAGE_RESOURCE | EXCLUSIVE))
    base = yield from emu.libraries.load(wanted, runs=not flags & DONT_RESOLVE, data=data)
    if data and emu.libraries.at(base) is not None:
        return int(base) | (2 if flags & IMAGE_RESOURCE else 1)
    return int(base)


def _ldr_load(emu: Any, _name: str, argv: list[Any]) -> Steps:
    """``LdrLoadDll``."""
    argv[2], place = read_counted(emu, argv[2]), argv[3]
    base = yield from emu.libraries.load(argv[2])
    if base:
        emu.write_ptr(place, base)
    return STATUS_SUCCESS if base else STATUS_DLL_NOT_FOUND


def _free_library(emu: Any, name: str, argv: list[Any]) -> Steps:
    known = yield from emu.libraries.free(argv[0])
    if not known and _module(emu, argv[0]) is None:
        emu.set_last_error(ERROR_MOD_NOT_FOUND)
        return STATUS_DLL_NOT_FOUND if name == "LdrUnloadDll" else 0
    return STATUS_SUCCESS if name == "LdrUnloadDll" else 1


def _quiet(emu: Any, _name: str, argv: list[Any]) -> int:
    """``DisableThreadLibraryCalls``."""
    found = emu.libraries.at(argv[0])
    if found is not None:
        found.tells_threads = False
    return 1


def _module(emu: Any, base: int) -> Any:
    """The module at an address, the program's own first."""
    own = emu.libraries.at(base)
    if own is not None:
        return own.image
    known = (emu.image, *emu.get_user_modules())
    return next((one for one in known if one is not None and one.get_base() == base), None)


def _named(emu: Any, name: str) -> int:
    """The address of a module by its name or path; 0 and an error for none."""
    own = emu.libraries.named(name)
    if own is not None:
        return int(own.image.base)
    wanted = with_ending(name)
    base = ntpath.basename(wanted)
    image = emu.image
    if image is not None and same_file(image.get_emu_path(), base):
        return int(image.get_base())
    if of_windows(emu, wanted):
        found = emu.load_library(normalize_dll_name(ntpath.splitext(base)[0]))
        if found:
            return int(found)
    process = emu.get_current_process()
    if process is not None and same_file(process.path or "", base):
        return int(process.base)
    emu.set_last_error(ERROR_MOD_NOT_FOUND)
    return 0


def _get_handle(emu: Any, name: str, argv: list[Any]) -> int:
    if not argv[0]:
        return int(emu.get_current_process().base)
    return _named(emu, text_argument(emu, name, argv, 0))


def _get_handle_ex(emu: Any, name: str, argv: list[Any]) -> int:
    flags, place = argv[0] & 0xFFFFFFFF, argv[2]
    if flags & FROM_ADDRESS and argv[1]:
        found = _containing(emu, argv[1])
    elif argv[1]:
        found = _named(emu, text_argument(emu, name, argv, 1))
    else:
        found = int(emu.get_current_process().base)
    put(emu, place, found, emu.get_ptr_size())
    own = emu.libraries.at(found) if found else None
    if own is not None and not flags & UNCHANGED:
        own.count += MAX_COUNT if flags & PIN else 1
    if not found:
        emu.set_last_error(ERROR_MOD_NOT_FOUND)
    return int(bool(found))


MAX_COUNT: Final = 1 << 30
"""A library with so many references stays."""


def _containing(emu: Any, address: int) -> int:
    for one in (emu.image, *emu.get_user_modules()):
        if one is not None and one.get_base() <= address < one.get_base() + one.get_image_size():
            return int(one.get_base())
    return 0


def _file_name(emu: Any, name: str, argv: list[Any]) -> int:
    module, place, room = argv[0], argv[1], argv[2] & 0xFFFFFFFF
    if not module:
        path = emu.get_current_process().get_process_path()
    else:
        found = _module(emu, module)
        path = found.get_emu_path() if found is not None else ""
        if found is emu.image and emu.image.is_exe():
            path = emu.get_current_process().get_process_path()
    if not path:
        emu.set_last_error(ERROR_MOD_NOT_FOUND)
        return 0
    argv[1] = path
    wide = name.endswith("W")
    encoding, width = ("utf-16-le", 2) if wide else (ANSI, 1)
    data = path.encode(encoding, "replace")
    if len(data) < room * width:
        emu.mem_write(place, data + bytes(width))
        return len(data) // width
    if room:
        emu.mem_write(place, data[: (room - 1) * width] + bytes(width))
    emu.set_last_error(ERROR_INSUFFICIENT_BUFFER)
    return int(room)


def _get_proc_address(emu: Any, _name: str, argv: list[Any]) -> int:
    if argv[1] >= 0x10000:
        argv[1] = read_text(emu, argv[1], wide=False)
    return _function(emu, argv[0], argv[1])


def _ldr_get_procedure(emu: Any, _name: str, argv: list[Any]) -> int:
    """``LdrGetProcedureAddress``: by an ``ANSI_STRING``, or by number."""
    module, name, number, place = argv[:4]
    wanted: int | str = number & 0xFFFF
    if name:
        length = int.from_bytes(emu.mem_read(name, 2), "little")
        buffer = emu.read_ptr(name + emu.get_ptr_size())
        wanted = argv[1] = bytes(emu.mem_read(buffer, length)).decode("latin-1")
    address = _function(emu, module, wanted)
    put(emu, place, address, emu.get_ptr_size())
    return STATUS_SUCCESS if address else STATUS_ENTRYPOINT_NOT_FOUND


def _function(emu: Any, module: int, wanted: int | str) -> int:
    """The address of a function of the module at an address, by name or number; 0 and an error for none."""
    found = _module(emu, module or emu.get_current_process().base)
    if found is None:
        emu.set_last_error(ERROR_MOD_NOT_FOUND)
        return 0
    address = _exported(emu, found, wanted)
    if address is None:
        name = f"ordinal_{wanted}" if isinstance(wanted, int) else wanted
        library = str(found.get_base_name())
        address = emu.variable(library, name)
        if not address and emu.has_function(library, name):
            address = emu.get_proc(library, name)
    if not address:
        emu.set_last_error(ERROR_PROC_NOT_FOUND)
    return int(address)


def _exported(emu: Any, module: Any, wanted: int | str) -> int | None:
    """The address in a program that is really there; 0 without such an export, None for Windows' own."""
    own = emu.libraries.at(module.get_base())
    if own is not None:
        return int(emu.libraries.binding.export(own, wanted))
    if not any(module is loaded for loaded, _, _ in emu.modules):
        return None
    for item in module.get_exports():
        if wanted in (item.name, item.ordinal):
            return int(emu.libraries.binding.place_of(item))
    return 0


def _resolve_delay_loaded(emu: Any, _name: str, argv: list[Any]) -> Steps:
    """``ResolveDelayLoadedAPI``: load the DLL, find the function, fill its slot, give its address."""
    base, descriptor, slot = argv[0], argv[1], argv[4]
    fields = [int.from_bytes(emu.mem_read(descriptor + 4 * number, 4), "little") for number in range(5)]
    attributes, dll, _, addresses, names = fields
    origin = base if attributes & RVA_BASED else 0
    module = yield from emu.libraries.load(read_text(emu, origin + dll, wide=False))
    size = emu.get_ptr_size()
    entry = emu.read_ptr(origin + names + slot - (origin + addresses))
    by_number = entry >> (8 * size - 1)
    wanted = entry & 0xFFFF if by_number else read_text(emu, origin + entry + 2, wide=False)  # after a hint
    address = _function(emu, module, wanted)
    if address:
        emu.write_ptr(slot, address)
    return address


APIS = {
    "LoadLibrary": Api(words=1, answer=_load_library),
    "LoadLibraryEx": Api(words=3, answer=_load_library),
    "LdrLoadDll": Api(words=4, answer=_ldr_load),
    "FreeLibrary": Api(words=1, answer=_free_library),
    "LdrUnloadDll": Api(words=1, answer=_free_library),
    "DisableThreadLibraryCalls": Api(words=1, answer=_quiet),
    "GetModuleHandle": Api(words=1, answer=_get_handle),
    "GetModuleHandleEx": Api(words=3, answer=_get_handle_ex),
    "GetModuleFileName": Api(words=3, answer=_file_name),
    "GetProcAddress": Api(words=2, answer=_get_proc_address),
    "LdrGetProcedureAddress": Api(words=4, answer=_ldr_get_procedure),
    "ResolveDelayLoadedAPI": Api(words=6, answer=_resolve_delay_loaded),
}
