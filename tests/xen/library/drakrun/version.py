"""Which version it is."""

from drakrun.simulated import MACHINE

__version__ = MACHINE.version
