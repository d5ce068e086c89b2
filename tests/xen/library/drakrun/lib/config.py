"""``config.toml``."""

from __future__ import annotations

from types import SimpleNamespace

from drakrun.simulated import MACHINE
from tests.xen.tools import drakrun_vm


def load_config() -> SimpleNamespace:
    """As the commands read it."""
    config, _ = drakrun_vm.load(MACHINE)
    return SimpleNamespace(network=config["network"])
