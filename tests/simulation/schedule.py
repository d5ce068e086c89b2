"""What happens in a simulation, as values: made from a seed, kept as JSON, cut down when it fails."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A Karton task that comes in."""

    at: int
    """Before this step."""
    seconds: float = 10.0
    """How long its run takes."""
    content: str = "plain"
    """What is odd about the task; :mod:`tests.simulation.contents`."""
    kills_at: str | None = None
    """A failpoint at which it kills its process, each time."""
    profile: str | None = None
    reuse: int | None = None
    """How old an analysis its task takes instead of a run; 0: none, but others take its; None: neither."""
    owner: str = ""
    """A persistent header: who may see it."""
    variants: int | None = None
    """How many second looks its task asks for; None: it says nothing."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something goes wrong."""

    at: int
    """Before this step."""
    kind: str
    """A name in :data:`tests.simulation.faults.FAULTS`."""
    target: str = ""
    """What it hits; where that is left open, *pick* decides."""
    pick: float = 0.0
    """Between 0 and 1."""
    seconds: float = 0.0
    """How long it lasts."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """All that decides about a run of the simulation."""

    seed: int
    steps: int = 600
    """So many side effects happen while things go wrong. Then they are fixed, and all comes to an end."""
    hosts: int = 2
    slots: int = 2
    ingresses: int = 1
    looks: int = 0
    """How many second looks a root may have; 0: they are off. Each run of the simulation has a clue."""
    twin: bool = False
    """Whether one more machine has the name of the first."""
    samples: tuple[Sample, ...] = ()
    faults: tuple[Fault, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    """Settings of ``[drakcelery]`` that are not as they are by default."""

    def without(self, *, samples: frozenset[int] = frozenset(), faults: frozenset[int] = frozenset()) -> Self:
        """The same, less some of what happens in it."""
        return replace(
            self,
            samples=tuple(one for place, one in enumerate(self.samples) if place not in samples),
            faults=tuple(one for place, one in enumerate(self.faults) if place not in faults),
        )

    def text(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def read(cls, path: Path) -> Self:
        """What :meth:`text` wrote."""
        fields = json.loads(path.read_text(encoding="utf-8"))
        fields.pop("found", None)
        return cls(
            **{
                **fields,
                "samples": tuple(Sample(**one) for one in fields["samples"]),
                "faults": tuple(Fault(**one) for one in fields.get("faults", [])),
            }
        )
