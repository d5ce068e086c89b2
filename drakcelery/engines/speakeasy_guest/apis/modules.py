"""Functions of loaded modules: by ``GetProcAddress``, and imported when they are first called."""

from __future__ import annotations

from typing import Any

from drakcelery.engines.speakeasy_guest.apis.api import Api, read_text

ERROR_MOD_NOT_FOUND = 126
ERROR_PROC_NOT_FOUND = 127

RVA_BASED = 1
"""``IMAGE_DELAYLOAD_DESCRIPTOR.Attributes``: its addresses are relative to the module."""


def _get_proc_address(emu: Any, _name: str, argv: list[Any]) -> int:
    if argv[1] >= 0x10000:
        argv[1] = read_text(emu, argv[1], wide=False)
    return _function(emu, argv[0], argv[1])


def _function(emu: Any, module: int, wanted: int | str) -> int:
    """The address of a function of the module at an address, by name or number; 0 and an error for none."""
    found = next((one for one in emu.get_user_modules() if one.get_base() == module), None)
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
    if not any(module is loaded for loaded, _, _ in emu.modules):
        return None
    for item in module.get_exports():
        if wanted in (item.name, item.ordinal):
            return int(item.address)
    return 0


def _resolve_delay_loaded(emu: Any, _name: str, argv: list[Any]) -> int:
    """``ResolveDelayLoadedAPI``: load the DLL, find the function, fill its slot, give its address."""
    base, descriptor, slot = argv[0], argv[1], argv[4]
    fields = [int.from_bytes(emu.mem_read(descriptor + 4 * number, 4), "little") for number in range(5)]
    attributes, dll, _, addresses, names = fields
    origin = base if attributes & RVA_BASED else 0
    module = emu.load_library(read_text(emu, origin + dll, wide=False))
    size = emu.get_ptr_size()
    entry = emu.read_ptr(origin + names + slot - (origin + addresses))
    by_number = entry >> (8 * size - 1)
    wanted = entry & 0xFFFF if by_number else read_text(emu, origin + entry + 2, wide=False)  # after a hint
    address = _function(emu, module, wanted)
    if address:
        emu.write_ptr(slot, address)
    return address


APIS = {
    "GetProcAddress": Api(words=2, answer=_get_proc_address),
    "ResolveDelayLoadedAPI": Api(words=6, answer=_resolve_delay_loaded),
}
