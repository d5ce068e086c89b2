"""How much two runs of the same sample seem to differ: by the emulator twice, and by its records as others
would have been written. And whether what really differs is told.
"""

from __future__ import annotations

import json
import random
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measuring import MB, Result
from drakcelery.artifacts import collect
from drakcelery.artifacts.metadata import RunFacts
from drakcelery.behaviour.difference import Difference, difference
from drakcelery.behaviour.report import NAME, Report
from drakcelery.model.analysis import Analysis, Outcome
from tests import builders
from tests.emulating import Bench, Run

Line = dict[str, Any]

PROGRAMS = ("behaviour.exe", "behaviour32.exe", "dropper.exe")
"""Those of our samples that do something."""
REPLAYS, QUICK_REPLAYS = 40, 10
"""For each of them."""
_SAMPLES = Path(__file__).parents[1] / "samples"
_PIDS = ("PID", "PPID", "NewPid", "ExitPid", "OwnerPID", "TargetPID")
_OWN, _OTHER = "drakcelery-", "drakcelery-other-"
"""What our samples call what they make, and what another sample would call it."""
_DAY = 86_400
_NOISE: tuple[Line, ...] = (
    {"Plugin": "filetracer", "Method": "NtCreateFile", "FileName": "\\??\\C:\\Windows\\Temp\\{number}.log"},
    {"Plugin": "filetracer", "Method": "NtCreateFile", "FileName": "\\??\\C:\\ProgramData\\x\\{hex}.db"},
    {
        "Plugin": "regmon",
        "Method": "NtSetValueKey",
        "Key": "\\REGISTRY\\MACHINE\\SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\{hex}",
        "ValueName": "x{number}",
        "Value": "{number}",
    },
)
"""What one of Windows' processes does."""
_LIBRARIES: tuple[Line, ...] = (
    {
        "Plugin": "filetracer",
        "Method": "NtCreateFile",
        "FileName": "\\??\\C:\\Users\\u\\AppData\\Local\\Microsoft\\Windows\\INetCache\\IE\\{hex}\\a.htm",
    },
    {
        "Plugin": "regmon",
        "Method": "NtSetValueKey",
        "Key": "\\REGISTRY\\MACHINE\\SOFTWARE\\Microsoft\\Tracing\\malwar_RASAPI32",
        "ValueName": "FileTracingMask",
        "Value": "0x{number}",
    },
)
"""What Windows' libraries do in a process of the sample's, in some runs."""
_CHANCE: tuple[Line, ...] = (
    *(
        {"Plugin": "filetracer", "Method": "NtCreateFile", "FileName": f"\\??\\C:\\Users\\user\\{path}"}
        for path in (
            "AppData\\Local\\Temp\\ns{letter}{hex4}.tmp\\part.dll",
            "AppData\\Local\\Temp\\~DF{hex}.TMP",
            "AppData\\Local\\Temp\\tmp{hex}",
            "AppData\\Roaming\\{{{guid}}}\\state.db",
            "report-{number}.txt",
        )
    ),
    {
        "Plugin": "regmon",
        "Method": "NtSetValueKey",
        "Key": "\\REGISTRY\\USER\\.Default\\Software\\x\\{{{guid}}}",
        "ValueName": "Id",
        "Value": "{hex}",
    },
)
"""What a sample does under names that each of its runs chooses."""
_WRITES: Mapping[str, Line] = {
    "filetracer": {
        "FileHandle": "0x4",
        "IoStatusBlock": 2,
        "DesiredAccess": "FILE_WRITE_DATA",
        "CreateOptions": "",
        "Status": "0x0",
    },
    "regmon": {},
}
"""The fields that a line of the plugin has besides."""


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What a program did in the emulator."""

    run: Run
    lines: tuple[Line, ...]

    @classmethod
    def of(cls, bench: Bench, program: str) -> Recorded:
        """Detonate one of our samples."""
        run = bench.detonate(_SAMPLES / program, timeout=60)
        return cls(run=run, lines=tuple(run.lines()))

    @property
    def report(self) -> Report:
        """Of the run itself."""
        return reported(self.run.job.raw, self.run.outcome)

    def replayed(self, directory: Path, seed: int, *, other: bool = False) -> Report:
        """Of what another run would have left; *other*: of another sample, with other names."""
        raw = directory / f"{self.run.job.raw.parent.name}-{seed}-{other}"
        raw.mkdir()
        text = "".join(f"{json.dumps(line)}\n" for line in with_jitter(self.lines, seed))
        log, pcap = self.run.job.log, self.run.job.pcap
        (raw / log.name).write_text(text.replace(_OWN, _OTHER) if other else text)
        if pcap.exists():
            (raw / pcap.name).write_bytes(pcap.read_bytes())
        return reported(raw, self.run.outcome)


def reported(raw: Path, outcome: Outcome, analysis: Analysis | None = None) -> Report:
    """The report of what an engine left in *raw*; *analysis*: that of the run, else a plain one."""
    out = raw.parent / f"{raw.name}-out"
    facts = RunFacts(sample_sha256="9" * 64, start_command="x", host="h", slot="vm-1", attempts=1)
    collect(
        raw=raw,
        out=out,
        analysis=analysis or builders.analysis(),
        outcome=outcome,
        facts=facts,
        dumps_total_size=10 * MB,
        dumps_single_size=MB,
    )
    return Report.model_validate_json((out / NAME).read_bytes())


def share(found: Difference) -> float:
    """The share of differences among all that was compared."""
    compared = sum(found.same.values()) + sum(found.alike.values()) + len(found.changes)
    return len(found.changes) / compared


def planted_and_told(first: Report, second: Report) -> tuple[int, int]:
    """How many things the first has under names that the second has not, and how many of them are told."""
    changes = difference(first, second).changes
    told = {(one.kind, one.shown) for one in changes if one.what == "missing"}
    own = {process.seqid for process in first.processes if process.origin != "windows"}
    things = {("files", one.path) for one in first.files if not own.isdisjoint(one.processes)}
    things |= {("registry", f"{one.key} : {one.value_name}") for one in first.registry if one.value_name}
    planted = {thing for thing in things if re.search(_OWN, thing[1])}
    return len(planted), len(planted & told)


def with_jitter(lines: Iterable[Line], seed: int) -> Iterator[Line]:
    """The lines of a log as another run would have written them: other pids, times and random names, and
    something that Windows did meanwhile, in between."""
    jitter = random.Random(seed)  # noqa: S311 no secret
    again = list(lines)
    own = next(line for line in again if line["Plugin"] in _WRITES)
    who = {name: own[name] for name in ("PID", "PPID", "TID", "UserId", "ProcessName")}
    windows = {"PID": 4, "PPID": 0, "TID": 1, "UserId": 0, "ProcessName": "System"}
    known = sorted({line[name] for line in again for name in _PIDS if isinstance(line.get(name), int)})
    pids = dict(zip(known, jitter.sample(range(300, 9000, 4), len(known)), strict=True))
    begun, ended = (float(again[place]["TimeStamp"]) for place in (0, -1))

    def at(line: Line, process: Line) -> Line:
        time = f"{jitter.uniform(begun, ended):.6f}"
        return {"TimeStamp": time, "EventUID": "0x1", **process, **_chosen(line, jitter)}

    made = [at(line, who) for line in _CHANCE]
    made += [at(line, who) for line in _LIBRARIES if jitter.random() < 1 / 2]
    made += [at(jitter.choice(_NOISE), windows) for _ in range(jitter.randrange(20))]
    for line in made:
        again.insert(jitter.randrange(1, len(again)), line)
    for line in again:
        changed = {name: pids[line[name]] for name in _PIDS if line.get(name) in pids}
        time = f"{float(line['TimeStamp']) + _DAY + jitter.random() / 10:.6f}"
        yield {**line, **changed, "TimeStamp": time}


def _chosen(line: Line, jitter: random.Random) -> Line:
    """*line* with what a run chooses by chance."""
    hexadecimal = f"{jitter.getrandbits(64):016X}"
    chosen = {
        "hex": hexadecimal,
        "hex4": hexadecimal[:4],
        "number": str(jitter.randrange(1000, 10**6)),
        "letter": jitter.choice("abcdefghklmnqrstuvwxyz"),
        "guid": "-".join(
            (hexadecimal[:8], hexadecimal[:4], hexadecimal[4:8], hexadecimal[8:12], "0123456789AB")
        ),
    }
    return {**_WRITES[line["Plugin"]], **{name: text.format(**chosen) for name, text in line.items()}}


def measure(*, quick: bool) -> list[Result]:
    """The largest share of false differences, and the share of real ones that are told; in percent."""
    replays = QUICK_REPLAYS if quick else REPLAYS
    twice: list[float] = []
    jittered: list[float] = []
    planted = told = 0
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)  # the emulator's processes have another uid
        bench, directory = Bench(directory), directory / "replayed"
        directory.mkdir()
        for program in PROGRAMS:
            record, again = Recorded.of(bench, program), Recorded.of(bench, program)
            twice.append(share(difference(record.report, again.report)))
            first = record.replayed(directory, 0)
            others = (record.replayed(directory, seed) for seed in range(1, replays + 1))
            jittered.extend(share(difference(first, other)) for other in others)
            found = planted_and_told(first, record.replayed(directory, replays + 1, other=True))
            planted, told = planted + found[0], told + found[1]
    return [
        _percent("false differences, the emulator twice", max(twice), len(twice)),
        _percent("false differences, its records as of other runs", max(jittered), len(jittered)),
        _percent("real differences that are told", told / planted, len(twice), less_is_better=False),
    ]


def _percent(name: str, value: float, runs: int, *, less_is_better: bool = True) -> Result:
    return Result(name=name, unit="%", ours=value * 100, runs=runs, less_is_better=less_is_better)
