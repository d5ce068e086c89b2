"""The engine ``drakvuf`` against a simulated Xen host: real processes, real signals, real files."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import orjson
import pytest

from drakcelery.engines import Detonation
from drakcelery.engines.drakvuf import run as run_module
from drakcelery.engines.drakvuf.engine import create
from drakcelery.errors import Blame, EngineError, SettingsError, UnsupportedSample
from drakcelery.model.analysis import Execution, StartMethod
from drakcelery.model.news import WatchPlan
from drakcelery.settings import Settings
from drakcelery.telemetry.logs import analysis_log, configure
from tests.drakvuf import PLUGINS, TIMEOUT, detonate, engine, host, make_job, settings, short_waits
from tests.guest_log import Log, opened
from tests.waiting import PATIENCE, wait_until
from tests.xen.host import XenHost

__all__ = ("host", "short_waits")


def test_a_snapshot_is_told_from_another(host: XenHost, tmp_path: Path) -> None:
    """By what it holds, without a hash of it all; a snapshot that cannot be read is an error."""
    drakvuf = engine(host, tmp_path)
    first = drakvuf.snapshot_id()
    os.utime(host.snapshot, (1, 1))
    assert first is not None
    assert drakvuf.snapshot_id() == engine(host, tmp_path).snapshot_id() == first
    host.snapshot.write_bytes(b"another memory")
    assert drakvuf.snapshot_id() != first
    host.snapshot.unlink()
    with pytest.raises(OSError, match="No such file"):
        drakvuf.snapshot_id()


def option(words: tuple[str, ...], name: str) -> list[str]:
    """The values of an option."""
    return [words[at + 1] for at, word in enumerate(words) if word == name]


def drakvuf_call(host: XenHost) -> tuple[str, ...]:
    """The command line of the last DRAKVUF that watched a guest."""
    return [call.argv for call in host.calls("drakvuf") if "-d" in call.argv][-1]


def plugins_in(job: Detonation) -> set[str]:
    """Who wrote to the log."""
    return {json.loads(line)["Plugin"] for line in job.log.read_bytes().splitlines()}


# The road


@pytest.mark.parametrize("version", ["0.19.0", "0.20.0", "0.21.0"])
def test_a_sample_is_detonated(tmp_path: Path, version: str) -> None:
    """Each supported DRAKVUF Sandbox restores, runs and ends a guest, and swallows no mistake of ours."""
    with XenHost.create(tmp_path / "xen", version=version) as host:
        drakvuf, job = engine(host, tmp_path), make_job(tmp_path)
        host.play(dumps={"400000": b"MZ dumped"}, packets=[bytes(60)])
        snapshot = drakvuf.prepare(job)
        assert snapshot.sha256 == hashlib.sha256(host.snapshot.read_bytes()).hexdigest()
        assert snapshot.version == int(host.disk.stat().st_mtime)
        outcome = drakvuf.run(job)
        (guest,) = host.guests()
        assert guest.files[outcome.start_command or ""] == hashlib.sha256(b"MZ sample").hexdigest()
        assert (outcome.execution, outcome.reason) == (Execution.EXECUTED, None)
        assert outcome.snapshot == snapshot
        assert outcome.engine.startswith("drakvuf 1.1-")
        assert outcome.finished - outcome.started >= TIMEOUT
        assert {"inject", "procmon"} <= plugins_in(job)
        assert b"MZ dumped" in {path.read_bytes() for path in job.dumps.iterdir()}
        assert job.pcap.stat().st_size > 24
        drakvuf.destroy(job.slot)
        assert (host.guests(), host.processes(), host.warnings()) == ((), (), ())


def test_the_start_command_runs_in_the_samples_directory(host: XenHost, tmp_path: Path) -> None:
    """What is started gets the path that the injector said, by CreateProcess unless it is the sample."""
    drakvuf = engine(host, tmp_path)
    outcome = detonate(drakvuf, make_job(tmp_path, start_command="rundll32 %f,Start", extension="dll"))
    path = next(iter(host.guests()[0].files))
    words = drakvuf_call(host)
    assert outcome.start_command == f"rundll32 {path},Start"
    assert (option(words, "-m"), option(words, "-e")) == (["createproc"], [f"rundll32 {path},Start"])
    assert option(words, "-c") == [path.rpartition("\\")[0]]
    drakvuf.destroy("vm-1")


def test_the_analysis_says_how_to_watch(host: XenHost, tmp_path: Path) -> None:
    """Plugins, hooks, system calls, the limit of hits and the timeout reach DRAKVUF."""
    (tmp_path / "calls.txt").write_text("NtClose\n")
    (tmp_path / "hooks.txt").write_text("ntdll.dll,NtClose,log,HANDLE\n")
    drakvuf = engine(
        host,
        tmp_path,
        drakrun__syscall_filter=tmp_path / "calls.txt",
        drakrun__anti_hammering_threshold=7,
    )
    detonate(drakvuf, make_job(tmp_path, hooks=tmp_path / "hooks.txt"))
    words = drakvuf_call(host)
    assert option(words, "-a") == list(PLUGINS)
    assert option(words, "--dll-hooks-list") == [str(tmp_path / "hooks.txt")]
    assert option(words, "--syscall-hooks-list") == [str(tmp_path / "calls.txt")]
    assert (option(words, "--traps-ttl"), option(words, "-t")) == (["7"], [str(TIMEOUT)])
    drakvuf.destroy("vm-1")


@pytest.mark.parametrize("method", ["createproc", "shellexec", "runas"])
def test_the_task_says_how_it_is_started(host: XenHost, tmp_path: Path, method: StartMethod) -> None:
    """Start method and working directory of a task reach DRAKVUF, in v0.21's own words (H7)."""
    drakvuf = engine(host, tmp_path)
    place = "C:\\Users\\Public"
    job = make_job(tmp_path, start_method=method, guest_working_directory=place)
    outcome = detonate(drakvuf, job)
    words = drakvuf_call(host)
    assert option(words, "-m") == ["createproc" if method == "createproc" else "shellexec"]
    assert option(words, "-V") == (["runas"] if method == "runas" else [])
    assert option(words, "-c") == [place]
    assert option(words, "-e") == [next(iter(host.guests()[0].files))]
    assert (outcome.start_method, outcome.guest_working_directory) == (method, place)
    drakvuf.destroy("vm-1")


