"""What came of every sample, as Karton sees it: nothing here asks drakcelery."""

from __future__ import annotations

import contextlib
import json
import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

from karton.core.backend import KARTON_TASK_NAMESPACE, KARTON_TASKS_QUEUE, KartonBackend
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
    reused: dict[str, str] = field(default_factory=dict)
    """The analyses that have the result of another, and which."""
    owners: dict[str, str] = field(default_factory=dict)
    """Who may see each analysis: its persistent header."""

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
        tasks = self._tasks()
        payloads = [(tasks[uid]["payload"], tasks[uid]["headers"]) for uid in arrived]
        return Seen(
            reused={
                str(payload["analysis_uid"]): str(payload["metadata"]["reused_from"])
                for payload, _ in payloads
                if "reused_from" in payload["metadata"]
            },
            owners={str(payload["analysis_uid"]): str(headers.get("owner")) for payload, headers in payloads},
            published=Counter(str(tasks[uid]["payload"]["analysis_uid"]) for uid in arrived),
            crashed={
                str(task["payload"]["override_uid"]): "".join(task.get("error") or ())
                for task in tasks.values()
                if task["status"] == TaskState.CRASHED.value and _is_sample(task)
            },
            on_their_way=on_their_way,
        )

    def _tasks(self) -> dict[str, dict[str, Any]]:
        """Karton's tasks by uid, read one by one: some storms send what Karton's own reader ends at."""
        keys = list(self._backend.redis.scan_iter(match=f"{KARTON_TASK_NAMESPACE}:*", count=1000))
        texts = cast("list[bytes | None]", self._backend.redis.mget(keys)) if keys else []
        found = {}
        for key, text in zip(keys, texts, strict=True):
            with contextlib.suppress(ValueError):  # one that is no JSON ends in no way that counts here
                name = key.decode() if isinstance(key, bytes) else str(key)
                found[name.partition(":")[2]] = json.loads(text or "")
        return found


def _is_sample(task: Mapping[str, Any]) -> bool:
    payload = task["payload"]
    return task["headers"].get("type") == "sample" and isinstance(payload, dict) and "override_uid" in payload


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
    odd: int
    """Sample tasks with odd contents, beside those received."""
    odd_open: int
    """Odd ones that ended in no way that people could see."""
    intruders: int
    """Machines and deployments that came under a name or to a Redis that was another's."""
    intruders_admitted: int
    reused: int
    """Samples that got the result of an earlier analysis."""
    reused_across: int
    """Those whose owner may not see the earlier one."""
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
        odd: Collection[str] = (),
        refused: Collection[bool] = (),
    ) -> Totals:
        """Count what *seen* says of the samples *uids*.

        *odd*: how each odd task has ended; *refused*: whether each intruder was.
        """
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
            odd=len(odd),
            odd_open=sum(1 for end in odd if end == "open"),
            intruders=len(refused),
            intruders_admitted=sum(1 for one in refused if not one),
            reused=len(seen.reused),
            reused_across=sum(
                1 for uid, first in seen.reused.items() if seen.owners.get(uid) != seen.owners.get(first)
            ),
            recovery_p50_s=round(statistics.median(times), 1) if times else None,
            recovery_max_s=round(times[-1], 1) if times else None,
        )

    @property
    def promise_is_kept(self) -> bool:
        """Nothing lost, nothing twice, nothing odd that is stuck, nobody let in who does not belong here.

        Nor is a result given to somebody who may not see it.
        """
        return (
            not (self.lost or self.published_twice or self.odd_open or self.intruders_admitted)
            and not self.reused_across
            and self.received == self.published + self.crashed
        )

    def write(self, path: Path, *, contents: Mapping[str, Mapping[str, int]] | None = None) -> None:
        """As JSON, with how many odd tasks of which *contents* ended in which way."""
        path.parent.mkdir(parents=True, exist_ok=True)
        more = {} if contents is None else {"contents": contents}
        path.write_text(json.dumps(asdict(self) | more, indent=2) + "\n")

    def table(self) -> str:
        """For people: one line a figure."""
        return "".join(f"{name:<16} {value}\n" for name, value in asdict(self).items())
