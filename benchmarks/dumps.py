"""Dumps to a zip, against the standard library and the programs that everyone has."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from pydantic_core import _pydantic_core

from benchmarks.measuring import MB, Result, in_turn, medians, seconds
from drakcelery.artifacts.dumps import pack_dumps

SIZE = 200 * MB
QUICK_SIZE = 48 * MB
RUNS, QUICK_RUNS = 5, 1
DUMP_SIZE = 4 * MB
PROGRAMS = {
    "zip -1": 'zip -1 -q -r "$1" "$0"',
    "7z -mx1": '7z a -bso0 -bsp0 -tzip -mx1 "$1" "$0"',
    "pigz -1": 'tar -C "$0" -c . | pigz -1 > "$1"',
}
"""Peers: a shell's command each, from the directory ``$0`` to the file ``$1``."""


def write_dumps(directory: Path, size: int) -> None:
    """Dumps like a program's memory: a library's code, something incompressible, and zeros."""
    directory.mkdir()
    program = Path(_pydantic_core.__file__).read_bytes()
    code = (program * (DUMP_SIZE // len(program) + 1))[: DUMP_SIZE // 2]
    noise = DUMP_SIZE // 8
    for number in range(size // DUMP_SIZE):
        content = os.urandom(noise) + code + bytes(DUMP_SIZE - len(code) - noise)
        (directory / f"{number * 0x1000:08x}_{number:016x}").write_bytes(content)


def ours(dumps: Path, target: Path) -> None:
    """As collect does it; hashed on the way."""
    pack_dumps(dumps, target, total_size=2**40, single_size=2**40)


def by_zipfile(dumps: Path, target: Path) -> None:
    """The standard library's zip, at zlib's usual level."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(dumps.iterdir()):
            archive.write(path, f"dumps/{path.name}")


def read_and_hashed(dumps: Path, target: Path) -> None:
    """The limit: each byte read and hashed once. Its own digest is all that it writes."""
    digest = hashlib.sha256()
    for path in sorted(dumps.iterdir()):
        digest.update(path.read_bytes())
    target.write_text(digest.hexdigest())


def installed() -> dict[str, Callable[[Path, Path], object]]:
    """The peers that this machine has."""
    ways = {name: _shell(command) for name, command in PROGRAMS.items() if shutil.which(name.split()[0])}
    return {"zipfile": by_zipfile, **ways}


def _shell(command: str) -> Callable[[Path, Path], object]:
    return lambda dumps, target: subprocess.run(["/bin/sh", "-c", command, dumps, target], check=True)


def measure(*, quick: bool) -> list[Result]:
    """MB of dumps a second against each peer, and what part of the size is left."""
    size, runs = (QUICK_SIZE, QUICK_RUNS) if quick else (SIZE, RUNS)
    left: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as directory:
        dumps, target = Path(directory, "dumps"), Path(directory, "dumps.zip")
        write_dumps(dumps, size)

        def speed(name: str, work: Callable[[Path, Path], object]) -> Callable[[], float]:
            def run() -> float:
                rate = size / MB / seconds(lambda: work(dumps, target))
                left[name] = target.stat().st_size / size
                target.unlink()
                return rate

            return run

        ways = {"ours": ours, **installed(), "limit": read_and_hashed}
        rate = medians(in_turn({name: speed(name, way) for name, way in ways.items()}, runs=runs))
    results = [
        Result(
            name="dumps to zip",
            unit="MB/s",
            ours=rate["ours"],
            peer=rate.get(name),
            peer_name=name,
            limit=rate["limit"],
            runs=runs,
        )
        for name in ("zipfile", *PROGRAMS)
    ]
    size_left = Result(
        name="dumps, size left",
        unit="%",
        ours=100 * left["ours"],
        peer=100 * left["zipfile"],
        peer_name="zipfile",
        runs=runs,
        less_is_better=True,
    )
    return [*results, size_left]
