"""How a sample is started; from 0.21."""

from __future__ import annotations

from types import SimpleNamespace

from drakrun.simulated import newer_only
from tests.xen.tools.drakrun_cmdline import split

newer_only(__name__)


def make_exec_parameters(
    start_command: str,
    start_method: str,
    working_dir: str | None,
    shellexec_supported: bool,  # noqa: ARG001 the real one's
) -> SimpleNamespace:
    """By the real one's names."""
    words = split(start_command)
    is_shell = start_method != "createproc"
    return SimpleNamespace(
        command=words[0] if is_shell else start_command,
        shellexec_args=" ".join(words[1:]) if is_shell else None,
        start_method=start_method,
        working_dir=working_dir,
    )
