"""Analyses that are over, and of which notices go out."""

from __future__ import annotations

from karton.core import Task

from drakcelery.karton import contract
from drakcelery.ledger import Ledger
from drakcelery.model.analysis import Stage
from tests.builders import analysis
from tests.ledgers import inbox_of, open_analysis


def opened(ledger: Ledger, uid: str, *, task_name: str = "") -> Task:
    """A live analysis whose attempt is under way, and its Karton task ``{r}:<uid>``, or of another name."""
    task = Task({"type": "sample"}, uid=f"{{r}}:{task_name or uid}", root_uid="r")
    ledger.declare(contract.started(task))
    inbox_of(ledger).adopt(task.uid)
    open_analysis(ledger, analysis().model_copy(update={"uid": uid, "task_uid": task.uid}))
    return task


def publish(ledger: Ledger, uid: str, *, task_name: str = "") -> None:
    task = opened(ledger, uid, task_name=task_name)
    record = ledger.get(uid)
    assert record is not None
    for stage in Stage:
        ledger.advance(uid, record.attempt, stage, host="rack-1", slot="vm-1", token="t")
        if stage is not Stage.PUBLISH:
            ledger.complete(uid, record.attempt, stage, token="t")
    ledger.publish(
        uid,
        record.attempt,
        task_uid=task.uid,
        finished=contract.finished(task).serialize(),
        analysis_task=Task({"type": "analysis"}, uid=f"{{r}}:out-{uid}", root_uid="r").serialize(),
        analysis_task_uid=f"{{r}}:out-{uid}",
    )
