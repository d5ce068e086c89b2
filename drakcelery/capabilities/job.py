"""What the process with capa gets, and what it answers. Pure."""

from __future__ import annotations

from pathlib import Path

from drakcelery.behaviour.report import Capability
from drakcelery.model.analysis import Value
from drakcelery.model.metadata import CapaRun


class Limits(Value):
    """The rules, and what capa may take for them."""

    rules: Path
    cache: Path
    """Where capa keeps the rules as it has read them, which takes some seconds."""
    seconds: int
    memory: int
    """Bytes of address space."""


class Life(Value):
    """A process of the sample's: when a pid is it."""

    pid: int
    process: int
    """Its ``seqid`` in the report."""
    since: float
    until: float | None
    """None: to the end."""


class Logs(Value):
    """What is looked at: the calls of some processes in some logs."""

    paths: tuple[Path, ...]
    lives: tuple[Life, ...]


class Job(Value):
    """All that the process gets."""

    parent: int
    """The process that asks; without it, there is nobody to answer."""
    logs: Logs
    limits: Limits


class Found(Value):
    """What it answers."""

    run: CapaRun
    capabilities: tuple[Capability, ...] = ()
