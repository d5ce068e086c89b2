"""The simulated tools of a Xen host: what they refuse, what they keep, that they fail as they are told."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

import dpkt
import pytest

from tests.waiting import wait_until
from tests.xen.host import FAILURES, VERSIONS, XenHost
from tests.xen.tools import bare

README = Path(__file__).with_name("README.md")
BASE = 0x400000
LONG_LINE = b"x" * 5000 + b"\n"
SHORT_LINE = b'{"Plugin":"procmon","N":1}\n'


@pytest.fixture
def host(tmp_path: Path) -> Iterator[XenHost]:
    """A host of the newest version, with memory for two guests."""
    with XenHost.create(tmp_path / "xen", restore_seconds=0.02, second=0.1) as made:
        yield made


def popen(
    host: XenHost,
    *words: str,
    stdout: int | BinaryIO = subprocess.PIPE,
    stderr: int | BinaryIO = subprocess.PIPE,
) -> subprocess.Popen[bytes]:
    """Start a program of the host in a process group of its own, with a stdin that stays open."""
    return subprocess.Popen(
        [host.tool(words[0]), *words[1:]],
        env={"PATH": host.path},
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=stderr,
        process_group=0,
    )


def call(host: XenHost, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a program of the host to its end."""
    with TemporaryFile() as out, TemporaryFile() as err:
        with popen(host, *words, stdout=out, stderr=err) as process:
            process.wait()
        output, errors = (_text(file) for file in (out, err))
    return subprocess.CompletedProcess(words, process.returncode, output, errors)


def _text(file: BinaryIO) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def start(host: XenHost, vm_id: int = 1) -> None:
    """Restore a guest."""
    assert call(host, "drakrun", "vm-start", "--vm-id", str(vm_id)).returncode == 0


def cmdline(host: XenHost, *words: str) -> list[str]:
    """DRAKVUF's command line for vm-1, as drakrun prints it."""
    return shlex.split(call(host, "drakrun", "drakvuf-cmdline", "--vm-id", "1", *words).stdout)


@contextmanager
def watching(host: XenHost) -> Iterator[subprocess.Popen[bytes]]:
    """DRAKVUF on vm-1 without a timeout, in its main loop: a signal that comes before that is lost."""
    out = host.root / "drakvuf.log"
    host.play(log=[LONG_LINE, SHORT_LINE])
    with out.open("wb", buffering=0) as log, popen(host, *cmdline(host), "-a", "procmon", stdout=log) as run:
        wait_until(lambda: out.stat().st_size, "its log is longer than its buffer")
        assert [process.watches for process in host.processes()] == ["vm-1"]
        yield run
        run.communicate()


def names(host: XenHost) -> list[str]:
    """Who is there."""
    return [guest.name for guest in host.guests()]


@pytest.mark.parametrize(
    ("words", "status", "complaint"),
    [
        ("drakrun vm-start --vm 1", 2, "No such option: --vm"),
        ("drakrun vm-start --vm-id one", 2, "not a valid integer"),
        ("drakrun vm-stop 1", 2, "unexpected extra argument (1)"),
        ("drakrun vmstart", 2, "No such command 'vmstart'"),
        ("drakrun injector copy --vm-id 1 a b", 2, "No such option: --vm-id"),
        ("drakrun injector copy a", 2, "Missing argument 'DST'"),
        ("drakrun drakvuf-cmdline --plugins x", 2, "No such option: --plugins"),
        ("drakrun drakshell --vm-id 1 powershell.exe -EncodedCommand x", 2, "No such option: -E"),
        ("drakvuf -o json --memory-dump-dir x", 1, "unrecognized option '--memory-dump-dir'"),
        ("drakvuf -o json --json x", 1, "is ambiguous"),
        ("drakvuf -o json -Z", 1, "invalid option -- 'Z'"),
        ("drakvuf -o json -a nosuchmon", 1, "Unknown plugin: nosuchmon"),
        ("drakvuf -o json -t", 1, "requires an argument -- 't'"),
        ("injector -o json -q", 0, "invalid option -- 'q'"),
        ("xl list --json", 2, "not supported"),
        ("xl destroy", 2, "requires at least 1 argument"),
        ("xl ls", 1, "not implemented"),
        ("tcpdump --output x", 1, "unrecognized option '--output'"),
        ("xen-detect --hvm", 1, "unrecognized option"),
        ("drakrun injector exec --vm-id 1 cmd.exe", 70, "is not simulated"),
    ],
)
def test_what_the_real_tool_refuses_is_refused(
    host: XenHost, words: str, status: int, complaint: str
) -> None:
    """A wrong option ends with the real tool's status and complaint, and nothing on stdout."""
    done = call(host, *words.split())
    assert (done.returncode, done.stdout) == (status, "")
    assert complaint in done.stderr
    assert host.guests() == ()


