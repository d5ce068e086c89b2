"""Clues: what in a run looks like evasion, told by lines as DRAKVUF and the emulator write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from drakcelery.behaviour import evasion
from drakcelery.behaviour.events import Event
from drakcelery.behaviour.probes import MANY_READINGS, Probes
from drakcelery.model.analysis import Execution
from drakcelery.model.clues import CLUES, MOST_EVIDENCE
from drakcelery.model.news import WatchPlan, WatchRun
from drakcelery.operators.report.summary import facts
from tests import reports
from tests.guest_log import Log, opened, reported
from tests.hostile import Line

BEGUN = 1700000000
COOKIE = ["GetTickCount", "GetSystemTimeAsFileTime", "QueryPerformanceCounter"]
"""What the start-up of many programs calls."""
WHOLE: dict[str, Any] = {"complete": True, "started": BEGUN, "finished": BEGUN + 60}
"""A run that lasted until its timeout, as DRAKVUF's do."""


def called(log: Log, name: str, *arguments: str, times: int = 1) -> Log:
    """Calls, as apimon writes them."""
    for _ in range(times):
        shown = [f"Arg{number}={one}" for number, one in enumerate(arguments)]
        log.add("apimon", name, Event="api_called", CLSID=None, Arguments=shown, ReturnValue="0x0")
    return log


def ended(log: Log, status: str = "0x0") -> Log:
    """The sample ends, as procmon writes it."""
    log.add("procmon", "NtTerminateProcess", ExitPid=0, ExitStatus=status, ExitStatusStr="x")
    log.add("procmon", "MmCleanProcessAddressSpace", pid=100, ppid=4, ExitPid=200)
    return log


def busy(log: Log, files: int = 3) -> Log:
    """The sample writes files."""
    for number in range(files):
        opened(log, rf"\??\C:\Users\user\{number}.txt", "0x10")
        log.add("filetracer", "NtWriteFile", FileName=rf"\Users\user\{number}.txt", FileHandle="0x10")
    return log


def clues(log: Log, folder: Path, **outcome: Any) -> dict[str, tuple[str, ...]]:
    """The evidence of each clue in the report."""
    return {one.kind: one.evidence for one in reported(log, folder, **{**WHOLE, **outcome}).clues}


def test_an_early_end(tmp_path: Path) -> None:
    """A sample that ends at once and did nothing that lasts gives a clue, whatever it asked."""
    assert clues(ended(Log().started()), tmp_path) == {"early_end": ("after 6 of 60 s",)}


def test_a_sample_that_works_gives_no_clue(tmp_path: Path) -> None:
    """Questions before work are no clue: the sample has found nothing that it minds."""
    log = called(Log().started(), "IsDebuggerPresent")
    called(log, "GetUserNameW", "0x1", "0x2")
    assert clues(ended(busy(log)), tmp_path) == {}


@pytest.mark.parametrize("files", [1, 2])
def test_what_follows_a_question_excuses_it(tmp_path: Path, files: int) -> None:
    """One thing that is done after a question is enough; the same thing before it is not."""
    log = busy(called(Log().started(), "IsDebuggerPresent"), files)
    (tmp_path / "before").mkdir()
    assert clues(ended(log), tmp_path) == {}
    log = ended(called(busy(Log().started(), files), "IsDebuggerPresent"))
    assert clues(log, tmp_path / "before") == {"debugger": ("IsDebuggerPresent",)}


def test_a_sample_that_removes_itself(tmp_path: Path) -> None:
    """To remove itself is no work: who gives up often does that."""
    log = called(Log().started(), "GetCursorPos", "0x1", times=2)
    opened(log, r"\??\C:\Users\user\Desktop\malwar.exe", "0x1c", rights="DELETE", result=1)
    gone: Line = {"FileName": r"\??\C:\Users\user\Desktop\malwar.exe", "FileHandle": "0x1c"}
    log.add("filetracer", "NtSetInformationFile", Operation="FileDispositionInformation", **gone)
    line = r"cmd.exe /c del C:\\Users\\user\\Desktop\\malwar.exe"
    shell: Line = {"NewPid": 300, "CommandLine": line, "ImagePathName": r"C:\Windows\System32\cmd.exe"}
    log.add("procmon", "NtCreateUserProcess", Status="0x0", Bitness=64, **shell)
    log.add("procmon", "MmCleanProcessAddressSpace", pid=100, ppid=4, ExitPid=300)
    assert clues(ended(log), tmp_path) == {"user": ("GetCursorPos",), "early_end": ("after 12 of 60 s",)}


