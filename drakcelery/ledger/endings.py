"""How an attempt or an analysis ends; each end is one script, which tells Karton as well."""

from __future__ import annotations

from drakcelery.errors import Superseded
from drakcelery.ledger.connection import Connected
from drakcelery.ledger.keys import DONE, queue_key, record_key, reusable_key, task_key, variants_key
from drakcelery.ledger.records import record_of
from drakcelery.ledger.second_looks import Look, Outgoing, Verdict
from drakcelery.model.analysis import Failure, Priority
from drakcelery.model.records import Record
from drakcelery.model.result import Result

NO_CONDITIONS = "none"
"""Stands for conditions where there are none; nothing is written under it."""


class Endings(Connected):
    """Ends attempts and analyses."""

    def cancel(self, record: Record, *, reason: str, crashed: str | None) -> bool:
        """End a live analysis. False if it is over already.

        *crashed* is Karton's task as JSON, None to leave it as it is. A stage that works on the analysis
        learns of it at its next :meth:`renew`.
        """
        return self._cancel(record.uid, record.task_uid, reason, crashed or "")

    def _cancel(self, uid: str, task_uid: str, reason: str, crashed: str) -> bool:
        keys = {"record": record_key(uid), "task": task_key(task_uid)}
        return bool(self._scripts("cancel", keys, uid=uid, reason=reason, crashed=crashed, ttl=self._ttl))

    def fail(
        self,
        uid: str,
        attempt: int,
        failure: Failure,
        *,
        task_uid: str,
        final: bool,
        crashed: str | None,
        delay: float = 0,
        token: str = "",
    ) -> int:
        """Note the failure; if it is *final*, the analysis is over and Karton's task becomes *crashed*.

        *crashed* is the CRASHED task as JSON, None if Karton has dropped it. *token* names the delivery
        that failed; without it the attempt is ended from outside.
        Returns the number of the attempt that is due in *delay* seconds, 0 if the analysis is over.
        Raises :class:`Superseded` if the attempt is stale.
        """
        answer = self._scripts(
            "fail",
            {"record": record_key(uid), "task": task_key(task_uid)},
            uid=uid,
            attempt=attempt,
            failure=failure.model_dump_json(),
            final=int(final),
            crashed=crashed or "",
            ttl=self._ttl,
            identity=self.identity,
            delay=delay,
            token=token,
        )
        if answer is None:
            raise Superseded(f"analysis {uid}: attempt {attempt} is stale")
        return int(answer)

    def publish(
        self,
        uid: str,
        attempt: int,
        *,
        task_uid: str,
        finished: str,
        analysis_task: str,
        analysis_task_uid: str,
        result: Result | None = None,
        reusable_as: str | None = None,
    ) -> Record:
        """Publish in one transaction; the tasks are JSON. Returns the record.

        *reusable_as*: the conditions under which other tasks may have the result; None: none may.
        Raises :class:`Superseded`.
        """
        answer = self._scripts(
            "publish",
            {
                "record": record_key(uid),
                "task": task_key(task_uid),
                "analysis_task": task_key(analysis_task_uid),
                "reusable": reusable_key(reusable_as or NO_CONDITIONS),
            },
            uid=uid,
            attempt=attempt,
            finished=finished,
            analysis_task=analysis_task,
            analysis_uid=analysis_task_uid,
            result=result.model_dump_json(exclude_defaults=True) if result else "",
            is_reusable=int(reusable_as is not None),
            ttl=self._ttl,
            identity=self.identity,
        )
        if not answer:
            raise _stale(uid, attempt)
        return record_of(answer)

    def publish_look(
        self, uid: str, attempt: int, out: Outgoing, look: Look, *, task_uid: str
    ) -> tuple[Record, Verdict]:
        """As :meth:`publish`; and what became of the second look that *look* asks for."""
        keys = {
            "record": record_key(uid),
            "task": task_key(task_uid),
            "analysis_task": task_key(out.task_uid),
            "reusable": reusable_key(out.reusable_as or NO_CONDITIONS),
            "variants": variants_key(look.root),
            "first_record": record_key(look.first or uid),
            "variant_task": task_key(look.variant_task),
            "variant_queue": queue_key(Priority.LOW.value, self.identity),
        }
        answer = self._scripts(
            "publish_look",
            keys,
            uid=uid,
            attempt=attempt,
            finished=out.finished,
            analysis_task=out.task,
            analysis_uid=out.task_uid,
            result=out.result,
            is_reusable=int(out.reusable_as is not None),
            ttl=self._ttl,
            identity=self.identity,
            seconds=look.seconds,
            first=look.first or "",
            news=look.said,
            wanted=look.asked,
        )
        if not answer:
            raise _stale(uid, attempt)
        return record_of(answer[0]), answer[1]

    def remove(self, uid: str, *, reason: str) -> bool:
        """End an analysis whose record nobody can read. False if it is not live.

        Its Karton task is left as it is, since nobody knows which one it is.
        """
        if self._redis.type(record_key(uid)) not in ("hash", "none"):
            self._redis.delete(record_key(uid))
        ended = self._cancel(uid, "", reason, "")
        with self._redis.pipeline() as pipe:
            pipe.delete(record_key(uid))
            pipe.zrem(DONE, uid)
            pipe.execute()
        return ended


def _stale(uid: str, attempt: int) -> Superseded:
    return Superseded(f"analysis {uid}: attempt {attempt} may not publish")
