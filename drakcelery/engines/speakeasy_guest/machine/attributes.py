"""Attributes of files and folders: hidden, read-only, of the system."""

from __future__ import annotations

from typing import Any, Final

READ_ONLY, HIDDEN, SYSTEM, DIRECTORY, ARCHIVE, NORMAL = 0x1, 0x2, 0x4, 0x10, 0x20, 0x80
SETTABLE: Final = READ_ONLY | HIDDEN | SYSTEM | ARCHIVE | 0x100 | 0x2000
"""What ``SetFileAttributes`` changes: also temporary, and not indexed."""


def of_file(file: Any) -> int:
    """Those of a file."""
    return int(getattr(file, "attributes", ARCHIVE))


def set_of_file(file: Any, value: int) -> None:
    """Give a file others; one without any is normal."""
    file.attributes = value & SETTABLE or NORMAL
