"""``brctl``: makes and deletes the files that stand for bridges."""

from __future__ import annotations

from tests.xen.tools.machine import Machine, not_simulated, say


def main(machine: Machine, argv: list[str]) -> int:
    """Run brctl; the exit status."""
    if len(argv) != 2 or argv[0] not in ("addbr", "delbr"):
        return not_simulated(f"brctl {' '.join(argv)}")
    bridge = machine.bridge(argv[1])
    if argv[0] == "addbr":
        if bridge.exists():
            say(f"device {argv[1]} already exists; can't create bridge with the same name")
            return 1
        bridge.touch()
        return 0
    if not bridge.exists():
        say(f"bridge {argv[1]} doesn't exist; can't delete it")
        return 1
    bridge.unlink()
    return 0