@pytest.mark.parametrize("version", VERSIONS[:2])
def test_an_older_version_has_fewer_options(tmp_path: Path, version: str) -> None:
    """Before 0.21 there is no --method, no -V and no 64-bit .NET profile."""
    with XenHost.create(tmp_path / "xen", version=version) as host:
        done = call(host, "drakrun", "drakvuf-cmdline", "--cmd", "cmd.exe", "--method", "runas")
        assert (done.returncode, "No such option: --method" in done.stderr) == (2, True)
        assert "--json-clr-64" not in cmdline(host)
        assert call(host, "drakvuf", "-V", "runas").returncode == 1
        assert call(host, "drakrun", "version").returncode == 2


def test_a_guest_lives_until_it_is_stopped(host: XenHost) -> None:
    """vm-start makes guest, bridge and network file; a second one replaces the guest; vm-stop ends all."""
    start(host)
    first = host.guests()[0]
    listed = call(host, "xl", "list").stdout.splitlines()
    assert listed[0] == "Name                                        ID   Mem VCPUs\tState\tTime(s)"
    assert [line.split()[:2] for line in listed[1:]] == [["Domain-0", "0"], ["vm-1", str(first.domid)]]
    network = json.loads((host.run / "vmnet-1.json").read_text())
    assert (network["bridge_name"], network["net_enable"]) == ("drak1", False)

    start(host)
    assert names(host) == ["vm-1"]
    assert host.guests()[0].domid > first.domid

    assert call(host, "drakrun", "vm-stop", "--vm-id", "1").returncode == 0
    assert host.guests() == ()
    assert not (host.run / "vmnet-1.json").exists()
    gone = call(host, "xl", "list", "vm-1")
    assert (gone.returncode, gone.stderr) == (1, "vm-1 is an invalid domain identifier (rc=-6)\n")
    assert call(host, "drakrun", "vm-stop", "--vm-id", "1").returncode == 0


def test_the_environment_opens_the_network(host: XenHost) -> None:
    """0.21 takes a setting from the environment before its file."""
    environment = {"PATH": host.path, "DRAKRUN__NETWORK__NET_ENABLE": "1"}
    words = [str(host.tool("drakrun")), "vm-start", "--vm-id", "1"]
    subprocess.run(words, env=environment, check=True, capture_output=True)
    assert json.loads((host.run / "vmnet-1.json").read_text())["net_enable"] is True


def test_memory_is_bounded(host: XenHost) -> None:
    """The guest that is one too many does not start, and its bridge stays behind."""
    start(host, 1)
    start(host, 2)
    done = call(host, "drakrun", "vm-start", "--vm-id", "3")
    assert done.returncode == 1
    assert "Out of memory" in done.stderr
    assert "RuntimeError: Failed to restore VM vm-3" in done.stderr
    assert names(host) == ["vm-1", "vm-2"]
    assert (host.run / "vmnet-3.json").exists()


def test_many_at_once(tmp_path: Path) -> None:
    """Programs that run side by side share no domain id and use an order up exactly as often as it says."""
    with XenHost.create(tmp_path / "xen", slots=8) as host:
        start(host)  # the first makes the chains, which several at once do not
        host.fail("drakrun vm-start", "fails", times=3)
        started = [popen(host, "drakrun", "vm-start", "--vm-id", str(vm_id)) for vm_id in range(1, 9)]
        for process in started:
            process.communicate()
        assert sorted(process.returncode for process in started) == [0] * 5 + [1] * 3
        assert len({guest.domid for guest in host.guests()}) == 5
        assert host.orders() == ()


