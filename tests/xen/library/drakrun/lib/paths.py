"""Where things are; fixed paths in the real one."""

from drakrun.simulated import MACHINE

INSTALL_INFO_PATH = MACHINE.etc / "install.json"
VMI_INFO_PATH = MACHINE.lib / "profiles" / "runtime.json"
VMI_KERNEL_PROFILE_PATH = MACHINE.lib / "profiles" / "kernel.json"