def test_a_command_as_administrator(host: XenHost, tmp_path: Path) -> None:
    """A start command of its own is split into program and arguments (H7)."""
    drakvuf = engine(host, tmp_path)
    job = make_job(tmp_path, start_command="rundll32.exe %f,Start", extension="dll", start_method="runas")
    detonate(drakvuf, job)
    words, path = drakvuf_call(host), next(iter(host.guests()[0].files))
    assert (option(words, "-V"), option(words, "-e")) == (["runas"], ["rundll32.exe"])
    assert option(words, "-f") == [f"{path},Start"]
    drakvuf.destroy("vm-1")


@pytest.mark.parametrize("version", ["0.19.0", "0.20.0"])
def test_what_an_older_sandbox_cannot_do(tmp_path: Path, version: str) -> None:
    """It is refused with a sentence, not done in another way; the working directory all can do (H7)."""
    with XenHost.create(tmp_path / "xen", version=version) as host:
        drakvuf = engine(host, tmp_path, drakrun__net_enable=1)
        with pytest.raises(UnsupportedSample, match=r"runas needs DRAKVUF Sandbox v0\.21"):
            drakvuf.accept(make_job(tmp_path, start_method="runas"))
        with pytest.raises(UnsupportedSample, match=r"switch it off for one sample needs .* v0\.21"):
            drakvuf.accept(make_job(tmp_path, attempt=2, net_enable=False))
        plain = engine(host, tmp_path)
        place = "C:\\Users\\Public"
        job = make_job(tmp_path, attempt=3, start_method="createproc", guest_working_directory=place)
        outcome = detonate(plain, job)
        assert option(drakvuf_call(host), "-c") == [place]
        assert (outcome.start_method, outcome.guest_working_directory) == (None, place)
        plain.destroy("vm-1")


def test_the_network_of_one_task(host: XenHost, tmp_path: Path) -> None:
    """A task switches it off for itself alone; what the host keeps off the network stays off it (H7)."""
    drakvuf = engine(host, tmp_path, drakrun__net_enable=1)

    def network(number: int) -> bool:
        return bool(json.loads((host.run / f"vmnet-{number}.json").read_bytes())["net_enable"])

    off, on = (
        make_job(tmp_path, slot=slot, net_enable=wish) for slot, wish in (("vm-1", False), ("vm-2", True))
    )
    assert (detonate(drakvuf, off).net_enable, network(1)) == (False, False)
    assert (detonate(drakvuf, on).net_enable, network(2)) == (True, True)
    for slot in ("vm-1", "vm-2"):
        drakvuf.destroy(slot)
    with pytest.raises(UnsupportedSample, match=r"\[drakrun\] net_enable = 0"):
        engine(host, tmp_path).accept(on)


def test_system_calls_as_the_sandbox_has_them(host: XenHost, tmp_path: Path) -> None:
    """Without a setting the list of /etc/drakrun counts, then the package's; ``all`` means no list (H6)."""
    lists = {}
    for attempt, chosen in enumerate(("", "all"), start=1):
        drakvuf = engine(host, tmp_path, **({"drakrun__syscall_filter": chosen} if chosen else {}))
        drakvuf.version()
        detonate(drakvuf, make_job(tmp_path, attempt=attempt))
        lists[chosen] = option(drakvuf_call(host), "--syscall-hooks-list")
        drakvuf.destroy("vm-1")
    assert lists == {"": [str(host.etc / "syscalls.txt")], "all": []}