def linked(host: XenHost) -> list[str]:
    """The chains of drakrun that are linked into those of iptables."""
    return [line.rpartition(" ")[2] for line in host.rules().splitlines() if "-j DRAKRUN_" in line]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_first_start_makes_the_chains(tmp_path: Path, version: str) -> None:
    """They stand after the first vm-start; v0.21 keeps guests from each other, and asks for conntrack."""
    with XenHost.create(tmp_path / "xen", version=version) as host:
        start(host)
        assert linked(host) == ["DRAKRUN_INP", "DRAKRUN_FWD", "DRAKRUN_PRT"]
        assert "-A DRAKRUN_INP -i drak1 -j DROP" in host.rules()
        newest = version == "0.21.0"
        assert ("-A DRAKRUN_FWD -i drak+ -o drak+ -j DROP" in host.rules()) == newest
        host.tool("conntrack").unlink()
        assert call(host, "drakrun", "vm-stop").returncode == newest
        assert host.guests() == ()
        assert (host.run / "vmnet-1.json").exists() == newest
        assert "-i drak1" not in host.rules()


def test_two_first_starts_race(tmp_path: Path) -> None:
    """Two first vm-start at once: one takes back what both have made, so that guests run open, or none do."""
    with XenHost.create(tmp_path / "xen", iptables_seconds=0.3) as host:
        started = [popen(host, "drakrun", "vm-start", "--vm-id", str(vm_id)) for vm_id in (1, 2)]
        for process in started:
            process.communicate()
        assert [process.returncode for process in started] != [0, 0] or len(linked(host)) < 3


def test_chains_that_are_missing_in_part(host: XenHost) -> None:
    """No vm-start makes them whole."""
    start(host)
    assert host.iptables("-D INPUT -j DRAKRUN_INP") == 0
    done = call(host, "drakrun", "vm-start", "--vm-id", "2")
    assert done.returncode == 1
    assert "RuntimeError: Some iptables chains are missing, cleanup might be needed." in done.stderr


def test_iptables(host: XenHost) -> None:
    """The exit statuses of iptables 1.8.9, and rules as iptables-save writes them."""
    said = [
        call(host, "iptables", *command.split()).returncode
        for command in (
            "-N A",
            "-N A",
            "-A INPUT -j A",
            "-C INPUT -j A",
            "-C FORWARD -j A",
            "-C INPUT -j B",
            "-D INPUT -j B",
            "-X A",
            "-F A",
            "-F B",
            "-A A -i x -d 0.0.0.0/0 -j DROP",
        )
    ]
    assert said == [0, 1, 0, 0, 1, 2, 2, 4, 0, 1, 0]
    lines = call(host, "iptables-save").stdout.splitlines()
    assert {"*filter", ":A - [0:0]", "-A INPUT -j A", "-A A -i x -j DROP", "*nat"} <= set(lines)


def test_a_drakrun_that_imports_much(tmp_path: Path) -> None:
    """Each start of drakrun costs its imports' processor time, no other program does."""
    with XenHost.create(tmp_path / "xen", import_seconds=0.5) as host:
        spent = [children_time()]
        for words in (("xl", "info"), ("drakrun", "vm-start", "--help")):
            call(host, *words)
            spent.append(children_time())
    assert spent[1] - spent[0] < 0.5 <= spent[2] - spent[1]


def children_time() -> float:
    """Processor time of all programs that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def test_a_killed_start_leaves_what_a_stop_removes(tmp_path: Path) -> None:
    """Killed in mid-restore, drakrun and xl leave a guest that is paused forever, until it is stopped."""
    with XenHost.create(tmp_path / "xen", restore_seconds=600) as host:
        with popen(host, "drakrun", "vm-start", "--vm-id", "1") as process:
            wait_until(host.guests, "the domain exists")
            for running in host.processes():
                subprocess.run(["kill", "-9", str(running.pid)], check=True)  # noqa: S607 - any kill will do
        assert process.returncode == -signal.SIGKILL
        assert "--p---" in call(host, "xl", "list", "vm-1").stdout
        assert call(host, "drakrun", "vm-stop", "--vm-id", "1").returncode == 0
        assert host.guests() == ()


def test_a_hanging_start_leaves_its_child(host: XenHost) -> None:
    """Whoever ends drakrun alone leaves the xl that it started: it is the group that has to be ended."""
    host.fail("drakrun vm-start", "hangs")
    with popen(host, "drakrun", "vm-start", "--vm-id", "1") as process:
        wait_until(lambda: not host.orders(), "xl restore hangs")
        process.terminate()
    assert [running.tool for running in host.processes()] == ["xl"]
    host.close()
    assert host.processes() == ()


@pytest.mark.parametrize(
    ("how", "status", "left"),
    [("survives", 1, ["vm-1"]), ("survives_quietly", 0, ["vm-1"]), ("zombie", 0, ["(null)"])],
)
def test_a_guest_that_survives(host: XenHost, how: str, status: int, left: list[str]) -> None:
    """vm-stop may say so or not; what xl lists tells the truth; the next one succeeds."""
    start(host)
    host.fail("drakrun vm-stop", how)
    assert call(host, "drakrun", "vm-stop", "--vm-id", "1").returncode == status
    assert names(host) == left
    assert left[0] in call(host, "xl", "list").stdout
    assert call(host, "xl", "list", "vm-1").returncode == (1 if how == "zombie" else 0)
    host.heal()
    assert call(host, "drakrun", "vm-stop", "--vm-id", "1").returncode == 0
    assert host.guests() == ()


def test_a_sample_is_copied(host: XenHost, tmp_path: Path) -> None:
    """The injector's record names the path in the guest, variables expanded; an empty line follows."""
    start(host)
    sample = tmp_path / "a b.exe"
    sample.write_bytes(b"MZ")
    done = call(host, "drakrun", "injector", "copy", str(sample), r"vm-1:%USERPROFILE%\Desktop" + "\\")
    record = json.loads(done.stdout)
    assert done.stdout.endswith("}\n\n")
    assert (record["Plugin"], record["Status"]) == ("inject", "Success")
    assert record["ProcessName"] == r"C:\Users\janusz\Desktop\a b.exe"
    assert host.guests()[0].files == {record["ProcessName"]: sha256(b"MZ").hexdigest()}
    assert [made.by for made in host.calls("injector")] == ["drakrun injector copy"]
    assert host.warnings() == ()


