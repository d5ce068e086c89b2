"""What memory collect takes, however large the log and the dumps, and however many lines and names the log
has: each measured in a process of its own.
"""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import structlog

from benchmarks import report
from benchmarks.log_split import write_log
from benchmarks.measuring import MB, Result
from drakcelery.artifacts import collect
from drakcelery.artifacts.metadata import RunFacts
from drakcelery.model.analysis import Analysis, Execution, ObjectRef, Outcome, Priority, Snapshot

SIZE, QUICK_SIZE = 4000 * MB, 1000 * MB
"""Of the log, and of the dumps together; of each, most is a hole in its file."""
SMALL = 100 * MB
_DUMPS = 4
NAMES, FEW_NAMES = 10**6, 2 * 10**5
"""Of files, keys, hosts and so on, each in a line of its own; the smaller number fills every table."""
_NAMED = (
    ("filetracer", "NtCreateFile", r'"FileName":"\\??\\C:\\@","FileHandle":"0x#","IoStatusBlock":2,'),
    ("filetracer", "NtCreateFile", r'"FileName":"\\??\\C:\\@","FileHandle":"0x4","CreateOptions":"@",'),
    ("regmon", "NtSetValueKey", r'"Key":"\\REGISTRY\\@","ValueName":"@","Value":"@",'),
    ("apimon", "CreateMutexW", r'"Arguments":["Arg0=0x0","Arg1=0x1","Arg2=0x7:\"@\""],'),
    ("apimon", "CreateServiceW", r'"Arguments":["Arg0=0x0","Arg1=0x7:\"@\""],"ReturnValue":"0x#",'),
    ("socketmon", "DnsQuery_W", '"DnsName":"@.example",'),
    ("socketmon", "TcpConnect", '"Protocol":"TCPv4","RemoteIp":"@","RemotePort":443,"OwnerPID":#,'),
    ("procmon", "NtCreateUserProcess", '"Status":"0x0","NewPid":#,"ImagePathName":"@","CommandLine":"@",'),
    ("procmon", "NtOpenProcess", '"ProcessHandle":"0x#","ClientID":#,'),
    ("procmon", "NtClose", ""),
    ("wmimon", "ExecQuery", '"Command":"@",'),
    ("memdump", "NtClose", '"DumpFilename":"#","DumpReason":"@","DumpSize":"0x#","TargetPID":#,'),
)
"""Plugin, method and other fields of a line with a name (@), or a number (#)."""


def write(raw: Path, size: int) -> None:
    """A log with a line as long as what :func:`write_log` leaves of *size*, and a few large dumps."""
    (raw / "dumps").mkdir(parents=True)
    write_log(raw / "drakmon.log", SMALL // 2)
    with (raw / "drakmon.log").open("r+b") as log:
        log.truncate(size)
    for number in range(_DUMPS):
        with (raw / "dumps" / f"{number:08x}_{number:016x}").open("wb") as dump:
            dump.truncate(size // _DUMPS)


def write_guest(raw: Path, size: int) -> None:
    """A log of *size* bytes of which every line is a guest's, so that the report reads them all."""
    raw.mkdir(parents=True)
    report.write_log(raw / "drakmon.log", size)


def write_names(raw: Path, names: int) -> None:
    """A log with so many *names*, of which none comes twice."""
    raw.mkdir(parents=True)
    with (raw / "drakmon.log").open("w") as log:
        for number in range(1, names + 1):
            plugin, method, fields = _NAMED[number % len(_NAMED)]
            head = (
                f'{{"Plugin":"{plugin}","TimeStamp":"1700000000.000000","PID":#,"PPID":#,"ProcessName":"@",'
            )
            line = f'{head}"Method":"{method}",{fields}"EventUID":"0x#"}}\n'
            log.write(line.replace("@", f"{number:08x}" * 8).replace("#", str(number)))


def peak(write: Callable[[Path], None]) -> float:
    """The most memory, in MB, that a process held which collected what *write* puts into a directory."""
    with tempfile.TemporaryDirectory() as directory:
        write(Path(directory, "raw"))
        command = [sys.executable, "-m", "benchmarks.collect_memory", directory]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(*, quick: bool) -> list[Result]:
    """How much more memory large inputs take than small ones."""
    size = QUICK_SIZE if quick else SIZE
    large, small = (peak(partial(write, size=one)) for one in (size, SMALL))
    long, short = (peak(partial(write_guest, size=one)) for one in (size, SMALL))
    many, few = (peak(partial(write_names, names=one)) for one in (NAMES, FEW_NAMES))
    grown = {
        f"{size // MB // 1000} GB of log and of dumps than for {SMALL // MB} MB": large - small,
        f"{size // MB // 1000} GB of a guest's lines than for {SMALL // MB} MB": long - short,
        f"{NAMES:,} names in the log than for {FEW_NAMES:,}": many - few,
    }
    return [
        Result(name=f"collect, more memory for {what}", unit="MB", ours=growth, runs=1, less_is_better=True)
        for what, growth in grown.items()
    ]


def high_water() -> float:
    """The most memory, in MB, that this process held. (getrusage counts what its parent held, too.)"""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024 / MB


def run(directory: Path) -> None:
    """Collect what lies in *directory*, as an io worker does."""
    analysis = Analysis(
        uid="uid",
        task_uid="task",
        root_uid="root",
        priority=Priority.NORMAL,
        sample=ObjectRef(bucket="karton", key="key", name="sample"),
        magic="PE32 executable",
        extension="exe",
        quality="high",
        file_name="sample",
        timeout=60,
        plugins=("procmon",),
        profile="default",
    )
    outcome = Outcome(
        engine="replay",
        snapshot=Snapshot(version=1, sha256="0" * 64),
        started=1,
        finished=61,
        execution=Execution.EXECUTED,
    )
    collect(
        raw=directory / "raw",
        out=directory / "out",
        analysis=analysis,
        outcome=outcome,
        facts=RunFacts(
            sample_sha256="0" * 64,
            start_command="sample.exe",
            host="host",
            slot="vm-1",
            attempts=1,
        ),
        dumps_total_size=2**40,
        dumps_single_size=2**40,
    )


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    run(Path(sys.argv[1]))
    print(high_water())
