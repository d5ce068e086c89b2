"""The command lines of the tools, and the reading of what they print. Pure: no process is started here.

Facts: ``drakrun/cli``, ``drakrun/lib`` and ``drakrun/analyzer`` of DRAKVUF Sandbox v0.18.1 and
v0.19.0 to v0.21.0; ``src/main.cpp``, ``src/injector.cpp`` and ``src/libinjector`` of DRAKVUF; ``tools/xl``
of Xen.
"""

from __future__ import annotations

import base64
import json
import ntpath
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

Command = list[str]

DESKTOP = "%USERPROFILE%\\Desktop\\"
"""Where DRAKVUF Sandbox puts a sample."""

INJECTION_SECONDS = 60
"""How long DRAKVUF and the injector try to get into the guest (``-j 60`` in the base command line)."""

DRAKSHELL_LIMIT = 1023
"""UTF-16 units of a command that drakshell takes."""

LONGEST_PATH = 260
"""Characters (``MAX_PATH``) and two quotes, less the two of ``%f``."""
LONGEST_LINE = 32766
"""Characters that CreateProcess takes."""

HOOKED = frozenset({"apimon", "memdump", "rpcmon"})
"""Plugins that read the hook list (``--dll-hooks-list``)."""

TRACED = frozenset({"ipt", "codemon"})
"""Plugins that write to a directory of their own; without one they refuse to start."""

ANY_PLUGIN = "procmon"
"""To run no plugin at all, ``-a`` with this one disables all others, and ``-x`` then this one. With neither,
DRAKVUF runs them all."""

_VM = re.compile(r"vm-([1-9][0-9]{0,2})")
_VERSION = re.compile(r"\bv([0-9][0-9A-Za-z.+~-]*)")
_EXIT_CODE = re.compile(r"Process terminated with exit code (\d+)")
_NO_DOMAIN = "is an invalid domain identifier"


@dataclass(frozen=True, kw_only=True)
class Watch:
    """How DRAKVUF is to watch."""

    plugins: tuple[str, ...]
    timeout: int
    """Seconds, counted by DRAKVUF from the start of its plugins."""
    dumps: Path
    traces: Path
    hooks: Path | None
    """Hook list for :data:`HOOKED`."""
    syscalls: Path | None
    """System calls to report; None: all."""
    traps_ttl: int
    """Most hits of a trap in 10 seconds; 0: no limit."""


def vm_id(slot: str) -> int | None:
    """The number of ``vm-N``, 1 to 255; None for any other name. The others are made from ``vm-0``."""
    match = _VM.fullmatch(slot)
    return int(match[1]) if match and int(match[1]) <= 255 else None


def vm_start(drakrun: str, number: int) -> Command:
    """Restore the VM and set up its network; a guest that is there already is destroyed."""
    return [drakrun, "vm-start", "--vm-id", str(number)]


def vm_stop(drakrun: str, number: int) -> Command:
    """Destroy the VM and take its network down."""
    return [drakrun, "vm-stop", "--vm-id", str(number)]


def xl_list(xl: str, number: int) -> Command:
    """Ask whether Xen has the VM; see :func:`is_listed`."""
    return [xl, "list", f"vm-{number}"]


def drakshell(drakrun: str, number: int, command: Sequence[str]) -> Command:
    """Run *command* in the guest; after ``--`` drakrun does not take its options for its own."""
    return [drakrun, "drakshell", "--vm-id", str(number), "--", *command]


def injector_copy(drakrun: str, number: int, sample: Path, name: str) -> Command:
    """Copy *sample* to the desktop. Only for VM numbers of one digit: of several digits drakrun reads just
    the last."""
    return [drakrun, "injector", "copy", str(sample), f"vm-{number}:{DESKTOP}{name}"]


