"""Bad input: CRASHED in Karton with one sentence that a person can act on, and nothing else started."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from karton.core import Resource, Task
from karton.core.resource import RemoteResource
from karton.core.task import TaskState

from drakcelery.embedded.services import Services
from drakcelery.model.analysis import State
from drakcelery.model.records import Record
from tests.acceptance.deployment import Deployment, run
from tests.programs import launcher


@dataclass(frozen=True, kw_only=True)
class Bad:
    """A sample task that cannot be analysed, and what has to be said about it."""

    says: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, Any] = field(default_factory=dict)
    sample: str = "launcher"
    """Which sample it comes with."""


SECONDS = "expected a whole number of seconds, at least 1"
NAMES = "expected letters, digits, '.', '_' and '-' only, at most 128"
COMMAND = "expected a printable command of at most 8191 characters"
SHORT = "expected a name of letters, digits, '.', '_' and '-', at most 64"
SUPPORTED = "supported: bat, chm, cmd, com, dll, doc,"

BAD: dict[str, Bad] = {
    "timeout is text": Bad(payload={"timeout": "600"}, says=f"payload 'timeout' is '600'; {SECONDS}"),
    "timeout is a truth": Bad(payload={"timeout": True}, says=f"payload 'timeout' is True; {SECONDS}"),
    "timeout is a fraction": Bad(payload={"timeout": 1.5}, says=f"payload 'timeout' is 1.5; {SECONDS}"),
    "timeout is none": Bad(payload={"timeout": 0}, says=f"payload 'timeout' is 0; {SECONDS}"),
    "timeout over the limit": Bad(
        payload={"timeout": 1201}, says="payload 'timeout' is 1201 s; the limit is 1200 s: ask for less"
    ),
    "file name is a path": Bad(
        payload={"file_name": "../../evil"}, says=f"payload 'file_name' is '../../evil'; {NAMES}"
    ),
    "file name is dots": Bad(payload={"file_name": ".."}, says=f"payload 'file_name' is '..'; {NAMES}"),
    "file name is a number": Bad(payload={"file_name": 7}, says=f"payload 'file_name' is 7; {NAMES}"),
    "start command is a list": Bad(
        payload={"start_command": ["%f"]}, says=f"payload 'start_command' is ['%f']; {COMMAND}"
    ),
    "start command has lines": Bad(
        payload={"start_command": "%f\nevil"}, says=f"payload 'start_command' is '%f\\nevil'; {COMMAND}"
    ),
    "plugins are text": Bad(
        payload={"plugins": "procmon"}, says="payload 'plugins' is 'procmon'; expected a list of plugin names"
    ),
    "plugin is unknown": Bad(
        payload={"plugins": ["procmon", "nosuchmon"]},
        says="payload 'plugins' names 'nosuchmon', which is no DRAKVUF plugin",
    ),
    "no plugin is enabled": Bad(
        payload={"plugins": ["rootkitmon"]},
        says="payload 'plugins': none of rootkitmon is enabled for quality 'high'",
    ),
    "hooks are text": Bad(
        payload={"custom_hooks": "hooks"},
        says="payload 'custom_hooks' is 'hooks'; expected a Karton resource",
    ),
    "uid is a path": Bad(
        payload={"override_uid": "../evil"}, says=f"payload 'override_uid' is '../evil'; {NAMES}"
    ),
    "uid is a number": Bad(payload={"override_uid": 7}, says=f"payload 'override_uid' is 7; {NAMES}"),
    "profile is a number": Bad(payload={"vm_profile": 10}, says=f"'vm_profile' is 10; {SHORT}"),
    "host is a path": Bad(headers={"target_host": "a/b"}, says=f"'target_host' is 'a/b'; {SHORT}"),
    "profile is unknown": Bad(
        payload={"vm_profile": "nosuch"}, says="no host has the VM profile 'nosuch'; there are: default"
    ),
    "host is unknown": Bad(
        payload={"target_host": "nosuch"}, says="there is no host 'nosuch'; there are: embedded"
    ),
    "quality is a number": Bad(
        headers={"quality": 1}, says="header 'quality' is 1; expected a short name such as 'high' or 'low'"
    ),
    "extension is a number": Bad(
        headers={"extension": 1}, says="header 'extension' is 1; expected a text such as 'exe'"
    ),
    "extension is not supported": Bad(
        headers={"extension": "elf"},
        says=f"extension 'elf' is not supported without a start command; {SUPPORTED}",
    ),
    "no sample": Bad(sample="none", says="the sample task has no payload 'sample': nothing to analyse"),
    "sample is text": Bad(
        sample="none",
        payload={"sample": "MZ"},
        says="payload 'sample' is 'MZ'; expected a Karton resource",
    ),
    "sample is empty": Bad(sample="empty", says="the sample 'empty.exe' is empty: nothing to analyse"),
    "sample was deleted": Bad(
        sample="deleted", says="the sample 'deleted.exe' is not in the bucket 'karton' any more"
    ),
}


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A bad task, and what became of it."""

    says: str
    record: Record
    task: Task


