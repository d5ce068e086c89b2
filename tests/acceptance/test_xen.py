"""Three Xen hosts with two kinds of VM, through the production engine; only the tools are simulated."""

from __future__ import annotations

import gzip
import io
import shlex
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from karton.core import Producer, Resource, Task
from karton.core.task import TaskState

from drakcelery.cli import cli
from drakcelery.embedded.services import Services
from drakcelery.host.slot import SlotState
from drakcelery.karton import submit
from drakcelery.model.analysis import State
from drakcelery.model.records import Record
from tests.acceptance.deployment import run_here, typist
from tests.commands import extract
from tests.faults.fleet import Fleet, Options
from tests.faults.watch import sample_task, type_in, wait_published, wait_state
from tests.reference import ROOT
from tests.servers import lent
from tests.waiting import wait_until
from tests.xen.host import XenHost

PROFILES = {"rack-1": "win10", "rack-2": "win10", "rack-3": "win7"}
SLOTS = 2
TIMEOUT = 20
"""Seconds an analysis is watched; the simulated DRAKVUF's are shorter."""
SECOND = 0.05
DUMP = b"MZ" * 500
PROFILE = "native_ntdll_profile.json"
FRAME = bytes(12) + b"\x08\x00" + bytes(46)


@dataclass(frozen=True, kw_only=True)
class Rack:
    """The fleet, and the simulated hosts that it runs on."""

    fleet: Fleet
    hosts: dict[str, XenHost]

    def at_rest(self) -> bool:
        """Whether no guest and no tool is left anywhere, and every slot is free."""
        slots = [slot for one in self.fleet.slots().values() for slot in one]
        return all(slot.state is SlotState.FREE for slot in slots) and not any(
            host.guests() or host.processes() for host in self.hosts.values()
        )


def settings_of(host: XenHost, profile: str) -> dict[str, dict[str, str]]:
    """What a host's file says beside the fleet's."""
    return {
        "drakcelery": {"engine": "drakvuf", "quarantine_after": "2", "quarantine_seconds": "5"},
        "drakvuf": {
            **{tool: str(host.tool(tool)) for tool in ("drakrun", "drakvuf", "injector", "xl", "tcpdump")},
            "vmi_dump_memory": str(host.tool("vmi-dump-memory")),
            "etc_dir": str(host.etc),
            "lib_dir": str(host.lib),
            "run_dir": str(host.run),
            "grace": "10",
        },
        "slots": {f"vm-{number}": profile for number in range(1, SLOTS + 1)},
    }


