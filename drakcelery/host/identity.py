"""Which machine this is: copies of an image have the same host name, and even the same machine-id."""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path

from drakcelery.engines.evidence import boot_id
from drakcelery.errors import SettingsError
from drakcelery.model.machine import Machine

_MACHINE_ID = Path("/etc/machine-id")


def this_machine(state_dir: Path) -> Machine:
    """This machine, with its state directory.

    Raises:
        SettingsError: *state_dir* does not exist, or may not be read.
    """
    try:
        found = state_dir.stat()
    except OSError as error:
        raise SettingsError(f"[drakcelery] state_dir = {state_dir}: {error.strerror}") from None
    boot = boot_id()
    key = hashlib.sha256(f"{boot} {found.st_dev} {found.st_ino}".encode()).hexdigest()[:32]
    return Machine(
        key=key,
        node=platform.node(),
        machine_id=_machine_id(),
        boot_id=boot,
        state_dir=str(state_dir.absolute()),
    )


def _machine_id() -> str:
    """``machine-id(5)``; a container may have none."""
    try:
        return _MACHINE_ID.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
