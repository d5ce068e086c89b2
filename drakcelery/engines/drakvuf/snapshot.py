"""Which snapshot the VMs of this host are restored from. Hashing it takes long, so the hash is kept."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from pathlib import Path

import structlog

from drakcelery import safe_files
from drakcelery.errors import EngineError
from drakcelery.model.analysis import Snapshot

log = structlog.get_logger(__name__)

MEMORY = "snapshot.sav"
DISK = "vm-0.img"
"""Files in ``snapshot_dir``; the disk is there only with the storage backend qcow2."""
PIECES, PIECE = 16, 64 * 1024
"""Number and bytes of the pieces of a file that identify a snapshot."""
MARK = 16
"""Characters of such a mark."""
MOST_KEPT = 64 * 1024
"""Bytes of the file with the hash."""


def install_info(etc_dir: Path) -> dict[str, object]:
    """What ``drakrun install`` noted of this host.

    Raises:
        EngineError: it cannot be read: DRAKVUF Sandbox is not installed here, or not for us.
    """
    path = etc_dir / "install.json"
    try:
        info = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise EngineError(f"{path}: no installation of DRAKVUF Sandbox: {error}") from None
    if not isinstance(info, dict):
        raise EngineError(f"{path}: no installation of DRAKVUF Sandbox: expected an object")
    return info


Status = tuple[tuple[int, int, int, int], ...]
"""Device, inode, size and time of each file of a snapshot."""


def directory(etc_dir: Path, lib_dir: Path) -> Path:
    """Where the snapshot is: as ``install.json`` says, or else ``volumes``.

    Raises:
        EngineError: ``install.json`` cannot be read: DRAKVUF Sandbox is not installed here, or not for us.
    """
    named = install_info(etc_dir).get("snapshot_dir")
    return Path(named) if isinstance(named, str) and named and "\0" not in named else lib_dir / "volumes"


def identify(volumes: Path, cache: Path) -> Snapshot:
    """The snapshot in *volumes*: when it was made, and the sha256 of the guest's saved memory.

    The hash is kept in the file *cache* until the snapshot's size or time changes. A process that needs it
    while another computes it waits for it.

    Raises:
        EngineError: it cannot be read.
    """
    memory = volumes / MEMORY
    try:
        safe_files.close_directory(cache.parent)
        descriptor = safe_files.open_regular(cache.with_suffix(".lock"), os.O_RDWR | os.O_CREAT)
        with os.fdopen(descriptor, "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                status = memory.stat()
                known: list[str | int] = [str(memory), status.st_ino, status.st_size, status.st_mtime_ns]
                sha256 = _recall(cache, known) or _hash(memory, cache, known)
            finally:
                fcntl.flock(lock, fcntl.LOCK_UN)  # a process that was forked meanwhile has it open as well
        disk = volumes / DISK
        made = disk.stat().st_mtime if disk.is_file() else status.st_mtime
    except OSError as error:
        raise EngineError(f"the snapshot cannot be read: {error}") from None
    return Snapshot(version=int(made), sha256=sha256)


def status(volumes: Path) -> Status:
    """What changes whenever the snapshot in *volumes* is written to. Raises OSError."""
    disk = volumes / DISK
    found = [path.stat() for path in (volumes / MEMORY, *([disk] if disk.is_file() else []))]
    return tuple((one.st_dev, one.st_ino, one.st_size, one.st_mtime_ns) for one in found)


def mark(volumes: Path) -> str:
    """An identifier of the snapshot in *volumes*, made without reading all of it.

    A digest of the sizes of memory and disk, and of pieces of both: their ends and some in between. The end
    of a saved memory holds the processors' registers and clocks, which are different in each snapshot. Times
    of files are left out: a copy on another host is the same snapshot.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    for path in (volumes / MEMORY, volumes / DISK):
        if path.name == DISK and not path.is_file():  # another storage backend has its disks elsewhere
            continue
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            digest.update(f"{path.name} {size} ".encode())
            for number in range(PIECES):
                file.seek(max(0, size - PIECE) * number // (PIECES - 1))
                digest.update(file.read(PIECE))
    return digest.hexdigest()[:MARK]


def _recall(cache: Path, known: list[str | int]) -> str | None:
    try:
        kept = json.loads(safe_files.read(cache, most=MOST_KEPT))
    except (FileNotFoundError, ValueError):
        return None
    if isinstance(kept, dict) and kept.get("file") == known and isinstance(kept.get("sha256"), str):
        return str(kept["sha256"])
    return None


def _hash(memory: Path, cache: Path, known: list[str | int]) -> str:
    log.info("snapshot_hashing", file=str(memory), size=known[2])
    with memory.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    safe_files.replace(cache, json.dumps({"file": known, "sha256": sha256}).encode(), durable=False)
    return sha256
