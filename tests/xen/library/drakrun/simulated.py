"""The host that this environment belongs to."""

from __future__ import annotations

import time

from drakrun_host import ROOT  # the layout of a host writes it

from tests.xen.tools.machine import Machine

MACHINE = Machine(ROOT)
SHARE = 0.16
"""Of the command's imports, what the library alone takes: 0.2 s of 1.25 s."""


def newer_only(name: str) -> None:
    """Raise ImportError where this version has no such module."""
    if not MACHINE.newest:
        raise ImportError(f"No module named {name!r}")


def cost(share: float) -> None:
    """Take so much of what the command's imports take."""
    begun = time.process_time()
    while time.process_time() - begun < MACHINE.import_seconds * share:
        pass


def number_of(vm_name: str) -> str:
    """``3`` of ``vm-3``."""
    return vm_name.removeprefix("vm-")
