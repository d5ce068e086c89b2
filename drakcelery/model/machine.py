"""A machine, as others tell it from another one with the same host's name."""

from __future__ import annotations

from dataclasses import dataclass

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

    @property
    def words(self) -> str:
        """A description for people who have to find the machine."""
        return (
            f"{self.node or 'without a name'} (machine-id {self.machine_id[:SHOWN] or 'none'}, "
            f"boot {self.boot_id[:SHOWN]}, state_dir {self.state_dir})"
        )
