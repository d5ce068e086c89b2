"""Why a host takes no sample. Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping


class Halt(enum.StrEnum):
    """Why a host takes no sample though slots of it may be free."""

    NO_NAME = "no_name"
    """Another machine may have its name: its own claim was not renewed."""
    NO_BROKER = "no_broker"
    """No sample could come to it: its vm worker has lost its broker, or has yet to reach it."""
    NO_SLOTS = "no_slots"
    """Another process keeps the file of its slots locked: its vm worker waits for it, and takes nothing."""
    NO_IO_WORKER = "no_io_worker"
    """No io worker would collect what its guests leave."""
    NOT_CONFINED = "not_isolated"
    """What keeps its guests in is missing: its firewall's rules."""
    NO_SPACE = "no_space"
    """Its disk, or its spool, is full."""

    @property
    def words(self) -> str:
        """For people, after the name of the host."""
        return _HALTED[self]


_HALTED: Mapping[str, str] = {
    Halt.NO_NAME: "another machine has its name, or may have it",
    Halt.NO_BROKER: "its vm worker does not reach the broker",
    Halt.NO_SLOTS: "another process keeps its slots.sqlite locked",
    Halt.NO_IO_WORKER: "its io worker shows no life",
    Halt.NOT_CONFINED: "its firewall lets its guests out: see drakcelery doctor",
    Halt.NO_SPACE: "its disk has no room for another analysis",
}


def halted_words(reason: str) -> str:
    """What :attr:`HostStatus.halted` says, for people; a newer version may have reasons unknown here."""
    return _HALTED.get(reason, reason)
