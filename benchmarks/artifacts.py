"""Log split and dump packing against the naive way, on data made here; one run, ratios.

    python benchmarks/artifacts.py [--megabytes N]

Figures depend on the machine; the ratios hardly do. Nothing here is a gate.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from pydantic_core import _pydantic_core

from drakcelery.artifacts import LOGGED_PLUGINS
from drakcelery.artifacts.dumps import pack_dumps
from drakcelery.artifacts.log import split_log

MB = 1000**2
DUMP_SIZE = 4 * MB
_START = re.compile(rb'\{"Plugin": ?"([a-z][a-z0-9_]{0,31})"')


def write_log(path: Path, size: int) -> None:
    """A log like DRAKVUF's: lines of 200 to 400 bytes of a few plugins."""
    plugins = ("procmon", "filetracer", "regmon", "syscalls", "apimon")
    values = {"PID": 4, "PPID": 0, "ProcessName": "\\Device\\HarddiskVolume2\\Windows\\System32\\svchost.exe"}
    lines = [
        json.dumps(
            {"Plugin": plugin, "TimeStamp": f"{number}.123456", **values, "Arguments": ["0x1"] * number}
        )
        for number in range(20)
        for plugin in plugins
    ]
    block = ("\n".join(lines) + "\n").encode()
    with path.open("wb") as file:
        for _ in range(size // len(block)):
            file.write(block)


def write_dumps(directory: Path, size: int) -> None:
    """Dumps like a program's memory: a library's code, and a half of zeros."""
    directory.mkdir()
    program = Path(_pydantic_core.__file__).read_bytes()
    half = (program * (DUMP_SIZE // len(program) + 1))[: DUMP_SIZE // 2]
    for number in range(size // DUMP_SIZE):
        content = os.urandom(16) + half + bytes(DUMP_SIZE // 2)
        (directory / f"{number * 0x1000:08x}_{number:016x}").write_bytes(content)


def naive_split(log: Path, out: Path) -> None:
    """As v0.18: every line decoded and encoded again."""
    files: dict[str, BinaryIO] = {}
    with log.open("rb") as source:
        for line in source:
            entry = json.loads(line.decode())
            plugin = entry["Plugin"]
            if plugin not in files:
                files[plugin] = (out / plugin).open("wb")
            files[plugin].write(json.dumps(entry).encode() + b"\n")
    for file in files.values():
        file.close()


def unchecked_split(log: Path, out: Path) -> None:
    """The fastest: looks at the start of each line, and passes half a line on as a whole one."""
    files: dict[bytes, BinaryIO] = {}
    with log.open("rb") as source:
        for line in source:
            if match := _START.match(line):
                plugin = match[1]
                if plugin not in files:
                    files[plugin] = (out / plugin.decode()).open("wb")
                files[plugin].write(line)
    for file in files.values():
        file.close()


def naive_pack(dumps: Path, target: Path) -> None:
    """The standard library's zip, at zlib's usual level."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(dumps.iterdir()):
            archive.write(path, f"dumps/{path.name}")


def measure(name: str, size: int, work: Callable[[Path], object], base: float | None = None) -> float:
    """Run *work* in a directory of its own; print and return its MB/s."""
    with tempfile.TemporaryDirectory() as directory:
        begin = time.perf_counter()
        work(Path(directory))
        speed = size / MB / (time.perf_counter() - begin)
    ratio = f"  {speed / base:5.1f}x" if base else ""
    sys.stdout.write(f"{name:<34}{speed:8.0f} MB/s{ratio}\n")
    return speed


def main() -> None:
    """Make the data, then measure each variant once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=200, help="size of the log, and of the dumps")
    size = parser.parse_args().megabytes * MB
    with tempfile.TemporaryDirectory() as directory:
        log, dumps = Path(directory, "drakmon.log"), Path(directory, "dumps")
        write_log(log, size)
        write_dumps(dumps, size)
        base = measure("log, json decoded and encoded", size, lambda out: naive_split(log, out))
        measure("log, parsed, passed through", size, lambda out: split_log(log, out, LOGGED_PLUGINS), base)
        measure("log, unchecked (loses lines)", size, lambda out: unchecked_split(log, out), base)
        base = measure("dumps, zipfile", size, lambda out: naive_pack(dumps, out / "zip"))
        caps = {"total_size": size, "single_size": size}
        measure("dumps, ISA-L", size, lambda out: pack_dumps(dumps, out / "zip", **caps), base)


if __name__ == "__main__":
    main()