def test_no_plugin_means_none(host: XenHost, tmp_path: Path) -> None:
    """An empty list runs no plugin, although DRAKVUF without a list runs all."""
    drakvuf, job = engine(host, tmp_path), make_job(tmp_path, plugins=())
    detonate(drakvuf, job)
    assert plugins_in(job) == {"inject"}
    drakvuf.destroy("vm-1")


def test_a_slot_above_nine_gets_its_own_sample(host: XenHost, tmp_path: Path) -> None:
    """drakrun would copy what is meant for vm-12 into vm-2."""
    drakvuf = engine(host, tmp_path, **{"slots__vm-12": "default"})
    detonate(drakvuf, make_job(tmp_path, slot="vm-12"))
    (guest,) = host.guests()
    assert guest.name == "vm-12"
    assert [path.rpartition("\\")[2] for path in guest.files] == ["malwar.exe"]
    assert host.warnings() == ()
    drakvuf.destroy("vm-12")


def test_two_slots_at_once(host: XenHost, tmp_path: Path) -> None:
    """Guests beside each other do not disturb one another."""
    drakvuf = engine(host, tmp_path)
    jobs = [make_job(tmp_path, slot=slot) for slot in ("vm-1", "vm-2")]
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(lambda job: detonate(drakvuf, job), jobs))
    assert [outcome.reason for outcome in outcomes] == [None, None]
    drakvuf.destroy("vm-1")
    assert [guest.name for guest in host.guests()] == ["vm-2"]
    drakvuf.destroy("vm-2")


def test_the_guest_runs_the_post_restore_script(host: XenHost, tmp_path: Path) -> None:
    """It runs by drakshell after a restore, unless the setting says no."""
    drakvuf = engine(host, tmp_path)
    drakvuf.prepare(make_job(tmp_path))
    assert [command.partition(" ")[0] for command in host.guests()[0].commands] == ["powershell.exe"]
    drakvuf.destroy("vm-1")
    without = engine(host, tmp_path, drakvuf__post_restore=0)
    without.prepare(make_job(tmp_path, attempt=2))
    assert host.guests()[0].commands == ()
    without.destroy("vm-1")


def test_the_network_is_the_one_of_the_settings(host: XenHost, tmp_path: Path) -> None:
    """v0.21 is told by its environment; its own config.toml says that guests reach nothing."""
    drakvuf = engine(
        host, tmp_path, drakrun__net_enable=1, drakrun__out_interface="eth7", drakrun__dns_server="9.9.9.9"
    )
    drakvuf.prepare(make_job(tmp_path))
    network = json.loads((host.run / "vmnet-1.json").read_bytes())
    assert (network["net_enable"], network["out_interface"], network["dns_server"]) == (
        True,
        "eth7",
        "9.9.9.9",
    )
    drakvuf.destroy("vm-1")


def test_a_guest_on_the_wrong_network_runs_nothing(tmp_path: Path) -> None:
    """v0.19 reads its own file only: where that lets guests out and the settings do not, no sample runs."""
    with XenHost.create(tmp_path / "xen", version="0.19.0") as host:
        config = host.etc / "config.toml"
        config.write_text(config.read_text().replace("net_enable = false", "net_enable = true"))
        drakvuf = engine(host, tmp_path)
        with pytest.raises(EngineError, match=r"net_enable = True.*asks for False.*config\.toml"):
            drakvuf.prepare(make_job(tmp_path))
        drakvuf.destroy("vm-1")


def test_memory_and_profiles_are_kept_where_asked(host: XenHost, tmp_path: Path) -> None:
    """The guest's memory and the host's profiles lie beside DRAKVUF's output, for collect to pack."""
    dumper = tmp_path / "vmi-dump-memory"
    dumper.write_text('#!/bin/sh\nprintf "memory of $1" > "$2"\n')
    dumper.chmod(0o755)
    drakvuf = engine(
        host,
        tmp_path,
        drakrun__raw_memory_dump=1,
        drakrun__attach_profiles=1,
        drakvuf__vmi_dump_memory=dumper,
    )
    job = make_job(tmp_path)
    assert detonate(drakvuf, job).reason is None
    assert (job.raw / "post_sample.raw_memdump").read_text() == "memory of vm-1"
    attached = {path.name for path in (job.raw / "profiles").iterdir()}
    assert "native_ntdll_profile.json" in attached
    assert not attached & {"kernel.json", "runtime.json"}
    drakvuf.destroy("vm-1")


def test_a_failed_memory_dump_is_said(host: XenHost, tmp_path: Path) -> None:
    """The analysis is kept, and says what is missing."""
    drakvuf = engine(host, tmp_path, drakrun__raw_memory_dump=1, drakvuf__vmi_dump_memory="/bin/false")
    job = make_job(tmp_path)
    outcome = detonate(drakvuf, job)
    assert outcome.execution is Execution.EXECUTED
    assert "there is no memory dump" in (outcome.reason or "")
    assert not (job.raw / "post_sample.raw_memdump").exists()
    drakvuf.destroy("vm-1")


# What a sample may do


