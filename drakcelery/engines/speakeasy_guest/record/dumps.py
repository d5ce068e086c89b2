"""Memory dumps, named as DRAKVUF's memdump does: ``<base>_<first 16 digits of the content's sha256>``."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drakcelery.engines.speakeasy_guest.record.journal import Journal

PARTIAL = "partial"
CHUNK = 1024 * 1024


def dump_name(base: int, digest: str) -> str:
    """The name of a dump of the block at *base* whose content has the sha256 *digest*."""
    return f"{base:04x}_{digest[:16]}"


@dataclass(frozen=True, kw_only=True)
class Block:
    """A block of guest memory that is worth keeping, and why."""

    base: int
    """Its address in the guest."""
    reason: str
    """DRAKVUF's ``DumpReason``."""
    method: str
    """What led to it."""
    pid: int
    """The process whose memory it is."""
    target: int | None = None
    """The process that was written to, where that is the reason."""


class Dumps:
    """Writes blocks of guest memory below one directory; equal blocks once, empty ones never.

    Attributes:
        failure: the error of the file system that ended it; it lies with us, not with the sample.
    """

    def __init__(self, directory: Path, *, journal: Journal, single_limit: int, total_limit: int) -> None:
        self._directory = directory
        self._journal = journal
        self._single_limit = single_limit
        self._left = total_limit
        self._names: set[str] = set()
        self.failure: OSError | None = None

    def add(
        self,
        block: Block,
        chunks: Iterable[bytes],
    ) -> str | None:
        """Write a *block* that is read piece by piece.

        Returns:
            the dump's name, or None: not wanted, nothing but zeros, already there, or no room left.
        """
        if not self._journal.wants("memdump") or self.failure is not None:
            return None
        try:
            kept = self._keep(block.base, chunks)
        except OSError as error:
            self.failure = error
            return None
        if kept is None:
            return None
        name, size, whole = kept
        self._names.add(name)
        self._left -= size
        extra: dict[str, Any] = {} if whole else {"Truncated": True}
        if block.target is not None:
            extra |= {"TargetPID": block.target, "WriteAddr": f"{block.base:#x}"}
        self._journal.write(
            "memdump",
            block.method,
            DumpReason=block.reason,
            DumpPID=block.pid,
            DumpAddr=f"{block.base:#x}",
            DumpSize=f"{size:#x}",
            DumpFilename=name,
            DumpsCount=len(self._names),
            **extra,
        )
        return name

    def _keep(self, base: int, chunks: Iterable[bytes]) -> tuple[str, int, bool] | None:
        """Write it under its name: the name, its size, whether it is whole; None if it is left out."""
        partial = self._directory / PARTIAL
        size, digest, whole = self._write(partial, chunks)
        name = dump_name(base, digest)
        if size == 0 or name in self._names:
            partial.unlink()
            return None
        partial.rename(self._directory / name)
        return name, size, whole

    def _write(self, path: Path, chunks: Iterable[bytes]) -> tuple[int, str, bool]:
        """Stream *chunks* to *path*: size, sha256 and whether all of it; size 0 for nothing but zeros."""
        room = min(self._single_limit, self._left)
        digest = hashlib.sha256()
        size = 0
        whole = True
        something = False
        self._directory.mkdir(exist_ok=True)
        with os.fdopen(
            os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644), "wb"
        ) as file:
            for chunk in chunks:
                piece = chunk[: room - size]
                whole = whole and len(piece) == len(chunk)
                something = something or piece.count(0) != len(piece)
                digest.update(piece)
                file.write(piece)
                size += len(piece)
                if not whole:
                    break
        return (size if something else 0), digest.hexdigest(), whole