@pytest.mark.parametrize(
    ("source", "target", "complaint"),
    [
        ("/nowhere", r"vm-1:C:\a.exe", "is not a file"),
        (str(README), r"vm-2:C:\a.exe", "VM is not running"),
        (str(README), r"vm-1:C:\nowhere\a.exe", "PrematureBreak"),
        (str(README), "relative", "between VM and host only"),
    ],
)
def test_a_copy_that_cannot_be(host: XenHost, source: str, target: str, complaint: str) -> None:
    """drakrun aborts with 1 and says why on stderr."""
    start(host)
    done = call(host, "drakrun", "injector", "copy", source, target)
    assert (done.returncode, done.stdout) == (1, "")
    assert complaint in done.stderr
    assert done.stderr.endswith("Aborted!\n")


def test_a_copy_to_vm_12_reaches_vm_2(host: XenHost) -> None:
    """drakrun keeps the last digit only: the wrong guest gets the sample, and a warning says so."""
    start(host, 2)
    assert call(host, "drakrun", "injector", "copy", str(README), r"vm-12:C:\a.md").returncode == 0
    assert len(host.guests()[0].files) == 1
    assert host.warnings() == ("drakrun: injector copy to vm-12 goes to vm-2",)


def test_drakshell_hides_the_exit_code(host: XenHost) -> None:
    """A command that fails in the guest leaves status 0; only the log has its code. Long ones are refused."""
    start(host)
    host.fail("drakrun drakshell", "exit_code", code=5)
    words = ["drakrun", "drakshell", "--vm-id", "1", "--", "powershell.exe", "-EncodedCommand"]
    done = call(host, *words, "AAAA")
    assert (done.returncode, done.stdout) == (0, "")
    assert "Process terminated with exit code 5" in done.stderr
    assert host.guests()[0].commands == ("powershell.exe -EncodedCommand AAAA",)
    too_long = call(host, *words, "A" * 1000)
    assert (too_long.returncode, "Command line too long" in too_long.stderr) == (1, True)
    assert host.warnings() == ()
    subprocess.run(
        [host.tool("drakrun"), *words[1:], "A"], stdin=subprocess.DEVNULL, capture_output=True, check=True
    )
    assert "stdin is at its end" in host.warnings()[0]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_base_command_line_is_one_that_drakvuf_takes(tmp_path: Path, version: str) -> None:
    """What drakvuf-cmdline prints, with plugins and a timeout, runs, injects and ends by itself with 0."""
    with XenHost.create(tmp_path / "xen", version=version, restore_seconds=0, second=0.1) as host:
        start(host)
        words = cmdline(host, "--cmd", "cmd.exe /C start")
        assert words[0] == "drakvuf"
        done = call(host, *words, "-a", "procmon", "-t", "1")
        assert done.returncode == 0, done.stderr
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert [line["Plugin"] for line in lines] == ["inject", "procmon"]
        assert (lines[0]["ProcessName"], lines[0]["Arguments"]) == ("cmd.exe", "/C start")
        assert host.warnings() == ()