def test_a_sample_that_does_not_start(host: XenHost, tmp_path: Path) -> None:
    """Exit code 4: Windows refused to start it, and that is the result."""
    host.fail("drakvuf", "not_executed")
    drakvuf = engine(host, tmp_path)
    outcome = detonate(drakvuf, make_job(tmp_path))
    assert outcome.execution is Execution.NOT_EXECUTED
    assert "(error 193: it is no program for this Windows)" in (outcome.reason or "")
    assert outcome.windows_error == 193
    drakvuf.destroy("vm-1")


@pytest.mark.parametrize(("code", "blamed"), [(225, Blame.SNAPSHOT), (112, Blame.SLOT)])
def test_what_windows_says_of_the_copy(host: XenHost, tmp_path: Path, code: int, blamed: Blame) -> None:
    """A sample that Windows Defender does not even let in blames the snapshot, and a full disk does not."""
    host.fail("drakrun injector copy", "fails", code=code)
    drakvuf = engine(host, tmp_path)
    with pytest.raises(EngineError, match=f'could not be copied into vm-1.*"ErrorCode": {code}') as failed:
        detonate(drakvuf, make_job(tmp_path))
    assert (failed.value.blames, failed.value.code) == (blamed, code)
    drakvuf.destroy("vm-1")


@pytest.mark.parametrize(("code", "error"), [(225, "ERROR_VIRUS_INFECTED"), (2, "ERROR_FILE_NOT_FOUND")])
def test_a_snapshot_whose_defender_is_at_work(host: XenHost, tmp_path: Path, code: int, error: str) -> None:
    """A sample that Windows Defender refuses, or removed, shows nothing of itself: the snapshot is ill."""
    host.fail("drakvuf", "not_executed", code=code, error=error)
    drakvuf = engine(host, tmp_path)
    with pytest.raises(EngineError, match=rf"{error} \(error {code}: .*make the snapshot again") as failed:
        detonate(drakvuf, make_job(tmp_path))
    assert (failed.value.blames, failed.value.code) == (Blame.SNAPSHOT, code)
    drakvuf.destroy("vm-1")


@pytest.mark.parametrize(
    ("how", "reason"),
    [("kernel_panic", "the guest's kernel crashed"), ("power_off", "the guest was switched off")],
)
def test_a_sample_that_ends_its_guest(host: XenHost, tmp_path: Path, how: str, reason: str) -> None:
    """A blue screen or a shutdown is the sample's doing."""
    host.fail("drakvuf", how)
    drakvuf = engine(host, tmp_path)
    outcome = detonate(drakvuf, make_job(tmp_path, timeout=30))
    assert (outcome.execution, outcome.reason) == (Execution.EXECUTED, reason)
    drakvuf.destroy("vm-1")


@pytest.mark.parametrize("how", [None, "dies_with_guest", "outlives_guest"])
def test_a_guest_that_goes_away(host: XenHost, tmp_path: Path, how: str | None) -> None:
    """A guest that shuts down or restarts is destroyed by Xen; what was seen is kept, with the reason."""
    if how:
        host.fail("drakvuf", how)
    drakvuf, job = engine(host, tmp_path), make_job(tmp_path, timeout=60)
    drakvuf.prepare(job)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(drakvuf.run, job)
        wait_until(lambda: watching(host), "DRAKVUF watches")
        host.destroy("vm-1")
        outcome = running.result(timeout=PATIENCE)
    assert outcome.execution is Execution.EXECUTED
    assert "the guest went away after" in (outcome.reason or "")
    drakvuf.destroy("vm-1")


def test_a_log_without_end(host: XenHost, tmp_path: Path) -> None:
    """A run that writes more than it may is stopped, and what there is goes on."""
    host.fail("drakvuf", "huge_log", size=64 * 1024**2)
    drakvuf, job = engine(host, tmp_path, drakvuf__output_limit=1024**2), make_job(tmp_path, timeout=60)
    outcome = detonate(drakvuf, job)
    assert outcome.execution is Execution.EXECUTED
    assert "the [drakvuf] output_limit" in (outcome.reason or "")
    drakvuf.destroy("vm-1")


@pytest.mark.parametrize("how", ["cut_line", "huge_line", "hostile_dumps"])
def test_strange_output_is_no_failure(host: XenHost, tmp_path: Path, how: str) -> None:
    """Half a line, an endless one, or links among the dumps are for collect to sort out."""
    host.fail("drakvuf", how)
    drakvuf = engine(host, tmp_path)
    assert detonate(drakvuf, make_job(tmp_path)).execution is Execution.EXECUTED
    drakvuf.destroy("vm-1")


# What may go wrong


