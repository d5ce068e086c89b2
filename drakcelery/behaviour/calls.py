"""Functions of Windows that say much about a program, as apimon and syscalls log them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from drakcelery.behaviour.events import Event, Handler, bounded, whole_number
from drakcelery.behaviour.methods import FROM, METHOD, NUMBER, Sieve
from drakcelery.behaviour.report import CallActivity
from drakcelery.behaviour.tables import Budget, Row, Table, Who

MOST = 1000
_MOST_HEADS = 4096
_MOST_HEAD = 512
_PID = b'"PID":'
_TIME = b'"TimeStamp":"'
_DIGITS = 17
"""Of a time, its point included."""
KEY_CALLS: Mapping[str, tuple[str, ...]] = {
    "injection": (
        *("CreateRemoteThread", "CreateRemoteThreadEx", "RtlCreateUserThread", "NtCreateThreadEx"),
        *("WriteProcessMemory", "NtWriteVirtualMemory", "VirtualAllocEx", "QueueUserAPC", "NtQueueApcThread"),
        *("SetThreadContext", "NtSetContextThread", "NtUnmapViewOfSection"),
    ),
    "execution": (
        *("CreateProcess", "CreateProcessInternal", "CreateProcessAsUser", "CreateProcessWithLogon"),
        *("CreateProcessWithToken", "ShellExecute", "ShellExecuteEx", "WinExec", "system"),
        *("RtlCreateUserProcess",),
    ),
    "service": ("CreateService", "StartService", "DeleteService", "ControlService", "OpenService"),
    "network": (
        *("URLDownloadToFile", "URLDownloadToCacheFile", "InternetOpenUrl", "InternetConnect"),
        *("HttpOpenRequest", "HttpSendRequest", "WinHttpConnect", "WinHttpOpenRequest", "WinHttpSendRequest"),
        *("connect", "WSAConnect", "getaddrinfo", "GetAddrInfo", "gethostbyname"),
    ),
    "cryptography": (
        *("CryptEncrypt", "CryptDecrypt", "CryptGenKey", "CryptExportKey", "CryptProtectData"),
        *("CryptUnprotectData", "BCryptEncrypt", "BCryptDecrypt"),
    ),
    "spying": (
        *("SetWindowsHookEx", "GetAsyncKeyState", "GetKeyState", "GetClipboardData", "BitBlt"),
        *("RegisterRawInputDevices",),
    ),
    "evasion": (
        *("IsDebuggerPresent", "CheckRemoteDebuggerPresent", "NtQueryInformationProcess", "NtDelayExecution"),
        *("GetLastInputInfo", "GlobalMemoryStatusEx", "CreateToolhelp32Snapshot"),
    ),
    "privilege": ("AdjustTokenPrivileges", "LookupPrivilegeValue", "ImpersonateLoggedOnUser"),
    "system": ("ExitWindowsEx", "InitiateSystemShutdownEx", "InitiateShutdown", "DeviceIoControl"),
}
_WIDTHS = ("", "A", "W")
CATEGORIES = {
    f"{name}{width}": (category, name)
    for category, names in KEY_CALLS.items()
    for name in names
    for width in _WIDTHS
}
"""Category and plain name by the name in the log."""

_ARGUMENT = re.compile(r'Arg\d{1,3}=(?:(0x[0-9a-fA-F]{1,16}):)?(?:"(.*)"|(0x[0-9a-fA-F]{1,16}))', re.DOTALL)
_ESCAPED = re.compile(r'(?:[^\\]|\\(?:[\\tnr"]|x[0-9A-F]{2}))*')
_ESCAPE = re.compile(r'\\([\\tnr"]|x[0-9A-F]{2})')
_LETTERS = {"t": "\t", "n": "\n", "r": "\r"}


class Calls:
    """How often each was called, and who else wants to know of a call."""

    def __init__(self, budget: Budget, hooks: Mapping[str, Handler]) -> None:
        """*hooks* are told of the calls of a function, by its plain name."""
        self.table = Table("calls", MOST, budget)
        self._hooks = hooks
        plain = {f"{name}{width}": ("", name) for name in hooks for width in _WIDTHS}
        self._known = plain | CATEGORIES
        self.methods: Mapping[str, Handler] = dict.fromkeys(self._known, self._called)
        self._sieve = Sieve(self.methods)
        self._heads: dict[bytes, Row] = {}
        """By the middle of a line, with thread and method: where another such line is only counted."""
        self._counted: Row | None = None

    def among(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        """Those of *lines* that are to be read; a call that a thread has made before is counted here.

        Each is to be read before the next one is asked for.
        """
        for line in self._sieve.among(lines):
            begin = line.find(_PID)
            head = line[begin : line.find(NUMBER, FROM)]
            time = begin - 2 - _DIGITS
            row = self._heads.get(head)
            if row is not None and line[time - len(_TIME) : time] == _TIME:
                row.count += 1
                row.last = line[time : begin - 2].decode("ascii", "replace")
                continue
            self._counted = None
            yield line
            if self._counted is not None and METHOD in head and len(head) < _MOST_HEAD:
                if len(self._heads) >= _MOST_HEADS:
                    self._heads.clear()
                self._heads[head] = self._counted

    def handler(self, event: Event) -> Handler | None:
        """What reads *event*; None if it is no call that is counted, or that someone wants to know of."""
        return self.methods.get(event.method)

    def _called(self, event: Event) -> None:
        found = self._known.get(event.text("Method", 64))
        if found is None:
            return
        category, name = found
        row = self.table.add(event, category, name) if category else None
        hook = self._hooks.get(name)
        if hook is not None:
            hook(event)
        else:
            self._counted = row

    def report(self, processes: Who) -> Iterator[CallActivity]:
        """What is known of each."""
        for row in self.table:
            category, name = row.key
            yield CallActivity(
                category=category,
                function=name,
                **row.seen(processes),
            )


def argument_text(event: Event, number: int) -> str:
    """An argument that is a text; empty if it is none."""
    match = _ARGUMENT.fullmatch(_argument(event, number))
    if match is None or match[2] is None:
        return ""
    return bounded(unescaped(match[2]))


def argument_number(event: Event, number: int) -> int | None:
    """An argument that is a number, such as a handle."""
    match = _ARGUMENT.fullmatch(_argument(event, number))
    return whole_number(match[1] or match[3]) if match is not None else None


def _argument(event: Event, number: int) -> str:
    arguments = event.fields.get("Arguments")
    found = arguments[number] if isinstance(arguments, list) and number < len(arguments) else None
    return found if isinstance(found, str) else ""


def returned_false(event: Event) -> bool:
    """Whether the call failed, for a function that gives 0 (``FALSE``, ``NULL``) then."""
    return whole_number(event.fields.get("ReturnValue")) == 0


def unescaped(text: str) -> str:
    r"""DRAKVUF escapes backslashes here, the emulator does not: then not each has its second."""
    if "\\\\" not in text or _ESCAPED.fullmatch(text) is None:
        return text
    return _ESCAPE.sub(lambda match: _character(match[1]), text)


def _character(found: str) -> str:
    return chr(int(found[1:], 16)) if found[0] == "x" else _LETTERS.get(found, found)
