"""Real programs through the whole road: what a Karton service receives is what the contract promises."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from karton.core import Resource, Task
from karton.core.task import TaskPriority, TaskState
from scapy.utils import rdpcap

from drakcelery.model.analysis import State
from drakcelery.model.records import Record
from tests.acceptance.deployment import Deployment, Received, Receiver
from tests.programs import distlib_launcher, launcher
from tests.waiting import wait_until

PROGRAMS = {
    "setuptools-32": launcher(32),
    "setuptools-64": launcher(64),
    "distlib-32": distlib_launcher(32),
    "distlib-64": distlib_launcher(64),
}
BUCKET = "drakrun"

DUMP_MEMBER = re.compile(r"dumps/[a-f0-9]{4,16}_[a-f0-9]{16}")
YARAMATCHER = re.compile(r"^[a-f0-9]{4,16}_[a-f0-9]{16}$")
"""What karton-yaramatcher takes of a member's base name; karton-config-extractor takes the base from it."""

TEXTS = ("sample_sha256", "magic_output", "analysis_uid", "snapshot_sha256", "start_command")
OURS = ("engine", "host", "slot", "execution")
NUMBERS = ("time_started", "time_finished", "snapshot_version", "attempts")
DOCUMENTED: dict[str, type] = {
    **dict.fromkeys((*TEXTS, *OURS), str),
    **dict.fromkeys(NUMBERS, int),
    "plugins": list,
}


@dataclass(frozen=True, kw_only=True)
class Delivered:
    """One program's way: what was sent, what came back, what the ledger says."""

    program: Path
    sent: Task
    routed: Task
    """The sample task, as Karton had it while it was analysed."""
    received: Received
    record: Record

    @property
    def task(self) -> Task:
        """The analysis task."""
        return self.received.task

    @property
    def metadata(self) -> dict[str, Any]:
        """The payload's metadata."""
        metadata: dict[str, Any] = self.task.payload["metadata"]
        return metadata


@pytest.fixture(scope="module")
def sent(deployment: Deployment, receiver: Receiver) -> dict[str, Task]:  # noqa: ARG001 - bound first
    """All programs, on their way."""
    return {
        name: deployment.send(
            program,
            headers={"platform": f"win{name[-2:]}", "quality": "low"},
            payload={"timeout": 30, "other_service": {"kept": "theirs"}},
            payload_persistent={"tenant": "cert-7"},
            headers_persistent={"share_3rd_party": False},
            priority=TaskPriority.HIGH,
        )
        for name, program in PROGRAMS.items()
    }


@pytest.fixture(scope="module")
def routed(deployment: Deployment, sent: dict[str, Task]) -> dict[str, Task]:
    """All programs' sample tasks, read at once: karton-system collects them once they are FINISHED."""

    def read(task: Task) -> Task:
        record = wait_until(lambda: deployment.record(task), f"{task.root_uid} is taken")
        return deployment.sample_task(record)

    return {name: read(task) for name, task in sent.items()}


@pytest.fixture(scope="module", params=PROGRAMS)
def delivered(
    request: pytest.FixtureRequest,
    deployment: Deployment,
    receiver: Receiver,
    sent: dict[str, Task],
    routed: dict[str, Task],
) -> Delivered:
    """A program's analysis, as a Karton service got it."""
    task = sent[request.param]
    received = receiver.receive(task.payload["override_uid"])
    record = deployment.wait_over(task)
    return Delivered(
        program=PROGRAMS[request.param],
        sent=task,
        routed=routed[request.param],
        received=received,
        record=record,
    )


def test_headers(delivered: Delivered) -> None:
    """Type, kind and quality, where it comes from, and the headers that say who may see the sample."""
    headers = delivered.task.headers
    assert (headers["type"], headers["kind"], headers["quality"]) == ("analysis", "drakrun", "low")
    assert headers["origin"] == "karton.drakrun-prod"
    assert headers["share_3rd_party"] is False
    assert delivered.task.headers_persistent == {"share_3rd_party": False}
    assert not {"stage", "platform"} & set(headers)


def test_lineage(delivered: Delivered) -> None:
    """Parent, root uid, priority and persistent payload are those of the routed sample task."""
    assert delivered.task.parent_uid == delivered.record.task_uid
    assert delivered.task.root_uid == delivered.sent.root_uid
    assert delivered.task.priority is TaskPriority.HIGH
    assert delivered.task.payload_persistent["tenant"] == "cert-7"
    assert delivered.routed.orig_uid == delivered.sent.uid


def test_payload_has_nothing_but_the_contract(delivered: Delivered) -> None:
    """What is always there is there, and everything else is a known name."""
    names = set(delivered.task.payload) - set(delivered.task.payload_persistent)
    always = {"sample", "dumps.zip", "dumps_metadata", "metadata", "analysis_uid", "report.json"}
    assert always <= names
    logs = {name for name in names if re.fullmatch(r"[a-z0-9_]+\.log", name)}
    assert {"apimon.log", "procmon.log"} <= logs
    assert not {"drakrun.log", "parse_errors.log"} & logs
    assert names - always - logs <= {"dump.pcap", "dumps.pcap", "process_tree.json"}


