"""How long who tries ``make demo`` waits, once everything is installed: from the command to the result."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measuring import Result, medians

RUNS = {True: 1, False: 3}
"""By ``quick``."""
RESULT = "Received from Karton"
"""With this line of its output the demo shows what a Karton service got."""


def measure(*, quick: bool) -> list[Result]:
    """Seconds to the result, and until all is stopped again. The first run compiles, and does not count."""
    with tempfile.TemporaryDirectory(prefix="drakcelery-benchmark-") as directory:
        _run(Path(directory))
        runs = [_run(Path(directory)) for _ in range(RUNS[quick])]
    found = medians({name: [one[name] for one in runs] for name in runs[0]})
    return [
        Result(name=f"demo, second time, {name}", unit="s", ours=ours, runs=len(runs), less_is_better=True)
        for name, ours in found.items()
    ]


def _run(directory: Path) -> dict[str, float]:
    """One demo, whose stack is its own. Raises :class:`RuntimeError` where it fails, with what it said."""
    begun, said, took = time.monotonic(), list[str](), dict[str, float]()
    command = (str(Path(sys.executable).with_name("drakcelery")), "demo")
    with subprocess.Popen(
        command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as demo:
        for line in demo.stdout or ():
            said.append(line)
            if line.startswith(RESULT):
                took["to the result"] = time.monotonic() - begun
    if demo.returncode or not took:
        raise RuntimeError("".join(said))
    return {**took, "to the end": time.monotonic() - begun}
