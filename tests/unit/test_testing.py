"""The fixture for tests of Karton services, as those tests use it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import unittest
from pathlib import Path
from typing import Any

import pytest
from karton.core import Karton, Task
from karton.core.test import KartonTestCase

from drakcelery.artifacts.metadata import METADATA
from drakcelery.embedded.layout import home
from drakcelery.reading import Analysis
from drakcelery.testing import RECORDED, RecordedAnalysis
from tests.reference import DOCS, ROOT


class Reader(Karton):
    """A service that reads all of an analysis, and sends a task for each dump."""

    identity = "karton.reader"
    filters = [{"type": "analysis", "kind": "drakrun"}]  # noqa: RUF012 Karton's own type

    def __init__(self, *, wanted: str = "procmon", **karton: Any) -> None:
        super().__init__(**karton)
        self.wanted = wanted

    def process(self, task: Task) -> None:
        """As a service does."""
        analysis = Analysis.of(task)
        assert task.get_resource("sample").content.startswith(b"MZ")
        assert [len(list(analysis.events(name))) > 0 for name in analysis.logs] == [True] * len(analysis.logs)
        with analysis.dumps() as dumps:
            for dump in dumps:
                self.send_task(Task({"type": "dump", "log": self.wanted}, payload={"name": dump.name}))


class Elsewhere(Reader):
    """One whose filters match no analysis."""

    filters = [{"type": "report"}]  # noqa: RUF012 Karton's own type


@pytest.fixture
def recorded(tmp_path: Path) -> RecordedAnalysis:
    """As the plugin's fixture gives it."""
    directory = tmp_path / "analysis"
    directory.mkdir()
    for path in RECORDED.iterdir():
        (directory / path.name).write_bytes(path.read_bytes())
    return RecordedAnalysis(directory)


def test_a_service_is_run(recorded: RecordedAnalysis) -> None:
    """It gets all artifacts and the sample; what it sends comes back, with what is persistent."""
    [sent] = recorded.run(Reader, wanted="apimon")
    assert (sent.headers["type"], sent.headers["log"]) == ("dump", "apimon")
    with recorded.analysis.dumps() as dumps:
        assert [dump.name for dump in dumps] == [sent.payload["name"]]


def test_the_task_is_the_contracts(recorded: RecordedAnalysis) -> None:
    """Headers, times as numbers, both names of the traffic, the dumps' addresses."""
    task = recorded.task(quality="low")
    assert (task.headers["type"], task.headers["kind"]) == ("analysis", "drakrun")
    assert isinstance(task.payload["metadata"]["time_started"], int)
    assert task.payload["dump.pcap"].uid == task.payload["dumps.pcap"].uid
    [dump] = task.payload["dumps_metadata"]
    assert dump["base_address"].startswith("0x")
    assert METADATA not in task.payload


def test_filters_that_do_not_match(recorded: RecordedAnalysis) -> None:
    """A service that Karton would give no analysis is told so."""
    with pytest.raises(AssertionError, match="Elsewhere gets no analysis"):
        recorded.run(Elsewhere)


def test_what_a_test_changes(recorded: RecordedAnalysis) -> None:
    """Files that it removes and adds, and metadata that it changes, are in the task."""
    (recorded.directory / "dumps.pcap").unlink()
    (recorded.directory / "dumps.zip").unlink()
    (recorded.directory / "syscall.log").write_text('{"Plugin": "syscall"}\n')
    recorded.change(complete=False, reason="cut")
    payload = recorded.task().payload
    assert not {"dumps.pcap", "dump.pcap", "dumps.zip"} & set(payload)
    assert payload["dumps_metadata"] == []
    assert payload["syscall.log"].size == 22
    assert payload["metadata"]["reason"] == "cut"
    assert json.loads((RECORDED / METADATA).read_bytes())["complete"] is True


def test_kartons_own_test_case(recorded: RecordedAnalysis) -> None:
    """The task can be given to Karton's own KartonTestCase."""

    class Case(KartonTestCase):
        karton_class = Reader  # type: ignore[assignment] # Karton's is typed as None

        def test(self) -> None:
            assert len(self.run_task(recorded.task())) == 1

    result = unittest.TestResult()
    Case("test").run(result)
    assert (result.testsRun, result.errors, result.failures) == (1, [], [])


def test_the_recorded_sample_is_ours() -> None:
    """It is the sample that comes with drakcelery; `python -m tests.recording` records it anew."""
    sample = (home() / "samples" / "behaviour.exe").read_bytes()
    assert Analysis.from_directory(RECORDED).metadata.sample_sha256 == hashlib.sha256(sample).hexdigest()


@pytest.mark.slow
def test_the_examples(tmp_path: Path) -> None:
    """The example's test passes as it is, and so do those of docs/analyses.md."""
    page = (DOCS / "analyses.md").read_text(encoding="utf-8")
    for block in page.split("```python\n# ")[1:]:
        name, _, code = block.split("```")[0].partition("\n")
        (tmp_path / name).write_text(code)
    (tmp_path / "consumer.py").write_bytes((ROOT / "examples" / "consumer.py").read_bytes())
    for where, plugin in ((tmp_path, ()), (ROOT / "examples", ("-p", "drakcelery.testing"))):
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *plugin, "."],
            cwd=where,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "passed" in done.stdout
