"""A guest's log, line by line, and the report that is made of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from drakcelery.artifacts import collect
from drakcelery.artifacts.metadata import RunFacts
from drakcelery.behaviour.report import Report
from drakcelery.model.analysis import Outcome
from drakcelery.model.manifest import Manifest
from tests import builders
from tests.builders import OUTCOME
from tests.hostile import Line

SAMPLE = r"\Device\HarddiskVolume2\Users\user\Desktop\malwar.exe"
EXPLORER = r"\Device\HarddiskVolume2\Windows\explorer.exe"


class Log:
    """Lines as DRAKVUF writes them: of the sample, pid 200, unless another process is named."""

    def __init__(self) -> None:
        self.lines: list[Line] = []

    def add(self, plugin: str, method: str, *, pid: int = 200, ppid: int = 100, **fields: Any) -> None:
        """A line of *plugin*, a second after the one before."""
        number = len(self.lines) + 1
        head = {"Plugin": plugin, "TimeStamp": f"{1700000000 + number}.500000", "PID": pid, "PPID": ppid}
        common = {"TID": 1, "UserId": 1, "ProcessName": SAMPLE if pid == 200 else EXPLORER}
        self.lines.append({**head, **common, "Method": method, "EventUID": hex(number), **fields})

    def started(self) -> Log:
        """The sample runs, started by DRAKVUF's injector from explorer, as procmon then lists."""
        head = {"Plugin": "procmon", "TimeStamp": "1700000000.000000"}
        success: Line = {"Status": "Success", "ProcessName": SAMPLE, "Arguments": "", "InjectedPid": 200}
        self.lines += [
            {"Plugin": "inject", "TimeStamp": "1699999999.000000", "Method": "CreateProc", **success},
            {**head, "PID": 100, "PPID": 4, "RunningProcess": EXPLORER, "Bitness": 64},
            {**head, "PID": 200, "PPID": 100, "RunningProcess": SAMPLE, "Bitness": 32},
        ]
        return self

    def write(self, raw: Path) -> Path:
        """The directory of an engine's output with this log."""
        raw.mkdir()
        text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in self.lines)
        (raw / "drakmon.log").write_text(text, encoding="utf-8")
        return raw


def collected(raw: Path, outcome: Outcome = OUTCOME) -> Manifest:
    """Collect from *raw* into ``out`` beside it."""
    return collect(
        raw=raw,
        out=raw.parent / "out",
        analysis=builders.analysis(),
        outcome=outcome,
        facts=RunFacts(sample_sha256="9" * 64, start_command="x", host="h", slot="vm-1", attempts=1),
        dumps_total_size=1000,
        dumps_single_size=1000,
    )


def reported(log: Log, tmp_path: Path, **changes: Any) -> Report:
    """The report of an analysis with this log."""
    collected(log.write(tmp_path / "raw"), OUTCOME.model_copy(update={"complete": True, **changes}))
    return Report.model_validate_json((tmp_path / "out" / "report.json").read_bytes())


def opened(log: Log, path: str, handle: str, *, rights: str = "FILE_WRITE_DATA", result: int = 2) -> None:
    """A file was opened; *result*: 1 opened, 2 created, 3 overwritten."""
    fields: Line = {"FileName": path, "FileHandle": handle, "IoStatusBlock": result, "DesiredAccess": rights}
    log.add("filetracer", "NtCreateFile", **fields, CreateOptions="", Status="0x0")
