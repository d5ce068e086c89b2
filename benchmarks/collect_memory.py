"""What memory collect takes, however large the log and the dumps: each measured in a process of its own."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.log_split import write_log
from benchmarks.measuring import MB, Result
from drakcelery.artifacts import LOGGED_PLUGINS
from drakcelery.artifacts.dumps import pack_dumps
from drakcelery.artifacts.log import split_log

SIZE, QUICK_SIZE = 4000 * MB, 1000 * MB
"""Of the log, and of the dumps together; of each, most is a hole in its file."""
SMALL = 100 * MB
_DUMPS = 4


def write(raw: Path, size: int) -> None:
    """A log with a line as long as what :func:`write_log` leaves of *size*, and a few large dumps."""
    (raw / "dumps").mkdir(parents=True)
    write_log(raw / "drakmon.log", SMALL // 2)
    with (raw / "drakmon.log").open("r+b") as log:
        log.truncate(size)
    for number in range(_DUMPS):
        with (raw / "dumps" / f"{number:08x}_{number:016x}").open("wb") as dump:
            dump.truncate(size // _DUMPS)


def peak(size: int) -> float:
    """The most memory, in MB, that a process held which split and packed *size* each."""
    with tempfile.TemporaryDirectory() as directory:
        write(Path(directory, "raw"), size)
        command = [sys.executable, "-m", "benchmarks.collect_memory", directory]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(*, quick: bool) -> list[Result]:
    """How much more memory large inputs take than small ones."""
    size = QUICK_SIZE if quick else SIZE
    growth = peak(size) - peak(SMALL)
    name = f"collect, more memory for {size // MB // 1000} GB of log and of dumps than for {SMALL // MB} MB"
    return [Result(name=name, unit="MB", ours=growth, runs=1, less_is_better=True)]


if __name__ == "__main__":
    here = Path(sys.argv[1])
    split_log(here / "raw" / "drakmon.log", here, LOGGED_PLUGINS)
    pack_dumps(here / "raw" / "dumps", here / "dumps.zip", total_size=2**40, single_size=2**40)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MB)
