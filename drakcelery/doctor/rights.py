"""Whether Redis lets us do what we do, found out without doing it.

Redis checks a command, its keys and its channels against the user's ACL before it puts it into a transaction
(measured: Valkey 9.1). So each command is put into one, with the keys that drakcelery really uses, and the
transaction is discarded: nothing is read, written or sent.
"""

from __future__ import annotations

from collections.abc import Sequence

import redis
from karton.core.backend import (
    KARTON_BINDS_HSET,
    KARTON_TASKS_QUEUE,
    KartonBackendBase,
    KartonMetrics,
)
from karton.core.task import TaskPriority
from redis.exceptions import NoPermissionError, ResponseError

from drakcelery.broker.routing import io_queue
from drakcelery.doctor.finding import Check, Verdict, failed, ok, skipped
from drakcelery.doctor.subject import Subject, redis_client
from drakcelery.ledger.keys import (
    ASIDE,
    DEAD,
    DONE,
    DUE,
    FLEET,
    INBOX,
    INFLIGHT,
    LIVE,
    NOTICE_COUNTS,
    NOTICES,
    NOTICES_WANTED,
    TURN,
    WAITING,
    WATCH,
    durations_key,
    gaps_key,
    host_key,
    io_key,
    lease_key,
    line_key,
    record_key,
    task_key,
)
from drakcelery.model.analysis import Place

NOBODY = "drakcelery-doctor"
"""Stands for any uid; there is no task, analysis or worker of this name."""

Command = tuple[str, ...]


def ledger_commands(identity: str) -> tuple[Command, ...]:
    """What the ledger, the intake, the fleet and their scripts do in Karton's database."""
    record, task, host = record_key(NOBODY), task_key(NOBODY), host_key(NOBODY)
    queue = KartonBackendBase.get_queue_name(identity, TaskPriority.NORMAL)
    return (
        *(("EVALSHA", "0" * 40, "1", record), ("SCRIPT", "LOAD", "return 1"), ("TIME",), ("SCAN", "0")),
        *(("HGET", record, "state"), ("HMGET", record, "state"), ("HGETALL", record), ("EXISTS", record)),
        *(("HSET", record, "state", ""), ("HSETNX", record, "state", ""), ("HDEL", record, "state")),
        *(("HINCRBY", record, "resends", "1"), ("EXPIRE", record, "60"), ("DEL", record)),
        *(("HINCRBY", INFLIGHT, NOBODY, "1"), ("HGETALL", INFLIGHT), ("HDEL", INFLIGHT, NOBODY)),
        *(("HKEYS", INFLIGHT), ("HSET", INFLIGHT, NOBODY, "1"), ("TYPE", INFLIGHT)),
        *(("ZADD", key, "1", NOBODY) for key in (INBOX, ASIDE, LIVE, DONE, DUE, FLEET, _LINE)),
        *(("ZREM", key, NOBODY) for key in (INBOX, ASIDE, LIVE, DUE, _LINE)),
        *(("ZSCORE", LIVE, NOBODY), ("ZCARD", INBOX), ("ZCARD", _LINE), ("ZRANGE", LIVE, "0", "0")),
        *(("ZREVRANGE", DONE, "0", "0"), ("ZREMRANGEBYSCORE", DONE, "0", "0"), ("ZPOPMIN", DUE)),
        *(("ZRANGEBYSCORE", DUE, "0", "0"), ("ZRANGEBYSCORE", FLEET, "0", "0")),
        *(("SADD", WAITING, NOBODY), ("SREM", WAITING, NOBODY), ("SMEMBERS", WAITING)),
        *(("SET", host, "", "EX", "60"), ("MGET", host), ("DEL", host)),
        *(("HKEYS", _NAME), ("PEXPIRE", _NAME, "60"), ("EXISTS", io_key(NOBODY))),
        *(("ZREMRANGEBYSCORE", FLEET, "0", "0"), ("ZMSCORE", DUE, NOBODY), ("ZMSCORE", INBOX, NOBODY)),
        *(("GET", task), ("MGET", task), ("SET", task, "", "XX"), ("EXISTS", task), ("EXPIRE", FLEET, "60")),
        *(("EXISTS", queue), ("EXISTS", WAITING)),
        *(("LPOP", name) for name in (queue, identity)),
        *(("LREM", queue, "1", NOBODY), ("ZRANGE", ASIDE, "0", "0"), ("ZMSCORE", ASIDE, NOBODY)),
        *(("LRANGE", queue, "0", "0"), ("RPUSH", KARTON_TASKS_QUEUE, NOBODY)),
        ("LLEN", KARTON_TASKS_QUEUE),
        *(("HINCRBY", metric.value, identity, "1") for metric in _METRICS),
        *(("LPUSH", _LESSONS, ""), ("LTRIM", _LESSONS, "0", "0"), ("LRANGE", _LESSONS, "0", "0")),
        *(("SISMEMBER", NOTICES_WANTED, "FAILED"), ("SADD", NOTICES_WANTED, "FAILED")),
        *(("ZADD", NOTICES, "1", NOBODY), ("HINCRBY", NOTICE_COUNTS, "sent", "1"), ("LPUSH", DEAD, "")),
        *(("ZCOUNT", _LINE, "0", "1"), ("LLEN", queue), ("LREM", queue, "1", NOBODY)),
        *(("INFO", "server"), ("HMGET", WATCH, "since"), ("HSET", WATCH, "since", "")),
        *(("EXPIRE", WATCH, "60"), ("GET", TURN), ("SET", TURN, "", "NX"), ("PEXPIRE", TURN, "60")),
        *(("ZADD", _GAPS, "1", NOBODY), ("ZREMRANGEBYSCORE", _GAPS, "0", "0")),
        *(("ZREMRANGEBYRANK", _GAPS, "0", "0"), ("ZRANGE", _GAPS, "0", "0")),
        *(("HGET", KARTON_BINDS_HSET, identity), ("HSET", KARTON_BINDS_HSET, identity, "")),
        *(("HEXISTS", KARTON_BINDS_HSET, identity), ("HGETALL", KARTON_BINDS_HSET)),
    )