def test_sample_is_the_very_resource(delivered: Delivered) -> None:
    """The same object, name and sha256 that came in, and it can be read."""
    sent, got = delivered.sent.payload["sample"], delivered.task.payload["sample"]
    assert (got.uid, got.bucket, got.name, got.sha256) == (sent.uid, "karton", sent.name, sent.sha256)
    assert delivered.received.path("sample").read_bytes() == delivered.program.read_bytes()


def test_logs_are_json_lines_of_their_plugin(delivered: Delivered) -> None:
    """Each plugin's log holds that plugin's lines, one JSON object each, with what consumers read."""
    logs = [name for name in delivered.received.resources if name.endswith(".log")]
    enabled = set(delivered.metadata["plugins"])
    for name in logs:
        text = delivered.received.path(name).read_text(encoding="utf-8")
        assert text.endswith("\n")
        for line in text.splitlines():
            entry = json.loads(line)
            assert entry["Plugin"] == name.removesuffix(".log")
            assert float(entry["TimeStamp"]) > 0
        assert name.removesuffix(".log") in enabled
    assert "ProcessName" in json.loads(delivered.received.path("procmon.log").read_text().splitlines()[0])


def test_dumps(delivered: Delivered) -> None:
    """Members are called as the contract says, the list beside them is complete, and both readers agree."""
    with zipfile.ZipFile(delivered.received.path("dumps.zip")) as archive:
        assert archive.testzip() is None
        members = archive.namelist()
    listed = delivered.task.payload["dumps_metadata"]
    if not listed:
        assert members == ["dumps/"]
    else:
        assert members == [entry["filename"] for entry in listed]
    for entry in listed:
        assert set(entry) == {"filename", "base_address"}
        assert DUMP_MEMBER.fullmatch(entry["filename"])
        base, _, _ = entry["filename"].removeprefix("dumps/").partition("_")
        assert YARAMATCHER.match(entry["filename"].removeprefix("dumps/"))
        assert re.fullmatch(r"0x[0-9a-f]+", entry["base_address"])
        assert int(entry["base_address"], 16) == int(base, 16)


def test_pcap_has_two_names(delivered: Delivered) -> None:
    """Traffic goes by the name of the documents and by that of the consumers, or by neither."""
    resources = delivered.received.resources
    assert ("dump.pcap" in resources) == ("dumps.pcap" in resources)
    if "dump.pcap" not in resources:
        return
    one, other = resources["dump.pcap"], resources["dumps.pcap"]
    assert (one.bucket, one.uid, one.sha256, one.size) == (other.bucket, other.uid, other.sha256, other.size)
    assert len(rdpcap(str(delivered.received.path("dump.pcap")))) > 0


def test_metadata(delivered: Delivered) -> None:
    """Every key that is promised, with its type, and values that agree with each other."""
    metadata = delivered.metadata
    assert {key: type(metadata.get(key)) for key in DOCUMENTED} == DOCUMENTED
    content = delivered.program.read_bytes()
    assert metadata["sample_sha256"] == hashlib.sha256(content).hexdigest()
    assert metadata["magic_output"].startswith("PE32")
    assert 0 < metadata["time_started"] <= metadata["time_finished"]
    assert metadata["snapshot_version"] > 0
    assert re.fullmatch(r"[0-9a-f]{64}", metadata["snapshot_sha256"])
    assert metadata["engine"].startswith("emulator ")
    assert metadata["slot"] in ("vm-1", "vm-2")
    assert (metadata["host"], metadata["attempts"], metadata["execution"]) == ("embedded", 1, "executed")
    assert metadata["analysis_uid"] == delivered.task.payload["analysis_uid"] == delivered.record.uid


def test_artifacts_lie_where_the_contract_says(deployment: Deployment, delivered: Delivered) -> None:
    """Bucket, key, size and sha256 of each resource are those of the stored object."""
    uid = delivered.record.uid
    stored = deployment.objects(BUCKET, uid)
    for name, resource in delivered.received.resources.items():
        if name == "sample":
            continue
        stored_name = "dumps.pcap" if name == "dump.pcap" else name
        assert (resource.bucket, resource.uid, resource.name) == (BUCKET, f"{uid}/{stored_name}", stored_name)
        content = delivered.received.path(name).read_bytes()
        assert resource.size == len(content) == stored[resource.uid]
        assert resource.sha256 == resource.metadata["sha256"] == hashlib.sha256(content).hexdigest()
    beside = {key.removeprefix(f"{uid}/") for key in stored} - set(delivered.received.resources)
    assert beside == {"metadata.json", "drakrun.log", "analysis_task.json", "sample_task.json"}
    assert stored[f"{uid}/sample"] == delivered.received.path("sample").stat().st_size


