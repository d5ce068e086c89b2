"""What follows an error: the table on top of the module is what its functions do."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from drakcelery.errors import (
    Blame,
    DiskFull,
    DrakceleryError,
    EngineError,
    EvidenceLost,
    GuestLost,
    InDoubt,
    SlotsBlocked,
    StorageAway,
    StorageError,
)
from drakcelery.host import charges
from drakcelery.model.analysis import Failure, Fault, Stage
from drakcelery.settings import Settings
from drakcelery.stages import failures

ENDS: dict[str, tuple[Stage, DrakceleryError]] = {
    "… for storage_patience": (Stage.UPLOAD, StorageAway("S3 is away")),
    "StorageAway in prepare": (Stage.PREPARE, StorageAway("S3 is away")),
    "InDoubt": (Stage.RUN, InDoubt("no process was seen")),
    "GuestLost": (Stage.RUN, GuestLost("gone")),
    "EngineError": (Stage.PREPARE, EngineError("no answer")),
    "SlotsUnusable, a guest": (Stage.RUN, SlotsBlocked("the slot table cannot be written")),
    "DiskFull": (Stage.COLLECT, DiskFull("no space left on the device")),
    "any other": (Stage.COLLECT, EvidenceLost("a file is gone")),
}
"""An error for each row by which an attempt ends, and the stage that it comes from."""
OTHERS = {"BadTask", "Superseded, UnderWay", "Astray", "StorageError after run"}
"""The rows of errors that are dealt with otherwise."""


def table() -> dict[str, dict[str, str]]:
    """The rows by their first column; each by the words above its columns."""
    lines = str(failures.__doc__).splitlines()
    rules = [number for number, line in enumerate(lines) if line.startswith("===")]
    starts = [found.start() for found in re.finditer("=+", lines[rules[0]])]

    def cells(line: str) -> list[str]:
        return [line[a:b].strip() for a, b in pairwise([*starts, None])]

    head, rows = cells(lines[rules[0] + 1]), list[list[str]]()
    for line in lines[rules[1] + 1 : rules[2]]:
        if line.startswith(" "):  # goes on
            rows[-1] = [f"{cell} {more}".strip() for cell, more in zip(rows[-1], cells(line), strict=True)]
        else:
            rows.append(cells(line))
    return {row[0]: dict(zip(head, row, strict=True)) for row in rows}


def failed(fault: Fault, *, charged: Blame | None = None, at: float = 0) -> Failure:
    """An attempt that ended like that."""
    return Failure(attempt=1, stage=Stage.RUN, error="why", fault=fault, charged=charged, at=at)


def test_each_row_is_tried() -> None:
    """No row of the table is left out here."""
    assert set(table()) == set(ENDS) | OTHERS


@pytest.mark.parametrize("name", ENDS)
def test_the_table_is_true(name: str) -> None:
    """Fault, whether it counts, when the next attempt begins, and who is to blame."""
    (stage, error), row = ENDS[name], table()[name]
    fault = failures._fault(stage, error)
    assert row["fault"] == fault.name
    assert row["counts?"].startswith("yes") is (fault in charges.COUNTED)
    assert ("are poison" in row["counts?"]) is (fault in failures.POISON)
    assert row["where next"].endswith("later") is (failures._delay([failed(fault)]) > 0)
    assert (row["whom it blames"] == "nobody") is (charges.blame_of(stage, error) is None)


def test_an_s3_that_refuses_counts() -> None:
    """Only an S3 that does not answer is waited for in prepare."""
    assert failures._fault(Stage.PREPARE, StorageError("there is no such object")) is Fault.FAILED


@pytest.mark.parametrize(
    ("before", "is_end", "words"),
    [
        ([failed(Fault.FAILED)] * 2, False, "why"),
        ([failed(Fault.FAILED)] * 3, True, "why"),
        ([failed(Fault.FAILED), failed(Fault.LOST)], False, "why"),
        ([failed(Fault.LOST)] * 2, True, "poison: 2 attempts lost their process or their slot; last: why"),
        ([failed(Fault.GONE)] * 2, False, "why"),
        ([failed(Fault.GONE)] * 3, True, "poison: 3 attempts lost their worker or their host; last: why"),
        ([failed(Fault.STOPPED)] * 50, False, "why"),
        ([failed(Fault.DOUBTED)] * 50, False, "why"),
        ([failed(Fault.FAILED, charged=Blame.HOST)] * 10, False, "why"),
        ([failed(Fault.FAILED, charged=Blame.HOST)] * 13, True, "why"),
        ([failed(Fault.AWAY), failed(Fault.AWAY, at=3600)], False, "why"),
        ([failed(Fault.AWAY), failed(Fault.AWAY, at=1e6)], True, "why"),
    ],
)
def test_when_it_is_the_end(before: list[Failure], is_end: bool, words: str) -> None:
    """After max_attempts that count, as poison, or once S3 was away for too long."""
    assert failures._is_end(before, Settings()) == (is_end, words)