def stored(deployment: Deployment, name: str, content: bytes) -> RemoteResource:
    """An object in Karton's bucket, as a resource."""
    key = str(uuid4())
    deployment.s3.put_object("karton", key, io.BytesIO(content), len(content))
    return RemoteResource(name, bucket="karton", uid=key)


def sample_of(deployment: Deployment, bad: Bad) -> Path | RemoteResource | None:
    """The sample that a bad task comes with."""
    if bad.sample == "empty":
        return stored(deployment, "empty.exe", b"")
    if bad.sample == "deleted":
        resource = stored(deployment, "deleted.exe", b"MZ")
        deployment.s3.remove_object("karton", resource.uid)
        return resource
    return launcher(64) if bad.sample == "launcher" else None


@pytest.fixture(scope="module")
def sent(deployment: Deployment) -> dict[str, Task]:
    """All bad tasks, on their way."""
    return {
        name: deployment.send(sample_of(deployment, bad), headers=bad.headers, payload=bad.payload)
        for name, bad in BAD.items()
    }


@pytest.fixture(params=BAD)
def refused(request: pytest.FixtureRequest, deployment: Deployment, sent: dict[str, Task]) -> Refused:
    """A bad task that drakcelery is through with."""
    record = deployment.wait_over(sent[request.param])
    return Refused(says=BAD[request.param].says, record=record, task=deployment.sample_task(record))


def test_bad_task_crashes_with_one_sentence(deployment: Deployment, refused: Refused) -> None:
    """karton-dashboard shows the sentence, and nothing was started: no attempt, no slot, no analysis."""
    assert refused.task.status is TaskState.CRASHED
    assert refused.task.error is not None
    (line,) = refused.task.error
    assert line.startswith(refused.says)
    assert line.endswith("\n")
    assert "\n" not in line.rstrip("\n")
    assert (refused.record.state, refused.record.attempts) == (State.FAILED, 0)
    assert (refused.record.host, refused.record.slot) == (None, None)
    assert deployment.children(refused.record) == []


def test_status_shows_the_sentence(deployment: Deployment, sent: dict[str, Task]) -> None:
    """`drakcelery status UID` says it, too, for the uid that the producer knows."""
    name = "timeout over the limit"
    deployment.wait_over(sent[name])
    for uid in (sent[name].payload["override_uid"], sent[name].uid):
        shown = deployment.drakcelery("status", uid)
        assert (shown.returncode, shown.stderr) == (0, "")
        assert BAD[name].says in shown.stdout
        assert "FAILED" in shown.stdout


def test_status_of_a_hostile_task_is_harmless(deployment: Deployment) -> None:
    """Control characters of a task's fields do not reach the terminal."""
    task = deployment.send(launcher(64), payload={"file_name": "a\x1b]0;evil\x07"})
    record = deployment.wait_over(task)
    shown = deployment.drakcelery("status", record.uid)
    assert shown.returncode == 0
    assert not {"\x1b", "\x07"} & set(shown.stdout)
    assert "file_name" in shown.stdout


