"""Where instructions of a kind may be in a program's code."""

from __future__ import annotations

from typing import Any, Final

MOST: Final = 256
"""Places of one image that are looked after; two bytes are easily found by chance."""

EXECUTABLE: Final = 0x20000000
"""``IMAGE_SCN_MEM_EXECUTE``."""


def places(image: Any, instruction: bytes) -> list[int]:
    """Addresses of *instruction* in the sections of *image* with code."""
    found: list[int] = []
    for section in image.sections:
        if not section.Characteristics & EXECUTABLE:
            continue
        data, base = section.get_data(), image.get_base() + section.VirtualAddress
        place = data.find(instruction)
        while place >= 0 and len(found) < MOST:
            found.append(base + place)
            place = data.find(instruction, place + 1)
    return found
