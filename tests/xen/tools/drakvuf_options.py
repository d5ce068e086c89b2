"""DRAKVUF's command line, as ``main()`` reads it: the options and plugins of src/main.cpp and plugins.h."""

from __future__ import annotations

import os

from tests.xen.tools import gnu
from tests.xen.tools.bare import Path
from tests.xen.tools.machine import Machine, say

TYPE_CHECKING = False  # as in bare.py
if TYPE_CHECKING:
    from collections.abc import Callable

SHORT = "r:d:i:I:e:m:t:D:o:vx:a:f:spT:S:q:Mc:nblgj:k:w:W:hFC"
_WITH_VALUE = """
    json-kernel json-kernel32 json-kernelbase json-sspicli json-tcpip json-win32k json-wow json-wow-kernel32
    json-ntdll json-iphlpapi json-mpr injection-timeout termination-timeout json-ole32 json-wow-ole32
    json-combase memdump-dir dll-hooks-list fileextractor-timeout fileextractor-max-size-hash
    fileextractor-max-size-extract fileextractor-exclude-list procdump-timeout procdump-dir
    procdump-compression-method procdump-exclude-list json-clr json-mscorwks syscall-hooks-list
    procmon-envs-list traps-ttl wait-stop-plugins codemon-dump-dir codemon-filter-executable context-process
    ipt-dir write-file write-file-timeout hid-template json-fwpkclnt json-fltmgr json-ci json-netio json-ndis
    json-services json-hal ignore-pid crashdump-dir unixsocketmon-max-size-print
"""
_FLAGS = """
    terminate verbose help memdump-disable-free-vm memdump-disable-protect-vm memdump-disable-write-vm
    memdump-disable-terminate-proc memdump-disable-create-thread memdump-disable-set-thread
    memdump-disable-shellcode-detect compress-procdumps procdump-use-maple-tree
    procdump-disable-dump-on-finish procdump-new-processes-on-finish procdump-disable-kideliverapc-hook
    procdump-disable-kedelayexecutionthread-hook disable-sysret userhook-no-addr userhook-injection-mode
    fast-singlestep codemon-log-everything codemon-dump-vad codemon-analyse-system-dll-vad
    codemon-default-benign context-based-interception exploitmon-kernel2user-detect ipt-trace-os
    ipt-trace-user objmon-disable-create-hook objmon-disable-duplicate-hook hid-monitor-gui hid-random-clicks
    libdrakvuf-not-get-userid bsodmon-ignore-stop enable-active-callback-check exit-injection-thread
    rebootmon-abort-on-power-off
"""
_ALIASES = {
    "--json-kernel": "-r",
    "--json-tcpip": "-T",
    "--json-win32k": "-W",
    "--json-wow": "-w",
    "--injection-timeout": "-j",
    "--verbose": "-v",
    "--help": "-h",
    "--syscall-hooks-list": "-S",
    "--procmon-envs-list": "-q",
    "--fast-singlestep": "-F",
    "--context-based-interception": "-C",
}
_PLUGINS = """
    syscalls poolmon filetracer filedelete fileextractor objmon exmon ssdtmon debugmon delaymon
    cpuidmon socketmon regmon procmon bsodmon envmon crashmon clipboardmon windowmon librarymon
    dkommon wmimon memdump apimon procdump procdump2 rpcmon tlsmon codemon libhooktest exploitmon ipt
    hidsim rootkitmon spraymon callbackmon hidevm ptracemon ebpfmon memaccessmon unixsocketmon etwmon
    rebootmon linkmon
"""
PLUGINS = frozenset(_PLUGINS.split())
LINUX_ONLY = frozenset({"ptracemon", "ebpfmon", "unixsocketmon", "rebootmon"})
INJECTIONS = ("shellexec", "createproc", "shellcode", "execproc")
_FORMATS = ("csv", "kv", "json")


class Quit(Exception):
    """main() returns this status; what is to be said was said."""


def version(machine: Machine) -> str:
    """The version that this host's DRAKVUF Sandbox was tested with."""
    return "1.1-8107f115" if machine.newest else "1.1-f619440"


