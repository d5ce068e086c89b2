"""One VM."""

from __future__ import annotations

from drakrun.simulated import MACHINE
from tests.xen.tools import drakrun_vm
from tests.xen.tools.drakrun import log


class VirtualMachine:
    """``vm-N``."""

    def __init__(self, vm_id: int, install_info: object, network_conf: object) -> None:
        self.vm_id = vm_id
        self.install_info = install_info
        self.network_conf = network_conf

    @property
    def vm_name(self) -> str:
        """As Xen calls it."""
        return f"vm-{self.vm_id}"

    @property
    def is_running(self) -> bool:
        """Whether Xen has it."""
        return MACHINE.guest(self.vm_name) is not None

    def restore(self, snapshot_path: str | None = None, cold_boot: bool = False) -> None:  # noqa: ARG002 the real one's parameters
        """``drakrun vm-start``."""
        MACHINE.enter("drakrun", ["vm-start", "--vm-id", str(self.vm_id)])
        drakrun_vm.restore(MACHINE, self.vm_id, log)

    def destroy(self) -> None:
        """``drakrun vm-stop``."""
        MACHINE.enter("drakrun", ["vm-stop", "--vm-id", str(self.vm_id)])
        drakrun_vm.destroy(MACHINE, self.vm_id, log, "drakrun vm-stop")
