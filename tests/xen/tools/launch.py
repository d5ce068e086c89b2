"""Starts a program of the host: ``run("xl", root)`` is all that the scripts in ``bin`` say."""

from __future__ import annotations

import importlib
import signal
import sys
from pathlib import Path

from tests.xen.tools.machine import Machine


def run(tool: str, root: str) -> None:
    """Run *tool* on the host below *root* with this process's arguments, and exit with its status."""
    if tool != "drakrun":  # the others are C programs: Python's own handlers are not theirs
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    machine = Machine(Path(root))
    argv = sys.argv[1:]
    machine.enter(tool, argv)
    program = importlib.import_module(f"tests.xen.tools.{tool.replace('-', '_')}")
    status: int = program.main(machine, argv)
    sys.exit(status)
