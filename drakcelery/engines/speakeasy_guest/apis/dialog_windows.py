"""The dialogues of a process, what is in them, and what the program has said of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.dialog_templates import Control

FIRST, STEP = 0x20010, 2
MAX_WINDOWS: Final = 4096


@dataclass(eq=False)
class Window:
    """A dialogue, or what is in one."""

    handle: int
    parent: int = 0
    number: int = 0
    procedure: int = 0
    """Of a dialogue; 0 for its controls."""
    control: Control | None = None
    text: str = ""
    enabled: bool = True
    checked: int = 0
    over: bool = False
    result: int = 0
    values: dict[int, int] = field(default_factory=dict)
    posted: list[tuple[int, int, int]] = field(default_factory=list)


class Dialogs:
    """The dialogues of one process."""

    def __init__(self) -> None:
        self.windows: dict[int, Window] = {}
        self.procedures: dict[int, int] = {}
        """What the program wants called for windows that are none of these."""

    def add(self, parent: int, **more: Any) -> Window:
        """A new window. Raises :class:`MemoryError` if there are too many."""
        if len(self.windows) >= MAX_WINDOWS:
            raise MemoryError(f"{MAX_WINDOWS} windows")
        made = Window(FIRST + STEP * len(self.windows), parent, **more)
        self.windows[made.handle] = made
        return made

    def item(self, parent: int, number: int) -> Window:
        """What is in a dialogue under a number; made where it is first asked for."""
        for one in self.windows.values():
            if (one.parent, one.number) == (parent, number) and not one.procedure:
                return one
        return self.add(parent, number=number)

    def get(self, handle: int) -> Window | None:
        """A window."""
        return self.windows.get(handle)

    def of(self, parent: int) -> list[Window]:
        """What is in a dialogue."""
        return [one for one in self.windows.values() if one.parent == parent]

    def open(self) -> list[Window]:
        """The dialogues that are there."""
        return [one for one in self.windows.values() if one.procedure and not one.over]
