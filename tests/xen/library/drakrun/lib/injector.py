"""DRAKVUF's injector."""

from __future__ import annotations

import subprocess
from pathlib import Path

from drakrun.lib.libvmi import VmiInfo
from drakrun.simulated import MACHINE
from tests.xen.tools.drakrun import inject


class Injector:
    """Into one VM."""

    def __init__(self, vm_name: str, vmi_info: VmiInfo, kernel_profile_path: Path) -> None:
        self.vm_name = vm_name
        self.vmi_info = vmi_info
        self.kernel_profile_path = kernel_profile_path

    def write_file(
        self,
        local_path: str,
        remote_path: str,
        timeout: int = 60,  # noqa: ARG002 the real one's
    ) -> subprocess.CompletedProcess[bytes]:
        """``drakrun injector copy``. Raises CalledProcessError."""
        MACHINE.enter("drakrun", ["injector", "copy", local_path, f"{self.vm_name}:{remote_path}"])
        return inject(MACHINE, self.vm_name, local_path, remote_path)
