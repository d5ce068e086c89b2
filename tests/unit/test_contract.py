"""The Karton contract, both ways."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from karton.core import Task
from karton.core.resource import RemoteResource
from karton.core.task import TaskPriority, TaskState

from drakcelery.errors import BadTask
from drakcelery.karton import contract
from drakcelery.karton.analysis_task import analysis_task_uid, build_analysis_task
from drakcelery.karton.contract import SampleFacts
from drakcelery.karton.policy import Policy
from drakcelery.model.analysis import Priority
from drakcelery.model.manifest import Artifact, Manifest
from drakcelery.model.names import is_uid
from drakcelery.model.news import WatchPlan
from drakcelery.model.plugins import DEFAULT_PLUGINS, OFFERED_PLUGINS
from drakcelery.settings import WatchSection

FACTS = SampleFacts(size=1234, magic="PE32+ executable (console) x86-64, for MS Windows")
SHA256 = "ab" * 32


def policy(**changes: Any) -> Policy:
    """The defaults of the settings, with *changes*."""
    values: dict[str, Any] = {
        "default_timeout": 600,
        "hard_time_limit": 1200,
        "max_sample_size": 10_000,
        "default_bucket": "karton",
        "use_root_uid": False,
        "plugins_of": lambda quality: ("apimon", "memdump") if quality == "low" else OFFERED_PLUGINS,
        "default_plugins_of": lambda quality: ("apimon", "memdump") if quality == "low" else DEFAULT_PLUGINS,
        "profile_of": lambda facts: "win7-x86" if facts["platform"] == "win32" else "default",
    }
    return Policy(**{**values, **changes})


def sample() -> RemoteResource:
    return RemoteResource(name="evil.exe", bucket="karton", uid="c0ffee", size=1234, sha256=SHA256)


def sample_task(payload: dict[str, Any] | None = None, **headers: Any) -> Task:
    """A sample task, as a consumer gets it: routed, with a root of its own."""
    return Task(
        {"type": "sample", "stage": "recognized", "platform": "win64", **headers},
        payload={"sample": sample(), **(payload or {})},
        root_uid="6d3b1c9e-0000-4000-8000-000000000001",
    )


def test_defaults() -> None:
    """A task that says nothing but its sample gets the contract's defaults."""
    task = sample_task()
    analysis = contract.read_task(task, FACTS, policy())
    assert analysis.uid == task.task_uid
    assert analysis.task_uid == task.uid
    assert analysis.root_uid == task.root_uid
    assert (analysis.extension, analysis.quality, analysis.file_name) == ("exe", "high", "malwar")
    assert (analysis.timeout, analysis.start_command) == (600, None)
    assert (analysis.start_method, analysis.guest_working_directory, analysis.net_enable) == (None,) * 3
    assert analysis.plugins == DEFAULT_PLUGINS
    assert analysis.sample.key == "c0ffee"
    assert analysis.sample.bucket == "karton"
    assert analysis.priority is Priority.NORMAL
    assert not analysis.is_test


def test_every_field_is_honoured() -> None:
    """Each field of the contract ends up in the analysis."""
    hooks = RemoteResource(name="hooks.txt", bucket="b", uid="hooks-key", size=3, sha256=SHA256)
    task = sample_task(
        {
            "timeout": 42,
            "file_name": "invoice-1.0",
            "start_command": "%f /quiet",
            "start_method": "runas",
            "guest_working_directory": "C:\\Program Files (x86)\\a b",
            "net_enable": False,
            "plugins": ["memdump", "syscalls"],
            "custom_hooks": hooks,
            "override_uid": "my-uid",
            "vm_profile": "win7-x64",
        },
        extension="EXE",
        quality="low",
        target_host="rack-2",
    )
    task.priority = TaskPriority.HIGH
    analysis = contract.read_task(task, FACTS, policy())
    assert analysis.timeout == 42
    assert analysis.file_name == "invoice-1.0"
    assert analysis.start_command == "%f /quiet"
    assert (analysis.start_method, analysis.net_enable) == ("runas", False)
    assert analysis.guest_working_directory == "C:\\Program Files (x86)\\a b"
    assert analysis.plugins == ("memdump",)
    assert analysis.custom_hooks is not None
    assert analysis.custom_hooks.key == "hooks-key"
    assert analysis.uid == "my-uid"
    assert (analysis.profile, analysis.target_host) == ("win7-x64", "rack-2")
    assert (analysis.extension, analysis.quality, analysis.priority) == ("exe", "low", Priority.HIGH)