@pytest.mark.parametrize(
    ("tool", "how", "message"),
    [
        (
            "drakrun vm-start",
            "fails",
            r"vm-1 could not be restored: drakrun vm-start ended with exit code 1.*Failed to restore",
        ),
        ("drakrun vm-start", "hangs", r"drakrun vm-start did not end within 2 s"),
        ("drakrun vm-start", "hangs_with_guest", r"drakrun vm-start did not end within 2 s"),
        ("drakrun drakshell", "fails", r"vm-1 does not answer: drakrun drakshell"),
        ("drakrun drakshell", "exit_code", r"vm-post-restore\.ps1 ended with exit code 1 in vm-1"),
        (
            "drakrun drakshell",
            "hangs",
            r"drakshell did not end within 2 s.*PowerShell 2\.0.*post_restore = 0",
        ),
    ],
)
def test_a_guest_that_cannot_be_restored(
    host: XenHost, tmp_path: Path, tool: str, how: str, message: str
) -> None:
    """Each failure of a restore is an error with the tool's last words; the slot is as good as new after."""
    drakvuf = engine(host, tmp_path, drakvuf__restore_timeout=2, drakvuf__tool_timeout=2)
    host.fail(tool, how, times=2 if how == "fails" and "drakshell" in tool else 1)
    with pytest.raises(EngineError, match=message):
        drakvuf.prepare(make_job(tmp_path))
    drakvuf.destroy("vm-1")
    assert (host.guests(), host.processes()) == ((), ())
    drakvuf.prepare(make_job(tmp_path, attempt=2))
    drakvuf.destroy("vm-1")


@pytest.mark.parametrize(
    ("tool", "how", "message"),
    [
        (
            "drakrun injector copy",
            "no_json",
            r"malwar\.exe could not be copied into vm-1.*it printed no record",
        ),
        ("drakrun injector copy", "garbage", r"could not be copied into vm-1"),
        ("drakrun injector copy", "fails", r"injector copy ended with exit code 1"),
        ("drakrun injector copy", "times_out", r"injector copy ended with exit code 1"),
        ("drakrun injector copy", "hangs", r"injector copy did not end within 3 s"),
        ("drakrun drakvuf-cmdline", "fails", r"there is no command line for DRAKVUF"),
        ("drakrun drakvuf-cmdline", "hangs", r"drakvuf-cmdline did not end within 3 s"),
        ("drakvuf", "injection_error", r"the injection into the guest failed \(PrematureBreak\)"),
        ("drakvuf", "injection_timeout", r"the injection into the guest took too long \(Timeout\)"),
        (
            "drakvuf",
            "fails",
            r"DRAKVUF failed: drakvuf ended with exit code 1; it said: .*drakvuf_init\(\) failed",
        ),
        ("drakvuf", "crashes", r"DRAKVUF crashed: drakvuf was killed \(SIGSEGV\)"),
        ("drakvuf", "hangs", r"DRAKVUF hung: it ended neither after 1 s and 1 s of grace nor of SIGTERM"),
        ("tcpdump", "fails", r"no traffic can be recorded: tcpdump ended with exit code 1"),
        ("tcpdump", "denied", r"no traffic can be recorded: tcpdump ended with exit code 1"),
    ],
)
def test_a_run_that_fails(host: XenHost, tmp_path: Path, tool: str, how: str, message: str) -> None:
    """Each failure of a run is an error with the tool's last words; nothing of it is left running."""
    drakvuf, job = engine(host, tmp_path, drakvuf__tool_timeout=3), make_job(tmp_path)
    drakvuf.prepare(job)
    host.fail(tool, how)
    with pytest.raises(EngineError, match=message):
        drakvuf.run(job)
    drakvuf.destroy("vm-1")
    assert (host.guests(), host.processes()) == ((), ())


@pytest.mark.parametrize(
    ("how", "reason"), [("hangs", None), ("crashes", "traffic is missing: tcpdump was killed")]
)
def test_tcpdump_alone_fails_no_run(host: XenHost, tmp_path: Path, how: str, reason: str | None) -> None:
    """Traffic that is missing is said; a tcpdump that will not stop is killed."""
    host.fail("tcpdump", how)
    drakvuf = engine(host, tmp_path)
    outcome = detonate(drakvuf, make_job(tmp_path))
    assert outcome.execution is Execution.EXECUTED
    assert (outcome.reason or "").startswith(reason or "")
    drakvuf.destroy("vm-1")