_LINE = line_key(Place(profile=NOBODY))
_NAME = lease_key(NOBODY)
_GAPS = gaps_key(WATCH)
_LESSONS = durations_key(NOBODY)
_METRICS = (KartonMetrics.TASK_CONSUMED, KartonMetrics.TASK_CRASHED, KartonMetrics.TASK_PRODUCED)


def broker_commands() -> tuple[Command, ...]:
    """What kombu 5.7 does in the broker's database (read in ``kombu.transport.redis``)."""
    queue, channel = io_queue(NOBODY), "/0.celery.pidbox"
    bound = f"_kombu.binding.{queue}"
    return (
        *(("BRPOP", queue, "1"), ("RPOP", queue), ("LPUSH", queue, ""), ("RPUSH", queue, "")),
        *(("LLEN", queue), ("LRANGE", queue, "0", "0"), ("DEL", queue), ("EXISTS", queue)),
        ("PEXPIRE", queue, "60"),
        *(("SADD", bound, NOBODY), ("SREM", bound, NOBODY), ("SMEMBERS", bound)),
        *(("HSET", "unacked", NOBODY, ""), ("HGET", "unacked", NOBODY), ("HDEL", "unacked", NOBODY)),
        *(("ZADD", "unacked_index", "1", NOBODY), ("ZREM", "unacked_index", NOBODY)),
        *(("ZRANGE", "unacked_index", "1", "-inf", "BYSCORE", "REV"), ("TIME",), ("INFO", "server")),
        ("EVALSHA", "0" * 40, "1", bound),
        ("PUBLISH", channel, ""),
    )


def refused(client: redis.Redis, commands: Sequence[Command]) -> list[Command]:
    """Those of *commands* that this user may not send. None of them is carried out.

    Raises:
        redis.exceptions.ResponseError: Redis knows a command not at all, or in another form.
    """
    connection = client.connection_pool.get_connection()
    try:
        _send(connection, "MULTI")
        try:
            connection.read_response()
        except NoPermissionError:
            return [("MULTI",)]
        found = [command for command in commands if not _may(connection, command)]
        _send(connection, "DISCARD")
        connection.read_response()
        return found
    finally:
        connection.disconnect()  # type: ignore[no-untyped-call] # redis-py; whatever is still open there is discarded with it
        client.connection_pool.release(connection)


def sentence(commands: Sequence[Command]) -> str:
    """*commands* by the key that they are for: ``ZADD, ZREM on drak:inbox; TIME``."""
    by_key: dict[str, list[str]] = {}
    for name, *words in commands:
        place = 2 if name == "EVALSHA" else 0
        key = "" if name in ("SCRIPT", "SCAN", "INFO") or len(words) <= place else words[place]
        by_key.setdefault(key, []).append(name)
    return "; ".join(", ".join(names) + (f" on {key}" if key else "") for key, names in by_key.items())


def _send(connection: redis.Connection, *words: str) -> None:
    connection.send_command(*words)  # type: ignore[no-untyped-call] # redis-py says nothing of it


def _may(connection: redis.Connection, command: Command) -> bool:
    _send(connection, *command)
    try:
        connection.read_response()
    except NoPermissionError:
        return False
    return True


def _verdict(client: redis.Redis, commands: Sequence[Command]) -> Verdict:
    try:
        missing = refused(client, commands)
    except ResponseError as error:
        return failed(f"Redis does not know a command that is needed: {error}", "Update Redis.")
    if missing:
        return failed(f"not allowed: {sentence(missing)}")
    return ok(f"all of {len({command[0] for command in commands})} commands are allowed, on our keys")


def _ledger(subject: Subject) -> Verdict:
    return _verdict(subject.redis, ledger_commands(subject.settings.drakrun.identity))


def _broker(subject: Subject) -> Verdict:
    url = subject.settings.broker_url
    if not url.startswith(("redis:", "rediss:")):
        return skipped(f"the broker is {url.partition(':')[0]}, not a plain Redis")
    with redis_client(url) as client:
        return _verdict(client, broker_commands())


CHECKS = (
    Check(
        name="redis.rights",
        what="this user of Redis may do what drakcelery does with Karton's keys and its own",
        remedy="redis-cli ACL SETUSER NAME ~karton.* ~drak:* ~IDENTITY +@all -@admin -@dangerous +info, for "
        "the user of [redis] username.",
        look=_ledger,
        needs=("redis.reachable",),
    ),
    Check(
        name="celery.rights",
        what="this user of Redis may do what Celery does in the broker's database",
        remedy="redis-cli ACL SETUSER NAME ~drak.* ~_kombu.* ~unacked* ~*.pidbox ~celeryev.* &* +@all "
        "-@admin -@dangerous +info, for the user of the broker.",
        look=_broker,
        needs=("celery.broker",),
    ),
)
"""The second stands behind the broker's own check."""
