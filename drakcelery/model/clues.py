"""Clues: what in a run looks like evasion, or like a guest in which the sample cannot work. Pure."""

from __future__ import annotations

from typing import Literal, get_args

from drakcelery.model.value import Text, Value

ClueKind = Literal[
    "early_end",
    "sleep",
    "clock",
    "cpuid",
    "debugger",
    "user",
    "machine",
    "sandbox",
    "privilege",
    "crash",
    "elevation",
    "format",
]
"""``early_end``: it ended long before its time was over, and did nothing that lasts; ``sleep``: it slept for
long; ``clock``: it read the time again and again; ``cpuid``: it asked the processor for a hypervisor;
``debugger``: it looked for one; ``user``: for the mouse, windows or a user's work; ``machine``: it asked for
names, version, age or size of the machine; ``sandbox``: for something that only sandboxes have;
``privilege``: whether it is an administrator; ``crash``: it ended with an error of Windows. ``elevation`` and
``format``: Windows did not start it, since it has to be an administrator, or is a program for another kind
of machine."""

CLUES: tuple[ClueKind, ...] = get_args(ClueKind)


class Clue(Value):
    """One clue, with what was seen of it."""

    kind: ClueKind
    evidence: tuple[Text, ...] = ()
    """At most :data:`MOST_EVIDENCE`; of the sample's own making."""


MOST_EVIDENCE = 8
CLUE_WORDS: dict[ClueKind, str] = {
    "early_end": "ended early and did nothing that lasts",
    "sleep": "slept for long",
    "clock": "read the time again and again",
    "cpuid": "asked the processor for a hypervisor",
    "debugger": "looked for a debugger",
    "user": "looked for a user",
    "machine": "asked what the machine is",
    "sandbox": "asked for what only sandboxes have",
    "privilege": "asked whether it is an administrator",
    "crash": "crashed",
    "elevation": "has to be started as an administrator",
    "format": "is a program for another kind of machine",
}
"""For people."""
