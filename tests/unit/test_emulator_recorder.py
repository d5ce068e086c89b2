"""From what Speakeasy reports to DRAKVUF's lines."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from drakcelery.engines.speakeasy_guest.apis.registry import value_text
from drakcelery.engines.speakeasy_guest.naming import (
    USER_SID,
    file_name,
    image_name,
    registry_key,
    without_width,
)
from drakcelery.engines.speakeasy_guest.record.calls import Call, Repeats, context, hooked_functions
from drakcelery.engines.speakeasy_guest.record.dumps import Dumps
from drakcelery.engines.speakeasy_guest.record.journal import Journal
from drakcelery.engines.speakeasy_guest.record.pcap import Capture
from drakcelery.engines.speakeasy_guest.record.recorder import Recorder
from drakcelery.engines.speakeasy_guest.record.traffic import Traffic, host_and_port, request_bytes

PLUGINS = ("apimon", "filetracer", "regmon", "procmon", "socketmon", "memdump")


class Recording:
    """A recorder and what it wrote."""

    def __init__(self, path: Path, hooked: Collection[str] | None = None) -> None:
        self._log = path / "log"
        journal = Journal(
            self._log,
            plugins=PLUGINS,
            limit=1 << 20,
            context=lambda: context(r"\Device\HarddiskVolume2\a.exe", 7, 9),
            on_trouble=lambda: None,
        )
        capture = Capture(path / "dump.pcap", limit=1 << 20)
        self.recorder = Recorder(
            journal=journal,
            traffic=Traffic(journal=journal, capture=capture),
            dumps=Dumps(path / "dumps", journal=journal, single_limit=1 << 20, total_limit=1 << 20),
            hooked=hooked,
        )

    def call(
        self, name: str, arguments: list[Any], value: int = 1, raw: list[int] | None = None, **more: Any
    ) -> None:
        """A call from start to return, without any event in between."""
        self.begin(name, raw or [item for item in arguments if isinstance(item, int)], **more)
        self.recorder.end(arguments, value)

    def begin(self, name: str, raw: list[int], **more: Any) -> None:
        """A call starts."""
        self.recorder.begin(Call(module="KERNEL32", name=name, called_from=0x401000, raw=raw, **more))

    def lines(self, plugin: str | None = None) -> list[dict[str, Any]]:
        """The records, of one plugin or all."""
        records = [json.loads(line) for line in self._log.read_bytes().splitlines()]
        return [record for record in records if plugin in (None, record["Plugin"])]


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    """A recorder without a hook list."""
    return Recording(tmp_path)


def test_a_call_is_an_apimon_line(recording: Recording) -> None:
    """Method, caller, result and arguments by number, text with the address it lay at."""
    recording.call("CreateFileW", ["C:\\a.txt", 0x80], value=0x84, raw=[0x5000, 0x80])
    (line,) = recording.lines("apimon")
    assert line["Method"] == "CreateFileW"
    assert line["Event"] == "api_called"
    assert line["CalledFrom"] == "0x401000"
    assert line["ReturnValue"] == "0x84"
    assert line["Arguments"] == ['Arg0=0x5000:"C:\\a.txt"', "Arg1=0x80"]
    assert (line["PID"], line["TID"]) == (7, 9)
    assert "Unsupported" not in line


def test_an_unsupported_function_says_so(recording: Recording) -> None:
    """A function that was stepped over is marked in the log; one whose handler failed names the problem."""
    recording.call("Unheard", [], value=0, unsupported=True)
    recording.call("ReadFile", [], value=0, problem="KeyError: 3")
    first, second = recording.lines("apimon")
    assert first["Unsupported"] is True
    assert second["Problem"] == "KeyError: 3"


def test_repeated_calls_are_counted_not_piled_up(recording: Recording) -> None:
    """The same call over and over is logged a hundred times, and then with its count at powers of two."""
    for _ in range(1000):
        recording.call("Sleep", [10], value=0)
    lines = recording.lines("apimon")
    assert [line["Repeated"] for line in lines if "Repeated" in line] == [128, 256, 512]
    assert len(lines) == 103


def test_repeats_forget() -> None:
    """What counts repetitions stays small, whatever comes."""
    repeats = Repeats()
    assert [repeats.count((number,)) for number in range(10_000)] == [1] * 10_000
    assert repeats.count((9999,)) == 2
    assert repeats.count((0,)) == 1


def test_a_file_line_names_the_handle_of_its_call(recording: Recording) -> None:
    """What Speakeasy reports during a call is written at its end, with what it returned."""
    recording.begin("CreateFileA", [0x5000])
    recording.recorder.log_file_access(
        None, "C:\\a.txt", "create", None, 0, ["CREATE_ALWAYS"], ["GENERIC_WRITE"]
    )
    assert recording.lines() == []
    recording.recorder.end(["C:\\a.txt"], 0x84)
    (line,) = recording.lines("filetracer")
    assert line["Method"] == "NtCreateFile"
    assert line["FileName"] == "\\??\\C:\\a.txt"
    assert line["FileHandle"] == "0x84"
    assert line["DesiredAccess"] == "GENERIC_WRITE"
    assert line["CreateDisposition"] == "CREATE_ALWAYS"


@pytest.mark.parametrize(
    ("event", "method"),
    [("open_key", "NtOpenKey"), ("create_key", "NtCreateKey"), ("list_subkeys", "NtEnumerateKey")],
)
def test_registry_keys(recording: Recording, event: str, method: str) -> None:
    """Keys are named as the kernel names them."""
    recording.recorder.log_registry_access(None, "HKEY_LOCAL_MACHINE\\Software", event)
    (line,) = recording.lines("regmon")
    assert (line["Method"], line["Key"]) == (method, "\\REGISTRY\\MACHINE\\Software")
    assert "ValueName" not in line


def test_a_registry_value_is_shown(recording: Recording) -> None:
    """Setting a value shows its name and its data; the default value has DRAKVUF's name."""
    recording.recorder.log_registry_access(
        None, "HKEY_CURRENT_USER\\A", "set_value", value_name="v", data="text"
    )
    recording.recorder.log_registry_access(None, "HKEY_CURRENT_USER\\A", "read_value")
    first, second = recording.lines("regmon")
    assert (first["Method"], first["ValueName"], first["Value"]) == ("NtSetValueKey", "v", "text")
    assert first["Key"] == f"\\REGISTRY\\USER\\{USER_SID}\\A"
    assert (second["Method"], second["ValueName"]) == ("NtQueryValueKey", "(Default)")


