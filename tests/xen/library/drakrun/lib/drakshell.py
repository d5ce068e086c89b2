"""The shell in the guest."""

from __future__ import annotations

from typing import Any

from drakrun.simulated import MACHINE, number_of
from tests.xen.tools.drakrun import shell


class DrakshellInteractiveProcess:
    """A command in the guest, which is over already."""

    def __init__(self, code: int) -> None:
        self._code = code

    def join(self) -> int:
        """Its exit code."""
        return self._code


class Drakshell:
    """The shell of one guest."""

    def __init__(self, vm_name: str) -> None:
        self.vm_name = vm_name

    def run_interactive(
        self, args: list[str], stdin: object = None, stdout: object = None, stderr: object = None
    ) -> DrakshellInteractiveProcess:
        """``drakrun drakshell``."""
        del stdin, stdout, stderr
        MACHINE.enter("drakrun", ["drakshell", "--vm-id", number_of(self.vm_name), "--", *args])
        return DrakshellInteractiveProcess(shell(MACHINE, self.vm_name, args, has_stdin=False))


def get_drakshell(vm: Any, injector: Any) -> tuple[Drakshell, dict[str, int]]:
    """The shell and what it says about itself."""
    del injector
    return Drakshell(vm.vm_name), {"pid": 1820, "tid": 2044}
