"""What a storm will do: which fault, when, with what. It follows from the seed alone."""

from __future__ import annotations

import random
from dataclasses import dataclass

HOSTS = ("rack-1", "rack-2")
VM_WORKERS = tuple(f"vm@{host}" for host in HOSTS)
IO_WORKERS = tuple(f"io@{host}" for host in HOSTS)
INGRESSES = ("ingress", "ingress@rack-2")
KINDS = {
    "kill": (6, (*VM_WORKERS, *IO_WORKERS, *INGRESSES)),
    "kill_child": (4, (*VM_WORKERS, *IO_WORKERS)),
    "freeze": (2, (*VM_WORKERS, *IO_WORKERS, *INGRESSES)),
    "freeze_child": (1, (*VM_WORKERS, *IO_WORKERS)),
    "restart": (2, ("valkey", "seaweedfs")),
    "drop": (3, ("valkey", "seaweedfs")),
    "blackout": (1, (*VM_WORKERS, *IO_WORKERS, *INGRESSES)),
    "twin": (1, (*VM_WORKERS, *IO_WORKERS)),
    "stranger": (1, (*VM_WORKERS, *INGRESSES)),
}
"""Kind of fault: how likely it is, and what it may hit. Of a blackout the target is back first, of a twin
and a stranger it is what they pass themselves off as."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a storm is to be."""

    seed: int
    duration: float
    """Seconds in which faults happen and samples come."""
    analyses: int = 300
    run_seconds: float = 3.0
    """How long a guest runs."""
    gap: tuple[float, float] = (2.0, 6.0)
    """Seconds between two faults."""
    frozen: tuple[float, float] = (13.0, 20.0)
    """Seconds for which a process is frozen: past the visibility of its messages (15 s) and every silence, or
    nearly so."""
    lease: int = 10
    """Seconds; the visibility is half as long again."""
    odd: int = 75
    """How many sample tasks with odd contents come beside the others."""
    patience: float = 240.0
    """Seconds after the storm until what has not ended counts as lost."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that goes wrong."""

    at: float
    """Seconds since the storm began."""
    kind: str
    target: str
    hard: bool
    """kill -9 where there is a choice."""
    seconds: float
    """How long it lasts, where that is chosen."""


def schedule(plan: Plan) -> list[Fault]:
    """The storm of a seed. Every kind of fault happens as often as its weight says, in a random order."""
    chance = random.Random(plan.seed)  # noqa: S311 - a storm, not a secret
    faults: list[Fault] = []
    deck: list[str] = []
    at = chance.uniform(*plan.gap)
    while at < plan.duration:
        if not deck:
            deck = [kind for kind, (weight, _) in KINDS.items() for _ in range(weight)]
            chance.shuffle(deck)
        kind = deck.pop()
        fault = Fault(
            at=at,
            kind=kind,
            target=chance.choice(KINDS[kind][1]),
            hard=chance.random() < 0.5,
            seconds=chance.uniform(*plan.frozen),
        )
        faults.append(fault)
        at += chance.uniform(*plan.gap)
    return faults