def test_what_a_tool_says_is_kept_bounded_and_escaped(
    host: XenHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """drakrun.log has the end of each tool's stderr, without what would drive a terminal."""
    for bound in ("STOP_SECONDS", "TRAFFIC_STOP_SECONDS", "GONE_SECONDS"):
        monkeypatch.setattr(run_module, bound, 60.0)  # they end by themselves, however busy the machine is
    configure(level="info", style="json")
    host.fail("drakvuf", "huge_stderr")
    drakvuf, path = engine(host, tmp_path), tmp_path / "drakrun.log"
    with analysis_log(path, uid="analysis"):
        detonate(drakvuf, make_job(tmp_path))
        drakvuf.destroy("vm-1")
    lines = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    said = {line["tool"]: line["stderr"] for line in lines if line["action"] == "tool_ended"}
    assert {"drakrun vm-start", "drakrun injector copy", "drakvuf", "tcpdump", "drakrun vm-stop"} <= set(said)
    assert any("Restoring VM vm-1" in line for line in said["drakrun vm-start"])
    assert said["drakvuf"]
    assert all(line.isprintable() for lines in said.values() for line in lines)
    assert path.stat().st_size < 512 * 1024


# The end of a guest


def test_nothing_to_end_is_cheap(host: XenHost, tmp_path: Path) -> None:
    """An empty slot costs one question to Xen, a slot of another engine none."""
    drakvuf = engine(host, tmp_path)
    drakvuf.destroy("vm-1")
    drakvuf.destroy("somewhere-else")
    assert [(call.tool, call.argv) for call in host.calls()] == [("xl", ("list", "vm-1"))]


def test_a_guest_that_nobody_here_started_is_ended(host: XenHost, tmp_path: Path) -> None:
    """A worker that starts clears what is in its slots, whoever left it."""
    host.start("vm-1")
    engine(host, tmp_path).destroy("vm-1")
    assert host.guests() == ()


@pytest.mark.parametrize("how", ["survives", "survives_quietly", "hangs"])
def test_a_guest_that_survives_is_ended_again(host: XenHost, tmp_path: Path, how: str) -> None:
    """vm-stop is believed only where xl list agrees, and repeated where it does not."""
    host.start("vm-1")
    host.fail("drakrun vm-stop", how, times=2)
    engine(host, tmp_path, drakvuf__tool_timeout=1).destroy("vm-1")
    assert host.guests() == ()


def test_a_guest_that_will_not_die_is_said(host: XenHost, tmp_path: Path) -> None:
    """The slot must not be given to anyone; once the guest can be ended, it is."""
    host.start("vm-1")
    host.fail("drakrun vm-stop", "survives", times=None)
    drakvuf = engine(host, tmp_path)
    with pytest.raises(EngineError, match=r"vm-1 lives on after 3 times drakrun vm-stop.*Failed to pause VM"):
        drakvuf.destroy("vm-1")
    host.heal()
    drakvuf.destroy("vm-1")
    assert host.guests() == ()


@pytest.mark.parametrize("how", ["hangs", "fails"])
def test_a_xen_that_does_not_answer_is_not_believed(host: XenHost, tmp_path: Path, how: str) -> None:
    """As long as Xen does not say that the guest is gone, it is there."""
    host.fail("xl list", how, times=None)
    drakvuf = engine(host, tmp_path, drakvuf__tool_timeout=1)
    with pytest.raises(EngineError, match="vm-1 may live on, since Xen does not answer"):
        drakvuf.destroy("vm-1")
    host.heal()
    drakvuf.destroy("vm-1")


def watching(host: XenHost) -> bool:
    """Whether DRAKVUF and tcpdump do what they were started for."""
    return {"drakvuf", "tcpdump"} <= {process.tool for process in host.processes() if process.watches}


def _prepare_and_run(given: Settings, job: Detonation) -> None:
    drakvuf = create(given)
    drakvuf.prepare(job)
    drakvuf.run(job)


def in_another_process(given: Settings, job: Detonation) -> multiprocessing.process.BaseProcess:
    """Prepare and run in a process of its own, as a pool process does."""
    process = multiprocessing.get_context("spawn").Process(target=_prepare_and_run, args=(given, job))
    process.start()
    return process


def test_a_guest_destroyed_under_a_run_ends_the_run(host: XenHost, tmp_path: Path) -> None:
    """Whoever destroys the guest ends the run at once, with an error; the holder starts nothing more."""
    drakvuf, job = engine(host, tmp_path), make_job(tmp_path, timeout=60)
    drakvuf.prepare(job)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(drakvuf.run, job)
        wait_until(lambda: watching(host), "DRAKVUF watches")
        engine(host, tmp_path).destroy("vm-1")
        with pytest.raises(EngineError, match="was destroyed meanwhile"):
            running.result(timeout=50)  # by itself it would have gone on for longer
    assert (host.guests(), host.processes()) == ((), ())
    with pytest.raises(EngineError, match="was destroyed meanwhile"):
        drakvuf.run(job)


def test_a_guest_destroyed_under_a_restore_does_not_come_back(host: XenHost, tmp_path: Path) -> None:
    """The restore that is under way goes with the guest: none may appear in a slot that was given back."""
    host.fail("drakrun vm-start", "hangs_with_guest")
    drakvuf = engine(host, tmp_path)
    with ThreadPoolExecutor(1) as pool:
        preparing = pool.submit(drakvuf.prepare, make_job(tmp_path))
        wait_until(lambda: host.guests() or None, "the guest is there")
        drakvuf.destroy("vm-1")
        with pytest.raises(EngineError):
            preparing.result(timeout=PATIENCE)
    assert (host.guests(), host.processes()) == ((), ())


def test_a_stale_run_leaves_the_next_guest_alone(host: XenHost, tmp_path: Path) -> None:
    """An attempt that lost its slot does not touch the guest of the attempt that has it now."""
    drakvuf, stale, current = engine(host, tmp_path), make_job(tmp_path), make_job(tmp_path, attempt=2)
    drakvuf.prepare(stale)
    drakvuf.destroy("vm-1")
    drakvuf.prepare(current)
    before = host.calls()
    with pytest.raises(EngineError, match="was destroyed meanwhile"):
        drakvuf.run(stale)
    assert host.calls() == before
    with pytest.raises(EngineError, match="holds a guest already"):
        drakvuf.prepare(stale)
    drakvuf.destroy("vm-1")


def test_nothing_outlives_a_killed_worker(host: XenHost, tmp_path: Path) -> None:
    """kill -9 of the process that runs takes DRAKVUF and tcpdump with it; the guest is left to destroy."""
    given = settings(host, tmp_path / "state")
    process = in_another_process(given, make_job(tmp_path, timeout=60))
    try:
        wait_until(lambda: watching(host), "DRAKVUF watches")
    finally:
        process.kill()
        process.join(PATIENCE)
    wait_until(lambda: not host.processes(), "DRAKVUF and tcpdump are gone")
    assert len(host.guests()) == 1
    create(given).destroy("vm-1")
    assert host.guests() == ()


def test_a_frozen_worker_cannot_keep_its_guest(host: XenHost, tmp_path: Path) -> None:
    """SIGSTOP of the process that runs leaves its tools alive; destroy ends them all the same."""
    given = settings(host, tmp_path / "state")
    process = in_another_process(given, make_job(tmp_path, timeout=60))
    try:
        wait_until(lambda: watching(host), "DRAKVUF watches")
        os.kill(process.pid or 0, signal.SIGSTOP)
        create(given).destroy("vm-1")
        assert (host.guests(), host.processes()) == ((), ())
    finally:
        process.kill()
        process.join(PATIENCE)


def test_destroying_at_any_moment_leaves_nothing(host: XenHost, tmp_path: Path) -> None:
    """Wherever a run is, its guest and its tools go, and nothing of it comes after."""
    drakvuf = engine(host, tmp_path)
    for attempt in range(6):
        job = make_job(tmp_path, attempt=attempt, timeout=30)
        moment = threading.Event()
        threading.Timer(0.15 + 0.35 * attempt, moment.set).start()
        with ThreadPoolExecutor(1) as pool:
            going = pool.submit(_until_destroyed, lambda job=job: detonate(drakvuf, job))  # type: ignore[misc] # a default binds the loop's job
            assert moment.wait(PATIENCE)
            drakvuf.destroy("vm-1")
            assert going.result(timeout=PATIENCE)
        assert (host.guests(), host.processes()) == ((), ()), f"destroyed at moment {attempt}"


def _until_destroyed(work: Callable[[], object]) -> bool:
    with suppress(EngineError):
        work()
        return False
    return True


# What the host must have


def test_the_version_is_drakvufs(host: XenHost, tmp_path: Path) -> None:
    """The analysis names the DRAKVUF that made it."""
    assert engine(host, tmp_path).version() == "drakvuf 1.1-8107f115"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"drakvuf__drakrun": "/nowhere/drakrun"},
            r"\[drakvuf\] drakrun = /nowhere/drakrun: there is no such program",
        ),
        (
            {"drakvuf__injector": "/nowhere/injector"},
            r"\[drakvuf\] injector = /nowhere/injector: there is no",
        ),
        ({"drakvuf__etc_dir": "/nowhere"}, r"\[drakvuf\] etc_dir: /nowhere/install\.json: no installation"),
        (
            {"drakvuf__lib_dir": "/nowhere"},
            r"\[drakvuf\] lib_dir: /nowhere/profiles/kernel\.json is not there",
        ),
        ({"drakrun__syscall_filter": "/nowhere"}, r"\[drakrun\] syscall_filter: /nowhere is not there"),
        ({"drakrun__attach_apiscout_profile": 1}, r"\[drakrun\] attach_apiscout_profile: .* is not there"),
        (
            {"drakrun__raw_memory_dump": 1, "drakvuf__vmi_dump_memory": "no-such-dumper"},
            r"vmi_dump_memory = no-such-dumper",
        ),
    ],
)
def test_a_host_that_cannot_work_is_refused(
    host: XenHost, tmp_path: Path, values: dict[str, object], message: str
) -> None:
    """A worker does not start where no analysis could succeed, or not as the settings say."""
    with pytest.raises(SettingsError, match=message):
        engine(host, tmp_path, **values).version()


