"""Karton's Redis: can it be reached, does it keep what it is given, is it near."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from typing import Any, cast

from redis.exceptions import (
    AuthenticationError,
    InvalidResponse,
    NoPermissionError,
    RedisError,
    ResponseError,
)

from drakcelery.doctor.commands import redis_cli
from drakcelery.doctor.finding import Check, Verdict, failed, ok, skipped, warning
from drakcelery.doctor.subject import Subject, endpoint_of
from drakcelery.ledger.away import PLAIN
from drakcelery.model.certificates import tls_fault

OLDEST = (6, 2)
"""kombu 5.7 asks for lost messages with ``ZRANGE … BYSCORE REV``, which is there from this version on."""
PINGS = 20
SLOW = 0.05
"""Seconds of one answer. A stage asks Redis a few times, and signs of life come every two seconds."""
FULL = 0.9
"""Share of ``maxmemory`` from which on there is little left."""

NO_DATABASE = "DB index is out of range"
"""What Redis answers where it has fewer databases."""
LET_IN = "Set [redis] username and password (or url) to what Karton's own karton.ini has."
_MUTE = "Timeout reading"
_HUNG_UP = ("Connection closed", "Connection reset")
"""redis-py's words for a server that takes the connection and says nothing, or ends it."""

Info = Mapping[str, Any]


def _reachable(subject: Subject) -> Verdict:
    where = endpoint_of(subject.settings.redis.address())
    try:
        subject.redis.ping()
    except AuthenticationError as error:
        return failed(f"{where} does not let us in: {error}", LET_IN)
    except RedisError as error:
        fault = tls_fault(error, section="redis", plain=PLAIN)
        if fault is not None:
            return failed(f"{where} {fault.said}", fault.remedy)
        if NO_DATABASE in str(error):
            return failed(
                f"{where}: this Redis has no database of that number",
                "Set [redis] db (or url) to what Karton's own karton.ini has.",
            )
        if isinstance(error, InvalidResponse):
            return failed(
                f"{where} is no Redis: {error}", "Set [redis] host and port (or url) to those of Redis."
            )
        return _unanswered(subject, where, str(error))
    return ok(f"{where} answers")


def _unanswered(subject: Subject, where: str, why: str) -> Verdict:
    """The finding where no answer came."""
    ping = redis_cli(subject.settings.redis.address(), "PING")
    if why.startswith(_MUTE) and not subject.settings.redis.is_encrypted:
        return failed(
            f"{where} took the connection, and did not answer in time",
            "See in its log what Redis is busy with, and that [redis] names no other server.",
            ping,
        )
    said = f"{where} does not answer" + (f": {why}" if why else "")
    return failed(said, _silence(subject, why), ping)


def _silence(subject: Subject, why: str) -> str:
    """What to do where no answer came."""
    remedy = "See that Redis runs and can be reached from here, and that [redis] names its address."
    if not subject.settings.redis.is_encrypted:
        speaks = " If it speaks TLS only: set [redis] ssl = 1."
        return remedy + (speaks if any(words in why for words in _HUNG_UP) else "")
    if subject.settings.redis.ssl_certfile is None:
        remedy += " If it demands a certificate of its clients: [redis] ssl_certfile and ssl_keyfile."
    return f"{remedy} If it speaks no TLS: {PLAIN[4:]}."


def _info(subject: Subject, section: str) -> Info:
    """A section of INFO. Raises NoPermissionError where this user may not ask."""
    return cast("Info", subject.redis.info(section))


def _server(subject: Subject) -> Verdict:
    try:
        return server_verdict({**_info(subject, "server"), **_info(subject, "replication")})
    except NoPermissionError:
        return _may_not_ask("INFO")


def server_verdict(info: Info) -> Verdict:
    """Version and role."""
    name = (
        f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info['redis_version']}"
    )
    version = tuple(int(part) for part in str(info["redis_version"]).split(".")[:2])
    if version < OLDEST:
        return failed(f"this is {name}, and {OLDEST[0]}.{OLDEST[1]} is needed")
    if info.get("redis_mode") == "cluster":
        return failed(
            f"this {name} is a cluster, with which neither Karton nor Celery works",
            "Point [redis] at a single server, or at the master behind a Sentinel.",
        )
    if info.get("role") == "slave":
        return failed(
            f"this {name} is a replica, and takes no writes", "Point [redis] at the master it replicates."
        )
    return ok(name)


def _durable(subject: Subject) -> Verdict:
    try:
        info = _info(subject, "persistence")
    except NoPermissionError:
        return _may_not_ask("INFO")
    found = durable_verdict(info, _setting(subject, "save"), _setting(subject, "appendfsync"))
    return found.mended_by(_admin(subject, "CONFIG", "SET", "appendonly", "yes"))