def test_fields_may_be_persistent() -> None:
    """Karton's get_payload looks into the persistent payload, and so does the contract."""
    task = Task({"type": "sample"}, payload_persistent={"sample": sample(), "timeout": 7})
    assert contract.read_task(task, FACTS, policy()).timeout == 7


def test_a_persistent_field_counts_before_the_task_s_own() -> None:
    """As for every service that asks Karton's own get_payload; also if it is null."""
    own = {"timeout": 8, "override_uid": "own", "file_name": "own"}
    task = Task(
        {"type": "sample"},
        payload={"sample": sample(), **own},
        payload_persistent={"timeout": 7, "override_uid": "persistent", "file_name": None},
    )
    analysis = contract.read_task(task, FACTS, policy())
    assert (analysis.timeout, analysis.uid, analysis.file_name) == (7, "persistent", "malwar")
    assert all(contract.payload(task, name) == task.get_payload(name) for name in (*own, "sample", "plugins"))


def test_uid_of_the_root() -> None:
    """use_root_uid stores the analysis under the uid of the task tree's root."""
    task = sample_task()
    assert contract.read_task(task, FACTS, policy(use_root_uid=True)).uid == task.root_uid


def test_dll_by_magic() -> None:
    """libmagic's word for a DLL beats the header, as in v0.18."""
    facts = SampleFacts(size=10, magic="PE32 executable (DLL) (GUI) Intel 80386")
    assert contract.read_task(sample_task(extension="exe"), facts, policy()).extension == "dll"


@pytest.mark.parametrize(
    ("header", "magic", "extension"),
    [
        ("cpl", "PE32 executable (DLL) (GUI) Intel 80386", "cpl"),
        ("XYZ7", "data", "xyz7"),
        (".cmd", "ASCII text", "cmd"),
        (None, "PE32 executable (DLL) (GUI) Intel 80386", "dll"),
        (None, "data", "exe"),
    ],
)
def test_with_a_start_command_an_extension_is_taken_as_it_is(
    header: str | None, magic: str, extension: str
) -> None:
    """The command says what becomes of the file."""
    task = sample_task({"start_command": "control.exe %f"}, extension=header)
    assert contract.read_task(task, SampleFacts(size=10, magic=magic), policy()).extension == extension


def test_an_encrypted_document_is_opened_by_excel() -> None:
    """Its classifier knows no extension for it; without a start command it is no program."""
    facts = SampleFacts(size=10, magic="CDFV2 Encrypted")
    assert contract.read_task(sample_task(), facts, policy()).extension == "xlsx"
    assert contract.read_task(sample_task(extension="docx"), facts, policy()).extension == "docx"


def test_a_task_may_ask_for_what_does_not_run_by_default() -> None:
    """Without a list of its own a quality runs v0.21's plugins, and may have those that are on offer (H6)."""
    assert "syscalls" not in contract.read_task(sample_task(), FACTS, policy()).plugins
    asked = sample_task({"plugins": ["syscalls", "procmon"]})
    assert contract.read_task(asked, FACTS, policy()).plugins == ("procmon", "syscalls")


def test_ipt_brings_codemon() -> None:
    """The plugin ipt needs codemon, which is added."""
    chosen = contract.read_task(sample_task(), FACTS, policy(default_plugins_of=lambda _: ("ipt", "apimon")))
    assert chosen.plugins == ("ipt", "apimon", "codemon")


def test_test_samples() -> None:
    """A task that matches the test filters is a test, if testing is on."""
    task = Task({"type": "sample-test", "platform": "win64"}, payload={"sample": sample()})
    filters = ({"type": "sample-test", "platform": "win64"},)
    assert contract.read_task(task, FACTS, policy(test_filters=filters)).is_test
    assert not contract.read_task(task, FACTS, policy()).is_test


