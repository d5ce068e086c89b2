"""DRAKVUF Sandbox v0.21's own code (``make sandbox``): it makes the same process tree of our procmon.log."""

from __future__ import annotations

import importlib.util
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import sandbox_postprocess
from benchmarks.report import guest_lines
from drakcelery.artifacts import collect
from drakcelery.artifacts.metadata import RunFacts
from drakcelery.engines.speakeasy_guest.naming import escaped
from tests import builders, reference
from tests.conftest import require
from tests.emulating import Bench

SANDBOX = reference.ROOT / "build" / "sandbox"
PINNED = Path(__file__).with_name("sandbox.txt")
THEIRS = """
import importlib.util, json, logging, sys
logging.disable(logging.CRITICAL)
sys.path.insert(0, sys.argv[1])
path = sys.argv[1] + "/drakrun/analyzer/postprocessing/process_tree.py"
spec = importlib.util.spec_from_file_location("process_tree", path)
module = sys.modules["process_tree"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
for log in sys.argv[2:]:
    with open(log) as file:
        print(json.dumps(module.tree_from_log(file).as_dict()))
"""
"""Runs v0.21's code, which is imported from its file: its package needs a Xen host."""
COMMANDS = ("a.exe b", r'"C:\Program Files\x.exe" "b c" \\server\share', "", 'x "y ""z"" w"', "a\tb\\")


@pytest.fixture(scope="module", autouse=True)
def sandbox() -> None:
    """What is to be compared with, or a skip that says how to get it."""
    there = SANDBOX / "sandbox.txt"
    is_there = there.is_file() and there.read_text(encoding="utf-8") == PINNED.read_text(encoding="utf-8")
    require(is_there, "build/sandbox lacks what tests/downstream/sandbox.txt pins: make sandbox")


def theirs(*logs: Path) -> list[Any]:
    """v0.21's trees of some procmon logs."""
    command = [sys.executable, "-c", THEIRS, str(SANDBOX), *map(str, logs)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def collected(raw: Path) -> Path:
    """The artifacts of an engine's output."""
    out = raw.with_name(f"{raw.name}-out")
    collect(
        raw=raw,
        out=out,
        analysis=builders.analysis(),
        outcome=builders.OUTCOME,
        facts=RunFacts(sample_sha256="9" * 64, start_command="x", host="h", slot="vm-1", attempts=1),
        dumps_total_size=10**6,
        dumps_single_size=10**6,
    )
    return out


def guest(seed: int) -> list[dict[str, Any]]:
    """procmon's lines of a guest in which processes come, go, end each other and get more rights."""
    chance = random.Random(seed)  # noqa: S311 the same every time, no secret
    lines: list[dict[str, Any]] = []
    parents: dict[int, int] = {}
    for pid in range(4, 4 * chance.randrange(3, 9), 4):
        parents[pid] = chance.choice([0, *parents])
        head = {"Plugin": "procmon", "TimeStamp": "1.000000", "PID": pid, "PPID": parents[pid]}
        lines.append({**head, "RunningProcess": f"\\Device\\{pid}.exe", "Bitness": 64})
    for number in range(1, 60):
        pid = chance.choice(list(parents))
        happened = _happens(chance, pid, parents)
        head = {"Plugin": "procmon", "TimeStamp": f"{number}.250000", "PID": pid, "PPID": parents[pid]}
        line = {**head, "TID": 1, "ProcessName": "p.exe", "EventUID": hex(number), **happened}
        lines += [line] * chance.choice([1, 1, 1, 2])  # DRAKVUF writes some twice
    return lines


def _happens(chance: random.Random, pid: int, parents: dict[int, int]) -> dict[str, Any]:
    method = chance.choice(
        [
            "NtCreateUserProcess",
            "NtTerminateProcess",
            "MmCleanProcessAddressSpace",
            "rights",
            "other",
            "other",
        ]
    )
    if method == "NtCreateUserProcess":
        status, new = chance.choice(["0x0", "0x0", "0xc0000022"]), 4 * chance.randrange(20, 60)
        if status == "0x0" and new not in parents:
            parents[new] = pid
        elif status == "0x0":
            status = "0xc0000022"
        line = escaped(chance.choice(COMMANDS))
        return {"Method": method, "Status": status, "NewPid": new, "CommandLine": line, "ImagePathName": "i"}
    if method == "NtTerminateProcess":
        exit_pid = chance.choice([0, *parents])
        return {"Method": method, "ExitPid": exit_pid, "ExitStatus": "0x1", "ExitStatusStr": "one"}
    if method == "MmCleanProcessAddressSpace":
        return {"Method": method, "ExitPid": chance.choice(list(parents))}
    if method == "rights" and pid >= 80:
        parents[pid] = 4
    return {"Method": "NtProtectVirtualMemory", "NewProtectWin32": "PAGE_READWRITE"}


def test_guests(tmp_path: Path) -> None:
    """Field by field the same, in the same order, for a hundred guests."""
    outs = []
    for seed in range(100):
        raw = tmp_path / str(seed)
        raw.mkdir()
        text = "".join(json.dumps(line) + "\n" for line in guest(seed))
        (raw / "drakmon.log").write_text(text, encoding="utf-8")
        outs.append(collected(raw))
    ours = [json.loads((out / "process_tree.json").read_bytes()) for out in outs]
    assert theirs(*(out / "procmon.log" for out in outs)) == ours
    assert sum(len(tree) for tree in ours) > 100


def test_the_peer_of_the_benchmarks(tmp_path: Path) -> None:
    """v0.21's post-processing does on the benchmark's log what it is measured for."""
    log, out = tmp_path / "whole.log", tmp_path / "out"
    lines = [json.dumps(line) + "\n" for line in guest_lines(2000)]
    log.write_text("".join(lines), encoding="utf-8")
    assert sandbox_postprocess.speed(log, sandbox_postprocess.REPORT)[sandbox_postprocess.NAME]() > 0
    out.mkdir()
    (out / "drakmon.log").hardlink_to(log)
    command = [sys.executable, "-m", "benchmarks.sandbox_postprocess", str(out), *sandbox_postprocess.REPORT]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    split = [line for path in out.glob("*.log") for line in path.read_text(encoding="utf-8").splitlines()]
    assert sorted(split) == sorted(line.strip() for line in lines)
    report = json.loads((out / "report.json").read_bytes())
    assert report["processes"]
    assert "modified_files" in report
    assert report["connections"]


@pytest.mark.parametrize("sample", ["behaviour.exe", "dropper.exe"])
def test_the_emulator(tmp_path: Path, sample: str) -> None:
    """What the emulator writes is read by v0.21's code as it is, with the same result as ours."""
    require(importlib.util.find_spec("speakeasy") is not None, "the emulator extra is not installed")
    run = Bench(tmp_path).detonate(reference.ROOT / "samples" / sample)
    out = collected(run.job.raw)
    [tree] = theirs(out / "procmon.log")
    assert tree == json.loads((out / "process_tree.json").read_bytes())
    assert tree
