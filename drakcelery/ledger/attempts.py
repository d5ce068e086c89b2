"""The life of an attempt, as its stages report it to the ledger; each call is one script, fenced by
attempt."""

from __future__ import annotations

from typing import Any, cast

from drakcelery.errors import Astray, NeedsSolitude, Superseded, UnderWay
from drakcelery.ledger.connection import Connected
from drakcelery.ledger.keys import DUE, record_key
from drakcelery.ledger.records import record_of
from drakcelery.model.analysis import STAGES, Stage, State
from drakcelery.model.records import Record

_STATES = {
    Stage.PREPARE: State.PREPARING,
    Stage.RUN: State.RUNNING,
    Stage.COLLECT: State.COLLECTING,
    Stage.UPLOAD: State.UPLOADING,
    Stage.PUBLISH: State.UPLOADING,
}
"""The state of an analysis whose stage is under way."""
_AFTER = {**_STATES, Stage.RUN: State.COLLECTING}
"""The state of an analysis whose stage is done. After run there is no guest any more, even while the next
stage has not begun."""
_ELSEWHERE = "attempt {attempt} is on another machine that has, or had, the name {host}"
_REFUSALS: dict[int, tuple[type[Exception], str]] = {
    0: (Superseded, "attempt {attempt} may not enter {stage} any more"),
    2: (UnderWay, "{stage} of attempt {attempt} is under way; delivered twice"),
    3: (NeedsSolitude, "{stage} has cost a process; it has to be alone"),
    4: (Superseded, _ELSEWHERE),
    5: (Astray, _ELSEWHERE),
}
"""What to raise if a stage may not be entered, by the answer of ``lua/advance.lua``."""