def test_shell_execution_has_its_own_words(host: XenHost) -> None:
    """--method runas splits the command as Windows does; a working directory follows with -c."""
    words = cmdline(host, "--cmd", r'"C:\a b.exe" "c d" e', "--method", "runas", "--working-dir", "C:\\")
    execution = words[words.index("-m") : words.index("-I")]
    assert execution == ["-m", "shellexec", "-V", "runas", "-e", r"C:\a b.exe", "-f", '"c d" e', "-c", "C:\\"]


@pytest.mark.parametrize(
    ("options", "plugins"),
    [
        ("-a procmon -a syscalls", {"procmon", "syscall", "sysret"}),
        ("-a procmon -a regmon -x regmon", {"procmon"}),
        (
            "-x regmon -x syscalls -x memdump -x apimon",
            {"clipboardmon", "exmon", "filetracer", "procmon", "socketmon", "tlsmon"},
        ),
    ],
)
def test_only_enabled_plugins_write(host: XenHost, options: str, plugins: set[str]) -> None:
    """-a names the only ones there are, -x takes away; the syscalls plugin writes under two other names."""
    start(host)
    done = call(host, *cmdline(host), *options.split(), "-t", "1")
    assert {json.loads(line)["Plugin"] for line in done.stdout.splitlines()} == plugins


def test_a_recording_is_played(host: XenHost, tmp_path: Path) -> None:
    """Lines as they were given, dumps under DRAKVUF's names with their metadata, and the dump's own line."""
    start(host)
    raw = b'{"Plugin":"procmon" cut'
    host.play(log=[{"Plugin": "procmon", "N": 1}, {"Plugin": "regmon"}, raw], dumps={f"{BASE:x}": b"MZ"})
    (tmp_path / "dumps").mkdir()
    words = [*cmdline(host), "-a", "procmon", "-a", "memdump", "-t", "1"]
    done = call(host, *words, "--memdump-dir", str(tmp_path / "dumps"))
    dump, *lines = done.stdout.splitlines()
    assert lines == ['{"Plugin":"procmon","N":1}', raw.decode()]
    name = f"400000_{sha256(b'MZ').hexdigest()[:16]}"
    assert json.loads(dump)["DumpFilename"] == name
    assert {path.name for path in (tmp_path / "dumps").iterdir()} == {name, "memdump.000001.metadata"}
    metadata = json.loads((tmp_path / "dumps" / "memdump.000001.metadata").read_text())
    assert (metadata["DumpAddress"], metadata["DataFileName"]) == ("0x400000", name)
    assert host.warnings() == ()


def test_the_rest_of_the_tools(host: XenHost, tmp_path: Path) -> None:
    """Xen says how it was started and that it is there; a guest's memory can be dumped; versions are told."""
    start(host)
    host.boot("altp2m=1")
    assert "xen_commandline        : altp2m=1\n" in call(host, "xl", "info").stdout
    assert call(host, "xen-detect", "-N").returncode == 1
    assert json.loads(call(host, "xl", "list", "-l").stdout)[1]["config"]["c_info"]["name"] == "vm-1"
    domid = str(host.guests()[0].domid)
    assert call(host, "xl", "domid", "vm-1").stdout == f"{domid}\n"
    assert call(host, "xl", "domname", domid).stdout == "vm-1\n"
    assert call(host, "vmi-dump-memory", "vm-1", str(tmp_path / "memory")).returncode == 0
    assert (tmp_path / "memory").stat().st_size == 1024**2
    assert call(host, "vmi-dump-memory", "vm-2", str(tmp_path / "memory")).returncode == 1
    assert "DRAKVUF Sandbox version: 0.21.0" in call(host, "drakrun", "version").stderr
    usage = call(host, "drakvuf", "-h")
    assert (usage.returncode, " v1.1-8107f115 " in usage.stderr.splitlines()[0]) == (0, True)
    assert "-V <shellexec verb>" in usage.stderr


