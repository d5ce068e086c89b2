"""Reuse: the result of an earlier analysis, given to a task that agrees to it instead of a run. Pure."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydantic import Field

from drakcelery.model import profiles
from drakcelery.model.names import Uid
from drakcelery.model.value import Text, Value

LONGEST = 366 * 24 * 3600
"""Seconds. No task may agree to an older analysis."""
_SECONDS = re.compile(r"[0-9]{1,12}")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600}


class Origin(Value):
    """The analysis whose result was reused, and the run that it is of."""

    uid: Uid
    host: str
    slot: str
    started: int = Field(ge=0, lt=2**33)
    """UNIX time."""

    @property
    def where(self) -> str:
        """Its host and slot."""
        return f"{self.host}/{self.slot}"


class Reuse(Value):
    """What was decided about reuse when an analysis began."""

    seconds: int | None = None
    """How old an analysis may be whose result is given instead of a run; None: the task agrees to none."""
    conditions: str | None = None
    """A digest of all that the result depends on; None if no other task may have it."""
    miss: str | None = None
    """Why the sample was run although the task agrees to reuse: a :class:`Miss`."""
    refused: Text | None = None
    """The same in a sentence."""
    origin: Origin | None = None
    """The analysis that was reused; None if the sample was run."""

    @property
    def reused_from(self) -> str | None:
        """The uid of the origin."""
        return self.origin.uid if self.origin is not None else None


class Miss(enum.StrEnum):
    """Why nothing was reused, in one word."""

    OFF = "off"
    """The settings do not allow it, or nothing like this task can have a result of another."""
    NONE = "none"
    """There is no earlier analysis under these conditions."""
    OLD = "old"
    INCOMPLETE = "incomplete"
    GONE = "gone"
    """Artifacts, or the record, are gone or are not what was published."""
    FLEET = "fleet"
    """The hosts have another engine or snapshot by now, or do not say which."""
    CONTENT = "content"
    """The sample is not the file that its task says."""
    LARGE = "large"
    FAILED = "failed"
    """S3 refused something, or an error came up."""


class NotReused(Exception):
    """The sample is to be run; says why."""

    def __init__(self, miss: Miss, sentence: str) -> None:
        super().__init__(sentence)
        self.miss = miss


@dataclass(frozen=True, kw_only=True)
class ReuseRule:
    """``<seconds> if <fact>=<pattern> and …``: what a task agrees to that says nothing of reuse."""

    seconds: int
    conditions: profiles.Conditions


def parse_rule(text: str) -> ReuseRule:
    """Read a rule. Raises ValueError, whose text reads on from "expected "."""
    seconds, _, rest = text.partition(" if ")
    if not rest.strip():
        raise ValueError("<age> if <fact>=<pattern>, such as: 1d if quality=low")
    return ReuseRule(seconds=parse_age(seconds), conditions=profiles.parse_conditions(rest))


def parse_age(text: str) -> int:
    """Seconds of ``90``, ``30m``, ``12h``, ``7d``. Raises ValueError; its text reads on from "expected "."""
    number, unit = text.strip(), "s"
    if number[-1:] in _UNITS:
        number, unit = number[:-1], number[-1]
    seconds = int(number) * _UNITS[unit] if _SECONDS.fullmatch(number) else 0
    if not 0 < seconds <= LONGEST:
        raise ValueError("an age such as 3600, 30m, 12h or 7d, at most 366d")
    return seconds


def pick(rules: Iterable[ReuseRule], facts: Mapping[str, str]) -> int | None:
    """The seconds of the first rule that matches; None if none does."""
    return next((rule.seconds for rule in rules if profiles.match(rule.conditions, facts)), None)
