"""What came of every sample, as Karton sees it: nothing here asks drakcelery."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from karton.core import Task
from karton.core.backend import KARTON_TASKS_QUEUE, KartonBackend
from karton.core.task import TaskState


@dataclass(frozen=True, kw_only=True)
class Seen:
    """The samples of a storm in Karton, at one instant."""

    published: Counter[str]
    """How many analysis tasks karton-system has routed to the receiver, by analysis."""
    crashed: dict[str, str]
    """Why a sample task is CRASHED, by analysis; '' where Karton was given no reason."""
    on_their_way: int
    """Tasks that karton-system has not routed yet."""

    def open(self, uids: Iterable[str]) -> set[str]:
        """Which of *uids* ended in no way so far."""
        return {uid for uid in uids if uid not in self.published and not self.crashed.get(uid)}

    def doubled(self, uids: Iterable[str]) -> list[str]:
        """Which of *uids* were published more than once, or published and CRASHED."""
        return sorted(uid for uid in uids if self.published[uid] + bool(self.crashed.get(uid)) > 1)


class Observer:
    """Looks at a Karton service that wants analyses and is never at work: its queue is the evidence."""

    def __init__(self, backend: KartonBackend, receiver: str) -> None:
        """*receiver* is the identity of the service, which is bound."""
        self._backend = backend
        self._receiver = receiver

    def look(self) -> Seen:
        """Read the receiver's queues, without taking from them, and every CRASHED sample task."""
        queues = self._backend.get_queue_names(self._receiver)
        arrived = [uid for queue in queues for uid in self._backend.get_task_ids_from_queue(queue)]
        on_their_way = len(self._backend.get_task_ids_from_queue(KARTON_TASKS_QUEUE))
        tasks = {task.uid: task for task in self._backend.iter_all_tasks(parse_resources=False)}
        return Seen(
            published=Counter(str(tasks[uid].payload["analysis_uid"]) for uid in arrived),
            crashed={
                str(task.payload["override_uid"]): "".join(task.error or ())
                for task in tasks.values()
                if task.status is TaskState.CRASHED and _is_sample(task)
            },
            on_their_way=on_their_way,
        )


def _is_sample(task: Task) -> bool:
    return task.headers.get("type") == "sample" and "override_uid" in task.payload


@dataclass(frozen=True, kw_only=True)
class Totals:
    """A storm in figures; the fields are those of ``chaos.json``."""

    seed: int
    seconds: float
    received: int
    published: int
    crashed: int
    lost: int
    published_twice: int
    kills: int
    recovery_p50_s: float | None
    """From the kill of a process to the end of an analysis that it had at work: the median; None: no such."""
    recovery_max_s: float | None

    @classmethod
    def of(
        cls,
        seen: Seen,
        uids: Collection[str],
        *,
        seed: int,
        seconds: float,
        kills: int,
        recoveries: Iterable[float],
    ) -> Totals:
        """Count what *seen* says of the samples *uids*."""
        times = sorted(recoveries)
        return cls(
            seed=seed,
            seconds=round(seconds, 1),
            received=len(uids),
            published=sum(1 for uid in uids if seen.published[uid]),
            crashed=sum(1 for uid in uids if seen.crashed.get(uid)),
            lost=len(seen.open(uids)),
            published_twice=len(seen.doubled(uids)),
            kills=kills,
            recovery_p50_s=round(statistics.median(times), 1) if times else None,
            recovery_max_s=round(times[-1], 1) if times else None,
        )

    @property
    def promise_is_kept(self) -> bool:
        """Nothing lost, nothing twice."""
        return self.lost == 0 and self.published_twice == 0 and self.received == self.published + self.crashed

    def write(self, path: Path) -> None:
        """As JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")

    def table(self) -> str:
        """For people: one line a figure."""
        return "".join(f"{name:<16} {value}\n" for name, value in asdict(self).items())