@pytest.mark.parametrize(
    ("payload", "headers", "words"),
    [
        ({"timeout": 1201}, {}, ["timeout", "1201", "1200 s"]),
        ({"timeout": "60"}, {}, ["timeout", "'60'", "whole number"]),
        ({"timeout": True}, {}, ["timeout", "True", "whole number"]),
        ({"timeout": 0}, {}, ["timeout", "at least 1"]),
        ({"timeout": 1.5}, {}, ["timeout", "1.5"]),
        ({"file_name": "a/b"}, {}, ["file_name", "'a/b'", "letters"]),
        ({"file_name": "..\\x"}, {}, ["file_name"]),
        ({"file_name": ".."}, {}, ["file_name"]),
        ({"file_name": ""}, {}, ["file_name"]),
        ({"file_name": 5}, {}, ["file_name", "5"]),
        ({"start_command": "a\nb"}, {}, ["start_command", "printable"]),
        ({"start_command": ["%f"]}, {}, ["start_command"]),
        ({"start_method": "sudo"}, {}, ["start_method", "'sudo'", "createproc, shellexec, runas"]),
        ({"start_method": ["runas"]}, {}, ["start_method"]),
        ({"guest_working_directory": "%TEMP%"}, {}, ["guest_working_directory", "without variables"]),
        ({"guest_working_directory": "C:/x"}, {}, ["guest_working_directory"]),
        ({"guest_working_directory": 'C:\\x" -x "'}, {}, ["guest_working_directory"]),
        ({"guest_working_directory": "C:\\x\n"}, {}, ["guest_working_directory"]),
        ({"guest_working_directory": "C:\\" + "x" * 258}, {}, ["guest_working_directory", "at most 260"]),
        ({"net_enable": 1}, {}, ["net_enable", "true or false"]),
        ({"net_enable": "false"}, {}, ["net_enable", "'false'"]),
        ({"plugins": "apimon"}, {}, ["plugins", "list"]),
        ({"plugins": ["apimon", "nonsense"]}, {}, ["plugins", "'nonsense'", "no DRAKVUF plugin"]),
        ({"plugins": ["procmon"]}, {"quality": "low"}, ["procmon", "quality 'low'"]),
        ({"override_uid": "../../etc"}, {}, ["override_uid", "'../../etc'"]),
        ({"override_uid": "a..b"}, {}, ["override_uid"]),
        ({"override_uid": 7}, {}, ["override_uid"]),
        ({"custom_hooks": "hooks"}, {}, ["custom_hooks", "resource"]),
        ({"vm_profile": "a b"}, {}, ["vm_profile", "'a b'"]),
        ({"target_host": 1}, {}, ["target_host"]),
        ({"sample": "no resource"}, {}, ["sample", "resource"]),
        ({}, {"extension": "xyz"}, ["'xyz'", "not supported", "exe"]),
        ({}, {"extension": 3}, ["extension", "3"]),
        ({"start_command": "%f"}, {"extension": "../x"}, ["extension", "'../x'", "letters and digits"]),
        ({}, {"quality": {"a": 1}}, ["quality"]),
    ],
)
def test_bad_fields_are_refused(payload: dict[str, Any], headers: dict[str, Any], words: list[str]) -> None:
    """Every wrong value is refused with a sentence that names the field and what was expected."""
    with pytest.raises(BadTask) as refusal:
        contract.read_task(sample_task(payload, **headers), FACTS, policy())
    for word in words:
        assert word in str(refusal.value)
    assert len(str(refusal.value)) < 400


def test_no_sample() -> None:
    """A task without a sample is refused."""
    with pytest.raises(BadTask, match="no payload 'sample'"):
        contract.read_task(Task({"type": "sample"}), FACTS, policy())


@pytest.mark.parametrize(("size", "words"), [(0, "is empty"), (10_001, "at most 10000")])
def test_sample_size(size: int, words: str) -> None:
    """Empty and oversized samples are refused."""
    with pytest.raises(BadTask, match=words):
        contract.read_task(sample_task(), SampleFacts(size=size, magic="data"), policy())


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