@pytest.fixture(scope="module")
def rack(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    """rack-1 and rack-2 have win10, rack-3 has win7 and is asked for memory dumps and profiles."""
    directory = tmp_path_factory.mktemp("xen")
    hosts = {name: XenHost.create(directory / name, slots=SLOTS, second=SECOND) for name in PROFILES}
    for host in hosts.values():
        host.play(dumps={"400000": DUMP}, packets=[FRAME])
    of_host = {name: settings_of(hosts[name], profile) for name, profile in PROFILES.items()}
    of_host["rack-3"]["drakrun"] = {"raw_memory_dump": "1", "attach_profiles": "1"}
    (hosts["rack-3"].lib / "profiles" / PROFILE).write_text('{"exports": []}')
    more = {
        "drakcelery": {"default_profile": "win10"},
        "drakrun": {"sample_testing": "1", "use_root_uid": "1"},
    }
    options = Options(hosts=tuple(PROFILES), profiles=PROFILES, slots=SLOTS, more=more, of_host=of_host)
    try:
        with (
            lent(services),
            Fleet(directory / "fleet", services, options) as fleet,
        ):
            yield Rack(fleet=fleet, hosts=hosts)
    finally:
        for host in hosts.values():
            host.close()


@pytest.fixture(autouse=True)
def rest(rack: Rack) -> Iterator[None]:
    """After each test nothing is left behind, and no tool was used in a way that the real one gets wrong."""
    yield
    for host in rack.hosts.values():
        host.heal()
    wait_until(rack.at_rest, "the hosts are at rest")
    for host in rack.hosts.values():
        assert host.warnings() == ()


def record_of(rack: Rack, uid: str) -> Record:
    """The record, which is there."""
    record = rack.fleet.record(uid)
    assert record is not None
    return record


def analysis_task(rack: Rack, uid: str) -> Task:
    """The analysis task as its consumer gets it, its resources bound to the storage."""
    published = record_of(rack, uid).analysis_task_uid
    assert published is not None
    task = rack.fleet.backend.get_task(published)
    assert task is not None
    return task


def pushed(
    rack: Rack,
    name: str,
    *,
    headers: dict[str, str] | None = None,
    override: bool = True,
    **payload: object,
) -> Task:
    """A sample task of our own making, whose analysis is to have the uid *name* where *override* is set."""
    task = Task({"type": "sample", "stage": "recognized", "platform": "win64", **(headers or {})})
    task.add_payload("sample", Resource(f"{name}.exe", f"MZ {name}".encode()))
    task.add_payload("timeout", TIMEOUT)
    if override:
        task.add_payload("override_uid", name)
    for field, value in payload.items():
        task.add_payload(field, value)
    config = submit.karton_config(rack.fleet.settings)
    assert Producer(config=config, identity="karton.test-xen", backend=rack.fleet.backend).send_task(task)
    return task


def test_samples_run_on_their_hosts(rack: Rack) -> None:
    """Each sample runs in a VM of its profile, the work spreads, and what DRAKVUF left reaches Karton."""
    spread = [f"win10-{number}" for number in range(8)]
    old = [f"win7-{number}" for number in range(3)]
    for uid in spread:
        pushed(rack, uid)
    for uid in old:
        pushed(rack, uid, vm_profile="win7")
    wait_published(rack.fleet, *spread, *old)
    assert {record_of(rack, uid).host for uid in spread} == {"rack-1", "rack-2"}
    assert {record_of(rack, uid).host for uid in old} == {"rack-3"}
    task = analysis_task(rack, spread[0])
    metadata = task.get_payload("metadata")
    assert metadata["engine"].startswith("drakvuf ")
    assert metadata["execution"] == "executed"
    assert metadata["snapshot_version"] > 0
    assert len(metadata["snapshot_sha256"]) == 64
    assert {"dumps.zip", "dump.pcap", "dumps.pcap", "procmon.log", "inject.log"} <= set(task.payload)
    [dump] = task.get_payload("dumps_metadata")
    assert dump["base_address"] == "0x400000"
    with zipfile.ZipFile(io.BytesIO(content(rack, task, "dumps.zip"))) as archive:
        assert archive.read(dump["filename"]) == DUMP
    assert FRAME in content(rack, task, "dump.pcap")


def test_what_the_settings_attach(rack: Rack) -> None:
    """A host that is asked to adds the guest's memory and its own profiles; others do not."""
    pushed(rack, "complete", target_host="rack-3", vm_profile="win7")
    pushed(rack, "lean", target_host="rack-1")
    wait_published(rack.fleet, "complete", "lean")
    task = analysis_task(rack, "complete")
    assert gzip.decompress(content(rack, task, "post_sample.raw_memdump.gz"))
    profiles = task.payload["profiles"]
    assert profiles.to_dict()["flags"] == ["Directory"]
    with zipfile.ZipFile(io.BytesIO(content(rack, task, "profiles"))) as archive:
        assert PROFILE in archive.namelist()
    assert not {"profiles", "post_sample.raw_memdump.gz"} & set(analysis_task(rack, "lean").payload)


def test_uids(rack: Rack) -> None:
    """Artifacts lie under the uid that the task names, else, with use_root_uid, under the root's."""
    pushed(rack, "named", vm_profile="win7")
    root = pushed(rack, "nameless", vm_profile="win7", override=False).root_uid
    wait_published(rack.fleet, "named", root)
    for uid in ("named", root):
        assert analysis_task(rack, uid).payload["dumps.zip"].uid == f"{uid}/dumps.zip"


def content(rack: Rack, task: Task, name: str) -> bytes:
    """What a resource of an analysis holds."""
    resource = task.payload[name]
    return bytes(rack.fleet.backend.download_object(resource.bucket, resource.uid))


def test_a_sample_that_does_not_start(rack: Rack) -> None:
    """DRAKVUF's exit code 4 is an analysis like any other, which says so; it is not tried again."""
    rack.hosts["rack-3"].fail("drakvuf", "not_executed")
    pushed(rack, "not-a-program", vm_profile="win7")
    wait_published(rack.fleet, "not-a-program")
    assert record_of(rack, "not-a-program").attempts == 1
    assert analysis_task(rack, "not-a-program").get_payload("metadata")["execution"] == "not_executed"


def test_a_host_that_cannot_restore(rack: Rack) -> None:
    """Its samples run elsewhere; its slots are quarantined, and are used again when it has recovered."""
    rack.hosts["rack-1"].fail("drakrun vm-start", "fails", times=None)
    uids = [f"moved-{number}" for number in range(4)]
    for uid in uids:
        pushed(rack, uid)
    wait_published(rack.fleet, *uids)
    assert {record_of(rack, uid).host for uid in uids} == {"rack-2"}
    failed = [failure for uid in uids for failure in record_of(rack, uid).failures]
    assert failed
    assert all("vm-start" in failure.error for failure in failed)
    rack.hosts["rack-1"].heal()
    wait_until(
        lambda: {slot.state for slot in rack.fleet.slots()["rack-1"]} == {SlotState.FREE},
        "the slots of rack-1 are probed",
    )
    pushed(rack, "back", target_host="rack-1")
    wait_published(rack.fleet, "back")


def test_a_crash_in_mid_run(rack: Rack) -> None:
    """A DRAKVUF that crashes costs an attempt; the sample is analysed all the same."""
    rack.hosts["rack-3"].fail("drakvuf", "crashes")
    pushed(rack, "crashed-once", vm_profile="win7")
    wait_published(rack.fleet, "crashed-once")
    assert record_of(rack, "crashed-once").attempts == 2


def test_what_fails_for_good(rack: Rack) -> None:
    """Karton is told what the tool said, in its last words."""
    rack.hosts["rack-3"].fail("drakrun injector copy", "fails", times=None)
    pushed(rack, "hopeless", vm_profile="win7")
    record = wait_state(rack.fleet, "hopeless", State.FAILED)
    task = sample_task(rack.fleet, record)
    assert task.status is TaskState.CRASHED
    assert "PrematureBreak" in "".join(task.error or ())


def test_a_host_whose_firewall_lets_guests_out(rack: Rack) -> None:
    """It takes nothing, says so, costs no sample an attempt, and goes on by itself once it is fixed (H1)."""
    host = rack.hosts["rack-3"]
    pushed(rack, "kept-in", vm_profile="win7")
    wait_published(rack.fleet, "kept-in")

    def halted() -> bool:
        shown = run_here(cli, "hosts", **typist(rack.fleet._config["rack-3"]))
        return "firewall lets its guests out" in shown[1]

    assert host.iptables("-D INPUT -j DRAKRUN_INP") == 0
    try:
        wait_until(halted, "the host is halted")
        begun = len(host.calls("drakrun vm-start"))
        pushed(rack, "waits", vm_profile="win7")
        pushed(rack, "elsewhere")
        wait_published(rack.fleet, "elsewhere")
        assert len(host.calls("drakrun vm-start")) == begun
    finally:
        assert host.iptables("-I INPUT -j DRAKRUN_INP") == 0
    wait_published(rack.fleet, "waits")
    assert record_of(rack, "waits").failures == ()


def test_cancel_ends_a_guest(rack: Rack) -> None:
    """A running DRAKVUF and its guest are gone within seconds of a cancel."""
    rack.hosts["rack-3"].fail("drakvuf", "hangs")
    pushed(rack, "unwanted", vm_profile="win7")
    wait_state(rack.fleet, "unwanted", State.RUNNING)
    wait_until(
        lambda: any(process.tool == "drakvuf" for process in rack.hosts["rack-3"].processes()),
        "DRAKVUF runs",
    )
    assert type_in(rack.fleet, "drakcelery", "cancel", "unwanted")[0] == 0
    wait_until(lambda: not rack.hosts["rack-3"].guests(), "the guest is gone")


def test_hooks_of_the_task_replace_the_hosts(rack: Rack) -> None:
    """DRAKVUF gets the hook list that came with the sample."""
    hooks = b"kernel32.dll,CreateFileW,log,LPCWSTR\n"
    pushed(rack, "hooked", vm_profile="win7", custom_hooks=Resource("hooks.txt", hooks))
    pushed(rack, "plain", vm_profile="win7")
    wait_published(rack.fleet, "hooked", "plain")
    lists = {
        call.argv[call.argv.index("--dll-hooks-list") + 1]
        for call in rack.hosts["rack-3"].calls("drakvuf")
        if "--dll-hooks-list" in call.argv
    }
    assert str(rack.hosts["rack-3"].etc / "hooks.txt") in lists
    assert any(
        Path(path).is_relative_to(rack.fleet.state_dir("rack-3")) and "hooked" in path for path in lists
    )


def test_test_samples(rack: Rack) -> None:
    """A test sample comes back as analysis-test, with its testcase, and lies in Karton's own bucket."""
    pushed(rack, "regression", headers={"type": "sample-test"}, vm_profile="win7", testcase={"expects": 1})
    record = wait_state(rack.fleet, "regression", State.PUBLISHED)
    task = analysis_task(rack, record.uid)
    assert task.headers["type"] == "analysis-test"
    assert task.get_payload("testcase") == {"expects": 1}
    assert task.payload["dumps.zip"].bucket == rack.fleet.settings.s3.bucket


def test_drakcelery_shows_the_hosts(rack: Rack) -> None:
    """`hosts` names the engine of each host and the profile of its slots."""
    status, output = type_in(rack.fleet, "drakcelery", "hosts")
    assert status == 0
    lines = [line.split() for line in output.splitlines()]
    assert [(line[0], line[2]) for line in lines[1:]] == sorted(PROFILES.items())
    assert all("drakvuf" in line for line in lines[1:])


@pytest.mark.parametrize("page", ["xen.md", "profiles.md"])
def test_the_pages_commands_run(rack: Rack, page: str) -> None:
    """What the pages about hosts tell their readers to type works on a host, doctor's verdict included."""
    typed = [command.text for command in extract((ROOT / "docs" / page).read_text(), page)]
    commands = [text for text in typed if "init" not in text]  # test_init types that
    assert commands
    for text in commands:
        status, output = type_in(rack.fleet, *shlex.split(text), host="rack-1")
        assert status == 0, output
