"""How many slots fit this machine: each guest of the emulator is a process that keeps a core busy."""

from __future__ import annotations

import os

import psutil

PROFILE = "default"
MOST_BY_DEFAULT = 8
PER_SLOT = 2 * 1024**3
"""Bytes of memory for each slot: what `[emulator] memory_limit` lets its guest have. As much again is for the
rest of the stack."""


def slots_for(cores: int, memory: int) -> int:
    """How many slots a machine of so many cores and bytes of memory gets if nobody says so."""
    return max(1, min(cores, memory // PER_SLOT - 1, MOST_BY_DEFAULT))


def default_slots() -> int:
    """As :func:`slots_for`, of this machine: the cores that this process may use."""
    return slots_for(len(os.sched_getaffinity(0)), psutil.virtual_memory().total)


def slots(many: int) -> dict[str, str]:
    """So many slots, by name, each with its profile."""
    return {f"vm-{number}": PROFILE for number in range(1, many + 1)}
