"""Which errors mean that Redis is away or refuses everything, and which are about a single command.

Only the former are waited for. An answer such as WRONGTYPE, or a value that cannot be sent, comes again each
time: code that takes it for an absence tries forever.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from redis import exceptions as redis
from redis._parsers.base import BaseParser

from drakcelery.model.certificates import tls_fault

T = TypeVar("T")
PLAIN = "set [redis] ssl = 0"
"""How to do without TLS."""


class WritesRefused(redis.ConnectionError):
    """Redis answers but accepts no writes: its own disk is full, or too few replicas follow it."""


# redis-py has no classes for these answers. They mean the same as a lost connection, which callers wait out;
# any other error of its broker ends a worker
BaseParser.EXCEPTION_CLASSES.update(dict.fromkeys(("MISCONF", "NOREPLICAS"), WritesRefused))


class WrongKey(redis.ResponseError):
    """A key of ours is of another type; the text names it, and says what to do."""


ANSWERED = (
    redis.ReadOnlyError,
    redis.ClusterDownError,  # MasterDownError is one
    redis.TryAgainError,
)
"""What a Redis answers in a failover: tried again, as a lost connection is."""
_AWAY = (
    redis.ConnectionError,  # BusyLoadingError and WritesRefused are some
    redis.TimeoutError,
    *ANSWERED,
)
_FOR_ALL = (redis.NoPermissionError, redis.OutOfMemoryError)
_DENIED_TO_SCRIPTS = "ACL failure in script"
"""What Redis says, without an error code, if a user may call a script but not a command in it."""


def is_away(error: BaseException) -> bool:
    """Whether Redis cannot be asked now: no connection or answer, loading, no writes, cluster down."""
    return isinstance(error, _AWAY)


def trouble(error: redis.RedisError) -> str:
    """What people are told of an error of Redis; that it is away only if it really is."""
    if is_away(error):
        fault = tls_fault(error, section="redis", plain=PLAIN)
        if fault is not None:
            return f"Karton's Redis {fault.said}. {fault.remedy}"
        return f"Karton's Redis does not answer: {error}"
    if isinstance(error, WrongKey):
        return f"In Karton's Redis {error}"
    return f"Karton's Redis refuses what it was asked: {error}; `drakcelery doctor --only redis` says more"


def unless_odd(ask: Callable[[], T], default: T) -> T:
    """What *ask* finds in Redis, for display only; *default* if the key has another type than it should."""
    try:
        return ask()
    except redis.ResponseError as error:
        if concerns_all(error):
            raise
        return default


def concerns_all(error: BaseException) -> bool:
    """Whether every other command would fail as well: Redis is away, is full, or grants too few rights."""
    if isinstance(error, redis.ResponseError) and _DENIED_TO_SCRIPTS in str(error):
        return True
    return is_away(error) or isinstance(error, _FOR_ALL)
