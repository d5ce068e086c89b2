"""Evidence: whether all that a run left on disk is still there.

A file that was written and not synced may be there with length 0 after a power failure. Syncing gigabytes of
dumps would hold the slot for seconds. So their sizes are noted in a file that is synced, and compared.
"""

from __future__ import annotations

import hashlib
import heapq
import os
from pathlib import Path

from drakcelery import safe_files
from drakcelery.model.analysis import RawFiles

MOST_SIZES = 100
"""How many files are listed with their sizes: the largest. A digest covers all of them."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """The kernel's name for the time since this machine was started."""
    return _BOOT_ID.read_text(encoding="ascii").strip()


def survey(directory: Path) -> RawFiles:
    """Path and size of every file below *directory*, in a form that stays small. Links are not followed.

    Raises:
        OSError: it is not there, or cannot be read.
    """
    files = sorted((os.fsencode(path), status.st_size) for path, status in safe_files.walk(directory))
    digest = hashlib.sha256()
    for path, size in files:
        digest.update(b"%s\0%d\0" % (path, size))
    largest = heapq.nlargest(MOST_SIZES, files, key=lambda file: file[1])
    return RawFiles(
        count=len(files),
        size=sum(size for _, size in files),
        digest=digest.hexdigest(),
        # A name comes from the guest, and need not be UTF-8
        sizes={path.decode("utf-8", "backslashreplace"): size for path, size in largest},
    )


def difference(noted: RawFiles, found: RawFiles) -> str | None:
    """How what was *found* differs from what was *noted*, in words; None if nothing does.

    A file that grew counts as well. Every tool of a run has ended, and was waited for, before its files are
    noted (:meth:`drakcelery.engines.Engine.run`), so nothing of ours writes to them after that; another
    change does not come from the run.
    """
    if found.digest == noted.digest:
        return None
    for path, size in noted.sizes.items():
        now = found.sizes.get(path)
        if now is None and found.count <= len(found.sizes):
            return f"{path} is gone"
        if now is not None and now != size:
            return f"{path} has {now} bytes instead of {size}"
    if found.count != noted.count:
        return f"there are {found.count} files instead of {noted.count}"
    if found.size != noted.size:
        return f"there are {found.size} bytes instead of {noted.size}"
    return "its files are others"
