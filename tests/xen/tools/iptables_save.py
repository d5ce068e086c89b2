"""``iptables-save``."""

from __future__ import annotations

from tests.xen.tools import iptables
from tests.xen.tools.machine import Machine, not_simulated, say


def main(machine: Machine, argv: list[str]) -> int:
    """Run iptables-save; the exit status."""
    if argv:
        return not_simulated(f"iptables-save {' '.join(argv)}")
    order = machine.take("iptables-save", vm=None)
    if order is not None:
        say("iptables-save: Could not fetch rule set generation id: Permission denied (you must be root)")
        return 4
    return iptables.print_rules(machine)
