"""For the tests of Karton services that read analyses: a recorded analysis, as a fixture of pytest.

A ``conftest.py`` with ``pytest_plugins = ["drakcelery.testing"]`` brings the fixture ``recorded_analysis``.
It needs no server: Karton's own test kit (``karton.core.test``) is in place of Redis and S3. Nothing else of
drakcelery needs this module, or pytest.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import orjson
import pytest
from karton.core import Karton, Resource, Task
from karton.core.resource import RemoteResource
from karton.core.test import KartonTestCase

from drakcelery.artifacts.metadata import METADATA, TIMES
from drakcelery.karton.analysis_task import UNPUBLISHED, build_analysis_task
from drakcelery.model.analysis import Analysis, ObjectRef, Priority
from drakcelery.model.manifest import Artifact, Manifest
from drakcelery.reading import Analysis as StoredAnalysis

RECORDED = Path(__file__).parent / "recorded"
"""What ``drakcelery fetch`` downloaded of an analysis of ``samples/behaviour.exe`` by the emulator."""
BUCKET = "drakrun"
IDENTITY = "karton.drakrun-prod"
HEADERS = {"type": "analysis", "kind": "drakrun"}
"""Of an analysis task, where ``[drakrun]`` does not say otherwise."""


class RecordedAnalysis:
    """A copy of an analysis, and what a Karton service does with it.

    Attributes:
        directory: its files. A test may change them, remove some and add others, such as ``syscall.log``.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def analysis(self) -> StoredAnalysis:
        """The analysis, to read."""
        return StoredAnalysis.from_directory(self.directory)

    def change(self, **metadata: Any) -> None:
        """Change keys of its metadata, such as ``complete=False``."""
        path = self.directory / METADATA
        path.write_text(json.dumps(json.loads(path.read_bytes()) | metadata, indent=2), encoding="utf-8")

    def task(self, **headers: Any) -> Task:
        """Its analysis task, as Karton's ``KartonTestCase.run_task`` takes it; *headers* add to its own."""
        stored = orjson.loads((self.directory / METADATA).read_bytes())
        metadata = stored | {name: getattr(self.analysis.metadata, name) for name in TIMES}
        sample = Task({"type": "sample"}, payload={"sample": _sample()})
        task = build_analysis_task(
            sample,
            _analysis(sample, metadata),
            Manifest(
                artifacts=tuple(self._artifacts()), dumps_metadata=tuple(self._dumps()), metadata=metadata
            ),
            attempt=1,
            headers={**HEADERS, **headers},
            bucket=BUCKET,
            identity=IDENTITY,
        )
        task.transform_payload_bags(self._local)
        return task

    def _artifacts(self) -> list[Artifact]:
        return [
            Artifact(
                name=name,
                size=size,
                sha256=hashlib.sha256((self.directory / name).read_bytes()).hexdigest(),
            )
            for name, size in sorted(self.analysis.artifacts.items())
            if name not in UNPUBLISHED
        ]

    def _dumps(self) -> list[dict[str, str]]:
        if "dumps.zip" not in self.analysis.artifacts:
            return []
        with self.analysis.dumps() as dumps:
            return [
                {"filename": f"dumps/{dump.name}", "base_address": dump.base_address}
                for dump in dumps
                if dump.base_address is not None
            ]

    def _local(self, value: Any) -> Any:
        """A resource of the analysis as one that is not uploaded yet: so Karton's test kit wants it."""
        if not isinstance(value, RemoteResource):
            return value
        return Resource(value.name, path=str(self.directory / value.name), bucket=value.bucket, uid=value.uid)

    def run(self, service: type[Karton], /, **arguments: Any) -> list[Task]:
        """Have a service process the analysis; returns the tasks that it sent.

        *arguments* are for its constructor, beside Karton's own. Raises what the service raises, and
        :class:`AssertionError` if Karton would not give it the task.
        """
        task = self.task()
        if not task.matches_filters(service.filters):
            raise AssertionError(
                f"{service.__name__} gets no analysis: its filters {service.filters} do not match "
                f"{task.headers}"
            )
        case = KartonTestCase()
        vars(case).update(karton_class=service, kwargs=arguments)
        case.setUp()
        sent: list[Task] = case.run_task(task)
        return sent


def _sample() -> Resource:
    from drakcelery.embedded.layout import home

    return Resource("behaviour.exe", path=str(home() / "samples" / "behaviour.exe"))


def _analysis(sample: Task, metadata: dict[str, Any]) -> Analysis:
    """What was decided when the sample came in, as far as an analysis task says it."""
    return Analysis(
        uid=metadata["analysis_uid"],
        task_uid=sample.uid,
        root_uid=sample.root_uid,
        priority=Priority.NORMAL,
        sample=ObjectRef(bucket="karton", key="sample", name="behaviour.exe"),
        magic=metadata["magic_output"],
        extension="exe",
        quality="high",
        file_name="behaviour",
        timeout=30,
        plugins=tuple(metadata["plugins"]),
        profile="default",
    )


@pytest.fixture
def recorded_analysis(tmp_path: Path) -> RecordedAnalysis:
    """A recorded analysis of the test's own."""
    directory = tmp_path / "recorded-analysis"
    shutil.copytree(RECORDED, directory)
    return RecordedAnalysis(directory)
