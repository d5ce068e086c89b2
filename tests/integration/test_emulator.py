"""The emulator engine on real programs: our samples, and the launchers of pip and setuptools."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pefile
import pytest
from scapy.layers.dns import DNS
from scapy.layers.inet import TCP

from drakcelery.engines import confinement, privileges
from drakcelery.engines.speakeasy_guest import supervision
from drakcelery.engines.speakeasy_guest.supervision import Guest
from drakcelery.engines.watching import Watcher
from drakcelery.errors import EngineError
from drakcelery.model.analysis import Execution, MissingFunction
from drakcelery.model.news import EndedBy, WatchPlan
from tests.conftest import require
from tests.emulating import MIB, Bench, Run
from tests.guest_programs import BARE, build, marks

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
DUMP_NAME = re.compile(r"^[a-f0-9]{4,16}_[a-f0-9]{16}$")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """An engine with ordinary limits."""
    return Bench(tmp_path, forked=False)


def wait_until(holds: Callable[[], object], description: str, seconds: float = 30) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} s: {description}"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    return supervision._start_ticks(pid) is not None


def assert_behaviour(run: Run, *, file: str, key: str, host: str, command: str, mark: bytes) -> None:
    """Each of the sample's five doings is in log, pcap and dumps."""
    assert run.outcome.execution is Execution.EXECUTED
    assert run.outcome.complete is True
    assert run.outcome.reason is None
    assert any(line["FileName"].endswith(file) for line in run.lines("filetracer", "NtWriteFile"))
    (value,) = run.lines("regmon", "NtSetValueKey")
    assert value["Key"].endswith(key)
    assert value["ValueName"] == "Greeting"
    assert value["Value"].startswith("drakcelery was here")
    assert [line["DnsName"] for line in run.lines("socketmon", "DnsQuery_W")] == [host]
    assert len(run.lines("socketmon", "TcpCreateAndConnectTcbComplete")) == 1
    (process,) = run.lines("procmon", "NtCreateUserProcess")
    assert process["CommandLine"] == command
    assert process["ImagePathName"] == "C:\\Windows\\System32\\cmd.exe"
    (end,) = run.lines("procmon", "NtTerminateProcess")
    assert end["ExitStatus"] == "0x0"  # the sample says so when its code in fresh memory ran and gave 42
    packets = run.packets()
    assert packets[0][DNS].qd[0].qname == f"{host}.".encode()
    assert any(b"GET /" in bytes(packet[TCP].payload) for packet in packets if TCP in packet)
    dumps = run.dumps()
    assert any(mark in content for content in dumps.values())
    assert {line["DumpFilename"] for line in run.lines("memdump")} == set(dumps)
    for name, content in dumps.items():
        assert DUMP_NAME.fullmatch(name)
        assert name.endswith(hashlib.sha256(content).hexdigest()[:16])
        assert content


def assert_behaviour_64(run: Run) -> None:
    """behaviour.exe did what its source says."""
    assert_behaviour(
        run,
        file="\\AppData\\Local\\Temp\\drakcelery-sample.txt",
        key="\\Software\\drakcelery-sample",
        host="sample.drakcelery.invalid",
        command="cmd.exe /c echo drakcelery-sample",
        mark=b"drakcelery-rwx-mark",
    )


def assert_behaviour_32(run: Run) -> None:
    """behaviour32.exe did what its source says."""
    assert_behaviour(
        run,
        file="C:\\Users\\Public\\drakcelery-sample32.txt",
        key="\\Software\\drakcelery-sample32",
        host="web.drakcelery.invalid",
        command="cmd.exe /c echo drakcelery-sample32",
        mark=b"drakcelery-protect-mark",
    )
    (protect,) = run.lines("procmon", "NtProtectVirtualMemory")
    assert protect["NewProtectWin32"] == "PAGE_EXECUTE_READWRITE"