PAYLOAD_FIELDS = (
    *("timeout", "file_name", "start_command", "start_method", "guest_working_directory", "net_enable"),
    *("plugins", "custom_hooks", "override_uid", "testcase", "vm_profile", "target_host"),
)


@given(payload=st.dictionaries(st.sampled_from(PAYLOAD_FIELDS), anything))
def test_hostile_payloads_are_read_or_refused(payload: dict[str, Any]) -> None:
    """Whatever a payload holds, it is either read or refused with a sentence; nothing else happens."""
    try:
        analysis = contract.read_task(sample_task(payload), FACTS, policy())
    except BadTask:
        return
    assert is_uid(analysis.uid)
    assert set(analysis.file_name) <= set(string.ascii_letters + string.digits + "._-")
    assert 1 <= analysis.timeout <= 1200


def manifest() -> Manifest:
    def artifact(name: str) -> Artifact:
        return Artifact(name=name, size=3, sha256=SHA256)

    return Manifest(
        artifacts=tuple(map(artifact, ("procmon.log", "dumps.zip", "dumps.pcap"))),
        dumps_metadata=({"filename": "dumps/405000_688f58c58d798ecb", "base_address": "0x405000"},),
        metadata={"analysis_uid": "my-uid"},
    )


def analysis_task(task: Task, **policies: Any) -> Task:
    analysis = contract.read_task(task, FACTS, policy(**policies))
    return build_analysis_task(
        task,
        analysis,
        manifest(),
        attempt=1,
        headers={"type": "analysis", "kind": "drakrun"},
        bucket="drakrun",
        identity="karton.drakrun-prod",
    )


def test_analysis_task() -> None:
    """The analysis task holds every row of the contract, and survives Karton's own serialization."""
    task = sample_task({"override_uid": "my-uid"}, quality="low")
    built = Task.unserialize(analysis_task(task).serialize())
    assert built.headers == {
        "type": "analysis",
        "kind": "drakrun",
        "quality": "low",
        "origin": "karton.drakrun-prod",
    }
    assert built.get_resource("sample").uid == "c0ffee"
    assert built.get_resource("sample").sha256 == SHA256
    assert built.payload["dumps_metadata"] == list(manifest().dumps_metadata)
    assert built.payload["analysis_uid"] == "my-uid"
    assert built.payload["metadata"] == {"analysis_uid": "my-uid"}
    procmon = built.get_resource("procmon.log")
    assert (procmon.bucket, procmon.uid, procmon.size) == ("drakrun", "my-uid/procmon.log", 3)
    assert built.get_resource("dump.pcap").uid == built.get_resource("dumps.pcap").uid == "my-uid/dumps.pcap"
    assert "testcase" not in built.payload


def test_no_persistent_field_hides_the_analysis() -> None:
    """Karton's own merge would have another service's metadata, or dumps, in place of the analysis'."""
    task = Task({"type": "sample"}, payload={"sample": sample()})
    before = Task.unserialize(analysis_task(task).serialize())
    foreign = {name: "foreign" for name in before.payload if name != "sample"}
    task.payload_persistent = {**foreign, "case": "1234", "sample": task.payload.pop("sample")}
    built = Task.unserialize(analysis_task(task).serialize())
    for name in foreign:
        assert isinstance(built.get_payload(name), type(before.get_payload(name))), name
    assert built.get_payload("metadata") == before.get_payload("metadata")
    assert built.get_payload("case") == "1234"
    assert (built.get_resource("sample").uid, built.is_payload_persistent("sample")) == ("c0ffee", True)


def test_analysis_task_inherits() -> None:
    """Parent, root, priority, persistent headers and persistent payload come from the sample task."""
    task = Task(
        {"type": "sample"},
        payload={"sample": sample()},
        headers_persistent={"share_3rd_party": False},
        payload_persistent={"case": "1234"},
        priority=TaskPriority.LOW,
        root_uid="6d3b1c9e-0000-4000-8000-000000000002",
    )
    built = analysis_task(task)
    assert (built.parent_uid, built.root_uid) == (task.uid, task.root_uid)
    assert built.uid.startswith(f"{{{task.root_uid}}}:")
    assert built.priority is TaskPriority.LOW
    assert built.headers["share_3rd_party"] is False
    assert built.is_header_persistent("share_3rd_party")
    assert built.payload_persistent["case"] == "1234"


