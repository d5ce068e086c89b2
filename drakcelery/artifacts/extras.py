"""What only DRAKVUF leaves, where settings or plugins ask for it: memory, profiles, processor traces."""

from __future__ import annotations

import os
import re
import shutil
import struct
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
_CHUNK = 1024**2
_GZIP_HEADER = b"\x1f\x8b\x08" + bytes(6) + b"\xff"
"""Deflated; no flags, no time, an unknown system."""
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,200}")


def pack_extras(raw: Path, out: Path, ready: Ready = nobody) -> None:
    """Pack what there is of it in *raw*, under the names of v0.18: memory deflated, the rest in a zip each.

    Raises:
        UntrustedFileError: something of it is a link, or no regular file.
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
        with open_untrusted(raw / APISCOUT) as source, Output(out / APISCOUT, ready) as target:
            shutil.copyfileobj(source, target, _CHUNK)
            target.finish()


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


def _pack(source: Path, target: Path, ready: Ready, *, folder: str = "") -> None:
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
        with Output(target, ready) as file, ZipWriter(file) as archive:
            for name in names:
                with open_untrusted(name, directory=directory) as member:
                    archive.add(f"{folder}{name}", member, os.fstat(member.fileno()).st_size)
            archive.finish()
            file.finish()
    finally:
        os.close(directory)