class Options:
    """What was asked for. Raises :class:`Quit` where main() would have returned."""

    def __init__(self, machine: Machine, argv: list[str]) -> None:
        self._machine = machine
        self.plugins = set(PLUGINS)
        self._only_named = False
        self.exec_args: list[str] = []
        self.write_files: list[tuple[str, str]] = []
        self._values: dict[str, str] = {}
        long = dict.fromkeys(_WITH_VALUE.split(), True) | dict.fromkeys(_FLAGS.split(), False)
        if machine.newest:
            long["json-clr-64"] = True
        scan = gnu.Scan("drakvuf", argv, SHORT + ("V:" if machine.newest else ""), long)
        try:
            for option, value in scan:
                self._take(_ALIASES.get(option, option), value or "", scan)
        except gnu.Refused as refused:
            say(f"{refused}\nUnrecognized option: {refused.option}")
            raise Quit("1") from None
        if scan.rest:
            machine.warn(f"drakvuf: ignores the words {scan.rest!r}: they belong to no option")
        self._check()

    def value(self, option: str) -> str | None:
        """The last value given to *option*; None if it was not given."""
        return self._values.get(option)

    def number(self, option: str) -> int:
        """A number as atoi reads it; 0 if it was not given."""
        text = self._values.get(option, "0")
        number = gnu.atoi(text)
        if str(number) != text:
            self._machine.warn(f"drakvuf: {option} {text} is read as {number}")
        return number

    @property
    def method(self) -> str:
        """How ``-e`` is started."""
        asked = self._values.get("-m", "createproc")
        return next((method for method in INJECTIONS if asked.startswith(method)), "createproc")

    def _take(self, option: str, value: str, scan: gnu.Scan) -> None:
        special: dict[str, Callable[[str], None]] = {
            "-a": self._enable,
            "-x": self._disable,
            "-f": self.exec_args.append,
            "-h": self._help,
            "-v": self._debug_only,
            "-q": _must_exist,
            "--fileextractor-exclude-list": _must_exist,
            "--write-file": lambda source: self._write_file(source, scan),
        }
        if option in special:
            special[option](value)
        self._values[option] = value
        self._suspect(option, value)

    def _suspect(self, option: str, value: str) -> None:
        if option == "-m" and not value.startswith(INJECTIONS):
            self._machine.warn(f"drakvuf: -m {value} is unknown and means createproc")
        if option == "-o" and not value.startswith(_FORMATS):
            self._machine.warn(f"drakvuf: -o {value} is unknown and means the default format")
        if option.startswith("--json") and not Path(value).is_file():
            self._machine.warn(f"drakvuf: {option} {value}: no such file")

    def _enable(self, plugin: str) -> None:
        if not self._only_named:
            self.plugins.clear()
            self._only_named = True
        self._known(plugin)
        self.plugins.add(plugin)
        if plugin in LINUX_ONLY:
            self._machine.warn(f"drakvuf: -a {plugin} does nothing in a Windows guest")

    def _disable(self, plugin: str) -> None:
        self._known(plugin)
        self.plugins.discard(plugin)

    def _known(self, plugin: str) -> None:
        if plugin not in PLUGINS:
            say(f"Unknown plugin: {plugin}")
            raise Quit("1")

    def _debug_only(self, _value: str) -> None:
        say("Unrecognized option: v")  # a release build
        raise Quit("1")

    def _write_file(self, source: str, scan: gnu.Scan) -> None:
        target = scan.next_word()
        if target is None:
            say("--write-file <dst> parameter is missing!")
            raise Quit("1")
        if not Path(source).exists():
            say(f"--write-file <src> file ({source}) not found!")
            raise Quit("1")
        self.write_files.append((source, target))

    def _help(self, _value: str) -> None:
        lines = ["\t -r, --json-kernel <path to json>", "\t -d <domain ID or name>"]
        lines += [f"\t --{name} <value>" for name in _WITH_VALUE.split()]
        lines += [f"\t --{name}" for name in _FLAGS.split()]
        if self._machine.newest:
            lines += ["\t -V <shellexec verb>", "\t --json-clr-64 <path to json>"]
        say("Required input:\n" + "\n".join(lines))
        raise Quit("0")

    def _check(self) -> None:
        if "-d" not in self._values:
            say("No domain name specified (-d)!")
            raise Quit("1")
        if "-r" not in self._values:
            say("No kernel JSON profile specified (-r)!")
            raise Quit("1")
        if not self._only_named and self.plugins == PLUGINS:
            self._machine.warn("drakvuf: neither -a nor -x: every plugin there is runs")
        directory = self._values.get("--memdump-dir")
        if "memdump" in self.plugins and (directory is None or not os.access(directory, os.W_OK | os.X_OK)):
            self._machine.warn(
                f"drakvuf: --memdump-dir {directory} cannot be written: there will be no dumps"
            )


def _must_exist(path: str) -> None:
    if not Path(path).exists():
        say(f"file {path} does not exist!")
        raise Quit("1")