def test_metadata_json_and_drakrun_log(deployment: Deployment, delivered: Delivered) -> None:
    """Beside the artifacts: the metadata once more, and what our own code logged, with v0.18's keys."""
    uid = delivered.record.uid
    stored = json.loads(deployment.content(BUCKET, f"{uid}/metadata.json"))
    for name in ("time_started", "time_finished"):  # text, as DRAKVUF Sandbox v0.21 has it
        stored[name] = int(datetime.fromisoformat(stored[name]).timestamp())
    assert stored == delivered.metadata
    lines = deployment.content(BUCKET, f"{uid}/drakrun.log").decode().splitlines()
    entries = [json.loads(line) for line in lines]
    assert {entry["uid"] for entry in entries} == {uid}
    assert all({"levelname", "message", "created"} <= set(entry) for entry in entries)
    assert {"prepare", "run", "collect"} <= {entry["stage"] for entry in entries}


def test_both_tasks_are_finished(deployment: Deployment, delivered: Delivered) -> None:
    """Once a consumer is through with it, nothing of the analysis is left open in Karton."""
    assert delivered.record.state is State.PUBLISHED
    assert delivered.record.analysis_task_uid is not None
    assert deployment.is_finished(delivered.record)
    assert all(task.status is TaskState.FINISHED for task in deployment.children(delivered.record))


def test_sample_task_is_finished_after_the_analysis_task_exists(
    deployment: Deployment, receiver: Receiver
) -> None:
    """Whoever watches the root uid never sees it done before the analysis is there."""
    written: list[str] = []
    client = deployment.ledger._redis
    with client.monitor() as monitor:  # type: ignore[no-untyped-call] # redis-py leaves this one untyped
        task = deployment.send(launcher(64), payload={"timeout": 30})
        for command in monitor.listen():
            parts = command["command"].split(" ", 2)
            if task.root_uid not in command["command"] or parts[0].upper() not in ("SET", "RPUSH"):
                continue
            if parts[0].upper() == "RPUSH" and parts[1] == "karton.tasks":
                written.append("queued")
            elif parts[0].upper() == "SET" and '"origin": "karton.drakrun-prod"' in command["command"]:
                written.append("declared")
            elif "Finished" in command["command"] and "karton.drakrun-prod" in command["command"]:
                written.append("finished")
                break
    # The first push is the sample's own
    assert written == ["queued", "declared", "queued", "finished"]
    receiver.receive(task.payload["override_uid"])


def test_wishes_are_heard(deployment: Deployment, receiver: Receiver, tmp_path: Path) -> None:
    """File name, start command, plugins and hooks of the task shape the run; the rest of it is not copied."""
    hooks = tmp_path / "hooks.txt"
    hooks.write_text("kernel32.dll,CreateFileA,log,lpstr\n")
    task = deployment.send(
        Path("samples/behaviour.exe"),
        headers={"extension": "exe"},
        payload={
            "timeout": 30,
            "file_name": "invoice-7",
            "start_command": "%f --silent",
            "plugins": ["apimon", "procmon"],
            "custom_hooks": Resource("hooks.txt", path=str(hooks)),
            "mwdb_id": "theirs",
        },
    )
    received = receiver.receive(task.payload["override_uid"])
    assert {name for name in received.resources if name.endswith(".log")} == {"apimon.log", "procmon.log"}
    metadata = received.task.payload["metadata"]
    assert metadata["plugins"] == ["apimon", "procmon"]
    assert metadata["start_command"].endswith(" --silent")
    assert "invoice-7.exe" in metadata["start_command"]
    calls = [json.loads(line) for line in received.path("apimon.log").read_text().splitlines()]
    assert {call["Method"] for call in calls} == {"CreateFileA"}
    assert all(call["ProcessName"].endswith("\\invoice-7.exe") for call in calls)
    assert not {"mwdb_id", "file_name", "custom_hooks", "override_uid"} & set(received.task.payload)


def test_uid_is_the_karton_task_s_own(deployment: Deployment, receiver: Receiver) -> None:
    """Where the task names no uid, the routed task's own is the key of the artifacts."""
    task = deployment.send(launcher(32), payload={"override_uid": None, "timeout": 30})
    record = deployment.wait_over(task)
    assert record.state is State.PUBLISHED
    assert record.uid == Task.fquid_to_uid(record.task_uid)
    received = receiver.receive(record.uid)
    assert received.resources["dumps.zip"].uid == f"{record.uid}/dumps.zip"


def test_sample_in_the_persistent_payload(deployment: Deployment, receiver: Receiver) -> None:
    """A sample that came down from a parent's persistent payload is analysed and carried on, too."""
    task = deployment.send(
        None,
        payload={"timeout": 30},
        payload_persistent={"sample": Resource("kept.exe", path=str(launcher(64)))},
    )
    received = receiver.receive(task.payload["override_uid"])
    assert received.task.get_payload("sample").sha256 == task.payload_persistent["sample"].sha256
