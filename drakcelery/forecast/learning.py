"""How long each part of an analysis takes, learned from published ones. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from drakcelery.model.analysis import State, Value
from drakcelery.model.records import Record

ENOUGH = 5
"""With fewer learned analyses than that, :data:`GUESSES` count as learned, too."""


class Learned(Value):
    """How long a published analysis took, in seconds."""

    timeout: int
    """How long the engine was asked to watch at most."""
    prepare: float
    """From its entering a slot to the start of its run."""
    run: float
    """Until its slot was free."""
    rest: float
    """Until it was published."""

    def run_within(self, timeout: int) -> float:
        """How long this run would have taken under another *timeout*.

        A run that lasted until its timeout would do so with another one, too; a run that ended by itself
        would have ended at the same time, or been stopped before.
        """
        if self.run >= self.timeout:
            return timeout + self.run - self.timeout
        return min(self.run, timeout)


GUESSES = (
    Learned(timeout=1, prepare=2, run=1, rest=2),
    Learned(timeout=1, prepare=30, run=11, rest=20),
    Learned(timeout=1, prepare=90, run=31, rest=120),
    Learned(timeout=2, prepare=10, run=0, rest=5),
)
"""Three runs that are watched to the end and one that ends at once: what is assumed if little is known."""


def learned_of(record: Record) -> Learned | None:
    """What can be learned from a record; None if it was not published, or its times are not complete."""
    times = [record.entered.get(one) for one in (State.PREPARING, State.RUNNING, State.COLLECTING)]
    if record.state is not State.PUBLISHED or record.analysis is None:
        return None
    entered, running, vacated = times
    if entered is None or running is None or vacated is None or record.finished is None:
        return None
    return Learned(
        timeout=record.analysis.longest,
        prepare=round(running - entered, 2),
        run=round(vacated - running, 2),
        rest=round(record.finished - vacated, 2),
    )


def durations(learned: Mapping[str, Sequence[Learned]], profile: str) -> list[Learned]:
    """What a profile's durations are drawn from: its own, else those of all profiles, else guesses."""
    known = list(learned.get(profile, ())) or [one for many in learned.values() for one in many]
    return known if len(known) >= ENOUGH else [*known, *GUESSES]
