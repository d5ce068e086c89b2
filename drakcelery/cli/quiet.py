"""Answers a shell in whose line somebody has pressed Tab: with nothing, if anything goes wrong.

An error would be printed into that line.
"""

from __future__ import annotations

import contextlib
import io

from click.shell_completion import (
    BashComplete,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
)


class _Quiet(ShellComplete):
    """An answer that says nothing of what went wrong."""

    def complete(self) -> str:
        """As click does; nothing if the shell asks nonsense, a command fails, or Ctrl-C is pressed."""
        with (
            contextlib.redirect_stderr(io.StringIO()),
            contextlib.suppress(Exception, KeyboardInterrupt),
        ):
            return super().complete()
        return ""


class _Bash(_Quiet, BashComplete):
    """To Bash."""


class _Zsh(_Quiet, ZshComplete):
    """To Z shell."""


class _Fish(_Quiet, FishComplete):
    """To fish."""


def install() -> None:
    """Let click answer so."""
    for shell in (_Bash, _Zsh, _Fish):
        add_completion_class(shell)