@pytest.mark.parametrize(
    ("words", "warning"),
    [
        (["-a", "memdump"], "there will be no dumps"),
        (["-m", "runas", "-a", "procmon"], "means createproc"),
        ([], "every plugin there is"),
        (["-a", "procmon", "-t", "1s"], "is read as 1"),
        (["-a", "procmon", "stray"], "belong to no option"),
        (["-a", "ipt"], "ipt does nothing without --ipt-dir"),
        (["-a", "procmon", "--json-mpr", "/nowhere"], "no such file"),
    ],
)
def test_what_drakvuf_swallows_is_told(host: XenHost, words: list[str], warning: str) -> None:
    """A mistake that the real DRAKVUF skips in silence does not stop this one either, but is told."""
    start(host)
    assert call(host, *cmdline(host), "-t", "1", *words).returncode == 0
    assert any(warning in text for text in host.warnings())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_drakvuf(host: XenHost, number: signal.Signals) -> None:
    """Without -t it runs forever; each of the three signals ends it with 0 and a whole log."""
    start(host)
    with watching(host) as process:
        process.send_signal(number)
    assert process.returncode == 0
    assert (host.root / "drakvuf.log").read_bytes() == LONG_LINE + SHORT_LINE


@pytest.mark.parametrize(
    ("command", "code", "error"),
    [
        (r"C:\Users\janusz\Desktop\missing.exe", 4, "ERROR_FILE_NOT_FOUND"),
        (r"%TEMP%\a.exe", 4, "ERROR_FILE_NOT_FOUND"),
        (r"C:\a.js", 4, "ERROR_BAD_EXE_FORMAT"),
    ],
)
def test_a_command_that_windows_does_not_start(host: XenHost, command: str, code: int, error: str) -> None:
    """CreateProcess wants a program that is there, under its full path: else DRAKVUF exits with 4."""
    start(host)
    assert call(host, "drakrun", "injector", "copy", str(README), r"vm-1:C:\a.js").returncode == 0
    done = call(host, *cmdline(host, "--cmd", command), "-a", "procmon", "-t", "1")
    assert (done.returncode, json.loads(done.stdout)["Error"]) == (code, error)
    assert "Process startup failed" in done.stderr


@pytest.mark.parametrize(
    ("how", "status"),
    [
        ("not_executed", 4),
        ("injection_error", 3),
        ("injection_timeout", 2),
        ("fails", 1),
        ("kernel_panic", 10),
        ("power_off", 11),
        ("crashes", -signal.SIGSEGV),
    ],
)
def test_exit_codes(host: XenHost, how: str, status: int) -> None:
    """Each ordered end has its status (src/exitcodes.h) or is the signal; a crash loses what was buffered."""
    start(host)
    host.play(log=[{"Plugin": "procmon", "N": number} for number in range(10)])
    host.fail("drakvuf", how)
    done = call(host, *cmdline(host, "--cmd", "cmd.exe"), "-a", "procmon", "-t", "2")
    assert done.returncode == status
    assert bool(done.stdout) == (how not in ("fails", "crashes"))


def test_drakvuf_that_hangs_is_killed(host: XenHost) -> None:
    """It ignores -t and SIGTERM; SIGKILL works, and loses the lines that were buffered."""
    start(host)
    host.fail("drakvuf", "hangs")
    with popen(host, *cmdline(host), "-a", "procmon", "-t", "1") as process:
        wait_until(lambda: not host.orders(), "it took the order")
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        process.kill()
        assert process.stdout is not None
        assert process.stdout.read() == b""
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize(("how", "status"), [(None, 0), ("dies_with_guest", 1)])
def test_drakvuf_without_its_guest(host: XenHost, how: str | None, status: int) -> None:
    """Its loop ends when its guest is destroyed under it: with 0, or 1 where its plugins fail to stop."""
    start(host)
    if how:
        host.fail("drakvuf", how)
    with watching(host) as process:
        host.destroy("vm-1")
    assert process.returncode == status


def test_one_drakvuf_per_guest(host: XenHost) -> None:
    """A second one cannot attach, nor can the injector, while the first one lives."""
    start(host)
    with watching(host) as first:
        second = call(host, *cmdline(host), "-a", "procmon", "-t", "1")
        assert (second.returncode, "drakvuf_init() failed" in second.stderr) == (1, True)
        assert call(host, "drakrun", "injector", "copy", str(README), r"vm-1:C:\a.md").returncode == 1
        first.kill()
    assert call(host, *cmdline(host), "-a", "procmon", "-t", "1").returncode == 0


def test_too_much_of_everything(host: XenHost) -> None:
    """Huge logs, a line without an end, a cut line and a noisy stderr have the sizes that were ordered."""
    start(host)
    words = [*cmdline(host), "-a", "procmon", "-t", "1"]
    host.fail("drakvuf", "huge_log", size=8 * 1024**2)
    assert 8 * 1024**2 <= len(call(host, *words).stdout) < 10 * 1024**2
    host.fail("drakvuf", "huge_line", size=3 * 1024**2)
    assert max(map(len, call(host, *words).stdout.splitlines())) > 3 * 1024**2
    host.fail("drakvuf", "cut_line")
    assert call(host, *words).stdout.endswith('"TimeStamp":"17')
    host.fail("drakvuf", "huge_stderr", size=2 * 1024**2)
    noise = call(host, *words).stderr
    assert len(noise) > 1024**2
    assert {"\x1b", "\x00", "\r"} <= set(noise)


