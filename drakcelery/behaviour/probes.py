"""What a sample asked of its surroundings, read from the lines of its own processes. Pure.

The report does not keep most of that, as busy programs ask all the time. So a run that shows little is read
once more (:mod:`drakcelery.artifacts.clues`), and a busy one costs nothing. Sources of the names: Microsoft's
documentation, and what al-khaser and pafish, two public collections of such checks, ask for.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from drakcelery.behaviour.calls import argument_number, argument_text
from drakcelery.behaviour.events import Event
from drakcelery.model.clues import MOST_EVIDENCE, ClueKind

PLUGINS = ("apimon", "cpuidmon", "debugmon", "delaymon", "filetracer", "regmon", "syscall", "windowmon")
"""Whose lines are read."""
LONG_SLEEP = 30_000
"""Milliseconds that a program without work rarely sleeps."""
MANY_READINGS = 20
"""Readings of a clock: the start-up of a program needs a few."""
_FOREVER = 0xFFFFFFFF
_DEBUG_CLASSES = {7: "ProcessDebugPort", 0x1E: "ProcessDebugObjectHandle", 0x1F: "ProcessDebugFlags"}
"""``NtQueryInformationProcess``, by class (``PROCESSINFOCLASS``)."""
_HIDE_FROM_DEBUGGER = 0x11
"""``ThreadHideFromDebugger`` of ``NtSetInformationThread``."""
_KERNEL_DEBUGGER = 0x23
"""``SystemKernelDebuggerInformation`` of ``NtQuerySystemInformation``."""
_FIRST_HYPERVISOR_LEAF, _LAST_HYPERVISOR_LEAF = 0x40000000, 0x400000FF
_FEATURES_LEAF, _MORE_FEATURES_LEAF = 1, 7
"""The first one's ``ecx`` has the bit that says whether there is a hypervisor. A runtime's start-up asks both
once, for what the processor can do."""

UPTIMES = frozenset({"GetTickCount", "GetTickCount64", "NtGetTickCount"})
COOKIE = frozenset({"GetSystemTimeAsFileTime", "QueryPerformanceCounter"})
"""What the start-up of a program calls together with ``GetTickCount``, once, for the cookie on its stack."""
CLOCKS = frozenset(
    {
        *(*UPTIMES, *COOKIE, "NtQueryPerformanceCounter", "RtlQueryPerformanceCounter", "timeGetTime"),
        *("GetSystemTimePreciseAsFileTime", "NtQuerySystemTime", "GetSystemTime", "GetLocalTime"),
    }
)
"""Read by each program that starts: a clue if they are read often."""
ASKED: Mapping[str, ClueKind] = {
    **dict.fromkeys(
        ("IsDebuggerPresent", "CheckRemoteDebuggerPresent", "NtQueryDebugFilterState", "DebugActiveProcess"),
        "debugger",
    ),
    **dict.fromkeys(
        (
            *("GetCursorPos", "GetCursorInfo", "GetLastInputInfo", "GetForegroundWindow", "FindWindow"),
            *("FindWindowEx", "NtUserFindWindowEx", "NtUserGetCursorPos", "GetAsyncKeyState", "EnumWindows"),
            *("NtUserGetForegroundWindow", "GetKeyboardLayoutList"),
        ),
        "user",
    ),
    **dict.fromkeys(
        (
            *("GetUserName", "GetUserNameEx", "GetComputerName", "GetComputerNameEx", "GetVersionEx"),
            *("RtlGetVersion", "GetVersion", "VerifyVersionInfo", "IsWow64Process", "IsWow64Process2"),
            *("GetSystemInfo", "CreateToolhelp32Snapshot", "EnumProcesses", "K32EnumProcesses"),
            *("GetNativeSystemInfo", "GlobalMemoryStatus", "GlobalMemoryStatusEx", "GetDiskFreeSpace"),
            *("GetDiskFreeSpaceEx", "GetVolumeInformation", "GetAdaptersInfo", "GetAdaptersAddresses"),
            *("GetSystemFirmwareTable", "EnumSystemFirmwareTables", "EnumDeviceDrivers"),
            *("GetPwrCapabilities", "GetUserDefaultLocaleName", "GetUserDefaultLCID", "GetKeyboardLayout"),
            *("GetUserDefaultUILanguage", "GetSystemDefaultLangID", "GetUserDefaultLangID"),
            *("IsNativeVhdBoot", "NetGetJoinInformation", "EnumDisplaySettings"),
        ),
        "machine",
    ),
    **dict.fromkeys(
        ("IsUserAnAdmin", "CheckTokenMembership", "OpenProcessToken", "NtOpenProcessToken"), "privilege"
    ),
}
"""What each call is a clue to, by its plain name."""
_SLEEPS = {"Sleep": 0, "SleepEx": 0, "WaitForSingleObject": 1, "WaitForSingleObjectEx": 1}
"""Calls that wait, and which argument says for how long, in ms."""
_TIMED_OUT = 0x102
"""``WAIT_TIMEOUT``: only then a wait for something has taken all of its time."""
_WIDE = re.compile(r"(?<=[a-z0-9])[AW]$")
_NAMES = re.compile(
    r"vbox|virtualbox|vmware|vmmouse|vmhgfs|vmtools|vmusrvc|vmsrvc|xenservice|xenvbd|\bxen\b|qemu|bochs"
    r"|sbiedll|sandboxie|cuckoo|\bjoebox|anubis|parallels|prl_cc|prl_tools|wine_get|\\wine\b|hyper-?v"
    r"|virtual machine\\guest|snxhk|api_log\.dll|dir_watch|vmcheck|wpespy|cmdvrt"
    r"|ollydbg|\bidaq?\b|x64dbg|x32dbg|windbg|immunity|procmon|procexp|process hacker|processhacker"
    r"|wireshark|fiddler|tcpview|regmon|filemon|autoruns|drakvuf|drakrun",
    re.IGNORECASE,
)
"""What sandboxes and the tools of analysts are called, in names that a program asks for."""
_ASKED_FOR = ("Key", "ValueName", "FileName", "Class", "Name", "ObjectAttributes")
_MOST_NAME = 80
_ARGUMENTS = 6
"""Arguments of a call in which a name may stand."""


@dataclass
class Probes:
    """What a sample's processes asked."""

    own: Collection[int]
    """Their pids."""
    sample: str
    """The name of the sample in the guest, which says nothing."""
    clocks: int = 0
    """How often a clock was read."""
    seen: dict[ClueKind, dict[str, None]] = field(default_factory=dict)
    """What was seen, in order and bounded, by what it is a clue to."""
    last: dict[ClueKind, float] = field(default_factory=dict)
    """When it was seen last."""
    _now: float = 0.0
    _calls: Counter[str] = field(default_factory=Counter)
    """Readings of clocks, by function."""
    _leaves: Counter[int] = field(default_factory=Counter)

    def evidence(self, kind: ClueKind) -> tuple[str, ...]:
        """What was seen of *kind*, without what the start-up of any program asks; none: it is no clue."""
        seen = tuple(self.seen.get(kind, ()))
        if kind == "clock":
            return (f"{self.clocks} readings",) if self.clocks >= MANY_READINGS else ()
        if kind == "machine" and not seen:
            return self._uptime()
        if kind == "cpuid" and not seen:
            by_start_up = min(1, self._leaves[_MORE_FEATURES_LEAF])
            return (f"leaf {_FEATURES_LEAF:#x}",) if self._leaves[_FEATURES_LEAF] > by_start_up else ()
        return seen

    def _uptime(self) -> tuple[str, ...]:
        """The functions by which it asked how long the machine runs."""
        names = [name for name in UPTIMES if self._calls[name]]
        by_start_up = int(set(self._calls) >= COOKIE)
        return tuple(sorted(names)) if sum(self._calls[name] for name in names) > by_start_up else ()

    def add(self, plugin: str, event: Event) -> None:
        """A line of *plugin*, one of :data:`PLUGINS`."""
        if event.pid not in self.own:
            return
        self._now = event.time or self._now
        if plugin == "cpuidmon":
            self._cpuid(event)
        elif plugin == "delaymon":
            self._slept(_milliseconds(event.fields.get("DelayIntervalMs")), "NtDelayExecution")
        elif plugin in ("apimon", "syscall"):
            self._called(event)
        elif plugin == "windowmon":
            self._see("user", event.method or "NtUserFindWindowEx")
        self._names(plugin, event)

    def _see(self, kind: ClueKind, what: str) -> None:
        known = self.seen.setdefault(kind, {})
        if len(known) < MOST_EVIDENCE:
            known[what] = None
        self.last[kind] = max(self._now, self.last.get(kind, 0.0))

    def _cpuid(self, event: Event) -> None:
        leaf = event.number("Leaf")
        if leaf is None:
            return
        if leaf in (_FEATURES_LEAF, _MORE_FEATURES_LEAF):
            self._leaves[leaf] += 1
            self.last["cpuid"] = max(self._now, self.last.get("cpuid", 0.0))
        elif _FIRST_HYPERVISOR_LEAF <= leaf <= _LAST_HYPERVISOR_LEAF:
            self._see("cpuid", f"leaf {leaf:#x}")

    def _slept(self, milliseconds: float | None, call: str) -> None:
        if milliseconds is not None and milliseconds >= LONG_SLEEP:
            self._see("sleep", f"{call} for {milliseconds / 1000:.0f} s")

    def _called(self, event: Event) -> None:
        name = _WIDE.sub("", event.method[:64])
        kind = ASKED.get(name)
        if kind is not None:
            self._see(kind, name)
        elif name in CLOCKS:
            self.clocks += 1
            self._calls[name] += 1
            kinds: tuple[ClueKind, ...] = ("clock", "machine") if name in UPTIMES else ("clock",)
            self.last |= {one: max(self._now, self.last.get(one, 0.0)) for one in kinds}
        elif name in _SLEEPS:
            self._waited(event, name)
        elif name in ("NtQueryInformationProcess", "ZwQueryInformationProcess"):
            if (asked := _DEBUG_CLASSES.get(_class(event) or 0)) is not None:
                self._see("debugger", asked)
        elif name == "NtSetInformationThread" and _class(event) == _HIDE_FROM_DEBUGGER:
            self._see("debugger", "ThreadHideFromDebugger")
        elif name == "NtQuerySystemInformation" and _class(event, 0) == _KERNEL_DEBUGGER:
            self._see("debugger", "SystemKernelDebuggerInformation")

    def _waited(self, event: Event, name: str) -> None:
        milliseconds = argument_number(event, _SLEEPS[name])
        is_over_early = name.startswith("Wait") and event.number("ReturnValue") not in (None, _TIMED_OUT)
        self._slept(None if milliseconds == _FOREVER or is_over_early else milliseconds, name)

    def _names(self, plugin: str, event: Event) -> None:
        texts = [event.text(key) for key in _ASKED_FOR]
        if plugin == "apimon":
            texts += [argument_text(event, number) for number in range(_ARGUMENTS)]
        for text in texts:
            if text and _NAMES.search(text) is not None and self.sample.lower() not in text.lower():
                self._see("sandbox", text[:_MOST_NAME])


def _class(event: Event, place: int = 1) -> int | None:
    """The class of information that was asked for: an argument of apimon's, or a key of a system call's."""
    found = argument_number(event, place)
    keys = ("ProcessInformationClass", "ThreadInformationClass", "SystemInformationClass")
    return found if found is not None else next((one for key in keys if (one := event.number(key))), None)


def _milliseconds(value: object) -> float | None:
    """Of delaymon: relative times are negative, and waited for all the same."""
    try:
        found = abs(float(value)) if isinstance(value, int | float | str) and len(str(value)) <= 32 else None
    except ValueError:
        return None
    return found if found is not None and found < 2**40 else None
