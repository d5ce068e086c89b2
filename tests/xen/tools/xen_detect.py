"""``xen-detect``: says that this is Domain-0; ``-N`` turns the exit status round."""

from __future__ import annotations

import sys

from tests.xen.tools import gnu
from tests.xen.tools.machine import Machine, say


def main(_machine: Machine, argv: list[str]) -> int:
    """Run xen-detect; the exit status."""
    try:
        given = {option for option, _ in gnu.Scan("xen-detect", argv, "hHPNqV", {})}
    except gnu.Refused as refused:
        say(str(refused))
        return 1
    if "-q" not in given:
        sys.stdout.write("Running in PV context on Xen V4.17.\n")
    return 1 if "-N" in given else 0
