"""Second looks in Redis: granted in the script that publishes the first one, so that no limit is passed."""

from __future__ import annotations

from typing import Literal, cast

import redis

from drakcelery.ledger.keys import variants_key
from drakcelery.model.analysis import Analysis
from drakcelery.model.value import Value

Verdict = Literal["granted", "root", "share", ""]
"""``root``: its root has had as many as it may; ``share``: second looks have had their share of slot time;
empty: none was asked for."""


class Wanted(Value):
    """A second look that is asked for."""

    uid: str
    """Of its analysis."""
    task_uid: str
    """Karton's."""
    spawned: str
    """The task as JSON."""
    most: int
    """How many its root may have."""
    share: float
    """Seconds of second looks for each second of first ones, at most."""
    stretch: float
    """How many times as long as the first look it may take."""
    longest: float
    """Seconds that it takes at most."""


class Outgoing(Value):
    """What is published."""

    finished: str
    """The sample task, FINISHED, as JSON."""
    task: str
    """The analysis task as JSON."""
    task_uid: str
    result: str = ""
    """What came of it, as JSON."""
    reusable_as: str | None = None
    """The conditions under which other tasks may have the result; None: none may."""


class Look(Value):
    """What the publication of an analysis has to do with second looks."""

    root: str
    seconds: float
    """How long a slot was taken."""
    first: str | None = None
    """What it is a second look at."""
    news: int | None = None
    """How many things it shows that the first one did not; None if nobody knows."""
    wanted: Wanted | None = None

    @property
    def variant_task(self) -> str:
        """Karton's uid of what is asked for; empty if nothing is."""
        return self.wanted.task_uid if self.wanted is not None else ""

    @property
    def asked(self) -> str:
        """What is asked for, as JSON; empty if nothing is."""
        return self.wanted.model_dump_json() if self.wanted is not None else ""

    @property
    def said(self) -> str:
        """The news, for the record of the first look."""
        return "" if self.news is None else str(self.news)


class SecondLooks:
    """What Redis knows of them."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    def is_granted(self, analysis: Analysis) -> bool:
        """Whether *analysis* is the second look that it says it is; anybody may write a task."""
        known = self._redis.hget(variants_key(analysis.root_uid), analysis.uid)
        return cast("str | None", known) is not None and str(known).split()[:1] == [analysis.variant_of]
