"""Who is told what a stack does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from drakcelery.settings import Settings


class Onlooker(Protocol):
    """Is told what a stack does, by the thread that watches it: it must not block."""

    def hears(self, process: str, line: str) -> None:
        """A line of a process' output, without control characters."""

    def waits_for(self, processes: Sequence[str]) -> None:
        """The stack starts, and these are not ready yet."""

    def is_up(self, config: Settings, addresses: Mapping[str, str]) -> None:
        """The stack is up: its settings, and where it answers."""

    def looks(self) -> None:
        """Some time has passed: called a few times a second."""

    def stops(self) -> None:
        """The stack stops."""
