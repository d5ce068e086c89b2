"""DRAKVUF's command line."""

from __future__ import annotations

from typing import Any

from drakrun.simulated import MACHINE, number_of
from tests.xen.tools.drakrun import told
from tests.xen.tools.drakrun_cmdline import base_cmdline


def _line(vm_name: str, command: str | None, method: str, directory: str | None) -> list[str]:
    words = ["drakvuf-cmdline", "--vm-id", number_of(vm_name), f"--cmd={command}"]
    if MACHINE.newest:
        words += ["--method", method, *([f"--working-dir={directory}"] if directory else [])]
    MACHINE.enter("drakrun", words)
    told(MACHINE, vm_name)
    return base_cmdline(MACHINE, vm_name, command, method, directory)


if MACHINE.newest:

    def get_base_drakvuf_cmdline(
        vm_name: str,
        kernel_profile_path: str,  # noqa: ARG001 the real one's
        vmi_info: Any,  # noqa: ARG001
        drakvuf_version_info: Any,  # noqa: ARG001
        exec_cmd: str | None = None,
        shellexec_args: str | None = None,
        start_method: str | None = None,
        working_dir: str | None = None,
    ) -> list[str]:
        """The words."""
        command = f'"{exec_cmd}" {shellexec_args or ""}'.strip() if start_method != "createproc" else exec_cmd
        return _line(vm_name, command, start_method or "createproc", working_dir)

else:

    def get_base_drakvuf_cmdline(  # type: ignore[misc] # another version's
        vm_name: str,
        kernel_profile_path: str,  # noqa: ARG001
        vmi_info: Any,  # noqa: ARG001
        exec_cmd: str | None = None,
    ) -> list[str]:
        """The words."""
        return _line(vm_name, exec_cmd, "createproc", None)
