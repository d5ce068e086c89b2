"""Values that many tests begin with: an analysis, its record, its failures, what an engine leaves."""

from __future__ import annotations

import json
import struct
from pathlib import Path

from drakcelery.artifacts import collect
from drakcelery.artifacts.metadata import RunFacts
from drakcelery.model.analysis import (
    Analysis,
    Execution,
    Failure,
    Fault,
    ObjectRef,
    Outcome,
    Priority,
    Snapshot,
    Stage,
    State,
)
from drakcelery.model.manifest import Manifest
from drakcelery.model.records import Record


def analysis(**changes: str) -> Analysis:
    """A plain analysis, with *changes*."""
    return Analysis(
        uid="a-1",
        task_uid="{r}:t",
        root_uid="r",
        priority=Priority.NORMAL,
        sample=ObjectRef(bucket="karton", key="k", name="x.exe", sha256="ab" * 32, size=1),
        magic="PE32",
        extension="exe",
        quality="high",
        file_name="malwar",
        timeout=60,
        plugins=("apimon",),
        profile=changes.get("profile", "win10"),
        target_host=changes.get("target_host"),
    )


HERE = ("rack-1", "vm-1")

THERE = ("rack-2", "vm-1")


def failure(where: tuple[str, str], charged: str | None = "slot", fault: Fault = Fault.FAILED) -> Failure:
    return Failure(
        attempt=1,
        stage=Stage.RUN,
        error="no",
        host=where[0],
        slot=where[1],
        fault=fault,
        charged=charged,
        at=0,
    )


def record(*failures: Failure, state: State = State.QUEUED, attempt: int = 9) -> Record:
    return Record(
        uid="a",
        task_uid="t",
        root_uid="r",
        state=state,
        attempt=attempt,
        first_attempt=1,
        failures=failures,
        received=0,
        updated=0,
        updated_text="0",
    )


OUTCOME = Outcome(
    engine="replay 0123",
    snapshot=Snapshot(version=1700000000, sha256="5" * 64),
    started=1700000001,
    finished=1700000061,
    execution=Execution.EXECUTED,
)


def recorded(raw: Path) -> Path:
    """What an engine leaves: a log of three plugins with two bad lines, two dumps, traffic."""
    (raw / "dumps").mkdir(parents=True)
    lines = [
        {"Plugin": "inject", "Status": "Success"},
        {"Plugin": "procmon", "pid": 4},
        {"Plugin": "tlsmon", "client_random": "a" * 64, "master_key": "b" * 96},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (raw / "drakmon.log").write_bytes(text.encode() + b'{"Plugin": "../x"}\n{"Plugin": "procmon", "pid')
    (raw / "dumps" / "1000_00000000000000aa").write_bytes(b"MZ")
    (raw / "dumps" / "2000_00000000000000bb").write_bytes(b"x" * 101)
    (raw / "dump.pcap").write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1) + bytes(20))
    return raw


def collected(tmp_path: Path) -> Manifest:
    """The artifacts of a run in ``analysis`` below *tmp_path*, as collect makes them."""
    return collect(
        raw=recorded(tmp_path / "raw"),
        out=tmp_path / "analysis",
        analysis=analysis(),
        outcome=OUTCOME,
        facts=RunFacts(
            sample_sha256="9" * 64, start_command="C:\\x.exe", host="rack-1", slot="vm-1", attempts=2
        ),
        dumps_total_size=1000,
        dumps_single_size=1000,
    )
