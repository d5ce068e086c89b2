"""``drakcelery doctor``: checks all that an installation needs, and says how to fix what is wrong.

Nothing that it does stays: of ours it writes nothing to Redis, and what it puts into S3 it removes again. A
module for each area; :mod:`.runner` looks at one thing after the other.
"""

from __future__ import annotations

from drakcelery.doctor import (
    buckets,
    configuration,
    engine,
    karton_side,
    keys,
    machine,
    ownership,
    redis_server,
    rights,
    transport,
    xen,
)
from drakcelery.doctor.finding import Check

_LEDGER_RIGHTS, _BROKER_RIGHTS = rights.CHECKS
_BROKER, *_WORKERS = transport.CHECKS

CHECKS: tuple[Check, ...] = (
    *configuration.CHECKS,
    *redis_server.CHECKS,
    _LEDGER_RIGHTS,
    *keys.CHECKS,
    *machine.CHECKS,
    *ownership.CHECKS,
    *buckets.CHECKS,
    *karton_side.CHECKS,
    _BROKER,
    _BROKER_RIGHTS,
    *_WORKERS,
    *engine.CHECKS,
    *xen.CHECKS,
)
"""All, in the order in which they are looked at: what others need comes before them."""