def test_a_xen_started_otherwise_is_refused(host: XenHost, tmp_path: Path) -> None:
    """What Xen's command line lacks is named, and may be ignored, as in v0.18."""
    host.boot("placeholder altp2m=1 hap_1gb=0 hap_2mb=0 ept=ad=1")
    with pytest.raises(SettingsError, match="without force-ept=1 ept=ad=0 hpet=legacy-replacement; add it"):
        engine(host, tmp_path).version()
    assert engine(host, tmp_path, drakrun__xen_cmdline_check="ignore").version()


@pytest.mark.parametrize(
    ("name", "setting"), [("hooks.txt", "etc_dir"), ("vm-post-restore.ps1", "post_restore")]
)
def test_missing_lists_are_refused(host: XenHost, tmp_path: Path, name: str, setting: str) -> None:
    """Without a hook list apimon would see nothing; without a script the guest would keep its old clock."""
    (host.etc / name).unlink()
    with pytest.raises(SettingsError, match=rf"\[drakvuf\] {setting}: {host.etc}/{name}"):
        engine(host, tmp_path).version()


def test_lists_of_the_package_serve(host: XenHost, tmp_path: Path) -> None:
    """DRAKVUF Sandbox comes with a hook list and a script; its own commands take them where /etc has none."""
    data = host.root / "lib" / "python3.11" / "site-packages" / "drakrun" / "data"
    data.mkdir(parents=True)
    for name in ("hooks.txt", "vm-post-restore.ps1"):
        (host.etc / name).rename(data / name)
    drakvuf = engine(host, tmp_path)
    detonate(drakvuf, make_job(tmp_path))
    assert option(drakvuf_call(host), "--dll-hooks-list") == [str(data / "hooks.txt")]
    drakvuf.destroy("vm-1")