def test_hostile_dumps(host: XenHost, tmp_path: Path) -> None:
    """Links out of the directory, a FIFO, a directory and names with escapes lie among the dumps."""
    start(host)
    host.fail("drakvuf", "hostile_dumps")
    dumps = tmp_path / "dumps"
    dumps.mkdir()
    words = [*cmdline(host), "-a", "memdump", "-t", "1", "--memdump-dir", str(dumps)]
    assert call(host, *words).returncode == 0
    entries = list(dumps.iterdir())
    assert any(path.is_symlink() and dumps not in path.resolve().parents for path in entries)
    assert any(path.is_fifo() for path in entries)
    assert any(path.is_dir() and not path.is_symlink() for path in entries)
    assert any("\x1b" in path.name for path in entries)
    assert any(not path.name.isprintable() for path in entries)


def test_tcpdump_records(host: XenHost, tmp_path: Path) -> None:
    """The file is a pcap with the frames that were ordered, there once it was stopped."""
    start(host)
    host.play(packets=[b"\0" * 60, b"\1" * 60])
    target = tmp_path / "dump.pcap"
    with popen(host, "tcpdump", "-i", "drak1", "-w", str(target)) as process:
        wait_until(lambda: [running.watches for running in host.processes()] == ["drak1"], "it listens")
        assert target.stat().st_size == 0
        process.terminate()
        assert b"2 packets captured" in process.communicate()[1]
    assert process.returncode == 0
    with target.open("rb") as file:
        assert [frame for _, frame in dpkt.pcap.Reader(file)] == [b"\0" * 60, b"\1" * 60]


def test_tcpdump_needs_the_bridge(host: XenHost, tmp_path: Path) -> None:
    """Without the bridge it does not start; when the bridge goes, it ends with 1 and a whole file."""
    words = ["tcpdump", "-i", "drak1", "-U", "-w", str(tmp_path / "a")]
    done = call(host, *words)
    assert (done.returncode, "No such device exists" in done.stderr) == (1, True)
    start(host)
    with popen(host, *words) as process:
        wait_until((tmp_path / "a").exists, "it listens")
        assert call(host, "drakrun", "vm-stop", "--vm-id", "1").returncode == 0
        process.communicate()
    assert process.returncode == 1
    assert (tmp_path / "a").stat().st_size == 24


SCREENSHOTS = """\
import pathlib, sys
from drakrun.analyzer.screenshotter import Screenshotter
made = Screenshotter(pathlib.Path(sys.argv[1]), "localhost", 5901, "")
made.start()
made.stop()
"""


def commands(host: XenHost, tool: str) -> list[str]:
    """A command line that uses *tool* on vm-1."""
    drakvuf = cmdline(host, "--cmd", "cmd.exe")
    injector = [*drakvuf[1 : drakvuf.index("-d")], "-d", "vm-1", "-i", "1820", "-m", "createproc"]
    injector.remove("-F")
    return {
        "drakrun vm-start": ["drakrun", "vm-start"],
        "drakrun vm-stop": ["drakrun", "vm-stop"],
        "drakrun injector copy": ["drakrun", "injector", "copy", str(README), r"vm-1:C:\a.md"],
        "drakrun drakvuf-cmdline": ["drakrun", "drakvuf-cmdline"],
        "drakrun drakshell": ["drakrun", "drakshell", "cmd.exe"],
        "drakrun screenshots": [str(host.interpreter), "-I", "-c", SCREENSHOTS, str(host.root)],
        "drakvuf": [*drakvuf, "-a", "procmon", "-a", "memdump", "-t", "1", "--memdump-dir", str(host.root)],
        "injector": ["injector", *injector, "-e", "cmd.exe"],
        "xl list": ["xl", "list", "vm-1"],
        "xl info": ["xl", "info"],
        "xl destroy": ["xl", "destroy", "vm-1"],
        "xl restore": ["drakrun", "vm-start"],
        "vmi-dump-memory": ["vmi-dump-memory", "vm-1", str(host.root / "a")],
        "iptables": ["drakrun", "vm-start"],
        "iptables-save": ["iptables-save"],
        "tcpdump": ["tcpdump", "-i", "drak1", "-w", str(host.root / "a")],
    }[tool]


