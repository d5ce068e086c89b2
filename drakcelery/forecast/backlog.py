"""What waits outside the ledger, as far as estimates need it: in lines, on Karton's queues, for twins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog
from karton.core.task import Task, TaskState

from drakcelery.errors import BadTask
from drakcelery.forecast.reuse import Reuses, followers, reuses_of, with_wish
from drakcelery.forecast.simulation import Estimate, Wait
from drakcelery.karton import contract
from drakcelery.karton.contract import SampleFacts
from drakcelery.karton.destination import fixed
from drakcelery.karton.policy import policy_of
from drakcelery.karton.reading import read_task as read_karton_task
from drakcelery.ledger import Ledger
from drakcelery.ledger.inbox import Inbox
from drakcelery.ledger.lines import URGENCY, Stretch
from drakcelery.model.analysis import Analysis, Place, Priority, Value
from drakcelery.model.news import WatchPlan
from drakcelery.settings import Settings

log = structlog.get_logger(__name__)

LISTED = 200
"""How many tasks of a line, of one of Karton's queues, or that wait for twins, get estimates."""
KINDS = 8
"""How many kinds of samples are distinguished among those that are only counted."""

OVER = (TaskState.FINISHED, TaskState.CRASHED)
"""States of Karton tasks that wait for nothing, for example because they were cancelled."""

Read = Callable[[Task], Analysis]
"""What ingress would make of a Karton task. Raises :class:`BadTask` if it would refuse it."""
Kind = tuple[Place, int, WatchPlan | None]
"""What counts for the time that a sample takes: its place, its timeout, and how it is watched."""


class Queued(Value):
    """A sample that waits outside the ledger: in line for its place, or on Karton's queue."""

    uid: str
    """The uid that its analysis will have."""
    task_uid: str
    root_uid: str
    position: int
    """1 for the next, among all that wait outside the ledger; 0 for one that waits for a twin: it is in no
    line."""
    place: str
    """Profile, and host if one was asked for; on Karton's queue as far as the task alone tells."""
    estimate: Estimate | None
    """None if nothing of its place is online."""
    reuses: bool = False
    """Whether it is to get the result of another analysis, by what its task alone tells."""
    twin: str | None = None
    """The uid of that one, if it is not over yet."""


def _reader(settings: Settings) -> Read:
    """Reads a task as ingress does, without the facts that only the sample's content shows."""
    policy, unseen = policy_of(settings), SampleFacts(size=1, magic="")
    return lambda task: with_wish(settings, task, fixed(settings, contract.read_task(task, unseen, policy)))


