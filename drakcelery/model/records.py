"""What the ledger says: the record of an analysis, and the state of hosts and slots. Pure values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import Field, TypeAdapter

from drakcelery.model.analysis import STAGES, Analysis, Failure, ObjectRef, Place, Stage, State, Text, Value
from drakcelery.model.names import Name
from drakcelery.model.result import Result
from drakcelery.model.second_look import SecondLook
from drakcelery.model.slot_state import ReportedState

_GIVEN = ("uid", "task_uid", "root_uid")
"""Fields that each record has, perhaps empty."""
_FAILURES = TypeAdapter(tuple[Failure, ...])


class Record(Value):
    """What the ledger holds of one analysis. Times are UNIX times by Redis' clock."""

    uid: str
    task_uid: str
    root_uid: str
    place: Place | None = None
    """The place that it waits, or waited, for."""
    state: State
    attempt: int
    """The number of the current attempt, which makes every earlier one stale.

    It also counts attempts of earlier lives of the uid, and those that were replaced before a worker took
    them up. People are shown :attr:`attempts`."""
    first_attempt: int
    """The number of the first attempt of this life."""
    analysis: Analysis | None = None
    """None if the task was refused before it became an analysis."""
    refused_sample: ObjectRef | None = None
    """The sample of a task that was refused; None if the task said nothing sensible about it."""
    refusal: str | None = None
    host: str | None = None
    machine: str | None = None
    """Which machine of that name: a :attr:`drakcelery.model.machine.Machine.key`."""
    slot: str | None = None
    failures: tuple[Failure, ...] = ()
    received: float
    updated: float
    finished: float | None = None
    alike: bool = False
    """Whether what is missing in the current attempt's run was missing in an earlier run, too."""
    analysis_task_uid: str | None = None
    result: Result | None = None
    """Its result, once it is published; None otherwise, and if an older version published it."""
    sent: int | None = None
    """The last attempt whose chain is known to be with the broker."""
    done: Stage | None = None
    """The last stage that the current attempt has finished."""
    busy: str | None = None
    """The delivery that works, or worked, on the next stage."""
    beat: float | None = None
    """When it last showed life."""
    silence: float = 0
    """After how many seconds without a sign of life it may be considered dead; stays when the delivery is
    settled."""
    waiting: float | None = None
    """Since when the next stage is postponed."""
    postponed: int = 0
    """How often it was."""
    resends: int = 0
    """How often the message of the next stage was sent again."""
    updated_text: str
    beat_text: str = ""
    """``updated`` and ``beat`` as Redis has them, for comparison there."""
    entered: Mapping[State, float] = Field(default_factory=dict)
    """When the current attempt entered each state."""
    retries: tuple[str, ...] = ()
    """The analyses that repeat it, the newest last."""
    variants: tuple[SecondLook, ...] = ()
    """The second looks that it led to."""

    @property
    def sample(self) -> ObjectRef | None:
        """The sample, also of a refused task; None if nothing is known of it."""
        return self.analysis.sample if self.analysis is not None else self.refused_sample

    @property
    def reused_from(self) -> str | None:
        """The analysis whose result it has; None if it was, or is to be, run."""
        return self.analysis.reuse.reused_from if self.analysis is not None else None

    @property
    def log_fields(self) -> dict[str, str | int | None]:
        """The fields of each log line about it."""
        where = {"host": self.host, "slot": self.slot}
        return {"uid": self.uid, "attempt": self.attempt, "stage": self.following, **where}

    @property
    def is_foreign(self) -> bool:
        """Whether a newer version has brought it to a state unknown here; then leave it alone."""
        return not self.state.is_known or (self.done is not None and not self.done.is_known)

    @property
    def attempts(self) -> int:
        """How many attempts this analysis has had, the current one included: those that failed, and it.

        An attempt that was replaced because its message was lost, or because its slot or host takes nothing
        any more, does not count.
        """
        is_begun = self.attempt >= self.first_attempt and self.state is not State.FAILED
        return len(self.failures) + is_begun

    @property
    def is_unsent(self) -> bool:
        """Whether the current attempt's chain is not known to be with the broker."""
        return self.state is State.QUEUED and self.sent != self.attempt

    @property
    def following(self) -> Stage | None:
        """The stage that comes next in the current attempt."""
        return STAGES[_position(self.done)] if _position(self.done) < len(STAGES) else None

    @property
    def last_sign(self) -> float:
        """When anything about this analysis was last heard."""
        return max(self.updated, self.beat or 0)

    def is_silent(self, now: float, *, after: float, heard_since: float) -> bool:
        """Whether nothing was heard for longer than *after* seconds, and for longer than its claim may be
        silent.

        Only time since *heard_since* counts, since nobody listened before.
        """
        silent = now - max(self.last_sign, heard_since)
        return silent > max(after, self.silence if self.busy else 0)

    @property
    def reason(self) -> str | None:
        """Why it ended as it did; None if it simply was published."""
        if self.state is not State.PUBLISHED or self.refusal:
            return self.error
        return self.result.reason if self.result else None

    @property
    def error(self) -> str | None:
        """Why the analysis failed, or what its last attempt died of."""
        return self.refusal or (self.failures[-1].error if self.failures else None)


