"""What kind of file something is, by libmagic."""

from __future__ import annotations

from pathlib import Path

import pylibmagic  # noqa: F401 brings the library that the next import looks for

# isort: split
import magic


def describe(head: bytes) -> str:
    """libmagic's description of a file that begins with *head*."""
    return str(magic.from_buffer(head))


def describe_file(path: Path) -> str:
    """libmagic's description of the file at *path*."""
    return str(magic.from_file(str(path)))
