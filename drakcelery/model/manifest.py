"""What collect made of a run: all that publish needs. Pure."""

from __future__ import annotations

from typing import Any

from drakcelery.model.analysis import Value
from drakcelery.model.clues import Clue


class Artifact(Value):
    """One file of an analysis, ready to upload or uploaded."""

    name: str
    """Object name below ``<analysis uid>/``; also the payload's key."""
    size: int
    sha256: str


class Manifest(Value):
    """What collect found: all that publish needs."""

    artifacts: tuple[Artifact, ...]
    dumps_metadata: tuple[dict[str, str], ...]
    metadata: dict[str, Any]
    clues: tuple[Clue, ...] = ()
    """What looks like evasion; none from an older version."""
    news_to_first: int | None = None
    """Of a second look: how many things that last the first one did not show; None if nobody knows."""