def test_submit_refuses_an_empty_file(deployment: Deployment, tmp_path: Path) -> None:
    """Nothing is pushed."""
    empty = tmp_path / "empty.exe"
    empty.touch()
    refusal = deployment.drakcelery("submit", empty)
    assert refusal.returncode == 1
    assert refusal.stderr == "Error: empty.exe is empty: nothing to analyse\n"
    assert refusal.stdout == ""


def test_submit_refuses_an_unknown_file(deployment: Deployment, tmp_path: Path) -> None:
    """A file that nobody can tell how to start is refused, and the sentence says what would help."""
    notes = tmp_path / "notes.txt"
    notes.write_text("nothing to run\n")
    refusal = deployment.drakcelery("submit", notes)
    assert refusal.returncode == 1
    assert refusal.stderr.startswith("Error: cannot tell how to start notes.txt (ASCII text")
    assert "or say --start-command" in refusal.stderr


def test_submit_refuses_another_machine_s_program(deployment: Deployment, tmp_path: Path) -> None:
    """An ARM program would not run on any of our VMs."""
    arm = tmp_path / "arm.exe"
    content = bytearray(launcher(64).read_bytes())
    header = int.from_bytes(content[0x3C:0x40], "little")
    content[header + 4 : header + 6] = b"\x64\xaa"  # IMAGE_FILE_MACHINE_ARM64
    arm.write_bytes(content)
    refusal = deployment.drakcelery("submit", arm)
    assert refusal.returncode == 1
    assert "arm.exe is a program for the machine 0xaa64; expected x86 or x86-64" in refusal.stderr


def test_submit_without_an_ingress(services: Services, tmp_path: Path) -> None:
    """karton-system would drop the sample without a word; submit says so instead."""
    secret = services.s3.secret_key
    assert secret is not None
    config = tmp_path / "drakcelery.ini"
    config.write_text(
        f"[redis]\nurl = {services.redis.address()}\n"
        f"[s3]\naddress = {services.s3.address}\naccess_key = {services.s3.access_key}\n"
        f"secret_key = {secret.get_secret_value()}\n"
        "[drakrun]\nidentity = karton.nobody\n"
    )
    refusal = run("drakcelery", "submit", launcher(64), config=config)
    assert refusal.returncode == 1
    assert "no ingress has ever bound karton.nobody in this Karton" in refusal.stderr
    assert "drakcelery up" in refusal.stderr
    assert "Traceback" not in refusal.stderr


def test_document_needs_drakvuf(deployment: Deployment, tmp_path: Path) -> None:
    """The emulator opens no documents: CRASHED after one attempt, and the sentence says where to go."""
    document = tmp_path / "invoice.docx"
    with zipfile.ZipFile(document, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("word/document.xml", "<w:document/>")
    waited = deployment.drakcelery("submit", "--wait", document)
    uid = waited.stdout.strip()
    record = deployment.ledger.get(uid)
    assert record is not None
    assert (record.state, record.attempts) == (State.FAILED, 1)
    task = deployment.sample_task(record)
    assert task.status is TaskState.CRASHED
    assert task.error is not None
    sentence = task.error[0].strip()
    assert sentence.endswith("Use a host with the drakvuf engine for it.")
    assert waited.returncode == 1
    assert f"Error: analysis {uid} FAILED: {sentence}" in waited.stderr
    assert deployment.children(record) == []


def test_uid_in_use(deployment: Deployment) -> None:
    """Two analyses at once cannot share a uid; the second one is told, and the first one goes on."""
    uid = f"twice-{uuid4()}"
    endless = Path("samples/endless.exe")
    first = deployment.send(endless, payload={"override_uid": uid, "timeout": 10})
    deployment.wait_state(first, State.RUNNING)
    second = deployment.send(
        Resource("second.exe", content=endless.read_bytes()), payload={"override_uid": uid}
    )
    record = deployment.wait_over(second)
    assert record.refusal is not None
    assert record.refusal.startswith(f"another analysis is under way under the uid {uid}")
    assert deployment.sample_task(record).error == [f"{record.refusal}\n"]
    assert deployment.wait_over(first).state is State.PUBLISHED
