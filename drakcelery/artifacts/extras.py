"""Files that only DRAKVUF leaves, if settings or plugins ask for them: memory, profiles, traces,
screenshots."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path

import structlog

from drakcelery.artifacts.deflate import Block, Deflater, Source
from drakcelery.artifacts.output import Output, Ready, nobody
from drakcelery.artifacts.untrusted import open_untrusted, open_untrusted_directory
from drakcelery.artifacts.zipped import ZipWriter

log = structlog.get_logger(__name__)

MEMORY = "post_sample.raw_memdump"
PROFILES = "profiles"
"""A directory as Karton passes one: a zip without folders, whose resource says that it is a directory."""
APISCOUT = "static_apiscout_profile.json"
TRACES = "ipt"
"""What the plugins ipt and codemon write, as ``ipt.zip``."""
SCREENSHOTS = "screenshots"
"""What DRAKVUF Sandbox's screenshotter writes: ``screenshots.zip``, which unpacks to where v0.21 has them,
and ``screenshots.json``, a line for each."""
MOST_SCREENSHOTS = 100
MOST_SCREENSHOT_BYTES = 128 * 1024**2
"""Most bytes of screenshots, more than an engine leaves: their content depends on the guest."""
_CHUNK = 1024**2
_GZIP_HEADER = b"\x1f\x8b\x08" + bytes(6) + b"\xff"
"""Deflated; no flags, no time, an unknown system."""
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,200}")


@dataclass(frozen=True, kw_only=True)
class ExtrasPacked:
    """Which of these files there were."""

    screenshots: int


def pack_extras(raw: Path, out: Path, ready: Ready = nobody) -> ExtrasPacked:
    """Pack those that are in *raw*, under the names of v0.18: memory deflated, each of the others as a zip.

    Screenshots, which v0.18 did not have, get v0.21's names.

    Raises:
        UntrustedFileError: one of them is a link, or no regular file.
    """
    if os.path.lexists(raw / MEMORY):
        with open_untrusted(raw / MEMORY) as source, Output(out / f"{MEMORY}.gz", ready) as target:
            _gzip(source, os.fstat(source.fileno()).st_size, target)
            target.finish()
    if os.path.lexists(raw / PROFILES):
        _pack(raw / PROFILES, out / PROFILES, ready)
    if os.path.lexists(raw / TRACES):
        _pack(raw / TRACES, out / f"{TRACES}.zip", ready, folder=f"{TRACES}/")
    if os.path.lexists(raw / APISCOUT):
        _copy(raw / APISCOUT, out / APISCOUT, ready)
    screenshots = 0
    if os.path.lexists(raw / SCREENSHOTS):
        screenshots = _pack(
            raw / SCREENSHOTS,
            out / f"{SCREENSHOTS}.zip",
            ready,
            folder=f"{SCREENSHOTS}/",
            most=(MOST_SCREENSHOTS, MOST_SCREENSHOT_BYTES),
        )
    if screenshots and os.path.lexists(raw / f"{SCREENSHOTS}.json"):
        _copy(raw / f"{SCREENSHOTS}.json", out / f"{SCREENSHOTS}.json", ready)
    return ExtrasPacked(screenshots=screenshots)


def _copy(source: Path, target: Path, ready: Ready) -> None:
    """As it is; nothing of an empty file."""
    with open_untrusted(source) as given:
        if os.fstat(given.fileno()).st_size:
            with Output(target, ready) as file:
                shutil.copyfileobj(given, file, _CHUNK)
                file.finish()


def _gzip(source: Source, size: int, target: Output) -> None:
    """Write a gzip file (RFC 1952) without name and time, so that equal input gives equal bytes."""

    def write(block: Block) -> None:
        if block.first:
            target.write(_GZIP_HEADER)
        target.write(block.packed)
        if block.last:
            target.write(struct.pack("<II", block.crc, block.size & 0xFFFFFFFF))

    with Deflater(write) as deflater:
        deflater.add("", source, size)
        deflater.drain()


def _pack(
    source: Path, target: Path, ready: Ready, *, folder: str = "", most: tuple[int, int] | None = None
) -> int:
    """Write the files of *source* to a zip, below *folder*; no zip if there are none. Returns how many.

    A name that holds anything but letters, digits, ``.``, ``_`` and ``-`` comes from the guest, and the file
    is left out; so are files beyond *most* files and bytes.
    """
    directory = open_untrusted_directory(source)
    try:
        with os.scandir(directory) as entries:
            sizes = {entry.name: entry.stat(follow_symlinks=False).st_size for entry in entries}
        found = sorted(sizes, key=lambda name: (len(name), name) if most else (0, name))
        names = [name for name in found if _NAME.fullmatch(name)]
        if most is not None:
            sums = itertools.accumulate(sizes[name] for name in names[: most[0]])
            names = [name for name, size in zip(names, sums, strict=False) if size <= most[1]]
        if len(names) < len(found):
            log.warning("files_left_out", directory=source.name, count=len(found) - len(names))
        if not names:
            return 0
        with Output(target, ready) as file, ZipWriter(file) as archive:
            for name in names:
                with open_untrusted(name, directory=directory) as member:
                    archive.add(f"{folder}{name}", member, os.fstat(member.fileno()).st_size)
            archive.finish()
            file.finish()
        return len(names)
    finally:
        os.close(directory)
