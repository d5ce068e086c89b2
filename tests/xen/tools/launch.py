"""Starts a program of the host: ``run("xl", root)`` is all that the scripts in ``bin`` say."""

from __future__ import annotations

import os
import sys
import time

from tests.xen.tools.bare import SIG_DFL, SIGINT, SIGPIPE, Path, signal
from tests.xen.tools.machine import Machine

_IDLE = {"dnsmasq": "idle", "qemu-img": "idle"}


def run(tool: str, root: str) -> None:
    """Run *tool* on the host below *root* with this process's arguments, and exit with its status."""
    if tool != "drakrun":  # the others are C programs: Python's own handlers are not theirs
        signal(SIGINT, SIG_DFL)
        signal(SIGPIPE, SIG_DFL)
    machine = Machine(Path(root))
    argv = sys.argv[1:]
    machine.enter(tool, argv)
    if tool == "drakrun":
        _import_all(machine)
    name = _IDLE.get(tool, tool.replace("-", "_"))
    program = __import__(f"tests.xen.tools.{name}", fromlist=["main"])
    status: int = program.main(machine, argv)
    if tool == "drakrun":
        sys.exit(status)
    machine.leave()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # nor is what Python does at its end


def _import_all(machine: Machine) -> None:
    """Cost what the real drakrun's imports cost."""
    while time.process_time() < machine.import_seconds:
        pass