def injector_writefile(injector: str, base: Sequence[str], sample: Path, name: str) -> Command:
    """What ``drakrun injector copy`` does, with domain, profile and process out of DRAKVUF's *base* line."""
    return [
        injector,
        *("-o", "json"),
        *(word for option in ("-d", "-r", "-i", "-k") for word in (option, _value(base, option))),
        *("-m", "writefile"),
        *(("-I", _value(base, "-I")) if "-I" in base else ()),
        *("-e", f"{DESKTOP}{name}", "-B", str(sample)),
        *("--timeout", str(INJECTION_SECONDS)),
    ]


def base_command_line(
    drakrun: str, number: int, command: str, *, method: str | None = None, directory: str | None = None
) -> Command:
    """Ask for the DRAKVUF command line that starts *command*. *method*, *directory*: v0.21 only."""
    return [
        *(drakrun, "drakvuf-cmdline", "--vm-id", str(number), f"--cmd={command}"),
        *(("--method", method) if method else ()),
        *((f"--working-dir={directory}",) if directory else ()),
    ]


def screenshots(drakrun: str, number: int, target: Path, files: int, size: int) -> Command:
    """Take screenshots until SIGTERM: done by the library only, drakrun has no such command."""
    bounds = ("--most-files", str(files), "--most-bytes", str(size))
    return [drakrun, "screenshots", "--vm-id", str(number), "--directory", str(target), *bounds]


def network_environment(*, net_enable: bool, out_interface: str | None, dns_server: str) -> dict[str, str]:
    """v0.21 takes settings from the environment before its ``config.toml``; earlier ones do not look."""
    values = {
        "DRAKRUN__NETWORK__NET_ENABLE": "true" if net_enable else "false",
        "DRAKRUN__NETWORK__DNS_SERVER": dns_server,
    }
    return values | ({"DRAKRUN__NETWORK__OUT_INTERFACE": out_interface} if out_interface else {})


def drakvuf(program: str, base: Sequence[str], watch: Watch, *, directory: str | None = None) -> Command:
    """*base*, with the options of this analysis. *directory*: the sample's, if *base* has none."""
    plugins = [word for plugin in watch.plugins for word in ("-a", plugin)]
    wanted = set(watch.plugins)
    traces = str(watch.traces)
    return [
        *(program, *base[1:]),
        *(("-c", directory) if directory and "-c" not in base else ()),
        *(plugins or ("-a", ANY_PLUGIN, "-x", ANY_PLUGIN)),
        *("-t", str(watch.timeout)),
        *(("--memdump-dir", str(watch.dumps)) if "memdump" in wanted else ()),
        *(("--dll-hooks-list", str(watch.hooks)) if watch.hooks and wanted & HOOKED else ()),
        *(("--syscall-hooks-list", str(watch.syscalls)) if watch.syscalls and "syscalls" in wanted else ()),
        *(("--traps-ttl", str(watch.traps_ttl)) if watch.traps_ttl else ()),
        *(("--ipt-dir", traces, "--ipt-trace-user") if "ipt" in wanted else ()),
        *(
            ("--codemon-dump-dir", traces, "--codemon-log-everything", "--codemon-analyse-system-dll-vad")
            if "codemon" in wanted
            else ()
        ),
    ]


def tcpdump(program: str, number: int, target: Path) -> Command:
    """Record the VM's bridge, packet by packet. ``-Z root``: the user tcpdump may not write to our files."""
    return [program, "-n", "-U", "-Z", "root", "-i", bridge(number), "-w", str(target)]


def memory_dump(program: str, number: int, target: Path) -> Command:
    """Write the guest's whole memory to *target* (LibVMI's ``vmi-dump-memory``); it pauses the guest."""
    return [program, f"vm-{number}", str(target)]


def bridge(number: int) -> str:
    """The bridge that DRAKVUF Sandbox makes for a VM."""
    return f"drak{number}"


def start_command(template: str, guest_path: str) -> str:
    """*template* with the path for ``%f``, in quotes if it has a blank."""
    if " " not in guest_path:
        return template.replace("%f", guest_path)
    return template.replace('"%f"', "%f").replace("%f", f'"{guest_path}"')


