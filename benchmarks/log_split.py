"""The log split, against that of DRAKVUF Sandbox itself, and against a parser for each line.

And of lines that no plugin wrote: as many as one log may have.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from benchmarks import sandbox_postprocess
from benchmarks.measuring import MB, Result, in_turn, medians, seconds
from drakcelery.artifacts import LOGGED_PLUGINS
from drakcelery.artifacts.log import BROKEN_LIMIT, split_log

SIZE = 100 * MB
QUICK_SIZE = 40 * MB
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


def write_broken_logs(directory: Path, size: int) -> Mapping[str, Path]:
    """Logs of broken lines, by what they are; of at most so many bytes."""
    chance = random.Random(1)  # noqa: S311 # no secret
    lines = [json.dumps(_entry(number, chance)).encode() for number in range(1000)]
    halves = [line[: len(line) // 2] for line in lines]
    kinds = {
        "empty lines": [b""],
        "broken lines": halves,
        "lines glued to half a line": [half + line for half, line in zip(halves, lines, strict=True)],
    }
    logs = {}
    for name, broken in kinds.items():
        block = b"".join(line + b"\n" for line in broken)
        logs[name] = directory / name
        logs[name].write_bytes(block * min(BROKEN_LIMIT // len(broken), size // len(block)))
    return logs


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


def _speed(work: Callable[[Path, Path], object], log: Path, out: Path) -> Callable[[], float]:
    """Measures how many MB of *log* a second *work* splits into the directory *out*."""

    def run() -> float:
        out.mkdir()
        rate = log.stat().st_size / MB / seconds(lambda: work(log, out))
        shutil.rmtree(out)
        return rate

    return run


def _ours(log: Path, out: Path) -> object:
    return split_log(log, out, LOGGED_PLUGINS)


def measure(*, quick: bool) -> list[Result]:
    """MB of log a second, its files hashed on the way, which the peers do not."""
    size, runs = (QUICK_SIZE, QUICK_RUNS) if quick else (SIZE, RUNS)
    with tempfile.TemporaryDirectory() as directory:
        log, out = Path(directory, "drakmon.log"), Path(directory, "out")
        write_log(log, size)
        works = {"ours": _ours, "orjson": by_orjson, "copy": copied}
        found = in_turn(
            {name: _speed(work, log, out) for name, work in works.items()}
            | sandbox_postprocess.speed(log, sandbox_postprocess.SPLIT),
            runs=runs,
        )
        logs = write_broken_logs(Path(directory), QUICK_SIZE)
        broken = medians(in_turn({name: _speed(_ours, log, out) for name, log in logs.items()}, runs=RUNS))
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
    ] + [
        Result(name=f"log split, {name}", unit="MB/s", ours=value, runs=RUNS)
        for name, value in broken.items()
    ]
