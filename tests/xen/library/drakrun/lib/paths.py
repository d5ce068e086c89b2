"""Where things are; fixed paths in the real one."""

from pathlib import Path

from drakrun.simulated import MACHINE

INSTALL_INFO_PATH = Path(MACHINE.etc, "install.json")
VMI_INFO_PATH = Path(MACHINE.lib, "profiles", "runtime.json")
VMI_KERNEL_PROFILE_PATH = Path(MACHINE.lib, "profiles", "kernel.json")
