"""What is known as flaky: few, dated, with a reason; and nothing else is run again."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import flaky
from tests.reference import ROOT

ENTRY = """
[[test]]
id = "tests/unit/test_a.py::test_b"
since = 2026-11-28
reason = "The clock of the machine is read twice."
"""


def test_the_list_is_short() -> None:
    """At most three, each with a reason, a date that was, and a test that is there."""
    entries = flaky.listed()
    assert len(entries) <= flaky.MOST
    for entry in entries:
        assert len(entry.reason.split()) > 5
        assert entry.since <= datetime.datetime.now(tz=datetime.UTC).date()
        path, _, name = entry.id.partition("::")
        assert f"def {name.split('::')[-1].partition('[')[0]}(" in (ROOT / path).read_text(encoding="utf-8")


def test_an_entry(tmp_path: Path) -> None:
    """An entry covers its test with any parameters; a field that is missing is an error."""
    path = tmp_path / "flaky.toml"
    path.write_text(ENTRY)
    known = flaky.listed(path)
    failed = [
        "tests/unit/test_a.py::test_b",
        "tests/unit/test_a.py::test_b[1]",
        "tests/unit/test_a.py::test_c",
    ]
    assert flaky.unlisted(failed, known) == failed[2:]
    path.write_text(ENTRY.replace("reason", "because"))
    with pytest.raises(TypeError, match="because"):
        flaky.listed(path)


@pytest.mark.parametrize(
    ("body", "is_whole"),
    [("assert False", True), ("pass", False), ("raise KeyboardInterrupt", False), ("os._exit(1)", False)],
)
def test_a_run_that_was_cut_short(tmp_path: Path, body: str, is_whole: bool) -> None:
    """Only a run that reached its end says what failed: of one cut short, nobody knows the rest."""
    (tmp_path / "test_it.py").write_text(f"import os\n\ndef test_it():\n    {body}\n")
    _run(tmp_path)
    assert flaky.ran_to_its_end(tmp_path / flaky.CACHE.relative_to(ROOT)) is is_whole


def test_what_failed_last(tmp_path: Path) -> None:
    """The noted ids are read from where pytest itself notes them; nothing noted is nothing."""
    (tmp_path / "test_fails.py").write_text("def test_fails():\n    assert False\n")
    assert flaky.last_failed(tmp_path / "lastfailed") == []
    _run(tmp_path)
    cache = tmp_path / flaky.LAST_FAILED.relative_to(ROOT)
    assert flaky.last_failed(cache) == ["test_fails.py::test_fails"]
    assert json.loads(cache.read_text())


def _run(directory: Path) -> None:
    """Run the tests of *directory* as a session of its own."""
    options = (
        "-p",
        "tests.flaky",
        "-p",
        "no:xdist",
        "-p",
        "no:hypothesispytest",
        "--rootdir",
        str(directory),
    )
    subprocess.run(
        (sys.executable, "-m", "pytest", *options, str(directory)),
        cwd=directory,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
