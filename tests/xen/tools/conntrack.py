"""``conntrack``: there are no connections here, which the real one ends with 1."""

from __future__ import annotations

from tests.xen.tools.machine import Machine, not_simulated, say


def main(_: Machine, argv: list[str]) -> int:
    """Run conntrack; the exit status."""
    if argv[:2] != ["-D", "-s"]:
        return not_simulated(f"conntrack {' '.join(argv)}")
    say("conntrack v1.4.7 (conntrack-tools): 0 flow entries have been deleted.")
    return 1
