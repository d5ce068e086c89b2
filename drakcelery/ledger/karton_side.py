"""Karton's own data in its Redis: tasks, and what is routed to us.

Karton itself is imported only where a task is read, which the shell's completion does not do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from redis.exceptions import WatchError

from drakcelery.ledger.connection import Connected
from drakcelery.ledger.keys import BINDS, DUE, UNROUTED, queue_key, record_key, task_key
from drakcelery.model.records import Record

if TYPE_CHECKING:
    from karton.core.task import Task


MOST_RETRIES = 100
"""How many retries the record of an analysis names."""


class KartonSide(Connected):
    """Reads and writes Karton's own data."""

    def karton_task(self, task_uid: str) -> Task | None:
        """The Karton task, if Karton still has it. Its resources are not bound to any storage.

        Raises :class:`~drakcelery.errors.Unreadable` for what is no task.
        """
        from drakcelery.karton import reading

        text = cast("str | None", self._redis.get(task_key(task_uid)))
        return None if text is None else reading.read_task(text, task_uid)

    def karton_update(self, task_uid: str) -> float | None:
        """When Karton last changed the task, as a UNIX time; None if it is not there, or does not say.

        Raises :class:`~drakcelery.errors.Unreadable` for what is no JSON object.
        """
        from drakcelery.karton import json_record

        text = cast("str | None", self._redis.get(task_key(task_uid)))
        return None if text is None else json_record.last_update(text) or None

    def last_word(self, task_uid: str, reasons: Sequence[str]) -> str | None:
        """The Karton task as CRASHED with *reasons*, as JSON, whatever it was.

        None if Karton has dropped it.
        """
        from drakcelery.karton import reading

        text = cast("str | None", self._redis.get(task_key(task_uid)))
        return reading.last_word(text, task_uid, reasons, now=self.now())

    def declare(self, task: Task) -> None:
        """Tell Karton of *task* without sending it, so that its collector spares what the task refers to."""
        self._redis.set(task_key(task.uid), task.serialize())

    def undeclare(self, task: Task) -> None:
        """Take back what :meth:`declare` told, of a task that was not sent."""
        self._redis.delete(task_key(task.uid))

    def ask_again(self, declared: Task, *, uid: str, of: str) -> None:
        """Send a task that was *declared* to our own ingress: it brings the analysis *uid*, a retry.

        The record of the analysis *of* that it repeats names it from then on. Done once, however often.
        """
        from karton.core.task import TaskState

        before = declared.serialize()
        declared.status = TaskState.SPAWNED
        self._scripts(
            "ask_again",
            {
                "record": record_key(of),
                "task": task_key(declared.uid),
                "queue": queue_key(declared.priority.value, self.identity),
            },
            task=declared.uid,
            declared=before,
            spawned=declared.serialize(),
            uid=uid,
            most=MOST_RETRIES,
        )

    def beside(self, records: Sequence[Record]) -> list[tuple[str | None, float | None]]:
        """(Karton's task as JSON, when the analysis is to be sent) of each record."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.mget([task_key(record.task_uid) for record in records])
            pipe.zmscore(DUE, [record.uid for record in records])
            texts, due = pipe.execute()
        return list(zip(texts, due, strict=True))

    def renew_task(self, task_uid: str, *, now: float, older_than: float) -> bool:
        """Set the last update of a STARTED task to now. False if the task is not STARTED or need not be
        renewed.

        Raises :class:`~drakcelery.errors.Unreadable` for what is no task.
        """
        from karton.core.task import TaskState

        from drakcelery.karton import reading

        key = task_key(task_uid)
        with self._redis.pipeline() as pipe:
            pipe.watch(key)  # type: ignore[no-untyped-call] # redis-py leaves this one untyped
            text = pipe.get(key)
            task = reading.read_task(str(text), task_uid) if text else None
            if task is None or task.status is not TaskState.STARTED or now - task.last_update < older_than:
                return False
            pipe.multi()
            pipe.set(key, reading.refreshed(str(text), now))
            try:
                pipe.execute()
            except WatchError:
                return False  # someone else wrote it: fresh enough, or over
        return True

    def tasks_after(self, cursor: int, *, some: int) -> tuple[int, list[tuple[str, str | None]]]:
        """(cursor, uid and JSON of some of Karton's tasks). Cursor 0 begins, and is returned at the end.

        There may be millions of them.
        """
        found = self._redis.scan(cursor, match=task_key("*"), count=some)
        following, keys = cast("tuple[int, list[str]]", found)
        texts = cast("list[str | None]", self._redis.mget(keys)) if keys else []
        return following, [
            (key.removeprefix(task_key("")), text) for key, text in zip(keys, texts, strict=True)
        ]

    def bind(self, serialized: str) -> None:
        """Have karton-system route to our identity what the bind *serialized* asks for."""
        self._redis.hset(BINDS, self.identity, serialized)

    def bound(self, identity: str = "") -> str | None:
        """The bind of *identity*, ours by default, as Karton has it; None if there is none.

        Without a bind karton-system drops our tasks.
        """
        return cast("str | None", self._redis.hget(BINDS, identity or self.identity))

    def online(self) -> set[str]:
        """Karton's services that are connected, by identity: their connections are named after them.

        Not every user of Redis may ask.
        """
        return {str(client.get("name", "")).partition("?")[0] for client in self._redis.client_list()}

    def bound_identities(self) -> list[str]:
        """Everybody who has a bind, by name."""
        return sorted(cast("dict[str, str]", self._redis.hgetall(BINDS)))

    def unrouted(self, *, some: int) -> list[str]:
        """The uids of *some* tasks at most that karton-system has to route, the longest there first."""
        return cast("list[str]", self._redis.lrange(UNROUTED, 0, some - 1))
