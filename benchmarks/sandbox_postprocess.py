"""DRAKVUF Sandbox 0.21's own post-processing (``make sandbox``), as a peer of ours.

Its package is there without its dependencies, some of which need a Xen host: the steps are imported one by
one, without what their packages import beside them. What they do is as it is there. A run of them is a
process of its own, whose start is not counted: it takes the real ``drakrun`` 1.25 s.
"""

from __future__ import annotations

import importlib
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace

from benchmarks.measuring import MB, seconds

SANDBOX = Path(__file__).parents[1] / "build" / "sandbox"
NAME = "drakrun postprocess"
PACKAGES = ("drakrun", "drakrun.analyzer", "drakrun.analyzer.postprocessing")
PLUGINS = f"{PACKAGES[-1]}.plugins"
SPLIT = ("split_drakmon_log",)
REPORT = (
    *SPLIT,
    *("build_process_tree", "get_http_info", "get_modified_files_info", "get_socket_info", "generate_report"),
)
"""Steps in its order. Without those that have no counterpart in ours: HTML, the index of the logs, capa."""


def speed(log: Path, steps: Sequence[str]) -> dict[str, Callable[[], float]]:
    """By :data:`NAME`, what measures MB of *log* a second by *steps*; empty without the package."""
    if not (SANDBOX / "sandbox.txt").is_file():
        return {}

    def run() -> float:
        with tempfile.TemporaryDirectory(dir=log.parent) as directory:
            os.link(log, Path(directory, "drakmon.log"))  # it is removed at the end
            command = [sys.executable, "-m", __name__, directory, *steps]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        return log.stat().st_size / MB / float(done.stdout)

    return {NAME: run}


def context(directory: Path) -> SimpleNamespace:
    """What the steps know of an analysis and leave for each other."""
    report: dict[str, object] = {}
    metadata = SimpleNamespace(store_to_dict=dict)
    # generate_report reads the attribute, the others the property of that name
    return SimpleNamespace(
        analysis_dir=directory,
        metadata=metadata,
        report=report,
        update_report=report.update,
        _process_tree=None,
    )


def step(name: str) -> Callable[[SimpleNamespace], object]:
    """A step's function."""
    for package in (*PACKAGES, PLUGINS):
        module = sys.modules.setdefault(package, ModuleType(package))
        module.__path__ = [str(SANDBOX.joinpath(*package.split(".")))]
    base = sys.modules.setdefault(f"{PLUGINS}.plugin_base", ModuleType("plugin_base"))
    vars(base)["PostprocessContext"] = SimpleNamespace
    found: Callable[[SimpleNamespace], object] = getattr(importlib.import_module(f"{PLUGINS}.{name}"), name)
    return found


def main(directory: str, *names: str) -> None:
    """Run steps on the log in *directory* and print how many seconds they took."""
    logging.disable(logging.CRITICAL)
    sys.path.insert(0, str(SANDBOX))  # what the process tree imports is beside it
    steps, known = [step(name) for name in names], context(Path(directory))
    print(seconds(lambda: [one(known) for one in steps]))


if __name__ == "__main__":
    main(*sys.argv[1:])
