"""The benchmarks' runner: what it writes, and that each benchmark is there. No test looks at a time."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import __main__ as runner
from benchmarks import broken_slots, pages
from benchmarks.measuring import Result, in_turn, medians
from benchmarks.pages import Run, filled, remember
from benchmarks.targets import TARGETS, Target, target_of
from benchmarks.ward import Break, Guest, Ward
from tests.reference import ROOT

RATE = Result(name="split", unit="MB/s", ours=300, peer=100, peer_name="json", limit=900, runs=5)
TIME = Result(name="gap", unit="ms", ours=20, peer=60, peer_name="before", runs=7, less_is_better=True)
ALONE = Result(name="idle", unit="%", ours=1.5, runs=5, less_is_better=True)


def test_more_is_better_in_every_ratio() -> None:
    """Three times the peer's rate and a third of its time are both a ratio of three."""
    assert (RATE.ratio, TIME.ratio, ALONE.ratio) == (3, 3, None)


def test_what_is_compared_is_measured_in_turn() -> None:
    """A machine that is busy for a while is busy for all of them."""
    calls: list[str] = []

    def measure(name: str) -> float:
        calls.append(name)
        return len(calls)

    found = in_turn({"a": lambda: measure("a"), "b": lambda: measure("b")}, runs=3)
    assert calls == ["a", "b"] * 3
    assert medians(found) == {"a": 3, "b": 4}


def test_json_has_the_fields_that_scripts_read() -> None:
    """build/bench.json is a list of objects of exactly these fields."""
    rows = json.loads(pages.as_json([RATE, ALONE]))
    fields = {"name", "unit", "ours", "peer", "peer_name", "limit", "ratio", "runs"}
    assert [set(row) for row in rows] == [fields, fields]
    assert (rows[0]["ratio"], rows[1]["ratio"], rows[1]["peer"]) == (3, None, None)


def test_a_missing_peer_is_said() -> None:
    """It is no figure, no ratio and no missed target; a bound of our own figure holds without it."""
    alone = replace(RATE, name="upload of a file", peer=None, peer_name="rclone")
    packed = replace(alone, name="dumps to zip", peer_name="pigz -1", ours=800)
    assert (alone.ratio, ALONE.is_missing) == (None, False)
    rows = pages.rows([alone, packed])
    assert [(row[2], row[3], row[6]) for row in rows] == [
        ("missing (rclone)", "", "not measured"),
        ("missing (pigz -1)", "", "yes"),
    ]


@pytest.mark.parametrize("name", runner.NAMES)
def test_every_benchmark_is_there(name: str) -> None:
    """Each name that the runner offers is a module with a function that measures."""
    measure = importlib.import_module(f"benchmarks.{name}").measure
    assert list(inspect.signature(measure).parameters) == ["quick"]


def test_every_benchmark_is_run() -> None:
    """A module with a function that measures is among the runner's names."""
    directory = ROOT / "benchmarks"
    measuring = {
        path.stem for path in directory.glob("*.py") if "\ndef measure(*, quick: bool)" in path.read_text()
    }
    assert measuring == set(runner.NAMES)


def test_write(tmp_path: Path) -> None:
    """JSON, history, table and pictures; the next run adds a line to the history and replaces the rest."""
    for name in ("docs", "benchmarks"):
        (tmp_path / name).mkdir()
    page = tmp_path / "docs" / "benchmarks.md"
    page.write_text("# Before\n<!-- results -->\nold\n<!-- /results -->\nAfter\n")
    for results in ([RATE], [RATE, TIME, ALONE]):
        runner.write(results, quick=True, root=tmp_path)
    assert len(json.loads((tmp_path / "build" / "bench.json").read_text())) == 3
    history = (tmp_path / "benchmarks" / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["ratios"] for line in history] == [
        {"split / json": 3},
        {"split / json": 3, "gap / before": 3},
    ]
    text = page.read_text()
    assert text.startswith("# Before\n")
    assert text.endswith("After\n")
    assert "make bench QUICK=1" in text
    assert text.count("| split | 300 MB/s | 100 (json) | 3.00 | 900 |") == 1
    for picture in ("bench.png", "bench-history.png"):
        assert (tmp_path / "docs" / "images" / picture).read_bytes().startswith(b"\x89PNG")


