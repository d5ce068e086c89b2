"""Analyses for the programs that read them: typed, streamed, from a Karton task, a bucket or a directory.

Needs neither Celery nor Flower. Whatever is in an analysis comes from a sample: names become no paths, links
are not followed, lines and listings are bounded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Self, TypeVar

from karton.core.task import Task
from pydantic import ValidationError

from drakcelery.artifacts import LOGGED_PLUGINS
from drakcelery.artifacts.dumps import DUMPS
from drakcelery.artifacts.pcap import PCAP
from drakcelery.behaviour import process_tree
from drakcelery.behaviour import report as reports
from drakcelery.behaviour.report import Report
from drakcelery.errors import ArtifactMissing, ArtifactUnreadable
from drakcelery.karton.analysis_task import STORED
from drakcelery.model.analysis import Value
from drakcelery.model.metadata import Metadata
from drakcelery.model.names import is_uid
from drakcelery.model.plugins import WRITES_AS
from drakcelery.model.text import clean
from drakcelery.reading.buckets import BucketSource, Client, objects_of
from drakcelery.reading.dumps import Dump, Dumps
from drakcelery.reading.events import Events, OddLine
from drakcelery.reading.sources import DirectorySource, Source, TaskSource, parsed, whole
from drakcelery.settings import Settings

__all__ = ("Analysis", "Client", "Dump", "Dumps", "Events", "Metadata", "OddLine", "Report")

LOG = ".log"
REPORT_LIMIT = 256 * 1024**2
"""Bytes of a report or a process tree; ours have some MB, as their lists are bounded."""
V = TypeVar("V", bound=Value)


class Analysis:
    """A published analysis, wherever it is.

    Nothing is downloaded before it is asked for, and each artifact that is opened is downloaded into a
    temporary file first: its directory (``TMPDIR``) needs room for the largest.
    """

    def __init__(self, source: Source) -> None:
        self._source = source

    def __repr__(self) -> str:
        return f"<Analysis in {self._source.where}>"

    @classmethod
    def of(cls, task: Task) -> Self:
        """The analysis that an analysis task describes, as a Karton service got it.

        Raises :class:`ArtifactMissing` if it is another task.
        """
        return cls(TaskSource(task))

    @classmethod
    def from_directory(cls, path: str | Path) -> Self:
        """An analysis that ``drakcelery fetch`` has downloaded. Raises :class:`ArtifactMissing`."""
        return cls(DirectorySource(Path(path)))

    @classmethod
    def from_bucket(
        cls,
        uid: str,
        *,
        settings: Settings | None = None,
        client: Client | None = None,
        bucket: str | None = None,
    ) -> Self:
        """An analysis in S3, by its uid.

        Args:
            settings: where S3 is; without them and *client* they are read as the command does.
            client: boto3's, such as the ``backend.s3`` of a Karton service, instead of *settings*.
            bucket: where the analysis is, if not in the bucket that the settings name.

        Raises:
            ArtifactMissing: there is none of this uid, or it is not complete yet.
            SettingsError, StorageError: S3 cannot be asked.
        """
        if not is_uid(uid):
            raise ArtifactMissing(f"no analysis can have the uid {uid!r:.200}")
        objects, default = objects_of(settings, client)
        return cls(BucketSource(objects, bucket or default, uid))

    @cached_property
    def metadata(self) -> Metadata:
        """What is known beside the artifacts. Raises :class:`ArtifactUnreadable`."""
        return self._checked(Metadata, self._source.metadata(), "metadata")

    @cached_property
    def headers(self) -> Mapping[str, Any]:
        """The headers of its analysis task, such as ``share_3rd_party``; none if a version before
        ``analysis_task.json`` published it. Raises :class:`ArtifactUnreadable`."""
        found = self._source.headers()
        if found is not None or STORED not in self.artifacts:
            return found or {}
        task = parsed(self._opened(STORED), f"{self._source.where}: {STORED}", limit=REPORT_LIMIT)
        headers = task.get("headers") if isinstance(task, dict) else None
        if not isinstance(headers, dict):
            raise ArtifactUnreadable(f"{self._source.where}: {STORED} has no headers")
        return headers

    @cached_property
    def report(self) -> Report:
        """What the sample did. Raises :class:`ArtifactMissing`, :class:`ArtifactUnreadable`."""
        try:  # a fifth faster than by way of report_json, which is needed to say what is wrong
            return Report.model_validate_json(self._whole(reports.NAME))
        except ValidationError:
            value = self.report_json
        if isinstance(value, dict) and "version" not in value:
            raise ArtifactUnreadable(
                f"{self._source.where}: {reports.NAME} has no version, so it is none of drakcelery's: "
                "DRAKVUF Sandbox writes another one under this name"
            )
        version = value.get("version") if isinstance(value, dict) else None
        if isinstance(version, int) and version > reports.VERSION:
            raise ArtifactUnreadable(
                f"{self._source.where}: {reports.NAME} is of its version {version}; this "
                f"drakcelery reads {reports.VERSION}, a later one reads it"
            )
        return self._checked(Report, value, reports.NAME)

    @cached_property
    def report_json(self) -> Any:
        """``report.json`` as it was written, also what a later version added. Raises as :attr:`report`."""
        return self._json(reports.NAME)

    @cached_property
    def process_tree(self) -> Any:
        """``process_tree.json``, in the form of DRAKVUF Sandbox v0.21. Raises as :attr:`report`."""
        return self._json(process_tree.NAME)

    def _whole(self, name: str) -> bytes:
        return whole(self._opened(name), f"{self._source.where}: {name}", limit=REPORT_LIMIT)

    def _json(self, name: str) -> Any:
        return parsed(self._opened(name), f"{self._source.where}: {name}", limit=REPORT_LIMIT)

    def _checked(self, model: type[V], value: Any, name: str) -> V:
        try:
            return model.model_validate(value)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            field = clean(".".join(map(str, first["loc"])), 200) or "the whole of it"
            raise ArtifactUnreadable(
                f"{self._source.where}: {name} is wrong in {error.error_count()} places, first in {field}: "
                f"{first['msg']}"
            ) from None

    @property
    def uid(self) -> str:
        """The uid of the analysis."""
        return self.metadata.analysis_uid

    @cached_property
    def artifacts(self) -> Mapping[str, int]:
        """The size in bytes of each artifact, by name."""
        return self._source.sizes()

    @property
    def logs(self) -> tuple[str, ...]:
        """The plugins that wrote something, by the names of their logs."""
        names = (name.removesuffix(LOG) for name in self.artifacts if name.endswith(LOG))
        return tuple(sorted(LOGGED_PLUGINS.intersection(names)))

    def events(self, plugin: str) -> Events:
        """The lines of a plugin's log, such as ``procmon``: none if it ran and wrote nothing.

        Raises :class:`ArtifactMissing` if there is no such plugin, it did not run, its log is packed, or it
        writes into other logs, as ``syscalls`` into ``syscall.log``.
        """
        name = plugin + LOG
        if name in self.artifacts and plugin in LOGGED_PLUGINS:
            return Events(lambda: self._opened(name), name)
        if plugin not in LOGGED_PLUGINS:
            raise ArtifactMissing(f"no plugin writes {name!r:.80}; there are {', '.join(self.logs)}")
        if packed := [other for other in self.artifacts if other.startswith(f"{name}.")]:
            raise ArtifactMissing(f"{self._source.where} has no {name}, but {', '.join(packed)}: unpack it")
        elsewhere = [other for other in WRITES_AS.get(plugin, ()) if other + LOG in self.artifacts]
        if elsewhere and plugin in self.metadata.plugins:
            raise ArtifactMissing(
                f"{self._source.where} has no {name}: {plugin} writes as {' and '.join(elsewhere)}"
            )
        if not self._may_have_written(plugin):
            raise ArtifactMissing(
                f"{self._source.where} has no {name}, and the plugin was not on; there are "
                f"{', '.join(self.logs)}"
            )
        return Events(None, name)

    def _may_have_written(self, name: str) -> bool:
        """Whether a plugin was on that writes under *name*, as DRAKVUF's injector always may."""
        writers = {name} | {plugin for plugin, names in WRITES_AS.items() if name in names}
        return name == "inject" or not writers.isdisjoint(self.metadata.plugins)

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """An artifact by its name, such as ``tlsmon.log``: a file to read, which can seek.

        Raises :class:`ArtifactMissing`, :class:`ArtifactUnreadable`.
        """
        with self._opened(name) as file:
            yield file

    def _opened(self, name: str) -> BinaryIO:
        if name not in self.artifacts:
            raise ArtifactMissing(
                f"{self._source.where} has no {name!r:.200}; there are {', '.join(sorted(self.artifacts))}"
            )
        return self._source.open(name)

    @contextlib.contextmanager
    def dumps(self) -> Iterator[Dumps]:
        """The memory dumps. Raises :class:`ArtifactMissing`, :class:`ArtifactUnreadable`."""
        with self._opened(DUMPS) as file, Dumps.of(file, self._source.where) as dumps:
            yield dumps

    @contextlib.contextmanager
    def pcap(self) -> Iterator[BinaryIO]:
        """The network traffic. Raises :class:`ArtifactMissing` if none was recorded."""
        with self._opened(PCAP) as file:
            yield file
