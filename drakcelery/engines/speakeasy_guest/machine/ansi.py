"""The code page of the emulated Windows, 1252, for every narrow text: of files, variables, the registry.

Windows gives each byte a character, and takes it back; Python's ``cp1252`` has none for five of them.
"""

from __future__ import annotations

import codecs
from typing import Any, Final

ANSI: Final = "windows_ansi"
"""Its name, as Python's codecs have names."""

_TABLE: Final = "".join(bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in range(256))
_BYTES: Final = codecs.charmap_build(_TABLE)


def _decode(data: Any, errors: str = "strict") -> tuple[str, int]:
    return codecs.charmap_decode(data, errors, _TABLE)


def _encode(text: str, errors: str = "strict") -> tuple[bytes, int]:
    return codecs.charmap_encode(text, errors, _BYTES)


def _find(name: str) -> codecs.CodecInfo | None:
    return codecs.CodecInfo(_encode, _decode, name=ANSI) if name == ANSI else None


codecs.register(_find)
