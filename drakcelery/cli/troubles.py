"""What people are told of an error of Redis, and what to do: imported where there was one."""

from __future__ import annotations

from pathlib import Path

from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import RedisError, ResponseError

from drakcelery.embedded import configuration, lock
from drakcelery.embedded.typed import command
from drakcelery.ledger.away import trouble
from drakcelery.settings import Settings
from drakcelery.wiring import make_ledger


def of_redis(error: RedisError, ours: Settings | None, *, unconfigured: str) -> str:
    """A sentence on *error* of the Redis that the settings *ours* name, and one on what to do: *unconfigured*
    where no file names it."""
    if ours is None:
        return trouble(error)
    if isinstance(error, ResponseError):
        return trouble(make_ledger(ours).explained(error))
    if isinstance(error, NoConnection):
        remedy = unconfigured if ours.source is None else _remedy(ours.source)
        return f"{trouble(error).rstrip('.')}. {remedy}"
    return trouble(error)


def _remedy(source: Path) -> str:
    """What to do where nobody listens at the address that *source* has."""
    directory = source.parent
    if source.name != configuration.NAME or not (directory / lock.NAME).exists():
        return f"Its address is from {source}; `drakcelery doctor --only redis` says more"
    if lock.holder(directory) is not None:
        return f"The stack in {directory} is starting or stopping: try again"
    return f"The stack in {directory} is not running: {command('up', directory)} starts it"
