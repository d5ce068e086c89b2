"""What the report costs: the log split with it and without it, and DRAKVUF Sandbox's own, in the same run."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import sandbox_postprocess
from benchmarks.measuring import MB, Result, in_turn, medians, seconds
from drakcelery.artifacts import LOGGED_PLUGINS
from drakcelery.artifacts.log import split_log, unwatched
from drakcelery.artifacts.report import Watcher

SIZE = 100 * MB
RUNS, QUICK_RUNS = 9, 3
ALONE = "the split alone"
_LINES = 50_000
_PROCESSES = tuple((pid, 4 + pid // 12 * 4) for pid in range(8, 168, 4))
_IMAGES = ("explorer.exe", "System32\\svchost.exe", "System32\\services.exe", "malwar.exe")
_PLUGINS = {"apimon": 30, "regmon": 30, "filetracer": 25, "procmon": 8, "socketmon": 1, "exmon": 1}
"""Lines of a hundred or so; the plugins that v0.21 has by default."""
_METHODS = {
    "apimon": {"LdrLoadDll": 30, "GetSystemTimeAsFileTime": 30, "RegQueryValueExW": 38, "connect": 1},
    "regmon": {"NtOpenKey": 45, "NtQueryValueKey": 45, "NtEnumerateKey": 8, "NtSetValueKey": 2},
    "filetracer": {
        "NtCreateFile": 30,
        "NtOpenFile": 20,
        "NtQueryAttributesFile": 25,
        "NtReadFile": 17,
        "NtWriteFile": 5,
        "NtSetInformationFile": 3,
    },
    "procmon": {"NtProtectVirtualMemory": 95, "NtOpenProcess": 5},
    "socketmon": {"UdpSendMessages": 1},
    "exmon": {"KiDispatchException": 1},
}


_SHARES = ("FILE_SHARE_READ", "FILE_SHARE_READ | FILE_SHARE_WRITE", "FILE_SHARE_READ | FILE_SHARE_DELETE")
_OPTIONS = ("FILE_SYNCHRONOUS_IO_NONALERT", "FILE_SYNCHRONOUS_IO_NONALERT | FILE_NON_DIRECTORY_FILE")


def write_log(path: Path, size: int) -> None:
    """A log like that of a guest with DRAKVUF's default plugins: most lines read something."""
    block = "".join(json.dumps(one, separators=(",", ":")) + "\n" for one in guest_lines(_LINES)).encode()
    with path.open("wb") as file:
        while (left := size - file.tell()) > 0:
            file.write(block if left >= len(block) else block[: block.index(b"\n", left - 1) + 1])


def guest_lines(lines: int) -> Iterator[dict[str, Any]]:
    """So many *lines* of it, the same ones every time."""
    chance = random.Random(1)  # noqa: S311 no secret
    for number in range(lines):
        plugin = chance.choices(list(_PLUGINS), list(_PLUGINS.values()))[0]
        methods = _METHODS[plugin]
        pid, ppid = chance.choice(_PROCESSES)
        head = {"Plugin": plugin, "TimeStamp": f"17171710{number // 1000:02}.{number % 1000:06}", "PID": pid}
        image = f"\\Device\\HarddiskVolume2\\Windows\\{_IMAGES[pid % len(_IMAGES)]}"
        common = {"PPID": ppid, "TID": pid + 4, "UserId": 1, "ProcessName": image}
        method = chance.choices(list(methods), list(methods.values()))[0]
        yield {**head, **common, "Method": method, "EventUID": hex(number), **_fields(chance, plugin, method)}


def _fields(chance: random.Random, plugin: str, method: str) -> dict[str, Any]:
    name = f"\\??\\C:\\Users\\user\\AppData\\Local\\{chance.randrange(500):x}.dat"
    handle = {"FileHandle": hex(chance.randrange(4, 4000, 4))}
    if plugin == "regmon":
        key = (
            f"\\REGISTRY\\MACHINE\\SOFTWARE\\Microsoft\\Windows NT\\CurrentVersion\\{chance.randrange(500):x}"
        )
        return {"Key": key, "ValueName": "Version", "Value": "10.0"}
    if method in {"NtCreateFile", "NtOpenFile"}:
        return {"FileName": name, **handle, **_opening(chance, method)}
    if plugin == "filetracer":
        return {"Operation": "FileBasicInformation", "FileName": name[6:], **handle}
    if plugin == "apimon":
        arguments = [f"Arg{n}={chance.getrandbits(40):#x}" for n in range(chance.randrange(6))]
        result = {"Event": "api_called", "CLSID": None, "CalledFrom": "0x7ffaa0", "ReturnValue": "0x0"}
        return {**result, "FromModule": "kernel32.dll", "Arguments": arguments, "Extra": {}}
    address = {"LocalIp": "10.13.1.7", "LocalPort": 50000, "RemoteIp": f"192.0.2.{chance.randrange(250)}"}
    address |= {"RemotePort": 53, "Protocol": "UDPv4"}
    return address if plugin == "socketmon" else {"ProcessHandle": "0x44", "ClientID": 8}


def _opening(chance: random.Random, method: str) -> dict[str, Any]:
    """In DRAKVUF's order (``print_create_file_obj_info`` of ``src/plugins/filetracer/win.cpp``)."""
    writes = chance.random() < 0.1
    share, options = chance.choice(_SHARES), chance.choice(_OPTIONS)
    fields = {
        "ObjectAttributes": "OBJ_CASE_INSENSITIVE",
        "IoStatusBlock": 1,
        "DesiredAccess": "FILE_WRITE_DATA | SYNCHRONIZE" if writes else "FILE_READ_DATA | SYNCHRONIZE",
    }
    if method == "NtOpenFile":
        return {**fields, "ShareAccess": share, "OpenOptions": options, "Status": "0x0"}
    more = {"FileAttributes": "", "ShareAccess": share, "CreateDisposition": "FILE_OPEN"}
    return {**fields, **more, "CreateOptions": options, "Status": "0x0"}


def measure(*, quick: bool) -> list[Result]:
    """MB of log a second, split with the report, against the split alone."""
    runs = QUICK_RUNS if quick else RUNS
    with tempfile.TemporaryDirectory() as directory:
        log, out = Path(directory, "drakmon.log"), Path(directory, "out")
        write_log(log, SIZE)

        def speed(watch: Callable[[], Any]) -> Callable[[], float]:
            def run() -> float:
                out.mkdir()
                watcher = watch()
                rate = SIZE / MB / seconds(lambda: split_log(log, out, LOGGED_PLUGINS, watch=watcher))
                shutil.rmtree(out)
                return rate

            return run

        ours = {"with": speed(lambda: Watcher("uid")), ALONE: speed(lambda: unwatched)}
        theirs = sandbox_postprocess.speed(log, sandbox_postprocess.REPORT)
        rate = medians(in_turn({**ours, **theirs}, runs=runs))
    return [
        Result(
            name="log split with the report",
            unit="MB/s",
            ours=rate["with"],
            peer=rate.get(peer),
            peer_name=peer,
            runs=runs,
        )
        for peer in (ALONE, sandbox_postprocess.NAME)
    ]
