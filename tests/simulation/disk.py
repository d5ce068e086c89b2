"""The hosts' disks: real directories, of which a power loss takes what was not synced."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

KEPT = ("slots.sqlite",)
"""Files whose own program syncs them, below Python."""


class Disk:
    """All of them: what was synced, and how large it was then."""

    def __init__(self) -> None:
        self._synced: dict[tuple[int, int], int] = {}
        """Size at the time, by device and inode: a file that is renamed stays itself."""

    def fsync(self, descriptor: int) -> None:
        """Stands for :func:`os.fsync`."""
        status = os.fstat(descriptor)
        self._synced[status.st_dev, status.st_ino] = status.st_size

    def lose_power(self, directory: Path, chance: random.Random) -> None:
        """What lies below *directory* is as the disk has it: its names, and of its contents what was synced.

        Other contents may have got there as well: kernels write back what has been waiting for a while.
        """
        share = chance.choice((0.4, 0.9))
        for path in sorted(directory.rglob("*")):
            if path.is_symlink() or not path.is_file() or path.name.startswith(KEPT):
                continue
            status = path.stat()
            size = self._synced.get((status.st_dev, status.st_ino), 0)
            if size < status.st_size and chance.random() < share:
                os.truncate(path, size)

    @staticmethod
    def clear(directory: Path) -> None:
        """Remove all of it."""
        shutil.rmtree(directory, ignore_errors=True)
