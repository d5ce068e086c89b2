"""The command lines of the tools on a Xen host, and the reading of what those print."""

from __future__ import annotations

import base64
import shlex
from datetime import datetime
from pathlib import Path

import pytest

from drakcelery.engines.drakvuf import commands, xen_options
from drakcelery.engines.drakvuf.commands import Watch

KERNEL = "/var/lib/drakrun/profiles/kernel.json"
HEAD = ["drakvuf", "-o", "json", "-F", "-k", "0x187000", "-r", KERNEL, "-d", "vm-3", "-j", "60", "-i", "1820"]
TAIL = ["-I", "2044", "--exit-injection-thread"]
OLD = [*HEAD, "-e", "rundll32 C:\\a.dll,Start", *TAIL]
NEW = [*HEAD, "-m", "createproc", "-e", "rundll32 C:\\a.dll,Start", "-c", "C:\\", *TAIL]


def watch(**changes: object) -> Watch:
    """How to watch, with *changes*."""
    fields: dict[str, object] = {
        "plugins": ("procmon",),
        "timeout": 60,
        "dumps": Path("/w/dumps"),
        "traces": Path("/w/ipt"),
        "hooks": None,
        "syscalls": None,
        "traps_ttl": 0,
    }
    return Watch(**{**fields, **changes})  # type: ignore[arg-type] # typed where they are named


@pytest.mark.parametrize(
    ("slot", "number"),
    [
        ("vm-1", 1),
        ("vm-255", 255),
        ("vm-0", None),
        ("vm-256", None),
        ("vm-01", None),
        ("vm-1\n", None),
        ("a", None),
    ],
)
def test_a_slot_is_a_vm(slot: str, number: int | None) -> None:
    """DRAKVUF Sandbox counts its VMs from 1 to 255; vm-0 is the one that the others are made from."""
    assert commands.vm_id(slot) == number


def test_the_commands_of_drakrun() -> None:
    """As ``drakrun --help`` has them; what is outside data cannot be taken for an option."""
    assert commands.vm_start("drakrun", 3) == ["drakrun", "vm-start", "--vm-id", "3"]
    assert commands.vm_stop("drakrun", 3) == ["drakrun", "vm-stop", "--vm-id", "3"]
    assert commands.xl_list("xl", 3) == ["xl", "list", "vm-3"]
    assert commands.memory_dump("dump", 3, Path("/w/m")) == ["dump", "vm-3", "/w/m"]
    assert commands.drakshell("drakrun", 3, ["a", "-b"]) == [
        *("drakrun", "drakshell", "--vm-id", "3", "--", "a", "-b")
    ]
    assert commands.injector_copy("drakrun", 3, Path("/w/x.exe"), "x.exe") == [
        *("drakrun", "injector", "copy", "/w/x.exe", "vm-3:%USERPROFILE%\\Desktop\\x.exe")
    ]
    assert commands.base_command_line("drakrun", 3, "--help") == [
        *("drakrun", "drakvuf-cmdline", "--vm-id", "3", "--cmd=--help")
    ]
    assert commands.base_command_line("drakrun", 3, "a", method="shellexec", directory="C:\\")[4:] == [
        *("--cmd=a", "--method", "shellexec", "--working-dir=C:\\")
    ]


def test_traffic_is_recorded_at_the_bridge() -> None:
    """Each packet is written at once, by root, who may write there."""
    words = commands.tcpdump("tcpdump", 3, Path("/w/dump.pcap"))
    assert words == [*("tcpdump", "-n", "-U", "-Z", "root"), *("-i", "drak3", "-w", "/w/dump.pcap")]


def test_the_injector_takes_all_from_drakvufs_line() -> None:
    """Domain, profile, process, address of the kernel and thread are what drakrun gave DRAKVUF."""
    words = commands.injector_writefile("injector", NEW, Path("/w/x.exe"), "x.exe")
    assert words == [
        *("injector", "-o", "json", "-d", "vm-3", "-r", KERNEL, "-i", "1820", "-k", "0x187000"),
        *("-m", "writefile", "-I", "2044", "-e", "%USERPROFILE%\\Desktop\\x.exe", "-B", "/w/x.exe"),
        *("--timeout", "60"),
    ]
    without_thread = commands.injector_writefile("injector", NEW[:-3], Path("/w/x.exe"), "x.exe")
    assert "-I" not in without_thread


