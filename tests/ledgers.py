"""What several tests need around a ledger."""

from __future__ import annotations

from drakcelery.intake import Intake
from drakcelery.ledger import Ledger


def intake_of(ledger: Ledger, *, record_ttl: int = 600) -> Intake:
    """The intake beside *ledger*."""
    return Intake(ledger.redis, identity=ledger.identity, record_ttl=record_ttl)
