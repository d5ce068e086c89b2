"""The log split, against that of DRAKVUF Sandbox itself, and against a parser for each line."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from benchmarks import sandbox_postprocess
from benchmarks.measuring import MB, Result, in_turn, medians, seconds
from drakcelery.artifacts import LOGGED_PLUGINS
from drakcelery.artifacts.log import split_log

SIZE = 400 * MB
QUICK_SIZE = 100 * MB
RUNS, QUICK_RUNS = 5, 1
_LINES = 50_000
_PLUGINS = ("apimon", "apimon", "procmon", "filetracer", "regmon", "syscall", "sysret", "exmon", "filedelete")
_PROGRAM = "\\Device\\HarddiskVolume2\\Users\\user\\Desktop\\sample.exe"


def write_log(path: Path, size: int) -> None:
    """A log like DRAKVUF's: lines of 200 to 500 bytes, those of several plugins among each other."""
    chance = random.Random(1)  # noqa: S311 # the same log every time, no secret
    lines = [json.dumps(_entry(number, chance)) + "\n" for number in range(_LINES)]
    block = "".join(lines).encode()
    with path.open("wb") as file:
        while (left := size - file.tell()) > 0:
            file.write(block if left >= len(block) else block[: block.index(b"\n", left - 1) + 1])


def _entry(number: int, chance: random.Random) -> dict[str, Any]:
    plugin = chance.choice(_PLUGINS)
    entry: dict[str, Any] = {
        "Plugin": plugin,
        "TimeStamp": f"17171710{number // 1000:02}.{chance.randrange(10**6):06}",
        "PID": chance.randrange(4, 9000, 4),
        "PPID": chance.randrange(4, 9000, 4),
        "TID": chance.randrange(4, 9000, 4),
        "UserName": "SessionID",
        "UserId": chance.randrange(2),
        "ProcessName": _PROGRAM,
        "Method": chance.choice(("NtCreateFile", "NtOpenKey", "NtQueryValueKey", "LdrLoadDll")),
        "EventUID": hex(number),
    }
    if plugin == "apimon":
        arguments = [f"Arg{n}={chance.getrandbits(40):#x}" for n in range(chance.randrange(6))]
        entry |= {"Event": "api_called", "CLSID": None, "ReturnValue": "0x0", "Arguments": arguments}
    elif plugin in {"syscall", "sysret"}:
        entry |= {"Module": "nt", "vCPU": 1, "CR3": hex(chance.getrandbits(36)), "Syscall": 85, "NArgs": 11}
    elif plugin == "regmon":
        entry |= {"Key": "\\REGISTRY\\MACHINE\\SOFTWARE\\Microsoft\\Windows NT", "ValueName": "Version"}
    else:
        name = f"\\??\\C:\\Windows\\System32\\{chance.getrandbits(60):x}.dll"
        entry |= {"FileName": name, "FileHandle": "0x1c4"}
    return entry


def by_orjson(log: Path, out: Path) -> None:
    """Every line parsed by orjson, and passed on."""
    files: dict[str, BinaryIO] = {}
    with log.open("rb") as source:
        for line in source:
            _file(files, out, orjson.loads(line)["Plugin"]).write(line)
    for file in files.values():
        file.close()


def _file(files: dict[str, BinaryIO], out: Path, plugin: str) -> BinaryIO:
    if plugin not in files:
        files[plugin] = (out / plugin).open("wb")
    return files[plugin]


def copied(log: Path, out: Path) -> None:
    """The limit: the bytes read, hashed and written, on one thread."""
    digest = hashlib.sha256()
    with log.open("rb") as source, (out / "copy").open("wb") as target:
        while block := source.read(MB):
            digest.update(block)
            target.write(block)


def measure(*, quick: bool) -> list[Result]:
    """MB of log a second, its files hashed on the way, which the peers do not."""
    size, runs = (QUICK_SIZE, QUICK_RUNS) if quick else (SIZE, RUNS)
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory, "drakmon.log")
        write_log(log, size)

        def speed(work: Callable[[Path, Path], object]) -> Callable[[], float]:
            def run() -> float:
                out = Path(directory, "out")
                out.mkdir()
                rate = size / MB / seconds(lambda: work(log, out))
                shutil.rmtree(out)
                return rate

            return run

        found = in_turn(
            {
                "ours": speed(lambda log, out: split_log(log, out, LOGGED_PLUGINS)),
                "orjson": speed(by_orjson),
                "copy": speed(copied),
                **sandbox_postprocess.speed(log, sandbox_postprocess.SPLIT),
            },
            runs=runs,
        )
    rate = medians(found)
    return [
        Result(
            name="log split",
            unit="MB/s",
            ours=rate["ours"],
            peer=rate.get(peer),
            peer_name=peer_name,
            limit=rate["copy"],
            runs=runs,
        )
        for peer, peer_name in (
            (sandbox_postprocess.NAME, sandbox_postprocess.NAME),
            ("orjson", "orjson for each line"),
        )
    ]
