"""How long each part of an analysis takes, learned from published ones. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import Field

from drakcelery.model.analysis import State, Value
from drakcelery.model.news import EndedBy, WatchPlan, WatchRun
from drakcelery.model.records import Record

ENOUGH = 5
"""With fewer learned analyses than that, :data:`GUESSES` count as learned, too."""

PARTS = (0, 0.25, 0.5, 0.75, 1)
"""After which parts of their timeouts quiet stops are assumed to come if little is known: as many as it takes
for the tenth of the rounds that is earliest, or latest, to assume the first, or the last."""


class Watched(Value):
    """What a run that was watched for news says about quiet stops, whether one might end it or not."""

    seconds: float = Field(ge=0)
    """How long it was watched."""
    stop: float | None = Field(default=None, ge=0)
    """After how long a quiet stop ended it, or would have; None: it never was quiet enough."""
    ended: EndedBy

    @classmethod
    def of(cls, watch: WatchRun) -> Watched:
        """What is kept of the end of a run."""
        stop = watch.seconds if watch.ended == "quiet" else watch.stop_second
        return cls(seconds=watch.seconds, stop=stop, ended=watch.ended)


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
    watched: Watched | None = None
    """None if it was not watched for news, or an older version published it."""

    def run_within(self, timeout: int, watch: WatchPlan | None = None) -> float:
        """How long this run would have taken under another *timeout*, and watched by another plan.

        A run that lasted until its timeout would do so with another one, too; a run that ended by itself
        would have ended at the same time, or been stopped before. One that a quiet stop ended lasts as long
        as it may where none is allowed: nobody knows better.
        """
        longest = timeout if watch is None else watch.longest(timeout)
        if watch is not None and watch.stops:
            return self._stopped(longest, earliest=earliest_stop(watch))
        if self.watched is not None and self.watched.ended != "itself":
            return self._unstopped(self.watched, timeout, longest)
        return self._to_its_end(longest)

    def _to_its_end(self, longest: int) -> float:
        if self.run >= self.timeout:
            return longest + self.run - self.timeout
        return min(self.run, longest)

    def _unstopped(self, watched: Watched, timeout: int, longest: int) -> float:
        """Where its time ended it, or a quiet stop: it goes on to its timeout, and beyond only while it is
        busy."""
        is_busy = watched.stop is None and watched.seconds >= self.timeout
        seconds = longest if is_busy else min(max(timeout, watched.seconds), longest)
        return seconds + self._around(watched)

    def _stopped(self, longest: int, *, earliest: int) -> float:
        """Where a quiet stop may end it, but not before *earliest*."""
        watched = self.watched
        if watched is None or watched.stop is None:
            return self._to_its_end(longest)
        seconds = max(watched.stop, earliest)
        if watched.ended == "itself":
            seconds = min(seconds, watched.seconds)
        return min(seconds, longest) + self._around(watched)

    def _around(self, watched: Watched) -> float:
        """What a run takes besides its watching."""
        return max(0.0, self.run - watched.seconds)

    def stopped_after(self, part: float) -> Learned:
        """The same run, as if a quiet stop came after that part (0 to 1) of its timeout, or as soon then as
        one may."""
        ended: EndedBy = "timeout" if self.run >= self.timeout else "itself"
        watched = Watched(seconds=min(self.run, self.timeout), stop=part * self.timeout, ended=ended)
        return self.model_copy(update={"watched": watched})


GUESSES = (
    Learned(timeout=1, prepare=2, run=1, rest=2),
    Learned(timeout=1, prepare=30, run=11, rest=20),
    Learned(timeout=1, prepare=90, run=31, rest=120),
    Learned(timeout=2, prepare=10, run=0, rest=5),
)
"""Three runs that are watched to the end and one that ends at once: what is assumed if little is known."""


def learned_of(record: Record) -> Learned | None:
    """What can be learned from a record; None if it was not published, its times are not complete, or it has
    the result of an earlier analysis: then nothing was run."""
    times = [record.entered.get(one) for one in (State.PREPARING, State.RUNNING, State.COLLECTING)]
    if record.state is not State.PUBLISHED or record.analysis is None or record.reused_from is not None:
        return None
    entered, running, vacated = times
    if entered is None or running is None or vacated is None or record.finished is None:
        return None
    watch = record.result.watch if record.result is not None else None
    return Learned(
        timeout=record.analysis.longest,
        prepare=round(running - entered, 2),
        run=round(vacated - running, 2),
        rest=round(record.finished - vacated, 2),
        watched=Watched.of(watch) if watch is not None else None,
    )


def durations(learned: Mapping[str, Sequence[Learned]], profile: str) -> list[Learned]:
    """What a profile's durations are drawn from: its own, else those of all profiles, else guesses."""
    known = list(learned.get(profile, ())) or [one for many in learned.values() for one in many]
    return known if len(known) >= ENOUGH else [*known, *GUESSES]


def earliest_stop(watch: WatchPlan) -> int:
    """The second before which no quiet stop comes."""
    return max(watch.min_seconds, watch.quiet_seconds)


def for_stops(known: Sequence[Learned]) -> list[list[Learned]]:
    """What the durations of runs are drawn from that a quiet stop may end: those that say when one comes.

    If these are few, nobody knows when the others would be stopped, but it is much the same for all: then
    there are several lists, from all being stopped at once to none, of which each is as likely.
    """
    watched = [one for one in known if one.watched is not None]
    if len(watched) >= ENOUGH:
        return [watched]
    others = [one for one in known if one.watched is None]
    return [[*watched, *(one.stopped_after(part) for one in others)] for part in PARTS]


def drawn_from(learned: Mapping[str, Sequence[Learned]], profile: str, stops: bool) -> list[list[Learned]]:
    """What durations are drawn from, all of them from one of these lists, of which each is as likely.

    *stops*: of runs that a quiet stop may end.
    """
    known = durations(learned, profile)
    return for_stops(known) if stops else [known]


def stage_durations(
    lists: Sequence[Sequence[Learned]], state: State, timeout: int, watch: WatchPlan | None
) -> list[float]:
    """How long what an analysis does in *state* took for others, the shortest first."""
    known = [one for many in lists for one in many]
    if state is State.PREPARING:
        return sorted(one.prepare for one in known)
    if state is State.RUNNING:
        return sorted(one.run_within(timeout, watch) for one in known)
    return sorted(one.rest for one in known)