QUESTIONS: list[tuple[str, dict[str, Any], str, str]] = [
    ("cpuidmon", {"Leaf": 0x40000000, "Subleaf": 0}, "cpuid", "leaf 0x40000000"),
    ("cpuidmon", {"Leaf": 1, "Subleaf": 0}, "cpuid", "leaf 0x1"),
    ("delaymon", {"DelayIntervalMs": -600000.0}, "sleep", "NtDelayExecution for 600 s"),
    ("windowmon", {"Method": "NtUserFindWindowEx", "Class": "x"}, "user", "NtUserFindWindowEx"),
    ("windowmon", {"Method": "NtUserFindWindowEx", "Class": "OLLYDBG"}, "sandbox", "OLLYDBG"),
    ("regmon", {"Key": r"\REGISTRY\MACHINE\SOFTWARE\VMware, Inc.\Tools"}, "sandbox", "VMware"),
    ("filetracer", {"FileName": r"\??\C:\windows\system32\drivers\VBoxMouse.sys"}, "sandbox", "VBoxMouse"),
    ("apimon", {"Method": "GetModuleHandleA", "Arguments": ['Arg0=0x1:"SbieDll.dll"']}, "sandbox", "SbieDll"),
    (
        "apimon",
        {"Method": "SleepEx", "Arguments": ["Arg0=0x927c0", "Arg1=0x0"]},
        "sleep",
        "SleepEx for 600 s",
    ),
    ("apimon", {"Method": "GetVersionExW", "Arguments": []}, "machine", "GetVersionEx"),
    ("apimon", {"Method": "IsUserAnAdmin", "Arguments": []}, "privilege", "IsUserAnAdmin"),
    (
        "syscall",
        {"Method": "NtQueryInformationProcess", "ProcessInformationClass": "0x7"},
        "debugger",
        "ProcessDebugPort",
    ),
    (
        "apimon",
        {"Method": "NtQueryInformationProcess", "Arguments": ["Arg0=0x1", "Arg1=0x1f"]},
        "debugger",
        "ProcessDebugFlags",
    ),
]


@pytest.mark.parametrize(("returned", "slept"), [("0x102", True), ("0x0", False), ("0xffffffff", False)])
def test_a_wait_that_is_over_early(tmp_path: Path, returned: str, slept: bool) -> None:
    """Who waits for something with a long limit, and gets it, has not slept."""
    log = Log().started()
    arguments = ["Arg0=0x1c", "Arg1=0xea60"]
    log.add("apimon", "WaitForSingleObject", Event="api_called", ReturnValue=returned, Arguments=arguments)
    assert ("sleep" in clues(log, tmp_path)) is slept


@pytest.mark.parametrize(("plugin", "fields", "kind", "evidence"), QUESTIONS)
def test_questions(tmp_path: Path, plugin: str, fields: dict[str, Any], kind: str, evidence: str) -> None:
    """Each plugin's lines give the clue that they are, although the run lasted until its timeout."""
    log = Log().started()
    log.add(plugin, fields.pop("Method", "NtOpenKey") if "Method" in fields else "NtOpenKey", **fields)
    found = clues(log, tmp_path)
    assert kind in found
    assert evidence in found[kind][0]


def test_the_questions_of_others(tmp_path: Path) -> None:
    """What Windows' own processes ask is no clue."""
    log = Log().started()
    log.add("cpuidmon", "", pid=100, Leaf=0x40000000)
    log.add("apimon", "IsDebuggerPresent", pid=100, Arguments=[])
    assert clues(log, tmp_path) == {}


def test_clocks(tmp_path: Path) -> None:
    """To read a clock a few times is what every program does; again and again, it is a clue."""
    few = called(Log().started(), "QueryPerformanceCounter", times=MANY_READINGS - 1)
    assert clues(few, tmp_path) == {}
    (tmp_path / "many").mkdir()
    many = called(Log().started(), "timeGetTime", times=MANY_READINGS)
    assert clues(many, tmp_path / "many") == {"clock": (f"{MANY_READINGS} readings",)}


@pytest.mark.parametrize(
    ("calls", "leaves", "kinds"),
    [
        (COOKIE, [0, 1, 7], []),
        (["GetTickCount64"], [], ["machine"]),
        (
            ["GetTickCount", "GetSystemTimeAsFileTime", "QueryPerformanceCounter", "GetTickCount"],
            [],
            ["machine"],
        ),
        ([], [0, 1, 7, 1], ["cpuid"]),
        ([], [7, 1, 0x40000001], ["cpuid"]),
    ],
)
def test_what_a_start_up_asks(tmp_path: Path, calls: list[str], leaves: list[int], kinds: list[str]) -> None:
    """A compiler's runtime reads clocks and asks the processor, too: what is beyond that is a clue."""
    log = Log().started()
    for name in calls:
        called(log, name)
    for leaf in leaves:
        log.add("cpuidmon", "", Leaf=leaf, Subleaf=0)
    assert list(clues(log, tmp_path)) == kinds


@pytest.mark.parametrize(
    ("engine", "plugins", "is_clue"),
    [
        ("emulator x", ("apimon", "cpuidmon"), False),
        ("emulator x", ("apimon",), True),
        ("drakvuf x", ("apimon", "cpuidmon"), True),
    ],
)
def test_who_asks_nothing(engine: str, plugins: tuple[str, ...], is_clue: bool) -> None:
    """A sample that ended early and asked nothing had little to do, if no question can have been missed."""
    run = reports.report().run.model_copy(update={"engine": engine, "plugins": plugins})
    made = reports.report().model_copy(update={"run": run})
    found = evasion.clues(made, Probes(own={101}, sample="malwar.exe"))
    assert [one.kind for one in found] == ["early_end"] * is_clue


