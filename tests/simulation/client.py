"""redis-py's client as an actor has it: each command is a cut, the network between may fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import redis
from redis.client import Pipeline
from redis.commands.core import Script
from redis.exceptions import ConnectionError as RedisAway

from drakcelery.ledger.away import ANSWERED
from tests.simulation.theatre import Theatre
from tests.simulation.valkey import Valkey, in_virtual_time

TRIES = 4
"""Of one who is not patient; as :func:`drakcelery.ledger.connect` has it."""
PAUSE = 10.0
"""The longest pause between two tries."""
READ_ONLY = frozenset(
    (
        *("TIME", "GET", "MGET", "EXISTS", "HGET", "HGETALL", "HMGET", "HEXISTS", "HKEYS", "HLEN", "LRANGE"),
        *("LLEN", "SMEMBERS", "SISMEMBER", "ZRANGE", "ZREVRANGE", "ZRANGEBYSCORE", "ZSCORE", "ZMSCORE"),
        *("ZCARD", "ZCOUNT", "SCAN", "WATCH", "UNWATCH", "PING", "INFO", "ROLE", "TTL", "PTTL", "TYPE"),
    )
)


class Wire(Protocol):
    """The way from an actor to Redis."""

    def is_cut(self) -> bool:
        """Whether nothing gets through just now."""


class Network:
    """What the clients of one schedule share."""

    def __init__(self, theatre: Theatre, valkey: Valkey) -> None:
        self.theatre = theatre
        self.valkey = valkey
        self.written = False
        """Whether something has changed since the simulation last looked."""
        self.starts = 1
        """How often this Redis was started, or another took its place."""
        self.refuses: redis.RedisError | None = None
        """What this Redis answers to who writes, for a while."""
        self.refuses_until = 0.0
        self._told: float | None = None

    def through(self, wire: Wire, label: str, command: Callable[[], Any], *, patient: bool) -> Any:
        """Have *command* done, again and again while the network does not carry it."""
        theatre, tries = self.theatre, 0
        while True:
            theatre.cut(label)
            error: redis.RedisError = RedisAway("Error 111 connecting to Redis. Connection refused.")
            if not wire.is_cut():
                try:
                    answer = self._execute(label, command)
                except (RedisAway, *ANSWERED) as refused:
                    error = refused
                else:
                    actor = theatre.current
                    if actor is None or not actor.lose_answer:
                        return answer
                    actor.lose_answer = False  # it was done, and is done once more
            tries += 1
            if tries >= TRIES and not patient:
                raise error
            theatre.sleep(min(PAUSE, 0.2 * 2**tries))

    def _execute(self, label: str, command: Callable[[], Any]) -> Any:
        if self._told != self.theatre.now:
            self._told = self.theatre.now
            self.valkey.advance(self.theatre.now)
        if self.refuses is not None and label not in READ_ONLY and self.theatre.now < self.refuses_until:
            raise self.refuses
        self.written = self.written or label not in READ_ONLY
        return command()

    def time(self) -> tuple[int, int]:
        """What Redis' ``TIME`` answers."""
        now = int(self.theatre.now * 1e6)
        return now // 1_000_000, now % 1_000_000

    def translated(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """A command whose times to live go by virtual time."""
        name = str(args[0]).upper()
        if name in ("EXPIRE", "PEXPIRE"):
            return ("PEXPIREAT", args[1], self._at(args[2], 1000 if name == "EXPIRE" else 1), *args[3:])
        if name == "SET":
            found = [str(arg).upper() if isinstance(arg, str) else arg for arg in args]
            for option, unit in (("EX", 1000), ("PX", 1)):
                if option in found[3:]:
                    place = found.index(option, 3)
                    return (*args[:place], "PXAT", self._at(args[place + 1], unit), *args[place + 2 :])
        if name in ("SETEX", "PSETEX", "GETEX", "EXPIREAT", "PEXPIREAT"):
            raise ValueError(f"the simulation does not know the time to live of {name}")
        return args

    def _at(self, ttl: Any, unit: int) -> int:
        return int(self.theatre.now * 1000) + int(ttl) * unit


class Client(redis.Redis):
    """Whatever is asked passes by the network."""

    network: Network
    wire: Wire
    patient: bool

    @classmethod
    def on(cls, network: Network, wire: Wire, pool: redis.ConnectionPool, *, patient: bool) -> Client:
        """A client by *wire*; *patient* as in :func:`drakcelery.ledger.connect`."""
        made = cls(connection_pool=pool)
        made.network, made.wire, made.patient = network, wire, patient
        return made

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """One command, one side effect."""
        name = str(args[0]).upper()
        if name == "TIME":
            return self.network.through(self.wire, name, self.network.time, patient=self.patient)
        given = self.network.translated(args)
        once: Callable[..., Any] = super().execute_command
        answer = self.network.through(self.wire, name, lambda: once(*given, **options), patient=self.patient)
        return {**answer, "run_id": f"redis-{self.network.starts}"} if name == "INFO" else answer

    def register_script(self, script: Any) -> Script:
        """A script in virtual time; that the server knows it already saves steps that matter to nothing."""
        text = in_virtual_time(str(script))
        self.network.valkey.know(text)
        return super().register_script(text)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        """As redis-py's."""
        made = Batch(self.connection_pool, self.response_callbacks, transaction, shard_hint)
        made.made_by, made.is_atomic = self, transaction
        return made


class Batch(Pipeline):
    """redis-py's pipeline: one side effect, or where it is no transaction as many as it has commands."""

    made_by: Client
    is_atomic: bool

    def pipeline_execute_command(self, *args: Any, **options: Any) -> Any:
        """One more of its commands."""
        return super().pipeline_execute_command(*self.made_by.network.translated(args), **options)

    def immediate_execute_command(self, *args: Any, **options: Any) -> Any:
        """WATCH, and what is asked after it."""
        given = self.made_by.network.translated(args)
        once: Callable[..., Any] = super().immediate_execute_command
        return self.made_by.network.through(
            self.made_by.wire,
            str(args[0]).upper(),
            lambda: once(*given, **options),
            patient=self.made_by.patient,
        )

    def execute(self, raise_on_error: bool = True) -> Any:
        """All of it."""
        commands = list(self.command_stack)
        names = {str(command[0][0]).upper() for command in commands}
        label = "PIPELINE" if names - READ_ONLY else "GET"

        def once() -> Any:
            self.command_stack = list(commands)
            return super(Batch, self).execute(raise_on_error)

        if self.is_atomic or self.explicit_transaction or len(commands) < 2:
            return self._through(label, once)
        answers: list[Any] = []
        for command in list(commands):  # others may come in between

            def one(command: Any = command) -> Any:
                self.command_stack = [command]
                return super(Batch, self).execute(raise_on_error)

            answers += self._through(label, one)
        return answers

    def _through(self, label: str, command: Callable[[], Any]) -> Any:
        client = self.made_by
        return client.network.through(client.wire, label, command, patient=client.patient)
