"""Which machine this is: copies of an image have the same host name, and even the same machine-id."""

from __future__ import annotations

import hashlib
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from drakcelery.engines.evidence import boot_id
from drakcelery.errors import SettingsError

_MACHINE_ID = Path("/etc/machine-id")
SHOWN = 8
"""Characters of an id that people are shown."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A machine from one start to the next, with one state directory."""

    key: str
    """The same for all its workers, and different on each machine: made from the boot and the directory's
    number."""
    node: str
    """What the machine calls itself."""
    machine_id: str
    boot_id: str
    state_dir: str

    @classmethod
    def of(cls, state_dir: Path) -> Self:
        """This machine.

        Raises:
            SettingsError: *state_dir* does not exist, or may not be read.
        """
        try:
            found = state_dir.stat()
        except OSError as error:
            raise SettingsError(f"[drakcelery] state_dir = {state_dir}: {error.strerror}") from None
        boot = boot_id()
        key = hashlib.sha256(f"{boot} {found.st_dev} {found.st_ino}".encode()).hexdigest()[:32]
        return cls(
            key=key,
            node=platform.node(),
            machine_id=_machine_id(),
            boot_id=boot,
            state_dir=str(state_dir.absolute()),
        )

    @property
    def words(self) -> str:
        """A description for people who have to find the machine."""
        return (
            f"{self.node or 'without a name'} (machine-id {self.machine_id[:SHOWN] or 'none'}, "
            f"boot {self.boot_id[:SHOWN]}, state_dir {self.state_dir})"
        )


def _machine_id() -> str:
    """``machine-id(5)``; a container may have none."""
    try:
        return _MACHINE_ID.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