@pytest.mark.parametrize("base", [OLD, NEW])
def test_drakvuf_starts_in_the_samples_directory(base: list[str]) -> None:
    """v0.19 and v0.20 do not say a directory, v0.21 does: it is there once."""
    words = commands.drakvuf("/opt/drakvuf", base, watch(), directory="C:\\")
    assert words[0] == "/opt/drakvuf"
    assert words.count("-c") == 1
    assert words[words.index("-c") + 1] == "C:\\"
    assert words[-4:] == ["-a", "procmon", "-t", "60"]


def test_lists_are_for_the_plugins_that_read_them() -> None:
    """A plugin's options are there with the plugin, and not without."""
    lists = {"hooks": Path("/hooks"), "syscalls": Path("/calls"), "traps_ttl": 9}
    words = commands.drakvuf("drakvuf", NEW, watch(plugins=("memdump", "syscalls"), **lists))
    assert words[len(NEW) :] == [
        *("-a", "memdump", "-a", "syscalls", "-t", "60", "--memdump-dir", "/w/dumps"),
        *("--dll-hooks-list", "/hooks", "--syscall-hooks-list", "/calls", "--traps-ttl", "9"),
    ]
    words = commands.drakvuf("drakvuf", NEW, watch(**lists))
    assert words[len(NEW) :] == ["-a", "procmon", "-t", "60", "--traps-ttl", "9"]
    words = commands.drakvuf("drakvuf", NEW, watch(plugins=("ipt", "codemon")))
    assert words[len(NEW) + 6 :] == [
        *("--ipt-dir", "/w/ipt", "--ipt-trace-user", "--codemon-dump-dir", "/w/ipt"),
        *("--codemon-log-everything", "--codemon-analyse-system-dll-vad"),
    ]


def test_no_plugins_are_none() -> None:
    """DRAKVUF without -a runs every plugin that it has."""
    words = commands.drakvuf("drakvuf", NEW, watch(plugins=()))
    assert words[len(NEW) :] == ["-a", "procmon", "-x", "procmon", "-t", "60"]


@pytest.mark.parametrize(
    ("template", "path", "command"),
    [
        ("%f", "C:\\a.exe", "C:\\a.exe"),
        ("rundll32 %f,#1", "C:\\a.dll", "rundll32 C:\\a.dll,#1"),
        ("rundll32 %f,#1", "C:\\a b\\a.dll", 'rundll32 "C:\\a b\\a.dll",#1'),
        ('cmd /c "%f"', "C:\\a b\\a.exe", 'cmd /c "C:\\a b\\a.exe"'),
        ("ping localhost", "C:\\a b\\a.exe", "ping localhost"),
        ("%f %f", "C:\\a.exe", "C:\\a.exe C:\\a.exe"),
    ],
)
def test_the_guests_path_is_filled_in(template: str, path: str, command: str) -> None:
    """A blank in the guest's user name does not tear the path apart."""
    assert commands.start_command(template, path) == command


def test_a_program_is_told_from_a_command() -> None:
    """Only the sample itself may be started by ShellExecute, which splits what it gets."""
    assert commands.is_plain("%f", "exe")
    assert commands.is_plain("%f", "cmd")
    assert not commands.is_plain("%f -x", "exe")
    assert not commands.is_plain("%f", "lnk")
    assert commands.directory_of("C:\\Users\\a b\\Desktop\\x.exe") == "C:\\Users\\a b\\Desktop"


def test_the_network_goes_by_the_environment() -> None:
    """As pydantic-settings of v0.21 reads it: prefix, section, key."""
    assert commands.network_environment(net_enable=True, out_interface="eth0", dns_server="1.1.1.1") == {
        "DRAKRUN__NETWORK__NET_ENABLE": "true",
        "DRAKRUN__NETWORK__OUT_INTERFACE": "eth0",
        "DRAKRUN__NETWORK__DNS_SERVER": "1.1.1.1",
    }
    values = commands.network_environment(net_enable=False, out_interface=None, dns_server="1.1.1.1")
    assert values["DRAKRUN__NETWORK__NET_ENABLE"] == "false"
    assert "DRAKRUN__NETWORK__OUT_INTERFACE" not in values


def test_the_post_restore_script_is_encoded() -> None:
    """Its two variables are filled in; one that drakshell would refuse is refused before."""
    now = datetime(2026, 3, 1, 12, 0, 5)  # noqa: DTZ001 the guest's clock shows local time
    command = commands.post_restore("$DRAKVUF_NET_ENABLE $DRAKVUF_DATE", net_enable=True, now=now)
    assert command[:2] == ["powershell.exe", "-EncodedCommand"]
    assert base64.b64decode(command[2]).decode("utf-16le") == '$true "2026-03-01 12:00:05"'
    with pytest.raises(ValueError, match="drakshell takes 1023"):
        commands.post_restore("#" * 400, net_enable=False, now=now)


