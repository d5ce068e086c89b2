"""``drakcelery doctor``: checks all that an installation needs, and says how to fix what is wrong.

It leaves no traces: it writes none of our keys to Redis, and removes what it puts into S3. There is a module
for each area; :mod:`.runner` runs one check after the other.
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
    report,
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
    *report.CHECKS,
)
"""All checks in order: a check comes after those that it needs."""