@pytest.fixture(scope="module")
def behaviour(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of behaviour.exe with an argument."""
    return Bench(tmp_path_factory.mktemp("behaviour")).detonate(SAMPLES / "behaviour.exe", '"%f" --flag')


@pytest.fixture(scope="module")
def behaviour32(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of behaviour32.exe."""
    return Bench(tmp_path_factory.mktemp("behaviour32")).detonate(SAMPLES / "behaviour32.exe")


def test_the_behaviour_sample(behaviour: Run) -> None:
    """The 64-bit sample's file, registry value, conversation, process and code are all to be seen."""
    assert_behaviour_64(behaviour)


def test_the_behaviour_sample_by_other_means(behaviour32: Run) -> None:
    """The 32-bit sample's doings are to be seen too, though it uses other functions for each."""
    assert_behaviour_32(behaviour32)
    assert any(b"GET /page?q=1 HTTP/1.1\r\n" in bytes(packet) for packet in behaviour32.packets())


def test_the_outcome_says_what_it_was(bench: Bench, behaviour: Run) -> None:
    """Engine and version, the snapshot, the command as the guest saw it, and times that fit the log."""
    outcome, run = behaviour.outcome, behaviour
    assert outcome.engine == bench.engine.version()
    assert outcome.snapshot == bench.engine.prepare(run.job)
    assert outcome.start_command == '"C:\\Users\\user\\Desktop\\malwar.exe" --flag'
    times = [float(line["TimeStamp"]) for line in run.lines()]
    assert outcome.started <= times[0] <= times[-1] <= outcome.finished + 1
    assert times == sorted(times)


def test_every_line_is_drakvufs_shape(behaviour: Run) -> None:
    """Each line starts with the plugin, has the process's fields, and there is nothing else in the output."""
    run = behaviour
    raw = run.job.log.read_bytes().splitlines()
    assert all(line.startswith(b'{"Plugin": "') for line in raw)
    for record in run.lines():
        assert {"Plugin", "TimeStamp", "PID", "PPID", "TID", "ProcessName", "Method"} <= set(record)
        assert record["ProcessName"] == "\\Device\\HarddiskVolume2\\Users\\user\\Desktop\\malwar.exe"
    left = [run.job.raw, *run.job.raw.rglob("*")]
    assert {path.name for path in run.job.raw.iterdir()} == {"drakmon.log", "dumps", "dump.pcap"}
    assert {path.stat().st_uid for path in left} == {os.geteuid()}


def test_only_what_was_asked_for(bench: Bench) -> None:
    """Other plugins write nothing, and without memdump there are no dumps."""
    run = bench.detonate(SAMPLES / "behaviour.exe", plugins=("regmon", "procmon"))
    assert {line["Plugin"] for line in run.lines()} == {"regmon", "procmon"}
    assert run.dumps() == {}


def test_a_hook_list_of_the_tasks_own(bench: Bench, tmp_path: Path) -> None:
    """With a hook list, apimon writes the functions on it only."""
    hooks = tmp_path / "hooks.txt"
    hooks.write_text("kernel32.dll,CreateProcessA,log,lpstr\nws2_32.dll,connect,log,socket\n")
    run = bench.detonate(SAMPLES / "behaviour.exe", hooks=hooks)
    assert [line["Method"] for line in run.lines("apimon")] == ["connect", "CreateProcessA"]
    assert run.lines("filetracer")


@pytest.mark.parametrize(
    ("name", "command", "called", "program"),
    [
        ("library.dll", "rundll32 %f,Run", ["DllMain", "Run"], "rundll32.exe"),
        ("library.dll", "rundll32 %f,#2 now", ["DllMain", "Run"], "rundll32.exe"),
        ("library.dll", "regsvr32 /s %f", ["DllMain", "DllRegisterServer"], "regsvr32.exe"),
        ("library32.dll", "rundll32 %f,Run", ["DllMain", "Run"], "rundll32.exe"),
        ("library32.dll", "regsvr32 /s %f", ["DllMain", "DllRegisterServer"], "regsvr32.exe"),
    ],
)
def test_a_dll_runs_as_it_was_asked(
    bench: Bench, name: str, command: str, called: list[str], program: str
) -> None:
    """First DllMain, then the export that the command names, inside the program that loads it."""
    run = bench.detonate(SAMPLES / name, command)
    assert run.outcome.reason is None
    values = run.lines("regmon", "NtSetValueKey")
    assert [line["ValueName"] for line in values] == called
    assert {line["ProcessName"].rpartition("\\")[2] for line in values} == {program}


def test_an_export_that_is_not_there(bench: Bench) -> None:
    """DllMain runs, and the outcome says that the export is missing."""
    run = bench.detonate(SAMPLES / "library.dll", "rundll32 %f,Nope")
    assert run.outcome.reason == "the DLL has no export Nope"
    assert run.outcome.complete is True
    assert [line["ValueName"] for line in run.lines("regmon", "NtSetValueKey")] == ["DllMain"]


def test_a_dropped_program_is_followed(bench: Bench) -> None:
    """What a sample drops and starts is emulated too, as a process of its own below its parent."""
    run = bench.detonate(SAMPLES / "dropper.exe")
    (started,) = run.lines("procmon", "NtCreateUserProcess")
    (value,) = run.lines("regmon", "NtSetValueKey")
    assert value["ProcessName"].endswith("drakcelery-dropped.exe")
    assert (value["PID"], value["PPID"]) == (started["NewPid"], started["PID"])
    ends = {line["PID"]: line["ExitStatus"] for line in run.lines("procmon", "NtTerminateProcess")}
    assert ends == {started["PID"]: "0x0", started["NewPid"]: "0x7"}


def launchers() -> list[Path]:
    """32- and 64-bit launchers of pip and setuptools, as far as this environment has them."""
    root = Path(sysconfig.get_path("purelib"))
    return [*root.glob("pip/_vendor/distlib/t[36][24].exe"), *root.glob("setuptools/cli-[36][24].exe")]


@pytest.mark.parametrize("program", launchers(), ids=lambda path: path.name)
def test_programs_of_others_run_to_their_end(bench: Bench, program: Path) -> None:
    """Programs that were not made for the emulator, 32 and 64 bit, run to their own end."""
    run = bench.detonate(program)
    assert run.outcome.execution is Execution.EXECUTED
    assert run.outcome.reason is None
    assert run.lines("procmon", "NtTerminateProcess")
    assert len(run.lines("apimon")) > 20


def test_there_are_launchers_to_run() -> None:
    """The test above has programs of both kinds."""
    require(len(launchers()) >= 4, "no launchers of pip and setuptools in this environment")


@pytest.mark.parametrize("argument", ["spin", "sleep"])
def test_a_program_that_never_ends(bench: Bench, argument: str) -> None:
    """It is stopped at the timeout, whether it spins or sleeps, and what was seen is kept."""
    for timeout in (2, 8, 32):  # on a busy machine it may not have begun yet
        run = bench.detonate(SAMPLES / "endless.exe", f"%f {argument}", timeout=timeout)
        assert run.outcome.execution is Execution.EXECUTED
        assert run.outcome.reason == f"stopped at the timeout of {timeout} s"
        assert run.outcome.complete is True
        assert run.outcome.finished - run.outcome.started >= 1
        written = [line["FileName"] for line in run.lines("filetracer", "NtWriteFile")]
        counts = [line["Repeated"] for line in run.lines("apimon", "Sleep") if "Repeated" in line]
        if written and (argument == "spin" or len(counts) >= 2):
            break
    assert any(name.endswith("endless.txt") for name in written)
    assert counts[:2] == ([128, 256] if argument == "sleep" else [])


def test_a_program_that_shows_nothing_new_is_stopped(bench: Bench) -> None:
    """It ends when nothing new has come for a second, though its time is far from over, and is complete."""
    plan = WatchPlan(min_seconds=2, quiet_seconds=1, mode="active")
    job = replace(bench.job(SAMPLES / "endless.exe", "%f sleep", timeout=3600), watch=plan)
    outcome = bench.engine.run(job)
    assert outcome.is_quiet_stop
    assert (outcome.execution, outcome.complete) == (Execution.EXECUTED, True)
    assert outcome.watch is not None
    assert outcome.reason == outcome.watch.words
    assert outcome.news is not None
    assert outcome.news.stop_second(plan) == outcome.watch.stop_second


def test_a_program_that_ends_is_watched_to_its_end(bench: Bench) -> None:
    """Its facts are counted, those of its last second too."""
    plan = WatchPlan(min_seconds=600, quiet_seconds=60, mode="active")
    outcome = bench.engine.run(replace(bench.job(SAMPLES / "behaviour.exe"), watch=plan))
    assert outcome.watch is not None
    assert outcome.news is not None
    assert (outcome.watch.ended, outcome.watch.stop_second, outcome.watch.trouble) == ("itself", None, None)
    assert outcome.watch.facts == outcome.news.total >= 10


def test_an_emulator_that_does_not_stop_is_killed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest program that does not stop in time is killed; what it had written is kept and readable."""
    monkeypatch.setattr(supervision, "GRACE", 0.0)
    run = bench.detonate(SAMPLES / "endless.exe", timeout=2)
    assert run.outcome.reason is not None
    assert run.outcome.reason.startswith("stopped at the timeout of 2 s; the emulator had to be killed")
    assert run.outcome.complete is False
    assert run.lines("filetracer", "NtWriteFile")


def test_a_number_of_instructions_can_end_it(tmp_path: Path) -> None:
    """[emulator] max_instructions ends a run before its timeout, and the outcome says so."""
    run = Bench(tmp_path, max_instructions=5000).detonate(SAMPLES / "endless.exe")
    assert run.outcome.reason == "stopped after 5000 instructions"
    assert run.outcome.complete is False


def test_a_function_that_is_not_imitated(bench: Bench, tmp_path: Path) -> None:
    """It is stepped over with its arguments, marked in the log and counted; the program goes on."""
    source = """
    void _start(void)
    {
        for (int number = 0; number < 3; number++) SetProcessShutdownParameters(0x100, number);
        mark("after");
        ExitProcess(0);
    }
    """
    run = bench.detonate(build(tmp_path, source, 32, *BARE, "-nostdlib", "-lkernel32"))
    assert marks(run) == ["after"]
    calls = run.lines("apimon", "SetProcessShutdownParameters")
    assert [line["Unsupported"] for line in calls] == [True] * 3
    assert [line["Arguments"] for line in calls] == [
        ["Arg0=0x100", f"Arg1={number:#x}"] for number in range(3)
    ]
    assert run.outcome.missing == (MissingFunction(name="KERNEL32.SetProcessShutdownParameters", count=3),)
    assert run.outcome.complete is True


def test_an_emulation_that_breaks_off(bench: Bench, tmp_path: Path) -> None:
    """A memory fault is said in a sentence, with how far the program had got, and the run is not complete."""
    image = pefile.PE(str(SAMPLES / "behaviour.exe"))
    image.set_bytes_at_rva(image.OPTIONAL_HEADER.AddressOfEntryPoint, bytes.fromhex("31c08b00"))  # eax = [0]
    program = tmp_path / "fault.exe"
    program.write_bytes(bytes(image.write()))
    run = bench.detonate(program)
    assert run.outcome.execution is Execution.EXECUTED
    assert run.outcome.complete is False
    assert run.outcome.reason is not None
    assert re.fullmatch(
        "the emulation broke off in the program's start-up, before any API call, when module_entry ended on "
        r"an access violation \(reading 0x0\) that nothing handled at 0x[0-9a-f]+\. "
        r"What the program does is unknown",
        run.outcome.reason,
    )


def test_memory_is_limited(tmp_path: Path) -> None:
    """A program that takes all memory sees its calls fail and goes on; the process stays within its limit."""
    bench = Bench(tmp_path, memory_limit=256 * MIB)
    run = bench.detonate(SAMPLES / "endless.exe", "%f eat", timeout=4)
    assert run.outcome.reason == "stopped at the timeout of 4 s"
    results = [int(line["ReturnValue"], 16) for line in run.lines("apimon", "VirtualAlloc")]
    assert results[0] != 0
    assert results[-1] == 0
    assert run.lines("apimon", "VirtualAlloc")[-1]["Problem"].startswith("MemoryError: the program may have ")
    assert sum(result != 0 for result in results) * 8 * MIB < 256 * MIB


def test_the_log_is_limited(tmp_path: Path) -> None:
    """At [emulator] file_limit the run ends, the log is within it, and every line in it is whole."""
    run = Bench(tmp_path, file_limit=MIB).detonate(SAMPLES / "endless.exe", "%f stir")
    assert run.outcome.reason == f"the log reached the limit of {MIB} bytes"
    assert run.outcome.complete is False
    assert run.job.log.stat().st_size <= MIB
    assert run.lines("apimon")


@pytest.mark.parametrize("damage", ["headers", "sections", "imports", "cut"])
def test_damaged_programs_are_an_outcome(bench: Bench, tmp_path: Path, damage: str) -> None:
    """A file that breaks the loader or runs astray ends as an outcome with a reason, never as our error."""
    data = bytearray((SAMPLES / "behaviour.exe").read_bytes())
    match damage:
        case "headers":
            data[0xB0:0x100] = b"\xff" * 0x50
        case "sections":
            data[0x188:0x200] = os.urandom(0x78)
        case "imports":
            data[0xA00:0xC00] = b"\xff" * 0x200
        case _:
            del data[0x600:]
    program = tmp_path / "damaged.exe"
    program.write_bytes(data)
    job = bench.job(program, timeout=5)
    outcome = bench.engine.run(job)
    assert outcome.execution is Execution.NOT_EXECUTED or job.log.exists()


def test_a_broken_guest_program_is_our_error(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest program that cannot come up is an engine error which says why, worth another attempt."""
    monkeypatch.setattr(supervision, "PROGRAM", "drakcelery.engines.no_such_program")
    with pytest.raises(EngineError, match=r"No module named drakcelery\.engines\.no_such_program"):
        bench.detonate(SAMPLES / "behaviour.exe")
    assert bench.guest() is None


def test_a_log_that_cannot_be_written_is_our_error(bench: Bench) -> None:
    """An output directory that is gone is an engine error, not a property of the sample."""
    job = bench.job(SAMPLES / "behaviour.exe")
    job.raw.rmdir()
    with pytest.raises(EngineError, match="No such file or directory"):
        bench.engine.run(job)


def test_nothing_is_left_behind(bench: Bench) -> None:
    """After a run neither a process nor a record of one is there; destroying once more is fine."""
    bench.detonate(SAMPLES / "behaviour.exe")
    assert bench.guest() is None
    bench.engine.destroy("vm-1")
    bench.engine.destroy("never-used")


STARTER = """
import json, sys
from drakcelery.engines import Detonation, confinement, privileges
from drakcelery.engines.emulator import create
from drakcelery.settings import DrakcelerySection, Settings
from pathlib import Path
state, sample, raw = map(Path, sys.argv[1:])
create(Settings(drakcelery=DrakcelerySection(state_dir=state))).run(Detonation(
    uid="u", slot="vm-1", sample=sample, extension="exe", magic="", start_command="%f",
    plugins=("filetracer",), timeout=600, raw=raw, hooks=None))
"""


@pytest.fixture
def orphan(bench: Bench) -> int:
    """A run in another process, which was killed with SIGKILL: the process id of its guest program."""
    job = bench.job(SAMPLES / "endless.exe")
    command = [sys.executable, "-c", STARTER, str(bench.path / "state"), str(job.sample), str(job.raw)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as starter:
        try:
            wait_until(lambda: job.log.exists() and job.log.stat().st_size, "the run in the other process")
            pid = bench.guest()
            assert pid is not None
            assert is_alive(pid)
        finally:
            starter.send_signal(signal.SIGKILL)
    return pid


def test_a_guest_dies_with_its_worker(bench: Bench, orphan: int) -> None:
    """When the process that runs an analysis is killed, its guest program ends too; the slot is clearable."""
    wait_until(lambda: not is_alive(orphan), "the end of the guest program")
    assert bench.guest() == orphan
    bench.engine.destroy("vm-1")
    assert bench.guest() is None


def test_a_guest_is_destroyed_from_another_process(bench: Bench) -> None:
    """Destroy ends a run that another process has under way, and that one has an outcome all the same."""
    job = bench.job(SAMPLES / "endless.exe")
    command = [sys.executable, "-c", STARTER, str(bench.path / "state"), str(job.sample), str(job.raw)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as starter:
        wait_until(lambda: job.log.exists() and job.log.stat().st_size, "the run in the other process")
        pid = bench.guest()
        assert pid is not None
        bench.engine.destroy("vm-1")
        assert not is_alive(pid)
        assert starter.wait(30) == 0


def test_who_got_the_slot_meanwhile_keeps_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was frozen, and whose slot went to another, ends no guest but its own (R17)."""
    follow, late = supervision.follow, bench.job(SAMPLES / "endless.exe")
    others: list[Guest] = []

    def frozen(guest: Guest, timeout: int, watcher: Watcher | None) -> EndedBy:
        monkeypatch.setattr(supervision, "follow", follow)
        bench.engine.destroy("vm-1")
        others.append(
            supervision.start(
                bench.path / "state" / "engine" / "vm-1.json",
                bench.engine._guest_job(late),
                begin=supervision.begin,
            )
        )
        return follow(guest, timeout, watcher)

    monkeypatch.setattr(supervision, "follow", frozen)
    with pytest.raises(EngineError):
        bench.engine.run(bench.job(SAMPLES / "endless.exe"))
    (other,) = others
    assert is_alive(other.process.pid)
    assert bench.guest() == other.process.pid
    bench.engine.destroy("vm-1")
    supervision.reap(other)


def test_another_process_of_the_same_id_is_left_alone(bench: Bench) -> None:
    """A record whose process id belongs to a later process clears the record and kills nobody."""
    record = bench.path / "state" / "engine" / "vm-1.json"
    record.parent.mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as bystander:
        record.write_text(json.dumps({"pid": bystander.pid, "start": 1}))
        bench.engine.destroy("vm-1")
        assert bystander.poll() is None
        bystander.kill()
    assert bench.guest() is None


def test_an_unreadable_record_is_not_passed_over(bench: Bench) -> None:
    """A record that says nothing may hide a guest: that is an error with what to do, not a guess."""
    record = bench.path / "state" / "engine" / "vm-1.json"
    record.parent.mkdir(parents=True)
    record.write_text("{")
    with pytest.raises(EngineError, match="a guest may still run"):
        bench.engine.destroy("vm-1")


@pytest.fixture
def running(bench: Bench) -> Any:
    """The process id of a guest program at work."""
    job = bench.job(SAMPLES / "endless.exe")
    command = [sys.executable, "-c", STARTER, str(bench.path / "state"), str(job.sample), str(job.raw)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as starter:
        wait_until(lambda: job.log.exists() and job.log.stat().st_size, "the run in the other process")
        yield bench.guest()
        bench.engine.destroy("vm-1")
        starter.wait(30)


def test_the_guest_program_knows_nothing(running: int) -> None:
    """Its environment holds no secrets, its command line no job; its limits and lack of privilege are set."""
    if os.geteuid() == 0:  # an undumpable process shows its environment to root only
        environment = Path(f"/proc/{running}/environ").read_bytes()
        names = {part.partition(b"=")[0] for part in environment.split(b"\0") if part}
        assert names == {name.encode() for name in confinement.ENVIRONMENT}
    command = Path(f"/proc/{running}/cmdline").read_bytes().split(b"\0")[1:-1]
    assert command == [b"-I", b"-m", b"drakcelery.engines.speakeasy_guest"]
    limits = Path(f"/proc/{running}/limits").read_text()
    assert re.search(rf"Max address space +{2048 * MIB} +{2048 * MIB}", limits)
    assert re.search(r"Max core file size +0 +0", limits)
    assert re.search(r"Max processes +0 +0", limits)
    assert re.search(rf"Max file size +{512 * MIB} ", limits)
    assert re.search(r"Max cpu time +660 +660", limits)
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{running}/status").read_text().splitlines())
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    users = {int(number) for number in status["Uid"].split()}
    assert users == ({privileges.FIRST_USER + running} if os.geteuid() == 0 else {os.geteuid()})


def test_the_guest_program_has_no_network(running: int) -> None:
    """It lives in a network namespace of its own."""
    try:
        theirs = Path(f"/proc/{running}/ns/net").readlink()
    except PermissionError:
        require(False, "only root may look at the namespace of an undumpable process")
    assert theirs != Path("/proc/self/ns/net").readlink()


def test_the_samples_are_what_the_readme_says() -> None:
    """Every program has its sha256 in the README, and all of them are small."""
    stated = dict(
        reversed(line.split("  "))
        for line in re.findall(r"^[0-9a-f]{64}  \S+$", (SAMPLES / "README.md").read_text(), re.MULTILINE)
    )
    programs = [path for path in SAMPLES.iterdir() if path.suffix in (".exe", ".dll")]
    assert stated == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in programs}
    assert sum(path.stat().st_size for path in programs) < 200 * 1024


def test_the_samples_build_and_behave(bench: Bench, tmp_path: Path) -> None:
    """Built again from their sources, the samples do the same."""
    compilers = ("x86_64-w64-mingw32-gcc", "i686-w64-mingw32-gcc")
    require(all(map(shutil.which, compilers)), "mingw-w64 is not installed")
    built = tmp_path / "built"
    built.mkdir()
    subprocess.run(["/bin/sh", str(SAMPLES / "build.sh"), str(built)], check=True, capture_output=True)
    assert_behaviour_64(bench.detonate(built / "behaviour.exe"))
    assert_behaviour_32(bench.detonate(built / "behaviour32.exe"))


def test_tshark_reads_the_traffic(behaviour32: Run) -> None:
    """tshark finds the lookup, the connection and the request, and nothing wrong with them."""
    tshark = shutil.which("tshark") or ""
    require(bool(tshark), "tshark is not installed")
    run = behaviour32
    command = [
        tshark,
        "-r",
        str(run.job.pcap),
        "-T",
        "fields",
        "-e",
        "dns.qry.name",
        "-e",
        "http.request.full_uri",
    ]
    seen = subprocess.run(command, capture_output=True, check=True, text=True).stdout.split()
    assert "web.drakcelery.invalid" in seen
    assert "http://web.drakcelery.invalid/page?q=1" in seen
    wrong = subprocess.run(
        [tshark, "-r", str(run.job.pcap), "-Y", "_ws.malformed || tcp.analysis.flags"],
        capture_output=True,
        check=True,
    )
    assert wrong.stdout == b""