def test_drakvufs_line_is_read_back() -> None:
    """As ``drakrun drakvuf-cmdline`` quotes it for a shell, whatever is in the command."""
    for line in (OLD, NEW, [*HEAD, "-e", "a 'b' \"c\" $(d); `e`\\"]):
        assert commands.parse_base(shlex.join(line) + "\n", 3) == line


@pytest.mark.parametrize(
    "printed",
    [
        "",
        "Aborted!",
        "drakvuf 'half",
        "drakvuf -d vm-3",
        "drakvuf -d",
        shlex.join(OLD).replace("vm-3", "vm-4"),
    ],
)
def test_anything_else_is_no_line_of_drakvufs(printed: str) -> None:
    """Least of all the line of another VM."""
    with pytest.raises(ValueError, match=r"expected|No closing"):
        commands.parse_base(printed, 3)


@pytest.mark.parametrize(
    ("printed", "path"),
    [
        ('{"Plugin": "inject", "Status": "Success", "ProcessName": "C:\\\\x.exe"}\n\n', "C:\\x.exe"),
        ('noise\n{"Status": "Success", "ProcessName": "C:\\\\x.exe"}', "C:\\x.exe"),
        ('{"Plugin": "inject", "Status": "Timeout"}\n', None),
        ('{"Status": "Error", "ProcessName": "C:\\\\x.exe"}', None),
        ('{"Status": "Success", "ProcessName": ""}', None),
        ('{"Status": "Success", "ProcessName": "a\\u0007"}', None),
        ('{"Status": "Success", "ProcessName": ["a"]}', None),
        ("[1]", None),
        ("[" * 100_000, None),
        ("\n", None),
    ],
)
def test_the_injector_says_where_the_file_is(printed: str, path: str | None) -> None:
    """A path that is none, or not printable, is no path."""
    assert commands.parse_guest_path(printed) == path


def test_drakvufs_injection_is_recognized() -> None:
    """Other lines of its log are not taken for it, nor what is no JSON."""
    assert commands.parse_injection(b'{"Plugin": "inject", "Status": "Success"}') is not None
    for line in (b'{"Plugin": "procmon", "Status": "Success"}', b'{"Plugin": "inj', b"\xff\x00", b"[]"):
        assert commands.parse_injection(line) is None


def test_the_last_exit_code_counts() -> None:
    """drakshell logs it; nothing else says how a command in the guest ended."""
    log = "Process terminated with exit code 1\n[x][INFO] Process terminated with exit code 0\n"
    assert commands.parse_exit_code(log) == 0
    assert commands.parse_exit_code("Drakshell active") is None


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("1732233600.1 DRAKVUF v1.1-8107f11 Copyright (C) 2014-2024 Tamas K Lengyel\n", "1.1-8107f11"),
        ("DRAKVUF v1.0\nv2.0\n", "1.0"),
        ("command not found\nv1.1", None),
        ("", None),
    ],
)
def test_drakvuf_says_its_version(text: str, version: str | None) -> None:
    """In its first line."""
    assert commands.parse_version(text) == version


@pytest.mark.parametrize(
    ("code", "errors", "there"),
    [
        (0, "", True),
        (1, "vm-1 is an invalid domain identifier (rc=-6)", False),
        (1, "libxl: error: cannot open the privcmd device", None),
        (127, "", None),
    ],
)
def test_xen_says_what_is_there(code: int, errors: str, there: bool | None) -> None:
    """A toolstack that fails is not taken for a guest that is gone."""
    assert commands.is_listed(code, errors) is there


def test_xens_command_line_is_compared() -> None:
    """What is recommended and missing is named; options beyond that are nobody's business."""
    line = "placeholder dom0_mem=4096M,max:4096M force-ept=1 ept=ad=0 hap_1gb=0 hap_2mb=0 altp2m=1"
    info = f"host : x\nxen_commandline        : {line}\nxen_version : 4.17"
    assert xen_options.missing_options(info) == ["hpet=legacy-replacement"]
    assert xen_options.xen_options(info)["placeholder"] == "1"
    assert len(xen_options.missing_options("")) == len(xen_options.RECOMMENDED)


@pytest.mark.parametrize(
    ("template", "is_fine"),
    [("%f", True), ("x" * 8191, True), ("cmd /c" + " %f" * 120, True), ("%f " * 2700, False)],
)
def test_a_command_line_that_windows_does_not_take(template: str, is_fine: bool) -> None:
    """8191 characters may name the sample so often that not even this host's kernel takes the line."""
    assert commands.is_startable(template) is is_fine