def is_startable(template: str) -> bool:
    """Whether Windows takes *template* as a command line, wherever the sample lies."""
    return len(template) + template.count("%f") * LONGEST_PATH <= LONGEST_LINE


def directory_of(guest_path: str) -> str:
    """The directory of a file in the guest, which is the working directory of what is started."""
    return ntpath.dirname(guest_path)


def is_plain(template: str, extension: str) -> bool:
    """Whether the sample itself is started; then ShellExecute elevates it if it asks for that."""
    return template.strip() == "%f" and extension in ("exe", "bat", "cmd", "com")


def post_restore(script: str, *, net_enable: bool, now: datetime) -> Command:
    """The PowerShell command that runs ``vm-post-restore.ps1``. Raises ValueError for a long script."""
    text = script.replace("$DRAKVUF_NET_ENABLE", "$true" if net_enable else "$false")
    text = text.replace("$DRAKVUF_DATE", f'"{now:%Y-%m-%d %H:%M:%S}"')
    command = ["powershell.exe", "-EncodedCommand", base64.b64encode(text.encode("utf-16le")).decode()]
    length = len(" ".join(command))
    if length > DRAKSHELL_LIMIT:
        raise ValueError(f"{length} characters as a command; drakshell takes {DRAKSHELL_LIMIT}")
    return command


def _value(base: Sequence[str], option: str) -> str:
    """What follows *option*. Raises ValueError if it is missing."""
    if option not in base[:-1]:
        raise ValueError(f"expected {option} in DRAKVUF's command line")
    return base[base.index(option) + 1]


# What the tools print


def parse_base(printed: str, number: int) -> Command:
    """The words of the line that ``drakrun drakvuf-cmdline`` printed.

    Raises:
        ValueError: it is no command line of DRAKVUF for this VM.
    """
    words = shlex.split(printed)
    if not words or words[0] != "drakvuf":
        raise ValueError("expected a command line that begins with drakvuf")
    if _value(words, "-d") != f"vm-{number}":
        raise ValueError(f"expected the command line of vm-{number}")
    for option in ("-r", "-i", "-e"):
        _value(words, option)
    return words


def parse_record(printed: str) -> Mapping[str, object]:
    """The injector's record, among what it printed, or drakrun did; empty if there is none."""
    records = (_json(line) for line in printed.splitlines())
    return next((record for record in records if "Status" in record), {})


def parse_guest_path(printed: str) -> str | None:
    """``ProcessName`` of the injector's record: where the file is in the guest; None if there is none."""
    for line in printed.splitlines():
        record = _json(line)
        path = record.get("ProcessName")
        if isinstance(path, str) and path.isprintable() and 0 < len(path) <= 1024:
            return path if record.get("Status") == "Success" else None
    return None


def parse_injection(line: bytes) -> Mapping[str, object] | None:
    """The record of DRAKVUF's own injection, if *line* is it."""
    record = _json(line.decode("utf-8", "replace"))
    return record if record.get("Plugin") == "inject" else None


def _json(line: str) -> dict[str, object]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def parse_exit_code(log: str) -> int | None:
    """How the command in the guest ended; ``drakrun drakshell`` itself ends with 0 whatever that is."""
    codes = _EXIT_CODE.findall(log)
    return int(codes[-1]) if codes else None


def parse_version(text: str) -> str | None:
    """``1.1-8107f11`` out of the line that DRAKVUF begins with."""
    lines = text.splitlines()
    match = _VERSION.search(lines[0]) if lines else None
    return match[1] if match else None


def is_listed(code: int, errors: str) -> bool | None:
    """What ``xl list vm-N`` says of the guest: alive, gone, or (None) nothing that can be relied on."""
    if code == 0:
        return True
    return False if _NO_DOMAIN in errors else None