class Attempts(Connected):
    """Notes what happens to attempts."""

    def begin_attempt(self, uid: str, *, after: int, lost: bool = False) -> int:
        """Number of an attempt that is to be sent now.

        *lost*: the message of the current attempt is known to be gone.
        Raises :class:`Superseded` if *after* is not the current attempt, or was sent.
        """
        attempt = self._scripts("begin", {"record": record_key(uid)}, after=after, lost=int(lost))
        if attempt is None:
            raise Superseded(f"analysis {uid} has been started already")
        return int(attempt)

    def sent(self, uid: str, attempt: int) -> None:
        """Note that the chain of an attempt is with the broker."""
        self._scripts("sent", {"record": record_key(uid)}, attempt=attempt)

    def due(self) -> str | None:
        """Take an analysis whose next attempt, or postponed stage, is to be sent now."""
        return cast("str | None", self._scripts("due"))

    def due_times(self) -> list[tuple[str, float]]:
        """(uid, when it is to be sent) of all that are to be sent later."""
        return cast("list[tuple[str, float]]", self._redis.zrange(DUE, 0, -1, withscores=True))

    def is_due_later(self, uid: str) -> bool:
        """Whether the analysis waits for its time to be sent."""
        return self._redis.zscore(DUE, uid) is not None

    def advance(
        self,
        uid: str,
        attempt: int,
        stage: Stage,
        *,
        host: str,
        slot: str,
        token: str,
        beside_others: bool = False,
        machine: str = "",
        has_files: bool = False,
    ) -> tuple[Record, float]:
        """Enter *stage* with the delivery *token*; returns the record as it was before, and the time.

        *beside_others*: a process that dies may take other work down with it.
        *machine*: the key of this machine; *has_files*: whether the attempt's files are here.

        Raises:
            UnderWay: another delivery is at work on it.
            NeedsSolitude: it must not work *beside_others*. Nothing was changed.
            Superseded: it is stale, done or over, or on another machine with this host name.
            Astray: it is on such a machine, and its message has come here once more since.
        """
        answer = self._scripts(
            "advance",
            {"record": record_key(uid)},
            attempt=attempt,
            before=_before(stage),
            stage=stage.value,
            state=_STATES[stage].value,
            host=host,
            slot=slot,
            token=token,
            silence=self.timeouts.silence,
            alone=int(not beside_others),
            machine=machine,
            has_files=int(has_files),
        )
        return _entered(answer, uid, attempt=attempt, stage=stage.value, host=host)

    def renew(self, uid: str, attempt: int, *, token: str) -> bool:
        """Show that a delivery is alive. False if it is stale: it should stop what it does.

        True if there is no record: a Redis that lost its data may get it back.
        """
        return bool(self._scripts("renew", {"record": record_key(uid)}, attempt=attempt, token=token))

    def linger(self, uid: str, attempt: int, stage: Stage) -> None:
        """Show that a delivery waits to begin *stage*. Raises :class:`Superseded` if it waits in vain."""
        keys = {"record": record_key(uid)}
        if not self._scripts("linger", keys, attempt=attempt, before=_before(stage)):
            raise Superseded(f"analysis {uid}: attempt {attempt} need not wait for {stage.value} any more")

    def complete(self, uid: str, attempt: int, stage: Stage, *, token: str) -> None:
        """Note that the stage is done. Raises :class:`Superseded` if the delivery is stale."""
        keys, state = {"record": record_key(uid)}, _AFTER[stage].value
        if not self._scripts("complete", keys, attempt=attempt, token=token, stage=stage.value, state=state):
            raise Superseded(f"analysis {uid}: attempt {attempt} was taken over during {stage.value}")

    def note_alike(self, uid: str, attempt: int) -> None:
        """Note that what is missing in the attempt's run was missing in an earlier run, too."""
        self._scripts("alike", {"record": record_key(uid)}, attempt=attempt)

    def abandon(self, uid: str, attempt: int, stage: Stage) -> int:
        """Note that the process that worked on *stage* is dead, so its message may be taken up at once.

        Returns how many processes the stage has cost by now; 0 if nobody was at work on it.
        """
        keys = {"record": record_key(uid)}
        return int(self._scripts("abandon", keys, attempt=attempt, before=_before(stage), stage=stage.value))

    def defer(self, uid: str, attempt: int, *, delay: float) -> bool:
        """Send an attempt again in *delay* seconds. False if it is stale, or somebody has begun it."""
        keys = {"record": record_key(uid)}
        return bool(self._scripts("defer", keys, uid=uid, attempt=attempt, delay=delay))

    def postpone(self, uid: str, attempt: int, *, token: str, delay: float, patience: float = 1e9) -> float:
        """Have the current stage sent again in *delay* seconds; returns how many seconds it has been waiting.

        If that is *patience* or more, nothing is changed. Raises :class:`Superseded` if the delivery is
        stale.
        """
        keys = {"record": record_key(uid)}
        waiting = self._scripts(
            "postpone", keys, uid=uid, attempt=attempt, token=token, delay=delay, patience=patience
        )
        if waiting is None:
            raise Superseded(f"analysis {uid}: attempt {attempt} is stale")
        return float(waiting)

    def resend(self, record: Record) -> int:
        """Claim to send the next stage again, as *record* shows it.

        Returns how many processes the stage has cost by now, with the one that fell silent; 0 if nobody
        was at work on it.

        Raises :class:`Superseded` if something has happened since.
        """
        answer = self._scripts(
            "resend",
            {"record": record_key(record.uid)},
            attempt=record.attempt,
            done=record.done.value if record.done else "",
            updated=record.updated_text,
            beat=record.beat_text,
            stage=record.following.value if record.following else "",
        )
        if answer is None:
            raise Superseded(f"analysis {record.uid} is not lost")
        return int(answer)


def _before(stage: Stage) -> str:
    """The stage before *stage*, as the scripts name it."""
    place = STAGES.index(stage)
    return STAGES[place - 1].value if place else ""


def _entered(answer: Any, uid: str, **said: str | int) -> tuple[Record, float]:
    """The record and time that ``lua/advance.lua`` answers; raises if the stage may not be entered."""
    if not isinstance(answer, list):
        error, why = _REFUSALS[answer or 0]
        raise error(f"analysis {uid}: {why.format(**said)}")
    entered, before = answer
    return record_of(before), float(entered)
