"""Programs that drakrun needs and nobody calls here: ``dnsmasq``, ``qemu-img``. They are there, no more."""

from __future__ import annotations

from tests.xen.tools.machine import Machine, not_simulated


def main(_: Machine, argv: list[str]) -> int:
    """Refuse whatever it is."""
    return not_simulated(" ".join(argv))
