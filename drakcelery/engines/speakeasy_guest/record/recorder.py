"""What the emulated program did, as log lines and packets.

:class:`Recorder` stands where Speakeasy expects its profiler and has the methods Speakeasy calls on it.
It keeps nothing: each event goes out at once, so that a run may be killed at any time and memory does not
grow with it. An event that Speakeasy reports in the middle of an API call waits for the call's end,
because its line names the handle that the call returned.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any

from drakcelery.engines.speakeasy_guest.naming import escaped, file_name, registry_key
from drakcelery.engines.speakeasy_guest.record import derived
from drakcelery.engines.speakeasy_guest.record.calls import REPEATS_IN_FULL, Call, Repeats
from drakcelery.engines.speakeasy_guest.record.dumps import Block, Dumps
from drakcelery.engines.speakeasy_guest.record.journal import Journal
from drakcelery.engines.speakeasy_guest.record.traffic import Traffic

FILE_METHODS = {
    "create": "NtCreateFile",
    "open": "NtCreateFile",
    "directory_create": "NtCreateFile",
    "write": "NtWriteFile",
    "read": "NtReadFile",
}
REGISTRY_METHODS = {
    "open_key": "NtOpenKey",
    "read_value": "NtQueryValueKey",
    "list_subkeys": "NtEnumerateKey",
    "list_values": "NtEnumerateValueKey",
    "query_key": "NtQueryKey",
    "create_key": "NtCreateKey",
    "set_value": "NtSetValueKey",
    "delete_value": "NtDeleteValueKey",
    "delete_key": "NtDeleteKey",
}
CHANGES = frozenset(
    {"create", "directory_create", "write", "create_key", "set_value", "delete_value", "delete_key"}
)
"""Events of files and the registry after which these are others than before."""


class Recorder:
    """Speakeasy's view of its profiler, and ours of the program."""

    def __init__(
        self, *, journal: Journal, traffic: Traffic, dumps: Dumps, hooked: Collection[str] | None = None
    ) -> None:
        self.journal = journal
        self.traffic = traffic
        self.dumps = dumps
        self._hooked = hooked
        self._call: Call | None = None
        self._repeats = Repeats()
        self._start = time.time()
        self.locate: Callable[[str], str] = lambda name: name
        self.folder = ""
        self.bits = 32
        self.changes = 0
        """How often the program did what others see: to files, the registry, processes, the network."""

    # What the emulator tells about API calls.

    def begin(self, call: Call) -> None:
        """An API call starts."""
        self._call = call

    @property
    def call(self) -> Call | None:
        """The API call that is being answered."""
        return self._call

    def end(self, arguments: list[Any], value: int | None) -> None:
        """The call returns *value*; *arguments* hold text where the emulator read it."""
        call, self._call = self._call, None
        if call is None:
            return
        self._log_call(call, arguments, value)
        for event in call.pending:
            event(arguments, value or 0)
        derived.log(self, call, arguments, value or 0)

    def _log_call(self, call: Call, arguments: list[Any], value: int | None) -> None:
        if self._hooked is not None and call.name.lower() not in self._hooked:
            return
        shown = [f"Arg{number}={_shown(call.raw, number, item)}" for number, item in enumerate(arguments)]
        number = self._repeats.count((call.name, call.called_from, value, *shown))
        if number > REPEATS_IN_FULL and number & (number - 1):
            return
        extra: dict[str, Any] = {"Repeated": number} if number > REPEATS_IN_FULL else {}
        if call.unsupported:
            extra["Unsupported"] = True
        if call.problem is not None:
            extra["Problem"] = call.problem
        self.journal.write(
            "apimon",
            call.name,
            Event="api_called",
            CLSID=None,
            CalledFrom=f"{call.called_from:#x}",
            ReturnValue=f"{(value or 0) & 0xFFFFFFFFFFFFFFFF:#x}",
            Module=call.module,
            Arguments=shown,
            **extra,
        )

    def _after_call(self, event: Callable[[list[Any], int], None]) -> None:
        """Run *event* when the present API call returns, or now where there is none."""
        if self._call is None:
            event([], 0)
        else:
            self._call.pending.append(event)

    # What Speakeasy reports (its names, its arguments).

    def log_file_access(
        self,
        _run: Any,
        path: str,
        event_type: str,
        _data: bytes | None = None,
        handle: int = 0,
        disposition: Any = (),
        access: Any = (),
        _buffer: int = 0,
        size: int | None = None,
    ) -> None:
        """A file was created, opened, read or written."""
        self.changes += event_type in CHANGES
        fields: dict[str, Any] = {"FileName": file_name(path)}
        if size is not None:
            fields["Length"] = f"{size:#x}"
        if access:
            fields["DesiredAccess"] = " | ".join(map(str, access))
        if disposition:
            given = (disposition,) if isinstance(disposition, str) else disposition
            fields["CreateDisposition"] = " | ".join(str(item) for item in given if item)
        if event_type == "directory_create":
            fields["CreateOptions"] = "FILE_DIRECTORY_FILE"
        method = FILE_METHODS.get(event_type, event_type)

        def write(_arguments: list[Any], value: int) -> None:
            known = handle or value
            if method == "NtCreateFile" and 0 < known < 0xFFFFFFFF:
                fields["FileHandle"] = f"{known:#x}"
            self.journal.write("filetracer", method, **fields)

        self._after_call(write)

    def log_registry_access(
        self,
        _run: Any,
        path: str,
        event_type: str,
        value_name: str | None = None,
        data: Any = None,
        *_more: Any,
    ) -> None:
        """A registry key was opened, listed or created, or a value read, set or deleted."""
        self.changes += event_type in CHANGES
        fields: dict[str, Any] = {"Key": registry_key(path or "")}
        if event_type in ("read_value", "set_value", "delete_value"):
            fields["ValueName"] = value_name or "(Default)"
        if event_type == "set_value":
            fields["Value"] = data
        method = REGISTRY_METHODS.get(event_type, event_type)
        self._after_call(lambda _arguments, _value: self.journal.write("regmon", method, **fields))

    def log_process_event(self, _run: Any, process: Any, event_type: str, values: dict[str, Any]) -> None:
        """A process was created, or another one's memory was touched."""
        self.changes += event_type != "create"  # that one counts below
        if event_type == "create":
            path = process.get_process_path() or ""
            line = process.get_command_line() or path
            self.process_created(path, line, pid=process.get_id(), tid=process.threads[0].tid)
        elif event_type == "mem_write" and values.get("data"):
            block = Block(
                base=int(values["base"]),
                reason="NtWriteVirtualMemory called",
                method="NtWriteVirtualMemory",
                pid=process.get_id(),
                target=process.get_id(),
            )
            self.dumps.add(block, [bytes(values["data"])])

    def process_created(self, path: str, command_line: str, *, pid: int = 0, tid: int = 0) -> None:
        """The program started another one."""
        self.changes += 1
        image = self.locate(path)
        self._after_call(
            lambda _arguments, _value: self.journal.write(
                "procmon",
                "NtCreateUserProcess",
                Status="0x0",
                NewPid=pid,
                NewTid=tid,
                CommandLine=escaped(command_line),
                ImagePathName=image,
                CWD=self.folder,
                Bitness=self.bits,
            )
        )

    def log_dns(self, _run: Any, domain: str, ip: str = "") -> None:
        """A host name was looked up."""
        self.changes += 1
        self.traffic.lookup(domain, ip)

    def log_network(
        self,
        _run: Any,
        server: str,
        port: int,
        typ: str = "unknown",
        proto: str = "unknown",
        data: bytes = b"",
        **_more: Any,
    ) -> None:
        """Traffic on a socket: ``connect``, ``data_out``, ``data_in``, ``bind`` or ``accept``."""
        raw = self._call.raw if self._call else []
        key = ("socket", raw[0] if raw else (server, port))
        tcp = proto != "udp"
        self.changes += typ in ("connect", "data_out")
        if typ == "connect":
            self.traffic.connect(key, server, port, tcp=tcp)
        elif typ in ("data_out", "data_in"):
            self.traffic.transfer(key, server, port, data, tcp=tcp, outgoing=typ == "data_out")

    def log_http(
        self, _run: Any, server: str, port: int, headers: Any = "", body: bytes = b"", secure: bool = False
    ) -> None:
        """An HTTP request was sent: by handle (``HttpSendRequest``) or by URL (``InternetOpenUrl``)."""
        self.changes += 1

        def write(arguments: list[Any], value: int) -> None:
            first, second = [*arguments[:2], None, None][:2]
            if isinstance(headers, str) and headers:
                handle = first if isinstance(first, int) else 0
                self.traffic.request(server, port, handle, head=headers, body=body, secure=secure)
            elif isinstance(second, str):
                self.traffic.download(second, value)

        self._after_call(write)

    def log_check(self, url: str) -> None:
        """The program asked whether it can reach a server."""
        self.changes += 1
        self._after_call(lambda _arguments, _value: self.traffic.check(url))

    def log_file_information(self, operation: str, *, ok: bool, **names: str) -> None:
        """A file was deleted or renamed, or it was tried."""
        self.changes += ok
        status = "SUCCESS" if ok else "FAIL"
        self.journal.write("filetracer", "NtSetInformationFile", Operation=operation, **names, Status=status)

    # The rest of Speakeasy's profiler: its report, which this one does not write.

    strings: dict[str, list[str]] = {"ansi": [], "unicode": []}  # noqa: RUF012  # read by Speakeasy, stays empty
    decoded_strings: dict[str, list[str]] = {"ansi": [], "unicode": []}  # noqa: RUF012  # as above

    def add_input_metadata(self, meta: dict[str, Any]) -> None:
        """Not kept."""

    def set_start_time(self) -> None:
        """Emulation starts."""
        self._start = time.time()

    def get_run_time(self) -> float:
        """Seconds since then."""
        return time.time() - self._start

    def stop_run_clock(self) -> None:
        """Not kept."""

    def add_run(self, run: Any) -> None:
        """Not kept."""

    def log_error(self, error: str) -> None:
        """Not kept."""

    def log_dropped_files(self, run: Any, files: Any) -> None:
        """Not kept: each write has its line already."""

    def log_dyn_code(self, run: Any, tag: str, base: int, size: int) -> None:
        """Not kept: the emulator's hook dumps the block."""


def _shown(raw: list[int], number: int, item: Any) -> str:
    """An argument as DRAKVUF prints it: a number in hex, or the address and the text there."""
    if isinstance(item, int):
        return f"{item & 0xFFFFFFFFFFFFFFFF:#x}"
    address = f"{raw[number]:#x}:" if number < len(raw) else ""
    return f'{address}"{item}"'