def test_equal_figures_give_equal_pictures(tmp_path: Path) -> None:
    """A picture in the repository changes only where a figure with a target did."""
    from benchmarks import pictures  # when it is needed: matplotlib takes a second

    aimed = replace(RATE, name="dumps to zip")
    drawn = {
        "a": [aimed],
        "b": [aimed, RATE, TIME, ALONE],
        "other": [replace(aimed, ours=301)],
        "none": [RATE],
    }
    for name, results in drawn.items():
        pictures.draw_results(results, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert len({(tmp_path / name).read_bytes() for name in ("a", "other", "none")}) == 3


def test_history_is_kept(tmp_path: Path) -> None:
    """What earlier runs wrote is read back as it was."""
    first = Run(commit="abc", date="2026-01-01", quick=False, ratios={"split / json": 2.5})
    second = Run.of([RATE], quick=True)
    assert remember(tmp_path / "history.jsonl", first) == [first]
    assert remember(tmp_path / "history.jsonl", second) == [first, second]


def test_targets() -> None:
    """A bound of a figure, or of a ratio; what is just at the bound has reached it."""
    assert Target(name="split", least=300).is_reached(RATE)
    assert not Target(name="split", least=301).is_reached(RATE)
    assert Target(name="gap", most=20).is_reached(TIME)
    assert not Target(name="gap", most=19).is_reached(TIME)
    assert Target(name="split", least=3, of_ratio=True).is_reached(RATE)
    assert not Target(name="idle", least=0.1, of_ratio=True).is_reached(ALONE)
    assert Target(name="split", least=0.5, of_ratio=True).words("MB/s") == "≥ 50 % of the peer"


def test_a_target_is_for_some_results() -> None:
    """It is found by the name of what was measured, and by the peer where it is about one."""
    assert Target(name="sp.*", least=1).is_for(RATE)
    assert Target(name="split", peer_name="json", least=1).is_for(RATE)
    assert not Target(name="split", peer_name="orjson", least=1).is_for(RATE)
    assert not Target(name="spl", least=1).is_for(RATE)
    assert target_of(ALONE) is None


def test_page_without_a_marker_is_refused() -> None:
    """A table that has no place is not lost silently."""
    with pytest.raises(ValueError, match="expected <!-- results -->"):
        filled("# nothing", "results", "table")


@pytest.mark.parametrize("target", TARGETS, ids=lambda one: one.name)
def test_the_page_says_what_became_of_each_target(target: Target) -> None:
    """docs/benchmarks.md is of a whole run: it has a row for each target, with its bound and the verdict."""
    rows = [line.split(" | ") for line in (ROOT / "docs" / "benchmarks.md").read_text().splitlines()]
    found = [row for row in rows if len(row) == len(pages.HEADS) and re.fullmatch(target.name, row[0][2:])]
    assert found
    assert target.peer_name is None or any(f"({target.peer_name})" in row[2] for row in found)
    assert all(row[5] and row[6] for row in found if target.peer_name is None)


@pytest.mark.slow
def test_a_benchmark_runs_from_the_command_line() -> None:
    """`python -m benchmarks NAME --quick` measures and prints its table."""
    command = (sys.executable, "-m", "benchmarks", "--quick", "log_split")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "MB/s" in done.stdout


def test_a_name_that_is_none_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is measured, and the names that there are are said."""
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--quick", "speed"])
    with pytest.raises(SystemExit) as ended:
        runner.main()
    assert ended.value.code == 2
    assert "no benchmark speed; there are log_split" in capsys.readouterr().err


def test_what_a_broken_slot_did_is_counted() -> None:
    """Published by a broken slot is not published; canaries are no samples; what is fixed is innocent."""
    ill, well = broken_slots.ILL, ("rack-1", "vm-2")
    guests = [(1, ill, "s-0"), (2, ill, "s-1"), (3, well, "s-2"), (20, ill, "canary-1"), (30, ill, "s-3")]
    found = Ward(
        ill={},
        bad=frozenset({"s-4"}),
        guests=[Guest(at=at, place=place, uid=uid) for at, place, uid in guests],
        spoiled={"s-0": True, "s-1": False, "s-2": False, "s-3": False},
        put_aside=[(2.5, ill), (5, well)],
        taken_back=[(8, well), (30, ill)],
        mended=15,
    )
    states = {f"s-{number}": "PUBLISHED" for number in range(4)} | {"s-4": "FAILED"}
    cell = broken_slots.seen(Break.EMPTY_LOG, 2, found, states)
    assert (cell.good, cell.published, cell.spoiled, cell.share) == (4, 3, 1, 75)
    assert (cell.until_aside, cell.in_all, cell.runs, cell.innocent) == (2, 2, 4, 1)
    assert (cell.canaries, cell.back) == (1, 15)
    healthy = broken_slots.seen(None, 2, found, states)
    assert healthy.innocent == 2
    text = broken_slots.table([cell], healthy)
    assert "| log stays empty | 2 | 3 of 4 (75.0 %) | 1 | 2 | 2 | 1 canary, 15 s | 1 in 4 runs |" in text