class CanaryStatus(Value):
    """The calls for canaries in a slot (:class:`~drakcelery.host.doubts.Calls`), and what the last one found.

    The last one is the one that answers the call *judged*, or a later one.
    """

    called: int = 0
    begun: int = 0
    judged: int = 0
    at: float | None = None
    """When the last that was judged ended: UNIX time; None if there was none."""
    trouble: Text | None = None
    """What is wrong with the slot; None if nothing is."""

    @property
    def is_due(self) -> bool:
        """Whether a canary comes as soon as the slot is free."""
        return self.called > self.begun

    @property
    def words(self) -> str | None:
        """``due``, ``good`` or why the slot is not; None if there was none."""
        return "due" if self.is_due else None if self.at is None else self.trouble or "good"


class SlotStatus(Value):
    """One slot, as its host's vm worker reports it."""

    name: str
    profile: Name
    state: ReportedState
    uid: str | None = None
    attempt: int | None = None
    since: float
    """UNIX time of the last change; while something holds a closed slot, since when that does."""
    closed_by: str | None = None
    """The operator who keeps it out of use."""
    score: float | None = None
    """How well it is, from 0 to 1 (:mod:`drakcelery.host.health`); None if its host does not say so."""
    reasons: tuple[Text, ...] = ()
    """Why it is not 1, worded to follow the name of the slot."""
    canary: CanaryStatus = CanaryStatus()
    """What is known of its canaries; nothing if its host has an older version."""


class HostStatus(Value):
    """What a vm worker says about its host, every few seconds."""

    host: Name
    engine: str
    slots: tuple[SlotStatus, ...]
    draining: bool = False
    """Whether an operator has drained the whole host."""
    halted: str | None = None
    """Why it takes nothing now, whatever its slots say (:mod:`drakcelery.model.halt`); None if it takes
    samples."""
    snapshot: str | None = None
    """An identifier of the snapshot of its VMs; None if it is not known."""
    snapshot_changed: bool = False
    """Whether it is another one than when its vm worker started."""
    io_alive: bool | None = None
    """Whether its io worker shows life in Redis; None if one of the two has an older version."""


class Line(Value):
    """The samples that wait for a place, apart from those on Karton's queue."""

    place: Place
    length: int
    since: float
    """UNIX time at which Karton had the oldest of them."""


def _position(done: Stage | None) -> int:
    """The number of stages that an attempt has finished whose last one is *done*; all if that is unknown."""
    if done is None:
        return 0
    return STAGES.index(done) + 1 if done in STAGES else len(STAGES)


def _counted(fields: Mapping[str, str]) -> tuple[Failure, ...]:
    """The failures, numbered in order; older versions also counted attempts that no worker took up."""
    failures = _FAILURES.validate_json(fields.get("failures") or "[]")
    before = int(fields["first_attempt"]) - 1
    return tuple(
        one.model_copy(update={"attempt": attempt, "number": one.number or before + one.attempt})
        for attempt, one in enumerate(failures, 1)
    )


def parse(fields: Mapping[str, str]) -> Record:
    """The hash in Redis as a value; ``at:<STATE>`` fields are the times of the current attempt.

    Fields and words of a newer version do no harm. Raises ValueError or LookupError for what is no record.
    """
    values: dict[str, Any] = {
        key: value for key, value in fields.items() if value != "" and not key.startswith("at:")
    }
    values |= {key: fields[key] for key in _GIVEN if key in fields}  # such as of a task with an empty uid
    values["failures"] = _counted(fields)
    if "analysis" in fields:
        values["analysis"] = json.loads(fields["analysis"])
    for name in ("refused_sample", "result"):
        if fields.get(name):
            values[name] = json.loads(fields[name])
    values["retries"] = tuple(fields.get("retries", "").split())
    values["variants"] = tuple(map(SecondLook.parse, fields.get("variants", "").split()))
    prefix = "at:"
    if "place" in fields:
        values["place"] = Place.parse(fields["place"])
    values["updated_text"] = fields["updated"]
    values["beat_text"] = fields.get("beat", "")
    values["entered"] = {
        key.removeprefix(prefix): float(value) for key, value in fields.items() if key.startswith(prefix)
    }
    return Record.model_validate(values)
