"""What only DRAKVUF leaves, where settings or plugins ask for it: memory, profiles, processor traces."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import BinaryIO, cast

import structlog
from isal import igzip

from drakcelery.artifacts.untrusted import open_untrusted, open_untrusted_directory
from drakcelery.artifacts.zipped import LEVEL, ZipWriter

log = structlog.get_logger(__name__)

MEMORY = "post_sample.raw_memdump"
PROFILES = "profiles"
"""A directory as Karton passes one: a zip without folders, whose resource says that it is a directory."""
APISCOUT = "static_apiscout_profile.json"
TRACES = "ipt"
"""What the plugins ipt and codemon write, as ``ipt.zip``."""
_CHUNK = 1024**2
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,200}")


def pack_extras(raw: Path, out: Path) -> None:
    """Pack what there is of it in *raw*, under the names of v0.18: memory deflated, the rest in a zip each.

    Raises:
        UntrustedFileError: something of it is a link, or no regular file.
    """
    if os.path.lexists(raw / MEMORY):
        with (
            open_untrusted(raw / MEMORY) as source,
            igzip.IGzipFile(out / f"{MEMORY}.gz", "wb", LEVEL) as target,  # type: ignore[no-untyped-call] # isal ships no types
        ):
            shutil.copyfileobj(source, target, _CHUNK)
    if os.path.lexists(raw / PROFILES):
        _pack(raw / PROFILES, out / PROFILES)
    if os.path.lexists(raw / TRACES):
        _pack(raw / TRACES, out / f"{TRACES}.zip", folder=f"{TRACES}/")
    if os.path.lexists(raw / APISCOUT):
        with open_untrusted(raw / APISCOUT) as source, (out / APISCOUT).open("xb") as copy:
            shutil.copyfileobj(source, copy, _CHUNK)


def _pack(source: Path, target: Path, *, folder: str = "") -> None:
    """The files of *source* as a zip, each below *folder*; no zip where there are none.

    A name that holds anything but letters, digits, ``.``, ``_`` and ``-`` is the guest's doing, and left out.
    """
    directory = open_untrusted_directory(source)
    try:
        with os.scandir(directory) as entries:
            found = sorted(entry.name for entry in entries)
        names = [name for name in found if _NAME.fullmatch(name)]
        if len(names) < len(found):
            log.warning("files_left_out", directory=source.name, count=len(found) - len(names))
        if not names:
            return
        with target.open("xb") as file:
            archive = ZipWriter(file)
            for name in names:
                with open_untrusted(name, directory=directory) as member:
                    size = os.fstat(member.fileno()).st_size
                    archive.add(f"{folder}{name}", cast("BinaryIO", member), size)
            archive.finish()
    finally:
        os.close(directory)