@pytest.mark.parametrize(("arguments", "is_clue"), [("0xffffffff", False), ("0x64", False), ("0x7530", True)])
def test_short_sleeps(tmp_path: Path, arguments: str, is_clue: bool) -> None:
    """A short sleep, and to wait for good, are no clue."""
    log = called(Log().started(), "Sleep", arguments)
    assert ("sleep" in clues(log, tmp_path)) is is_clue


@pytest.mark.parametrize(
    ("status", "is_crash"),
    [
        ("0xc0000005", True),
        ("0xe0434352", True),
        ("0x80000003", True),
        ("0x1", False),
        ("0xc000013a", False),
        ("0xffffffff", False),
        ("0xfffffc18", False),
    ],
)
def test_a_crash(tmp_path: Path, status: str, is_crash: bool) -> None:
    """An exit code that is an error of Windows is a crash, one of the program's own is not."""
    assert ("crash" in clues(ended(Log().started(), status), tmp_path)) is is_crash


class OnlyNumbers:
    """Codes that are asked for numbers only: in a range, Python looks for anything else one by one."""

    def __contains__(self, code: object) -> bool:
        assert isinstance(code, int)
        return False


def test_an_exit_that_nobody_saw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without an exit code is not looked for among hundreds of millions of them."""
    monkeypatch.setattr(evasion, "_ERRORS", OnlyNumbers())
    assert "crash" not in clues(Log().started(), tmp_path)


@pytest.mark.parametrize(
    ("code", "kinds"), [(740, ["elevation"]), (193, ["format"]), (216, ["format"]), (225, []), (2, [])]
)
def test_not_executed(tmp_path: Path, code: int, kinds: list[str]) -> None:
    """Windows' error tells whether another start or another guest may help; a virus scanner's never does."""
    refused = {"execution": Execution.NOT_EXECUTED, "complete": False, "windows_error": code}
    assert list(clues(Log(), tmp_path, **refused)) == kinds


def test_a_run_that_broke_off(tmp_path: Path) -> None:
    """What was cut short says nothing of the sample."""
    assert clues(ended(called(Log().started(), "IsDebuggerPresent")), tmp_path, complete=False) == {}


def test_a_quiet_stop_is_no_early_end(tmp_path: Path) -> None:
    """A sample that still ran when its run was stopped, as nothing new came, has not ended."""
    watch = WatchRun(
        plan=WatchPlan(mode="active", min_seconds=1, quiet_seconds=1),
        ended="quiet",
        seconds=5,
        facts=0,
        later=0,
    )
    stopped = {"finished": BEGUN + 5, "watch": watch}
    assert clues(Log().started(), tmp_path, **stopped) == {}
    (tmp_path / "ended").mkdir()
    assert "early_end" in clues(ended(Log().started()), tmp_path / "ended", **stopped)


def test_traffic_is_work() -> None:
    """Recorded requests count, though nobody knows whose they are; a busy report is not read to its end."""
    request = {**reports.SEEN, "processes": [], "method": "GET", "url": "http://a/b", "host": "a"}
    many = [request | {"address": "1.2.3.4", "port": 80}] * 50
    made = reports.report(network={"http": many})
    assert len(evasion.lasting(made)) == evasion.LITTLE + 1
    assert not evasion.may_have_clues(made)


def test_evidence_is_bounded() -> None:
    """However much a sample asks, and whatever the lines say, little is kept."""
    probes = Probes(own={1}, sample="malwar.exe")
    for number in range(1000):
        text = f"vbox{number}" * 100
        probes.add("regmon", Event({"PID": 1, "Key": text, "TimeStamp": "1.5"}))
        probes.add("cpuidmon", Event({"PID": 1, "Leaf": "x" * number}))
        probes.add("delaymon", Event({"PID": 1, "DelayIntervalMs": [number]}))
        probes.add("apimon", Event({"PID": 1, "Method": "Sleep", "Arguments": number}))
    assert list(probes.seen) == ["sandbox"]
    assert len(probes.seen["sandbox"]) == MOST_EVIDENCE
    assert max(map(len, probes.seen["sandbox"])) <= 80


def test_each_clue_is_told() -> None:
    """docs/report.md says what each clue is."""
    text = (Path(__file__).parents[2] / "docs" / "report.md").read_text(encoding="utf-8")
    assert [kind for kind in CLUES if f"`{kind}`" not in text] == []


def test_clues_in_a_few_lines(tmp_path: Path) -> None:
    """The end of ``submit --wait`` and Flower's page have them, without what a terminal obeys."""
    log = Log().started()
    log.add("windowmon", "NtUserFindWindowEx", Class="\x1b]0;x\x07vbox \u202eexe<img src=x>" + "a" * 5000)
    told = [one for one in facts(reported(log, tmp_path)) if one.name == "clue"]
    assert [one.parts[0].text for one in told] == ["looked for a user", "asked for what only sandboxes have"]
    text = told[1].parts[1].text
    assert ("vbox" in text, len(text) < 500) == (True, True)
    assert not {"\x1b", "\x07", "\u202e"} & set(text)