@dataclass(frozen=True, kw_only=True)
class Backlog:
    """All that waits outside the ledger, read as far as it is listed."""

    stretches: Sequence[Stretch]
    tasks: Mapping[str, tuple[Task, Analysis]]
    """By Karton uid; without those that ingress will refuse, and of :attr:`over`."""
    over: frozenset[str]
    """Karton uids of tasks that wait for nothing any more: cancelled, or dropped by Karton."""
    twins: Mapping[str, str]
    """By Karton uid of those that wait for a twin its uid, in their order."""
    more_twins: int
    """How many more do."""
    reuses: Mapping[str, Reuses]
    """By Karton uid: those of lines and queues that are to get a result instead of a run."""

    @classmethod
    def of(cls, settings: Settings, ledger: Ledger, inbox: Inbox) -> Backlog:
        """Read it."""
        stretches = inbox.backlog(most=LISTED)
        twins, more = followers(inbox, most=LISTED)
        lined = [uid for stretch in stretches for uid in stretch.named]
        tasks, over = _read(inbox, [*lined, *twins], _reader(settings))
        waiting = {uid: tasks[uid][1] for uid in lined if uid in tasks and uid not in twins}
        reuses = reuses_of(settings, ledger, inbox, waiting)
        return cls(
            stretches=stretches,
            tasks=tasks,
            over=frozenset(over),
            twins=twins,
            more_twins=more,
            reuses=reuses,
        )

    @property
    def behind(self) -> int:
        """How many are only counted."""
        return self.more_twins + sum(stretch.length - len(stretch.named) for stretch in self.stretches)

    @property
    def followers(self) -> list[Wait]:
        """Those that wait for a twin."""
        return [
            Wait(uid=ours.uid, place=ours.place, timeout=ours.timeout, is_reuse=True, twin=twin)
            for uid, twin in self.twins.items()
            if uid in self.tasks
            for ours in (self.tasks[uid][1],)
        ]

    def waiting(self, probes: Sequence[Wait]) -> list[Wait]:
        """All of lines and queues in their order, with *probes* where a new task of normal priority would
        stand."""
        usual = Counter(
            _kind(analysis, uid in self.reuses)
            for uid, (_, analysis) in self.tasks.items()
            if uid not in self.twins
        )
        before: list[Wait] = []
        after: list[Wait] = []
        for stretch in self.stretches:
            part = after if stretch.urgency > URGENCY[Priority.NORMAL] else before
            part += [self._wait(uid, stretch.place) for uid in stretch.named if uid in self.tasks]
            rest = stretch.length - len(stretch.named)
            part += _bulk(rest, usual, stretch.place)
        return [*before, *probes, *after]

    def _wait(self, uid: str, place: Place | None) -> Wait:
        ours, reuses = self.tasks[uid][1], self.reuses.get(uid)
        return Wait(
            uid=ours.uid,
            place=place or ours.place,
            timeout=ours.timeout,
            watch=ours.watch,
            is_reuse=reuses is not None,
            twin=reuses.twin if reuses is not None else None,
        )

    def queued(self, found: Mapping[str, Estimate]) -> tuple[Queued, ...]:
        """Those that are listed, with what was *found* for them."""
        listed, ahead = [], 0
        for stretch in self.stretches:
            waiting = [uid for uid in stretch.named if uid not in self.over]
            for number, uid in enumerate(waiting, ahead + 1):
                if uid in self.tasks:
                    listed.append(self._queued(uid, number, stretch.place, found))
            ahead += stretch.length - len(stretch.named) + len(waiting)
        listed += [self._queued(uid, 0, None, found) for uid in self.twins if uid in self.tasks]
        return tuple(listed)

    def _queued(self, uid: str, position: int, place: Place | None, found: Mapping[str, Estimate]) -> Queued:
        (task, analysis), reuses = self.tasks[uid], self.reuses.get(uid)
        twin = self.twins.get(uid) or (reuses.twin if reuses is not None else None)
        return Queued(
            uid=analysis.uid,
            task_uid=task.uid,
            root_uid=task.root_uid,
            position=position,
            place=str(place or analysis.place),
            estimate=found.get(analysis.uid),
            reuses=reuses is not None or twin is not None,
            twin=twin,
        )


def _read(inbox: Inbox, uids: Sequence[str], read: Read) -> tuple[dict[str, tuple[Task, Analysis]], set[str]]:
    """(the tasks and what ingress would make of them, those that wait for nothing any more)."""
    tasks: dict[str, tuple[Task, Analysis]] = {}
    over = set()
    for uid, text in zip(uids, inbox.tasks(uids), strict=True):
        if text is None:
            over.add(uid)
            continue
        try:
            task = read_karton_task(text, uid)
            if task.status in OVER:
                over.add(uid)
            else:
                tasks[uid] = (task, read(task))
        except BadTask:
            continue  # its turn will be short
        except Exception as error:  # noqa: BLE001 one odd task hides no other's estimate
            log.warning("task_not_estimated", task=uid, error=str(error))
    return tasks, over


def _kind(analysis: Analysis, reuses: bool) -> Kind | None:
    """None: it takes no slot."""
    return None if reuses else (analysis.place, analysis.timeout, analysis.watch)


def _bulk(count: int, usual: Counter[Kind | None], place: Place | None) -> list[Wait]:
    """Estimated tasks in place of those that were only counted: they count as like those before them.

    *place*: where they wait; None on Karton's queue.
    """
    kinds = usual.most_common(KINDS)
    total = sum(part for _, part in kinds)
    shares = [(kind, round(count * part / total)) for kind, part in kinds if kind is not None]
    return [
        Wait(uid="", place=place or usual_place, timeout=timeout, watch=watch, count=share)
        for (usual_place, timeout, watch), share in shares
        if share
    ]
