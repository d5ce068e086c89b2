"""Packs memory dumps into ``dumps.zip``, the earliest first, within caps; counts what it leaves out."""

from __future__ import annotations

import heapq
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from drakcelery.artifacts.output import Output, Ready, nobody
from drakcelery.artifacts.untrusted import (
    UntrustedFileError,
    open_untrusted,
    open_untrusted_directory,
)
from drakcelery.artifacts.zipped import ZipWriter
from drakcelery.model.names import is_file_name

DUMPS = "dumps.zip"
FOLDER = "dumps/"
MEMBER_LIMIT = 50_000
"""Dumps in a zip. The Karton task lists them too: a guest that dumps forever is bounded here."""

_DUMP = re.compile(r"([a-f0-9]{4,16})_[a-f0-9]{16}")
"""The names that consumers such as karton-yaramatcher match: base address and hash."""


def base_address(name: str) -> str | None:
    """Where in its process a dump was, such as ``0x400000``, as its name says; None if it does not."""
    match = _DUMP.fullmatch(name)
    return None if match is None else f"0x{match[1]}"


@dataclass(frozen=True, kw_only=True)
class DumpsPacked:
    """The result of packing the dumps."""

    metadata: tuple[dict[str, str], ...]
    """``filename`` and ``base_address`` of each dump in the zip whose name says them."""
    kept: int
    dropped_count: int
    dropped_bytes: int
    reasons: dict[str, int]
    """Dropped files by reason: ``single_size``, ``total_size``, ``member_limit``, ``name``,
    ``not_regular``."""


def pack_dumps(
    dumps_dir: Path, target: Path, *, total_size: int, single_size: int, ready: Ready = nobody
) -> DumpsPacked:
    """Pack *dumps_dir* into the zip *target*, which appears complete or not at all. Memory is bounded.

    The earliest dumps win (by modification time, then name): one that is larger than *single_size* bytes, or
    does not fit into what those before it left of *total_size* bytes, is dropped. Files with another name
    than DRAKVUF's are kept without metadata, as v0.18 did, if that name is harmless. A missing directory is
    an empty one.

    Raises:
        UntrustedFileError: *dumps_dir* is a link or no directory.
    """
    with Output(target, ready) as file, ZipWriter(file) as archive:
        packing = _Packing(archive, total_size=total_size, single_size=single_size)
        if os.path.lexists(dumps_dir):
            packing.pack(dumps_dir)
        result = packing.finish()
        file.finish()
    return result


class _Packing:
    """The zip being written, and what was dropped so far."""

    def __init__(self, archive: ZipWriter, *, total_size: int, single_size: int) -> None:
        self._archive = archive
        self._left = total_size
        self._single_size = single_size
        self._metadata: list[dict[str, str]] = []
        self._found = self._found_bytes = self._kept = 0
        self._dropped_bytes = 0
        self._reasons: Counter[str] = Counter()

    def pack(self, dumps_dir: Path) -> None:
        """Take the earliest :data:`MEMBER_LIMIT` dumps of *dumps_dir*, as far as they fit."""
        directory = open_untrusted_directory(dumps_dir)
        try:
            earliest = heapq.nsmallest(MEMBER_LIMIT, self._candidates(directory))
            for _, name, _ in earliest:
                self._add(name, directory)
        finally:
            os.close(directory)
        if beyond := self._found - len(earliest):
            self._reasons["member_limit"] += beyond
            self._dropped_bytes += self._found_bytes - sum(size for _, _, size in earliest)

    def _candidates(self, directory: int) -> Iterator[tuple[int, str, int]]:
        """Modification time, name and size of what may go into the zip; the rest is counted as dropped."""
        with os.scandir(directory) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                if not stat.S_ISREG(status.st_mode):
                    self._drop("not_regular", 0)
                elif not is_file_name(entry.name):
                    self._drop("name", status.st_size)
                else:
                    self._found += 1
                    self._found_bytes += status.st_size
                    yield status.st_mtime_ns, entry.name, status.st_size

    def _add(self, name: str, directory: int) -> None:
        try:
            file = open_untrusted(name, directory=directory)
        except UntrustedFileError:  # a second name of another file, or exchanged since it was listed
            self._drop("not_regular", 0)
            return
        with file:
            size = os.fstat(file.fileno()).st_size
            if size > self._single_size:
                self._drop("single_size", size)
            elif size > self._left:
                self._drop("total_size", size)
            else:
                self._left -= self._archive.add(FOLDER + name, file, size)
                self._kept += 1
                if (base := base_address(name)) is not None:
                    self._metadata.append({"filename": FOLDER + name, "base_address": base})

    def _drop(self, reason: str, size: int) -> None:
        self._reasons[reason] += 1
        self._dropped_bytes += size

    def finish(self) -> DumpsPacked:
        """Close the zip."""
        if not self._kept:
            self._archive.add_folder(FOLDER)
        self._archive.finish()
        return DumpsPacked(
            metadata=tuple(self._metadata),
            kept=self._kept,
            dropped_count=self._reasons.total(),
            dropped_bytes=self._dropped_bytes,
            reasons=dict(self._reasons),
        )