def test_analysis_task_uid_is_stable() -> None:
    """The same attempt always makes the same task uid, another attempt another."""
    analysis = contract.read_task(sample_task(), FACTS, policy())
    assert analysis_task_uid(analysis, 1) == analysis_task_uid(analysis, 1)
    assert analysis_task_uid(analysis, 1) != analysis_task_uid(analysis, 2)


def test_testcase_is_carried() -> None:
    """A test sample's testcase goes to its output."""
    task = Task({"type": "sample-test"}, payload={"sample": sample(), "testcase": {"expect": ["x"]}})
    assert analysis_task(task, test_filters=({"type": "sample-test"},)).payload["testcase"] == {
        "expect": ["x"]
    }


def test_crashed_says_why() -> None:
    """A crashed task carries its reasons as the lines that karton-dashboard shows."""
    task = contract.crashed(sample_task(), ["no such thing\n"])
    assert (task.status, task.error) == (TaskState.CRASHED, ["no such thing\n"])


ON = WatchSection(enabled=True, mode="active", extend_to=900, measure_share=0)


def plan_of(section: WatchSection, payload: dict[str, Any] | None = None, **headers: Any) -> WatchPlan | None:
    """How an analysis is watched."""
    return contract.read_task(sample_task(payload, **headers), FACTS, policy(watch=section)).watch


def test_nobody_is_watched_by_default() -> None:
    """Neither by default, nor if the quality is not meant, nor if the task does not want it."""
    assert plan_of(WatchSection()) is None
    assert plan_of(WatchSection(enabled=True, qualities="low")) is None
    assert plan_of(ON, {"watch": "off"}) is None
    assert plan_of(ON, watch="off") is None


def test_the_settings_say_who_is_watched() -> None:
    """All analyses, or those of some qualities, with the numbers of the settings."""
    plan = WatchPlan(min_seconds=120, quiet_seconds=60, mode="active", extend_to=900)
    assert plan_of(ON) == plan
    assert plan_of(ON.model_copy(update={"qualities": "low, high"}), quality="low") == plan
    shadow = plan_of(WatchSection(enabled=True, extend_to=900))
    assert shadow == WatchPlan(min_seconds=120, quiet_seconds=60, mode="shadow")


def test_a_task_asks_for_its_own_mode() -> None:
    """In its payload or as a header, whether others are watched or not."""
    for wish in ({"watch": "shadow"}, {}):
        plan = plan_of(WatchSection(), wish, **({} if wish else {"watch": "shadow"}))
        assert plan is not None
        assert (plan.mode, plan.stops) == ("shadow", False)


def test_a_timeout_of_its_own_is_the_bound() -> None:
    """Only a run whose task asked for no timeout may take longer."""
    task = sample_task()
    assert contract.read_task(task, FACTS, policy(watch=ON)).longest == 900
    task = sample_task({"timeout": 300})
    assert contract.read_task(task, FACTS, policy(watch=ON)).longest == 300


def test_some_measure() -> None:
    """A share of the active runs goes to the end, the same ones at each reading; no shadow run does."""
    plans = [plan_of(ON.model_copy(update={"measure_share": share})) for share in (1.0, 0.0)]
    assert [plan.measures for plan in plans if plan] == [True, False]
    shadow = plan_of(WatchSection(enabled=True, measure_share=1.0))
    assert shadow is not None
    assert not shadow.measures


@pytest.mark.parametrize("wish", ["quiet", "", 1, True, ["active"], {"mode": "off"}])
def test_an_unknown_mode_is_refused(wish: Any) -> None:
    """With a sentence that names the field and what it may be."""
    with pytest.raises(BadTask, match=r"'watch' is .*; expected one of off, shadow, active"):
        plan_of(WatchSection(), {"watch": wish})
