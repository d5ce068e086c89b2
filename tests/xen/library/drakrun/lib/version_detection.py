"""What DRAKVUF can do; from 0.21."""

from __future__ import annotations

from types import SimpleNamespace

from drakrun.simulated import newer_only

newer_only(__name__)


def get_drakvuf_version() -> SimpleNamespace:
    """The DRAKVUF that it was tested with."""
    return SimpleNamespace(supports_shellexec_verb=True)