def test_a_start_command_that_grows_too_long(host: XenHost, tmp_path: Path) -> None:
    """It is the task's fault: no slot is charged with what the kernel or Windows refuses."""
    job = make_job(tmp_path, start_command="%f " * 2700)
    with pytest.raises(UnsupportedSample, match="too long for Windows"):
        detonate(engine(host, tmp_path), job)
    assert host.calls("drakrun vm-start") == ()


# The quiet stop


def busy_log() -> list[Mapping[str, object]]:
    """More than DRAKVUF keeps in its buffer, of a sample that writes a few files."""
    log = Log().started()
    for number in range(40):
        opened(log, rf"\??\C:\Users\user\Desktop\{'abcd'[number % 4]}.txt", hex(4 * number))
    return [line for line in log.lines if line["Plugin"] != "inject"]


QUIET = WatchPlan(min_seconds=1, quiet_seconds=1, mode="active")


def test_a_run_that_shows_nothing_new_is_stopped(host: XenHost, tmp_path: Path) -> None:
    """DRAKVUF is asked to end, the run is complete, and says so; the guest ends as after any run."""
    host.play(log=busy_log())
    drakvuf, job = engine(host, tmp_path), make_job(tmp_path, timeout=3600, watch=QUIET)
    outcome = detonate(drakvuf, job)
    assert outcome.is_quiet_stop
    assert (outcome.execution, outcome.complete) == (Execution.EXECUTED, True)
    assert outcome.watch is not None
    assert outcome.reason == outcome.watch.words
    assert outcome.news is not None
    assert outcome.news.stop_second(QUIET) == outcome.watch.stop_second
    drakvuf.destroy(job.slot)
    assert (host.guests(), host.processes(), host.warnings()) == ((), (), ())


def test_in_shadow_a_run_takes_its_time(host: XenHost, tmp_path: Path) -> None:
    """It notes when it would have been stopped; DRAKVUF ends by itself."""
    host.play(log=busy_log())
    shadow = QUIET.model_copy(update={"mode": "shadow"})
    drakvuf, job = engine(host, tmp_path, drakvuf__grace=60), make_job(tmp_path, timeout=5, watch=shadow)
    outcome = detonate(drakvuf, job)
    assert (outcome.reason, outcome.complete) == (None, True)
    assert outcome.watch is not None
    assert (outcome.watch.ended, outcome.watch.stop_second is None) == ("timeout", False)
    drakvuf.destroy(job.slot)


def test_a_run_that_may_take_longer(host: XenHost, tmp_path: Path) -> None:
    """DRAKVUF gets the bound; a run that is not busy when its own time is over ends then."""
    host.play(log=busy_log())
    plan = WatchPlan(min_seconds=600, quiet_seconds=1, mode="active", extend_to=900)
    drakvuf, job = engine(host, tmp_path), make_job(tmp_path, watch=plan)
    outcome = detonate(drakvuf, job)
    assert option(drakvuf_call(host), "-t") == ["900"]
    assert (outcome.reason, outcome.complete) == (None, True)
    assert outcome.watch is not None
    assert outcome.watch.ended == "timeout"
    drakvuf.destroy(job.slot)


def test_a_drakvuf_that_does_not_stop_is_killed(
    host: XenHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it had not written is lost, so the run is not complete, and says why."""
    monkeypatch.setattr(run_module, "GENTLE_SECONDS", 0.0)
    host.play(log=busy_log())
    drakvuf, job = engine(host, tmp_path), make_job(tmp_path, timeout=3600, watch=QUIET)
    outcome = detonate(drakvuf, job)
    assert outcome.is_quiet_stop
    assert outcome.complete is False
    assert "DRAKVUF did not end when it was stopped" in (outcome.reason or "")
    drakvuf.destroy(job.slot)
