"""Who may do what with pages: ``VirtualProtect``, and pages that guard (``PAGE_GUARD``)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import PAGE, Api, put

NOACCESS, EXECUTE_READWRITE, GUARD = 0x1, 0x40, 0x100
PERMISSIONS: Final = {0x1: 0, 0x2: 2, 0x4: 6, 0x8: 6, 0x10: 0x12, 0x20: 0x12, 0x40: 0x16, 0x80: 0x16}
"""Speakeasy's (read 2, write 4, execute 0x10) for each protection; whatever runs can be read."""

ERROR_INVALID_PARAMETER, ERROR_INVALID_ADDRESS = 87, 487
MOST_PAGES: Final = 1024 * 1024
"""Of one call: 4 GiB."""


@dataclass
class Pages:
    """Pages whose protection is another one than that of the block that they are in."""

    protections: dict[int, int] = field(default_factory=dict)

    def forget(self, first: int, end: int) -> None:
        """Pages are no longer there."""
        if self.protections:
            for page in range(first, end, PAGE):
                self.protections.pop(page, None)

    def touched(self, emu: Any, address: int) -> bool:
        """Whether *address* is in a page that guards. It does so once."""
        page = address // PAGE * PAGE
        flags = self.protections.get(page, 0)
        if not flags & GUARD:
            return False
        self.protections[page] = flags & ~GUARD
        _permit(emu, page, PAGE, PERMISSIONS[flags & 0xFF])
        return True


def protection_at(emu: Any, page: int, block: Any) -> int:
    """The protection of a page of *block*, as Windows names it."""
    own = emu.pages.protections.get(page)
    if own is not None:
        return int(own)
    return int(block.get_flags() or (EXECUTE_READWRITE if block.get_prot() else NOACCESS))


def extent(emu: Any, page: int, block: Any) -> int:
    """How many bytes from *page* on have the same protection."""
    end = block.base + -(-block.size // PAGE) * PAGE
    if not any(page <= one < end for one in emu.pages.protections):
        return int(end - page)
    wanted = protection_at(emu, page, block)
    following = page + PAGE
    while following < end and protection_at(emu, following, block) == wanted:
        following += PAGE
    return following - page


def protect(emu: Any, first: int, end: int, protection: int) -> None:
    """Change the protection of pages that are there."""
    permissions = 0 if protection & GUARD else PERMISSIONS[protection & 0xFF]
    for block, start, stop in _parts(emu, first, end):
        _permit(emu, start, stop - start, permissions)
        if not protection & GUARD:
            block.prot = permissions
        for page in range(start, stop, PAGE):
            emu.pages.protections[page] = protection


def _permit(emu: Any, start: int, size: int, permissions: int) -> None:
    """Tell the processor; Speakeasy's own function takes 0 for all."""
    if permissions:
        emu.mem_protect(start, size, permissions)
    else:
        emu.emu_eng.emu.mem_protect(start, size, 0)


def _parts(emu: Any, first: int, end: int) -> Iterator[tuple[Any, int, int]]:
    """Blocks from *first* to *end*, and what of each is in there."""
    for block in list(emu.get_mem_maps()):
        start, stop = max(first, block.base), min(end, block.base + -(-block.size // PAGE) * PAGE)
        if start < stop:
            yield block, start, stop


def _virtual_protect(emu: Any, _name: str, argv: list[Any]) -> int:
    address, size, protection, old = argv[-4:]
    first, end = address // PAGE * PAGE, -(-(address + size) // PAGE) * PAGE
    block = emu.get_address_map(address)
    if block is None or not size or (end - first) // PAGE > MOST_PAGES:
        emu.set_last_error(ERROR_INVALID_ADDRESS)
        return 0
    if protection & 0xFF not in PERMISSIONS:
        emu.set_last_error(ERROR_INVALID_PARAMETER)
        return 0
    put(emu, old, protection_at(emu, first, block), 4)
    protect(emu, first, end, protection & 0xFFFFFFFF)
    return 1


APIS = {
    "VirtualProtect": Api(words=4, answer=_virtual_protect),
    "VirtualProtectEx": Api(words=5, answer=_virtual_protect),
}
