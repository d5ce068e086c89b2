"""LibVMI's ``vmi-dump-memory``: the guest's memory into a file. A guest of this host has one MiB of it."""

from __future__ import annotations

import sys

from tests.xen.tools import gnu
from tests.xen.tools.bare import Path
from tests.xen.tools.machine import Machine, say
from tests.xen.tools.xl import hang

MEMORY = b"\xde\xad\xbe\xef" * 256 * 1024
LONG = {"sparse": False, "progress": False, "no-pause": False, "kvmi-socket": True}


def main(machine: Machine, argv: list[str]) -> int:
    """Run it; the exit status. What it says goes to stdout."""
    scan = gnu.Scan("vmi-dump-memory", argv, "psk:h", LONG)
    try:
        given = {option for option, _ in scan}
    except gnu.Refused as refused:
        say(str(refused))
        given = {"-h"}
    if "-h" in given or len(scan.rest) != 2:
        sys.stdout.write("Usage: vmi-dump-memory [options] domain output_file\n")
        return 1
    domain, target = scan.rest
    guest = machine.guest(domain)
    order = machine.take("vmi-dump-memory", vm=domain)
    if order is not None and order["how"] == "hangs":
        hang()
    if order is not None or guest is None or domain != guest["name"]:
        sys.stdout.write("Failed to initialize LibVMI library.\n")
        return 1
    try:
        Path(target).write_bytes(MEMORY)
    except OSError:
        sys.stdout.write("Failed to open file for writing.\n")
        return 1
    return 0
