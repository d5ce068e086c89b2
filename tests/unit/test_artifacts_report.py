"""The report as an artifact: what it says of the rest of the log, and a disk that is full."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from drakcelery.artifacts import log as log_module
from drakcelery.behaviour.report import Report
from tests.guest_log import Log, collected


def test_what_is_left_of_the_log_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines that are no plugin's, and what comes after too many of them."""
    monkeypatch.setattr(log_module, "BROKEN_LIMIT", 2)
    monkeypatch.setattr(log_module, "_BLOCK", 100)
    raw = Log().started().write(tmp_path / "raw")
    with (raw / "drakmon.log").open("ab") as file:
        file.write(b"no line\n" * 100)
    manifest = collected(raw)
    report = Report.model_validate_json((tmp_path / "out" / "report.json").read_bytes())
    metadata = manifest.metadata
    assert metadata["parse_errors"] > 2
    assert metadata["log_dropped"]["bytes"] > 0
    assert report.left_out == {
        "log_lines": metadata["parse_errors"],
        "log_bytes": metadata["log_dropped"]["bytes"],
    }


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """No file gets more bytes than *size*: the kernel refuses to write them, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_no_room_for_the_report(tmp_path: Path) -> None:
    """The analysis has everything else, and says why; nothing of the report is left on the disk."""
    log = Log().started()
    for number in range(20):
        log.add("regmon", "NtSetValueKey", Key=f"k{number}", ValueName="x", Value="y")
        log.add("filetracer", "NtDeleteFile", FileName=f"C:\\{number}.txt")
    raw = log.write(tmp_path / "raw")
    with files_of_at_most(6000):
        manifest = collected(raw)
    assert "report.json" not in {one.name for one in manifest.artifacts}
    assert "regmon.log" in {one.name for one in manifest.artifacts}
    assert manifest.metadata["report_failure"] == "OSError: [Errno 27] File too large"
    assert not [path.name for path in (tmp_path / "out").iterdir() if "report" in path.name]
