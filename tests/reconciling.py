"""A ledger with one analysis, and what reconcile sends of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from karton.core import Task
from kombu.exceptions import OperationalError

from drakcelery.ledger import Ledger
from drakcelery.ledger.keys import record_key
from drakcelery.ledger.watch import ServerId
from drakcelery.model.analysis import Stage
from drakcelery.model.records import HostStatus, Record, SlotStatus
from drakcelery.recovery.reconcile import Reconciler
from drakcelery.settings import Settings
from tests.builders import analysis

UID = "a-1"

HOUR = 3600


@dataclass
class Fleet:
    """A ledger with one analysis, and a record of what reconcile sends."""

    ledger: Ledger
    task: Task
    sent: list[tuple[int, Stage | None]] = field(default_factory=list)
    broker_is_away: bool = False
    broker_goes_away: bool = False
    """Whether it answers and then takes nothing."""

    def reconcile(self) -> dict[str, int]:
        """One run; what it sends is noted, as the broker would have it."""
        return Reconciler(
            ledger=self.ledger, settings=Settings(), send=self._send, ask_broker=self._ask_broker
        ).run()

    def _ask_broker(self) -> ServerId:
        if self.broker_is_away:
            raise OperationalError("away")
        return ServerId()

    def _send(self, record: Record) -> None:
        if self.broker_is_away or self.broker_goes_away:
            raise OperationalError("away")
        self.sent.append((record.attempt, record.following))
        self.ledger.sent(record.uid, record.attempt)

    @property
    def record(self) -> Record:
        """The analysis."""
        record = self.ledger.get(UID)
        assert record is not None
        return record

    def walk(self, *stages: Stage) -> None:
        """Do stages of the first attempt."""
        for stage in stages:
            self.enter(stage)
            self.ledger.complete(UID, 1, stage, token="t")

    def enter(self, stage: Stage) -> None:
        """Begin a stage of the first attempt."""
        self.ledger.advance(UID, 1, stage, host="rack-1", slot="vm-1", token="t")

    def age(self, seconds: float) -> None:
        """Let nothing have been heard for *seconds*."""
        key = record_key(UID)
        for name in ("updated", "beat"):
            if self.ledger._redis.hexists(key, name):
                self.ledger._redis.hset(key, name, f"{self.ledger.now() - seconds:.6f}")

    def host(self, name: str, state: str, *, holder: str | None = None, io_alive: bool | None = None) -> None:
        """A host with one slot is alive; by default its version looks for no io worker."""
        slot = SlotStatus(name="vm-1", profile=analysis().profile, state=state, uid=holder, since=0)
        self.ledger.fleet.report(
            HostStatus(host=name, engine="replay", slots=(slot,), io_alive=io_alive), lasts=600
        )
