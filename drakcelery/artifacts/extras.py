"""What only DRAKVUF's hosts have, where the settings ask for it: the guest's memory, its DLLs' profiles."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import BinaryIO, cast

from isal import igzip

from drakcelery.artifacts.untrusted import open_untrusted, open_untrusted_directory
from drakcelery.artifacts.zipped import LEVEL, ZipWriter

MEMORY = "post_sample.raw_memdump"
PROFILES = "profiles"
"""A directory as Karton passes one: a zip without folders, whose resource says that it is a directory."""
APISCOUT = "static_apiscout_profile.json"
_CHUNK = 1024**2


def pack_extras(raw: Path, out: Path) -> None:
    """Pack what there is of it in *raw*, under the names of v0.18: memory deflated, profiles in one zip.

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
        _pack_profiles(raw / PROFILES, out / PROFILES)
    if os.path.lexists(raw / APISCOUT):
        with open_untrusted(raw / APISCOUT) as source, (out / APISCOUT).open("xb") as copy:
            shutil.copyfileobj(source, copy, _CHUNK)


def _pack_profiles(profiles: Path, target: Path) -> None:
    directory = open_untrusted_directory(profiles)
    try:
        with target.open("xb") as file:
            archive = ZipWriter(file)
            with os.scandir(directory) as entries:
                names = sorted(entry.name for entry in entries)
            for name in names:
                with open_untrusted(name, directory=directory) as source:
                    size = os.fstat(source.fileno()).st_size
                    archive.add(name, cast("BinaryIO", source), size)
            archive.finish()
    finally:
        os.close(directory)