@pytest.mark.parametrize(
    ("kind", "data", "text"),
    [
        (1, "abc\0".encode("utf-16-le"), "abc"),
        (7, "a\0b\0\0".encode("utf-16-le"), "'a','b'"),
        (4, b"\x01\x02\x03\x04", "01 02 03 04"),
        (1, b"\xff", "\ufffd"),
    ],
)
def test_registry_data_as_drakvuf_prints_it(kind: int, data: bytes, text: str) -> None:
    """Strings as text, lists quoted, everything else as hex bytes."""
    assert value_text(kind, data) == text


def test_a_started_program_is_a_procmon_line(recording: Recording) -> None:
    """The command line and the image of the new process are there."""
    recording.begin("WinExec", [0x5000])
    recording.recorder.process_created("C:\\Windows\\System32\\cmd.exe", "cmd.exe /c x", pid=12, tid=13)
    recording.recorder.end(["cmd.exe /c x"], 32)
    (line,) = recording.lines("procmon")
    assert line["Method"] == "NtCreateUserProcess"
    assert (line["CommandLine"], line["NewPid"]) == ("cmd.exe /c x", 12)
    assert line["ImagePathName"] == "C:\\Windows\\System32\\cmd.exe"


@pytest.mark.parametrize(
    ("name", "arguments", "raw", "plugin", "method", "fields"),
    [
        ("DeleteFileW", ["C:\\a"], [1], "filetracer", "NtSetInformationFile", {"FileName": "\\??\\C:\\a"}),
        ("CreateDirectoryA", ["C:\\d", 0], [1, 0], "filetracer", "NtCreateFile", {"FileName": "\\??\\C:\\d"}),
        (
            "MoveFileExW",
            ["C:\\a", "C:\\b", 0],
            [1, 2, 0],
            "filetracer",
            "NtSetInformationFile",
            {"FileSrc": "\\??\\C:\\a", "FileDst": "\\??\\C:\\b"},
        ),
        *(
            (
                "ExitProcess",
                [code],
                [code],
                "procmon",
                "NtTerminateProcess",
                {
                    "ExitPid": 0,
                    "ExitStatus": f"{code:#x}",
                    "ExitStatusStr": words,
                },  # H7: drakrun's tree has them
            )
            for code, words in ((0, "SUCCESS"), (3, "0x3"))
        ),
        (
            "VirtualProtect",
            [1, 2, 0x40, 3],
            [1, 2, 0x40, 3],
            "procmon",
            "NtProtectVirtualMemory",
            {"NewProtectWin32": "PAGE_EXECUTE_READWRITE"},
        ),
        ("OpenProcess", [0x1F, 0, 44], [0x1F, 0, 44], "procmon", "NtOpenProcess", {"ClientID": 44}),
    ],
)
def test_calls_that_mean_more(
    recording: Recording,
    name: str,
    arguments: list[Any],
    raw: list[int],
    plugin: str,
    method: str,
    fields: dict[str, Any],
) -> None:
    """Calls that Speakeasy reports no event for have their line in the plugin that DRAKVUF would use."""
    recording.call(name, arguments, raw=raw)
    (line,) = recording.lines(plugin)
    assert line["Method"] == method
    assert fields.items() <= line.items()


