"""Which errors say that Redis is away, or refuses everything, and which are about what was asked of it.

Only the former are waited for. An answer such as WRONGTYPE, or a value that cannot be sent, comes again each
time the same is asked: who takes it for an absence asks for ever.
"""

from __future__ import annotations

from redis import exceptions as redis

ANSWERED = (
    redis.ReadOnlyError,
    redis.ClusterDownError,  # MasterDownError is one
    redis.TryAgainError,
)
"""What a Redis answers in a failover: tried again, as a lost connection is."""
_AWAY = (
    redis.ConnectionError,  # BusyLoadingError is one
    redis.TimeoutError,
    *ANSWERED,
)
_FOR_ALL = (redis.NoPermissionError, redis.OutOfMemoryError)


def is_away(error: BaseException) -> bool:
    """Whether Redis cannot be asked now: no connection or answer, loading, read-only, cluster down."""
    return isinstance(error, _AWAY)


def concerns_all(error: BaseException) -> bool:
    """Whether *error* would meet whatever else is asked: Redis is away, is full, or grants too few rights."""
    return is_away(error) or isinstance(error, _FOR_ALL)