def durable_verdict(info: Info, save: str | None, fsync: str | None) -> Verdict:
    """What a crash of Redis costs. *save* and *fsync* are None if they may not be asked for."""
    for key, what in (("aof_last_write_status", "append-only file"), ("rdb_last_bgsave_status", "snapshot")):
        if info.get(key, "ok") != "ok":
            return failed(
                f"Redis could not write its last {what}, and refuses writes while that lasts",
                "See Redis' log: its disk is full, or not its own.",
            )
    if info.get("aof_enabled"):
        return ok("append-only file" + (f", appendfsync {fsync}" if fsync else ""))
    if save:
        return warning(f"snapshots only (save {save}): what came since the last is lost when Redis crashes")
    if save is None:
        return warning("no append-only file; whether it makes snapshots may not be asked")
    return failed("neither append-only file nor snapshots: when Redis stops, every sample in it is lost")


def _memory(subject: Subject) -> Verdict:
    try:
        found = memory_verdict(_info(subject, "memory"))
    except NoPermissionError:
        return _may_not_ask("INFO")
    return found.mended_by(_admin(subject, "CONFIG", "SET", "maxmemory-policy", "noeviction"))


def memory_verdict(info: Info) -> Verdict:
    """Whether Redis throws away what it holds when it is full."""
    policy, limit, used = str(info["maxmemory_policy"]), int(info["maxmemory"]), int(info["used_memory"])
    if policy != "noeviction":
        says = f"maxmemory-policy is {policy}"
        if not limit:
            return warning(f"{says}; harmless only as long as maxmemory is 0, as it is now")
        if policy.startswith("volatile"):
            return warning(f"{says}: a full Redis forgets which hosts are alive, and finished analyses")
        return failed(f"{says}: a full Redis throws away samples, queues and records")
    if limit and used > FULL * limit:
        return warning(
            f"{used / limit:.0%} of maxmemory are in use; a full Redis refuses writes",
            "Raise maxmemory, in redis.conf too, or see in karton-dashboard what piles up.",
        )
    return ok(f"noeviction, {used / limit:.0%} of maxmemory in use" if limit else "noeviction, no maxmemory")


def _latency(subject: Subject) -> Verdict:
    took = []
    for _ in range(PINGS):
        begun = time.perf_counter()
        subject.redis.ping()
        took.append(time.perf_counter() - begun)
    middle = statistics.median(took)
    says = f"an answer takes {middle * 1000:.1f} ms, the slowest of {PINGS} {max(took) * 1000:.1f} ms"
    return warning(says).mended_by(_admin(subject, "SLOWLOG", "GET")) if middle > SLOW else ok(says)


def _admin(subject: Subject, *words: str) -> str:
    return redis_cli(subject.settings.redis.address(), *words, admin=True)


def _setting(subject: Subject, name: str) -> str | None:
    """A setting of the server; None if this user may not ask, or the provider hides CONFIG."""
    try:
        return str(subject.redis.config_get(name).get(name, ""))
    except ResponseError:
        return None


def _may_not_ask(command: str) -> Verdict:
    return skipped(f"this user of Redis may not use {command}: see redis.rights")


CHECKS = (
    Check(
        name="redis.reachable",
        what="Karton's Redis answers, and takes our credentials",
        remedy="See that Redis runs and can be reached from here, and that [redis] is what Karton's "
        "karton.ini has. An error of TLS names the setting.",
        examine=_reachable,
        needs=("settings.load",),
    ),
    Check(
        name="redis.server",
        what="it is a single Redis or Valkey, 6.2 or newer, and no replica",
        remedy="Update Redis; Valkey works as well.",
        examine=_server,
        needs=("redis.reachable",),
    ),
    Check(
        name="redis.durable",
        what="it keeps what it was given when it crashes",
        remedy="Switch the append-only file on, and write appendonly yes into redis.conf.",
        examine=_durable,
        needs=("redis.reachable",),
    ),
    Check(
        name="redis.memory",
        what="it throws nothing away when it is full: maxmemory-policy noeviction",
        remedy="Set maxmemory-policy to noeviction, and the same in redis.conf.",
        examine=_memory,
        needs=("redis.reachable",),
    ),
    Check(
        name="redis.latency",
        what="it is near: an answer takes less than 50 ms",
        remedy="Look at the network between here and Redis, and for slow commands in its slow log.",
        examine=_latency,
        needs=("redis.reachable",),
        seconds=30,
    ),
)
"""In their order."""