def test_a_connection_and_its_name(recording: Recording) -> None:
    """A lookup and a connection are socketmon lines with DRAKVUF's field names."""
    recording.recorder.log_dns(None, "host.invalid", "10.1.2.3")
    recording.begin("connect", [4])
    recording.recorder.log_network(
        None, "10.1.2.3", 443, typ="connect", proto="tcp", method="winsock.connect"
    )
    name, connection = recording.lines("socketmon")
    assert name["DnsName"] == "host.invalid"
    assert connection["Protocol"] == "TCPv4"
    assert (connection["RemoteIp"], connection["RemotePort"]) == ("10.1.2.3", 443)
    assert (connection["OwnerPID"], connection["Owner"]) == (7, r"\Device\HarddiskVolume2\a.exe")


def test_another_processs_memory_is_dumped(recording: Recording, tmp_path: Path) -> None:
    """What is written into another process becomes a dump that names its target."""

    class Target:
        """The other process."""

        def get_id(self) -> int:
            """Its process id."""
            return 99

    recording.recorder.log_process_event(
        None, Target(), "mem_write", {"base": 0x7000, "size": 3, "data": b"\x90\xc3"}
    )
    (line,) = recording.lines("memdump")
    assert (line["TargetPID"], line["WriteAddr"]) == (99, "0x7000")
    assert (tmp_path / "dumps" / line["DumpFilename"]).read_bytes() == b"\x90\xc3"


def test_a_hook_list_bounds_apimon(tmp_path: Path) -> None:
    """With a list of the task's own, apimon writes its functions only; the other plugins are not touched."""
    text = """# comment
kernel32.dll,WinExec,log,lpstr
kernel32.dll,Sleep,stack,dword
broken
kernel32.dll,CopyFileW,log+stack
"""
    hooked = hooked_functions(text)
    assert hooked == {"winexec", "copyfilew"}
    recording = Recording(tmp_path, hooked)
    recording.call("Sleep", [1])
    recording.call("WinExec", ["cmd"], raw=[1])
    recording.call("ExitProcess", [0])
    assert [line["Method"] for line in recording.lines()] == ["WinExec", "NtTerminateProcess"]


@pytest.mark.parametrize(
    "url",
    [
        "http://[bad",
        "http://user:pw@host.invalid:8\u00b2/x",
        "",
        "\x00",
        "https://h.invalid/",
        "http://h:99999/",
    ],
)
def test_no_url_breaks_the_record(recording: Recording, url: str) -> None:
    """A hostile URL ends neither the call nor the log."""
    recording.call("URLDownloadToFileW", [0, url, "C:\\x", 0, 0], raw=[0, 1, 2, 0, 0])
    assert recording.lines("apimon")


def test_a_request_goes_over_the_wire_as_http() -> None:
    """Line ends, the whole path and the length of a body are put right."""
    text = request_bytes("POST /a HTTP/1.1\nHost: h\n", "/a?q=1", b"body")
    assert text == b"POST /a?q=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody"


@pytest.mark.parametrize(
    ("convert", "given", "expected"),
    [
        (registry_key, "HKEY_CLASSES_ROOT\\.exe", "\\REGISTRY\\MACHINE\\SOFTWARE\\CLASSES\\.exe"),
        (registry_key, "\\Registry\\Machine\\X", "\\Registry\\Machine\\X"),
        (file_name, "\\\\.\\pipe\\x", "\\\\.\\pipe\\x"),
        (image_name, "C:\\a\\b.exe", "\\Device\\HarddiskVolume2\\a\\b.exe"),
        (without_width, "CreateFileW", "CreateFile"),
        (without_width, "WSA", "WSA"),
    ],
)
def test_names_as_the_kernel_has_them(convert: Any, given: str, expected: str) -> None:
    """Win32 names become the kernel's, what is no such name stays."""
    assert convert(given) == expected


@pytest.mark.parametrize(
    ("server", "host", "port"),
    [
        ("h.example", "h.example", 80),
        ("h.example:8080", "h.example", 8080),
        ("h.example:", "h.example", 80),
        ("h.example:0", "h.example", 80),
        ("h.example:65536", "h.example", 80),
        ("h.example:\u0661", "h.example", 80),
        (f"h.example:{'1' * 5000}", "h.example", 80),
        ("[2001:db8::1]:8080", "2001:db8::1", 8080),
        ("[2001:db8::1]", "2001:db8::1", 80),
        ("2001:db8::1", "2001:db8::1", 80),
        ("", "", 80),
    ],
)
def test_host_and_port(server: str, host: str, port: int) -> None:
    """Of names and addresses of both kinds; what is no port is not one."""
    assert host_and_port(server, 80) == (host, port)