@pytest.mark.parametrize(
    ("tool", "how"), [(tool, how) for tool in FAILURES for how in sorted(FAILURES[tool])]
)
def test_each_failure_is_used_by_its_tool(host: XenHost, tool: str, how: str) -> None:
    """Every order that can be given is taken by the tool that it is for, on the guest that it is for."""
    start(host)
    words = commands(host, tool)
    details = {"size": 4096} if how.startswith("huge") else {}
    host.fail(tool, how, vm=None if tool in ("xl info", "iptables-save") else "vm-1", **details)
    process = popen(host, *words, stdout=subprocess.DEVNULL)
    wait_until(lambda: not host.orders() or process.poll() is not None, "the order is taken")
    host.close()
    process.communicate()
    assert host.orders() == ()


def test_orders_are_for_a_guest_and_a_number_of_times(host: XenHost) -> None:
    """An order for another guest is left alone; one without an end holds until heal(); others are refused."""
    start(host)
    host.fail("xl list", "fails", vm="vm-2")
    assert call(host, "xl", "list", "vm-1").returncode == 0
    host.fail("xl list", "fails", times=None)
    assert [call(host, "xl", "list", "vm-1").returncode for _ in range(3)] == [1, 1, 1]
    host.heal()
    assert call(host, "xl", "list", "vm-1").returncode == 0
    with pytest.raises(ValueError, match="cannot fail as explodes"):
        host.fail("drakvuf", "explodes")


def test_the_readme_names_each_failure() -> None:
    """What can be ordered is in the table."""
    table = README.read_text().partition("## Failures")[2]
    assert [how for hows in FAILURES.values() for how in hows if f"`{how}`" not in table] == []
    assert [tool for tool in FAILURES if f"`{tool}`" not in table] == []


@pytest.mark.parametrize(
    "words",
    [
        *(
            ("xl", "list"),
            ("iptables-save",),
            ("injector", "-h"),
            ("tcpdump", "--version"),
            ("drakvuf", "-h"),
        ),
        *(
            ("drakrun", "vm-start"),
            ("drakrun", "drakvuf-cmdline"),
            ("drakrun", "drakshell", "--", "a"),
            ("drakrun", "vm-stop"),
        ),
    ],
)
def test_the_tools_start_fast(host: XenHost, words: tuple[str, ...]) -> None:
    """None imports what takes longer than all that it does: some test files start hundreds."""
    if words[0] == "drakrun" and words[1] != "vm-start":
        start(host)
    python = str(host.interpreter) if words[0] == "drakrun" else sys.executable
    options = ["-I", *([] if words[0] == "drakrun" else ["-S"]), "-X", "importtime"]
    done = subprocess.run(
        [python, *options, host.tool(words[0]), *words[1:]],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    imported = {
        line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "import time:" in line
    }
    assert "tests.xen.tools.machine" in imported
    assert not imported & {
        "collections",
        "enum",
        "hashlib",
        "json",
        "pathlib",
        "re",
        "signal",
        "subprocess",
        "typing",
    }


@pytest.mark.parametrize(
    "value", [{}, {"a": [1, -2.5, None, True, "\x1b\u00e9\ud800"], "b": {"c": ""}}, [], "x", 0, [[], [{}]]]
)
def test_plain_json_is_json(value: object) -> None:
    """The tools read and write it as the module json does."""
    assert bare.dumps(value) == json.dumps(value)
    assert bare.loads(f" {json.dumps(value, indent=1)}\n") == value


@pytest.mark.parametrize("text", ["", " ", "{", '{"a" 1}', "[1,]", "1 2", "nul", b"\xff", '"\n"'])
def test_what_is_no_json_is_refused(text: str | bytes) -> None:
    """With the error of the module json, or one that it is a kind of."""
    with pytest.raises(ValueError):  # noqa: PT011 - its text is nobody's
        json.loads(text)
    with pytest.raises(ValueError):  # noqa: PT011
        bare.loads(text)


@pytest.mark.parametrize("word", ["", "a-b_c.d/e=f", "a b", "it's", "C:\\x", "\u00e9", "$x;"])
def test_words_are_quoted_as_shlex_does(word: str) -> None:
    """drakrun's command line comes back as it was."""
    assert bare.quote(word) == shlex.quote(word)
