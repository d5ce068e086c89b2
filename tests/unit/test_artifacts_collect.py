"""Collect: from a workspace to the files of the contract."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from pathlib import Path, PureWindowsPath
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict

from drakcelery.artifacts import collect
from drakcelery.artifacts.metadata import RunFacts
from drakcelery.artifacts.output import Ready, nobody
from drakcelery.artifacts.untrusted import UntrustedFileError
from drakcelery.model.analysis import Analysis, ObjectRef, Outcome, Priority
from drakcelery.model.manifest import Artifact, Manifest
from drakcelery.model.plugins import LOG_NAMES
from tests.builders import OUTCOME, recorded

ANALYSIS = Analysis(
    uid="uid-1",
    task_uid="task-1",
    root_uid="root-1",
    priority=Priority.NORMAL,
    sample=ObjectRef(bucket="karton", key="key", name="sample"),
    magic="PE32 executable",
    extension="exe",
    quality="high",
    file_name="malwar",
    timeout=60,
    plugins=("procmon", "tlsmon"),
    profile="default",
)


def run(raw: Path, out: Path, ready: Ready = nobody, *, outcome: Outcome = OUTCOME) -> Manifest:
    """Collect with small caps."""
    return collect(
        raw=raw,
        out=out,
        analysis=ANALYSIS,
        outcome=outcome,
        facts=RunFacts(
            sample_sha256="9" * 64,
            start_command="C:\\malwar.exe",
            host="host-1",
            slot="vm-1",
            attempts=2,
        ),
        dumps_total_size=1000,
        dumps_single_size=100,
        ready=ready,
    )


def content(directory: Path) -> dict[str, bytes]:
    """Every file below *directory*."""
    paths = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in paths}


def test_the_files_of_the_contract(tmp_path: Path) -> None:
    """The manifest lists each file with size and sha256; the metadata has the contract's keys and counts."""
    out = tmp_path / "out"
    manifest = run(recorded(tmp_path / "raw"), out)
    assert [artifact.name for artifact in manifest.artifacts] == [
        "dumps.pcap",
        "dumps.zip",
        "inject.log",
        "parse_errors.log",
        "process_tree.json",
        "procmon.log",
        "report.json",
        "tlsmon.log",
        "wireshark_key_file.txt",
    ]
    assert {path.name for path in out.iterdir()} == {a.name for a in manifest.artifacts} | {"metadata.json"}
    for artifact in manifest.artifacts:
        data = (out / artifact.name).read_bytes()
        assert (artifact.size, artifact.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        assert data
    assert manifest.dumps_metadata == ({"filename": "dumps/1000_00000000000000aa", "base_address": "0x1000"},)
    assert json.loads((out / "metadata.json").read_bytes()) == manifest.metadata | {
        "time_started": "2023-11-14T22:13:21+00:00",
        "time_finished": "2023-11-14T22:14:21+00:00",
    }
    assert manifest.metadata == {
        "sample_sha256": "9" * 64,
        "magic_output": "PE32 executable",
        "time_started": 1700000001,
        "time_finished": 1700000061,
        "snapshot_version": 1700000000,
        "analysis_uid": "uid-1",
        "snapshot_sha256": "5" * 64,
        "start_command": "C:\\malwar.exe",
        "plugins": ["procmon", "tlsmon"],
        "engine": "replay 0123",
        "host": "host-1",
        "slot": "vm-1",
        "attempts": 2,
        "execution": "executed",
        "complete": None,
        "reason": None,
        "windows_error": None,
        "dumps_dropped": {"count": 1, "bytes": 101},
        "parse_errors": 2,
        "log_dropped": {"bytes": 0},
        "id": "uid-1",
        "status": "finished",
        "file": {"name": "malwar.exe", "type": "PE32 executable", "sha256": "9" * 64},
        "options": {
            "plugins": ["procmon", "tlsmon"],
            "net_enable": False,
            "timeout": 60,
            "start_command": "C:\\malwar.exe",
            "sample_filename": "malwar.exe",
        },
        "vm_id": 1,
    }


class FileOf21(BaseModel):
    """``FileMetadata`` of DRAKVUF Sandbox v0.21, field by field."""

    name: str
    type: str
    sha256: str


class OptionsOf21(BaseModel):
    """The fields of its ``AnalysisOptions`` that we write, and those that have to be there."""

    sample_filename: str | None = None
    guest_working_directory: PureWindowsPath | None = None
    start_command: list[str] | str | None = None
    start_method: Literal["createproc", "shellexec", "runas"] | None = None
    plugins: list[str]
    timeout: int | None = None
    net_enable: bool


class MetadataOf21(BaseModel):
    """Its ``AnalysisMetadata``: as what its web application and ``postprocess`` read ``metadata.json``."""

    model_config = ConfigDict(extra="allow")
    id: str
    options: OptionsOf21
    time_started: str | None = None
    time_finished: str | None = None
    time_execution_started: str | None = None
    status: str | None = None
    substatus: str | None = None
    vm_id: int | None = None
    file: FileOf21 | None = None


def test_screenshots_are_counted(tmp_path: Path) -> None:
    """As v0.21's postprocess counts them; where there are none nothing is said (H7)."""
    raw = recorded(tmp_path / "raw")
    assert "screenshots" not in run(raw, tmp_path / "out").metadata
    (raw / "screenshots").mkdir()
    for number in (1, 2):
        (raw / "screenshots" / f"screenshot_{number}.png").write_bytes(b"png")
    (raw / "screenshots.json").write_text("{}\n")
    manifest = run(raw, tmp_path / "out")
    assert manifest.metadata["screenshots"] == 2
    assert {"screenshots.zip", "screenshots.json"} <= {artifact.name for artifact in manifest.artifacts}


def test_drakvuf_sandbox_reads_our_metadata(tmp_path: Path) -> None:
    """v0.21 opens what we publish: its own fields are there, each of the type that it demands (H7)."""
    outcome = OUTCOME.model_copy(
        update={"start_method": "runas", "guest_working_directory": "C:\\Users\\Public", "net_enable": True}
    )
    run(recorded(tmp_path / "raw"), tmp_path / "out", outcome=outcome)
    read = MetadataOf21.model_validate_json((tmp_path / "out" / "metadata.json").read_bytes())
    assert (read.id, read.status, read.vm_id) == ("uid-1", "finished", 1)
    assert read.options == OptionsOf21(
        sample_filename="malwar.exe",
        guest_working_directory=PureWindowsPath("C:\\Users\\Public"),
        start_command="C:\\malwar.exe",
        start_method="runas",
        plugins=["procmon", "tlsmon"],
        timeout=60,
        net_enable=True,
    )
    assert read.file == FileOf21(name="malwar.exe", type="PE32 executable", sha256="9" * 64)
    assert datetime.fromisoformat(str(read.time_started)).timestamp() == OUTCOME.started


def test_nothing_recorded_still_gives_dumps_zip(tmp_path: Path) -> None:
    """An engine that wrote nothing gives dumps.zip and the metadata, and no empty file."""
    (tmp_path / "raw").mkdir()
    manifest = run(tmp_path / "raw", tmp_path / "out")
    assert [artifact.name for artifact in manifest.artifacts] == ["dumps.zip", "report.json"]


def test_names_beside_the_plugins_have_logs(tmp_path: Path) -> None:
    """The plugin syscalls writes as syscall and sysret, others beside their own name: nothing is lost."""
    raw = tmp_path / "raw"
    raw.mkdir()
    names = sorted(LOG_NAMES)
    (raw / "drakmon.log").write_text("".join(json.dumps({"Plugin": name}) + "\n" for name in names))
    manifest = run(raw, tmp_path / "out")
    assert [artifact.name for artifact in manifest.artifacts] == sorted(
        ["dumps.zip", "report.json", *(f"{name}.log" for name in names)]
    )


def test_collecting_again_gives_the_same(tmp_path: Path) -> None:
    """After an interruption leftovers go, the results are equal byte for byte, and the input is untouched."""
    raw, out = recorded(tmp_path / "raw"), tmp_path / "out"
    before = content(raw)
    first = run(raw, out)
    files = content(out)
    (out / ".dumps.zip.part").write_bytes(b"half")
    (out / "filetracer.log").write_bytes(b"of another life")
    (out / "procmon.log").write_bytes(b"half")
    assert run(raw, out) == first
    assert content(out) == files
    assert content(raw) == before


def test_who_waits_is_told_of_each_artifact_once(tmp_path: Path) -> None:
    """Each artifact is told of while it lies there complete; metadata.json is not one of them."""
    raw, out = recorded(tmp_path / "raw"), tmp_path / "out"
    (raw / "post_sample.raw_memdump").write_bytes(bytes(3_000_000))
    (raw / "profiles").mkdir()
    (raw / "profiles" / "x.json").write_text("{}")
    (raw / "static_apiscout_profile.json").write_text("[]")
    told: list[Artifact] = []

    def ready(artifact: Artifact) -> None:
        data = (out / artifact.name).read_bytes()
        assert (artifact.size, artifact.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        told.append(artifact)

    manifest = run(raw, out, ready)
    assert sorted(told, key=lambda artifact: artifact.name) == list(manifest.artifacts)
    assert len(told) == 12


@pytest.mark.parametrize("name", ["dumps.zip", "procmon.log"])
def test_who_waits_may_fail(tmp_path: Path, name: str) -> None:
    """An error of the one who is told, in either thread, is collect's."""

    def ready(artifact: Artifact) -> None:
        if artifact.name == name:
            raise ConnectionError(name)

    with pytest.raises(ConnectionError, match=name):
        run(recorded(tmp_path / "raw"), tmp_path / "out", ready)


def test_a_hostile_input_stops_collect(tmp_path: Path) -> None:
    """A log that is a link to another file is an error, not an artifact."""
    raw = recorded(tmp_path / "raw")
    (raw / "drakmon.log").unlink()
    (raw / "drakmon.log").symlink_to("/etc/passwd")
    with pytest.raises(UntrustedFileError, match=r"drakmon\.log"):
        run(raw, tmp_path / "out")
