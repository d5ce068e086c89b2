"""Whether Redis lets us do what we do, found out without doing it.

Redis checks a command, its keys and its channels against the user's ACL before it puts it into a transaction
(measured: Valkey 9.1). So each command is put into one, with the keys that drakcelery really uses, and the
transaction is discarded: nothing is read, written or sent.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator, Mapping, Sequence

import redis
from redis.exceptions import NoPermissionError, ResponseError

from drakcelery.broker.routing import io_queue
from drakcelery.doctor.commands import redis_cli
from drakcelery.doctor.finding import Check, Status, Verdict, failed, ok, skipped, warning
from drakcelery.doctor.subject import Subject, redis_client
from drakcelery.ledger.foreignkeys import KARTON
from drakcelery.ledger.key import Key
from drakcelery.ledger.keys import FIXED, PREFIX, queue_keys
from drakcelery.ledger.keytable import LEDGER

NOBODY = "drakcelery-doctor"
"""Stands for any uid; no task, analysis or worker has this name."""

CATEGORIES = ("+@all", "-@admin", "-@dangerous", "+info")
BROKER_KEYS = ("~drak.*", "~_kombu.*", "~unacked*", "~*.pidbox", "~celeryev.*")

Command = tuple[str, ...]


_NO_KEY: tuple[Command, ...] = (
    *(("SCRIPT", "LOAD", "return 1"), ("TIME",), ("SCAN", "0"), ("INFO", "server")),
)
_WORDS: Mapping[str, Command] = {
    **dict.fromkeys(("ZREM", "ZSCORE", "ZMSCORE", "SADD", "SREM", "LPUSH", "RPUSH", "HDEL"), (NOBODY,)),
    **dict.fromkeys(("HGET", "HMGET", "HEXISTS"), (NOBODY,)),
    **dict.fromkeys(("HSET", "HSETNX"), (NOBODY, "")),
    **dict.fromkeys(("EXPIRE", "PEXPIRE"), ("60",)),
    **dict.fromkeys(("ZRANGE", "ZREVRANGE", "ZRANGEBYSCORE", "ZREVRANGEBYSCORE"), ("0", "0")),
    **dict.fromkeys(("ZCOUNT", "LRANGE", "LTRIM", "GETRANGE"), ("0", "0")),
    **dict.fromkeys(("ZREMRANGEBYSCORE", "ZREMRANGEBYRANK"), ("0", "0")),
    "ZADD": ("1", NOBODY),
    "HINCRBY": (NOBODY, "1"),
    "LREM": ("1", NOBODY),
    "LINDEX": ("0",),
    "ZRANGEBYLEX": ("-", "+"),
    "APPEND": ("",),
    "SETRANGE": ("0", ""),
    "SET": ("", "EX", "60"),
    "SISMEMBER": ("FAILED",),
}
"""The arguments after the key, for each command that needs some."""


def ledger_commands(identity: str) -> tuple[Command, ...]:
    """What the ledger, the inbox, the fleet and their scripts do in Karton's database."""
    return (
        *_NO_KEY,
        *(
            command
            for key in (*KARTON, *LEDGER)
            for name in _examples(key, identity)
            for command in _of(key, name)
        ),
    )


def _examples(key: Key, identity: str) -> list[str]:
    """Keys that drakcelery really uses, or the same kind of key for :data:`NOBODY`."""
    if key.name == "queue":
        return queue_keys(identity)
    if key.name == "metrics":
        return [name for name in FIXED.values() if key.matches(name)]
    return [key.pattern if key.is_one else key.of(*[NOBODY] * key.pattern.count("<"))]


def _of(key: Key, name: str) -> Iterator[Command]:
    if key.name == "record":
        yield ("EVALSHA", "0" * 40, "1", name)
    yield from ((command, name, *_WORDS.get(command, ())) for command in key.commands.split())


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
        redis.exceptions.ResponseError: Redis does not know a command, or knows it in another form.
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
    """*commands* by the key that they are for: ``ZADD, ZREM on <key>; TIME``."""
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


def republish_commands() -> tuple[Command, ...]:
    """What ``drakcelery republish --to`` does beside that: it writes into a consumer's own queue."""
    _, *queues = queue_keys(NOBODY)
    return tuple(("RPUSH", queue, "") for queue in queues)


def _ledger(subject: Subject) -> Verdict:
    ours = subject.settings
    found = _verdict(subject.redis, ledger_commands(ours.drakrun.identity))
    patterns = ("~karton.*", f"~{PREFIX}*", f"~{ours.drakrun.identity}", *CATEGORIES)
    found = found.mended_by(_grant(ours.redis.address(), *patterns))
    if found.status is not Status.OK or not refused(subject.redis, republish_commands()):
        return found
    return warning(
        f"{found.said}, but not RPUSH on other consumers' queues: drakcelery republish --to cannot send",
        "Give the user of [redis] username the keys of Karton's queues.",
        _grant(ours.redis.address(), "~karton.*"),
    )


def _grant(url: str, *rules: str) -> str:
    """The command with which an administrator gives *rules* to the user whom *url* names."""
    name = urllib.parse.unquote(urllib.parse.urlsplit(url).username or "default")
    return redis_cli(url, "ACL", "SETUSER", name, *rules, admin=True)


def _broker(subject: Subject) -> Verdict:
    url = subject.settings.broker_url
    if not url.startswith(("redis:", "rediss:")):
        return skipped(f"the broker is {url.partition(':')[0]}, not a plain Redis")
    with redis_client(url) as client:
        found = _verdict(client, broker_commands())
    return found.mended_by(_grant(url, *BROKER_KEYS, "&*", *CATEGORIES))


CHECKS = (
    Check(
        name="redis.rights",
        what="this user of Redis may do what drakcelery does with Karton's keys and its own",
        remedy="Give the user of [redis] username the keys and commands that are needed.",
        examine=_ledger,
        needs=("redis.reachable",),
    ),
    Check(
        name="celery.rights",
        what="this user of Redis may do what Celery does in the broker's database",
        remedy="Give the user of the broker the keys, channels and commands that are needed.",
        examine=_broker,
        needs=("celery.broker",),
    ),
)
"""The second comes after the broker's own check."""
