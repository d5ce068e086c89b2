"""Where the artifacts of an analysis are: in the resources of a Karton task, or in a directory."""

from __future__ import annotations

import io
import os
import stat
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import orjson
from botocore.exceptions import BotoCoreError, ClientError
from karton.core.resource import RemoteResource, ResourceBase
from karton.core.task import Task

from drakcelery import safe_files
from drakcelery.artifacts.metadata import METADATA
from drakcelery.errors import ArtifactMissing, ArtifactUnreadable
from drakcelery.karton.contract import payload
from drakcelery.model.names import is_file_name

METADATA_LIMIT = 16 * 1024**2
"""Bytes of ``metadata.json``."""


class Source(Protocol):
    """The artifacts of one analysis."""

    where: str
    """For people."""

    def sizes(self) -> Mapping[str, int]:
        """The size in bytes of each artifact, by name."""

    def open(self, name: str) -> BinaryIO:
        """Open one of them; the caller closes it. Raises :class:`ArtifactUnreadable`."""

    def metadata(self) -> Any:
        """What is in ``metadata.json``, not checked. Raises :class:`ArtifactUnreadable`."""

    def headers(self) -> Mapping[str, Any] | None:
        """The headers of the analysis task, if it is at hand without a download."""


class TaskSource:
    """The resources of an analysis task."""

    def __init__(self, task: Task) -> None:
        self.where = f"the task {task.uid}"
        if not isinstance(payload(task, "metadata"), dict):
            raise ArtifactMissing(f"{self.where} is no analysis: it has no payload 'metadata'")
        self._metadata = payload(task, "metadata")
        self._headers = {**task.headers_persistent, **task.headers}
        self._resources = {
            name: resource
            for name, resource in task.payload.items()
            if isinstance(resource, ResourceBase) and name != "sample" and is_file_name(name)
        }

    def sizes(self) -> Mapping[str, int]:
        """As the task says."""
        return {name: resource.size or 0 for name, resource in self._resources.items()}

    def open(self, name: str) -> BinaryIO:
        """Downloaded the way that Karton services do it."""
        resource = self._resources[name]
        if not isinstance(resource, RemoteResource):
            return io.BytesIO(resource.content)
        return temporary(
            lambda path: resource.download_to_file(str(path)), f"{self.where}: {name}", size=resource.size
        )

    def metadata(self) -> Any:
        """The payload's."""
        return self._metadata

    def headers(self) -> Mapping[str, Any] | None:
        """The task's, those that persist among them."""
        return self._headers


class DirectorySource:
    """The files in a directory. Links, devices and files in further directories are no artifacts."""

    def __init__(self, path: Path) -> None:
        """Raises :class:`ArtifactMissing`, and :class:`ArtifactUnreadable` if nobody can tell."""
        self.where = str(path)
        self._path = path
        try:
            is_analysis = stat.S_ISREG((path / METADATA).lstat().st_mode)
        except (FileNotFoundError, NotADirectoryError, ValueError):  # the last for a name with a NUL
            is_analysis = False
        except OSError as error:
            raise ArtifactUnreadable(f"{str(path)[:1000]}: {error.strerror}") from None
        if not is_analysis:
            raise ArtifactMissing(
                f"{path} is no analysis: it has no {METADATA}. `drakcelery fetch` makes one of a complete one"
            )

    def sizes(self) -> Mapping[str, int]:
        """As they are now. Raises :class:`ArtifactUnreadable`."""
        found = {}
        try:
            with os.scandir(self._path) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode) and is_file_name(entry.name):
                        found[entry.name] = status.st_size
        except OSError as error:
            raise ArtifactUnreadable(f"{self._path}: {error.strerror}") from None
        return found

    def open(self, name: str) -> BinaryIO:
        """The file itself."""
        try:
            return safe_files.opened(self._path / name)
        except OSError as error:
            raise ArtifactUnreadable(f"{self._path / name}: {error.strerror}") from None

    def metadata(self) -> Any:
        """The file's."""
        return parsed(self.open(METADATA), f"{self.where}: {METADATA}")

    def headers(self) -> Mapping[str, Any] | None:
        """They are in a file."""
        return None


def temporary(download: Callable[[Path], object], where: str, *, size: int | None) -> BinaryIO:
    """Have *download* write a file, and open it: it is gone once it is closed. *size* is what it should have.

    Raises :class:`ArtifactUnreadable`.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="drakcelery-") as directory:
            path = Path(directory) / "artifact"
            download(path)
            file = path.open("rb")
    except (OSError, BotoCoreError, ClientError, LookupError, RuntimeError) as error:
        # RuntimeError: Karton's, for a resource that no backend can download; LookupError: its test kit's
        raise ArtifactUnreadable(f"{where} cannot be downloaded: {error!r:.400}") from None
    found = os.fstat(file.fileno()).st_size
    if size is not None and found != size:
        file.close()
        raise ArtifactUnreadable(f"{where} has {found} bytes instead of {size}")
    return file


def whole(file: BinaryIO, where: str, *, limit: int = METADATA_LIMIT) -> bytes:
    """What is in *file*, at most *limit* bytes; it is closed. Raises :class:`ArtifactUnreadable`."""
    try:
        with file:
            data = file.read(limit + 1)
    except OSError as error:
        raise ArtifactUnreadable(f"{where}: {error.strerror}") from None
    if len(data) > limit:
        raise ArtifactUnreadable(f"{where} has more than {limit} bytes")
    return data


def parsed(file: BinaryIO, where: str, *, limit: int = METADATA_LIMIT) -> Any:
    """The JSON in *file*; otherwise as :func:`whole`."""
    data = whole(file, where, limit=limit)
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ArtifactUnreadable(f"{where} is no JSON: {error}") from None
