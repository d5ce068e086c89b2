"""kombu's Redis transports, with one clock for all hosts, and with connections that notice a silent peer.

kombu notes the time at which a message was delivered, and puts it back once that is longer ago than the
visibility timeout (``kombu.transport.redis.QoS``, 5.7). It takes both times from the clock of the host at
work. So a host whose clock is an hour ahead takes away what all others work on, and one that is an hour
behind loses its own messages at once. Here both are Redis' time, and what is noted is until when a message
belongs to its worker, by that worker's visibility timeout.

Messages that were not renewed are put back only by a worker that has heard the broker without a gap for as
long as a worker has time to renew them (:class:`Listening`). Otherwise the first worker that is back after an
outage would take all others for dead.

A broker that is demoted to a replica takes no messages until it is promoted: it counts as away. That is how a
failover looks from here: ``UNBLOCKED`` for a client that waits, ``READONLY`` for one that sends. A broker
that accepts no writes, because it is full, say (:class:`drakcelery.ledger.away.WritesRefused`), is away as
well.

A peer that vanishes silently (a cable, a firewall, a host without power) is noticed by the kernel, by
redis-py or by kombu, depending on which of them waits; :func:`options` says how soon.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import kombu
import structlog
from amqp.exceptions import RecoverableConnectionError
from kombu import connection
from kombu.transport import redis, virtual
from kombu.utils.json import dumps
from redis.exceptions import ConnectionError as LostConnection
from redis.exceptions import NoPermissionError, OutOfMemoryError, ReadOnlyError, ResponseError

from drakcelery.broker.listening import listening_to
from drakcelery.broker.misfits import UNREADABLE, Tolerant
from drakcelery.broker.routing import NO_QUEUE
from drakcelery.ledger import clock
from drakcelery.ledger.watch import ServerId
from drakcelery.model.timeouts import Timeouts

log = structlog.get_logger(__name__)


def options(times: Timeouts) -> dict[str, Any]:
    """Timeouts for kombu's Redis transport. Its own are: none; 51 seconds for a BRPOP; an hour for a message.

    A connection is given up after ``times.connection`` without an answer, whatever it waits for.
    """
    silent = times.connection
    return {
        "visibility_timeout": times.visibility,
        "unacked_restore_interval": times.renew,
        # Acknowledging, sending, renewing. A BRPOP is not read before its answer is there
        "socket_timeout": silent / 2,
        "socket_connect_timeout": min(5, silent / 2),
        # What nobody waits for: the kernel asks an idle peer, and waits for a busy one, for so long
        "socket_keepalive": True,
        "socket_keepalive_options": {
            socket.TCP_KEEPIDLE: max(1, int(silent / 2)),
            socket.TCP_KEEPINTVL: max(1, int(silent / 4)),
            socket.TCP_KEEPCNT: 2,
            socket.TCP_USER_TIMEOUT: int(silent * 1000),
        },
        # kombu asks for an overdue BRPOP, and for an answer from the connection that remote control comes by
        "health_check_interval": silent / 2,
    }


CLOCK_SECONDS = 5.0
"""How often Redis' clock is read."""
RETRY_SECONDS = 3
"""The longest pause before a lost broker is tried again (kombu: 30 s, by which time workers count as
dead)."""
REPLICA = "slave"
"""What INFO calls it."""
AT_ONCE = 0.001
"""Seconds. A BRPOP with the timeout 0 would wait forever."""


class QoS(redis.QoS):
    """kombu's QoS, by Redis' clock."""

    channel: redis.Channel

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As kombu's."""
        super().__init__(*args, **kwargs)
        self._clock = clock.Clock(good_for=CLOCK_SECONDS)

    def append(self, message: Any, delivery_tag: str) -> None:
        """A message was delivered to this worker."""
        origin = message.delivery_info
        raw = dumps([message._raw, origin["exchange"], origin["routing_key"]])  # noqa: SLF001 as kombu's own
        with self.channel.conn_or_acquire() as client, client.pipeline() as pipe:
            pipe.zadd(self.unacked_index_key, {delivery_tag: self._until(client)})
            pipe.hset(self.unacked_key, delivery_tag, raw)
            pipe.execute()
        virtual.QoS.append(self, message, delivery_tag)

    def _until(self, client: Any) -> float:
        """The time until which a message belongs to this worker that is delivered, or renewed, now."""
        return self._clock.now(client) + float(self.visibility_timeout)

    def renew(self) -> int:
        """Keep this worker's messages as if they were delivered just now; returns how many they are.

        Only messages that it still holds: one that another worker took over meanwhile stays there (``XX``).
        """
        tags = list(self._delivered or ())
        if tags:
            with self.channel.conn_or_acquire() as client:
                client.zadd(self.unacked_index_key, dict.fromkeys(tags, self._until(client)), xx=True)
        return len(tags)

    def restore_visible(self, start: int = 0, num: int | None = None, interval: int = 1) -> None:  # noqa: ARG002 kombu's signature
        """Put messages back into their queues that were not renewed in time although they could have been.

        Each message is put back in a transaction, so two workers may do it at once. So kombu's lock is not
        needed, which a worker that is cut off would keep for minutes.
        """
        with self.channel.conn_or_acquire() as client:
            now = self._clock.now(client)
            patience = float(self.visibility_timeout)
            address = self.channel.connection.client.as_uri()  # type: ignore[union-attr] # it is connected
            if listening_to(address).note(client, told=now, pause=patience / 3) < patience:
                return
            tags = client.zrange(self.unacked_index_key, now, "-inf", desc=True, byscore=True)
            for tag in tags:
                self._put_back(tag, client)
        if tags:
            log.warning("messages_restored", number=len(tags))

    def _put_back(self, tag: Any, client: Any) -> None:
        """Put one message back. One that cannot be read is removed, since it would block all others."""
        try:
            self.restore_by_tag(tag, client)
        except UNREADABLE as error:
            log.warning("message_unreadable", error=f"{type(error).__name__}: {error}")
            client.zrem(self.unacked_index_key, tag)
            client.hdel(self.unacked_key, tag)


class _Fenced(virtual.Channel):
    """A channel that raises a proper error when it is used after it was closed."""

    def basic_publish(self, message: Any, exchange: str, routing_key: str, **more: Any) -> Any:
        """Send a message.

        If declaring its queue has cost the connection, ``kombu.Producer._publish`` (5.7) goes on with the old
        channel, and fails with an ``AttributeError``. With an error that it knows, it uses the next channel.
        """
        if self.connection is None:
            raise RecoverableConnectionError("the channel was closed meanwhile")
        return super().basic_publish(message, exchange, routing_key, **more)


class _Writable(redis.Channel):
    """A channel to a Redis that accepts writes."""

    _disconnect_pools: Callable[[], None]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As kombu's. Raises :class:`redis.exceptions.ConnectionError` if the server takes no messages."""
        super().__init__(*args, **kwargs)
        try:
            self._try()
        except LostConnection:
            self.connection.cycle.discard(self)  # type: ignore[union-attr] # the stubs have virtual's in mind
            self._disconnect_pools()
            raise

    def _try(self) -> None:
        if ServerId.of(self.client).role == REPLICA:
            raise LostConnection("this Redis is a replica: it takes no messages until it is promoted")
        with contextlib.suppress(NoPermissionError):
            self.client.delete(NO_QUEUE)  # refused like any write, if none is accepted

    def _brpop_read(self, **options: Any) -> Any:
        """As kombu's. A server that is demoted meanwhile ends it with an error of its own."""
        try:
            return super()._brpop_read(**options)  # type: ignore[misc] # the stubs lack it
        except ResponseError as error:
            if not str(error).startswith("UNBLOCKED"):
                raise
            self.client.connection.disconnect()
            raise LostConnection(str(error)) from error


class _Thrifty(redis.Channel):
    """A channel that keeps its client: kombu makes one for everything it does."""

    pool: Any
    _kept: Any = None

    @contextlib.contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        """A client on the channel's pool, which is a new one after a lost connection."""
        if self._kept is None or self._kept.connection_pool is not self.pool:
            with super().conn_or_acquire() as made:
                self._kept = made
        yield client or self._kept


class Prompt(Tolerant):
    """A channel that can read queues that it does not consume, and take messages from them."""

    _q_for_pri: Callable[[str, int], str]

    def get_waiting(self, queues: Sequence[str]) -> virtual.Message | None:
        """Take a message from the first of *queues* that has one; None if none has.

        It must be acknowledged, like one of :meth:`basic_get`, which takes a round trip for each priority of
        each queue.
        """
        if not queues or not self.qos.can_consume():
            return None
        keys = [self._q_for_pri(queue, priority) for priority in self.priority_steps for queue in queues]
        with self.conn_or_acquire() as client:
            found = client.brpop(keys, timeout=AT_ONCE)
        if found is None:
            return None
        return cast("virtual.Message | None", self.receive(found[1]))

    def peek_queues(self, queues: Sequence[str], *, most: int) -> list[virtual.Message]:
        """What waits in *queues*, at most so many of each, the next one first. It stays where it is.

        Unlike everything else here, it may be called from any thread.
        """
        with self.conn_or_acquire() as client, client.pipeline(transaction=False) as pipe:
            for queue in queues:
                for priority in self.priority_steps:
                    pipe.lrange(self._q_for_pri(queue, priority), -most, -1)
            found = pipe.execute()
        raw = [one for part in found for one in reversed(part)]
        return [message for one in raw if (message := self.show(one)) is not None]


class Channel(_Fenced, _Writable, _Thrifty, Prompt, redis.Channel):
    """kombu's, with the above."""

    QoS = QoS


class SentinelChannel(_Fenced, _Writable, _Thrifty, Prompt, redis.SentinelChannel):
    """As above, for a Redis behind Sentinel."""

    QoS = QoS


class Transport(redis.Transport):
    """kombu's, with the above."""

    Channel = Channel
    connection_errors = (*redis.Transport.connection_errors, ReadOnlyError, OutOfMemoryError)


class SentinelTransport(redis.SentinelTransport):
    """As above, for a Redis behind Sentinel."""

    Channel = SentinelChannel
    connection_errors = Transport.connection_errors


class Connection(kombu.Connection):
    """kombu's, with the above if the broker is Redis.

    kombu would forget a transport that is given by name at the first failover, when it uses the scheme of the
    next URL (``kombu.Connection.switch``).
    """

    def get_transport_cls(self) -> Any:
        """The class of the transport."""
        ours = {"redis": Transport, "rediss": Transport, "sentinel": SentinelTransport}
        return ours.get(self.transport_cls) or super().get_transport_cls()

    def ensure_connection(self, *args: Any, **more: Any) -> Any:
        """As kombu's, with shorter pauses."""
        return super().ensure_connection(*args, **{"interval_max": RETRY_SECONDS, **more})

    def Pool(self, limit: int | None = None, **_: Any) -> ConnectionPool:  # noqa: N802 kombu's name
        """A pool of such connections."""
        return ConnectionPool(self, limit)


class PooledConnection(Connection, connection.PooledConnection):
    """kombu's, with the above."""


class ConnectionPool(connection.ConnectionPool):
    """kombu's, but with our kind of connection."""

    def new(self) -> PooledConnection:
        """One more connection."""
        parameters = dict(self.connection._info(resolve=False))  # noqa: SLF001 as kombu's own
        return PooledConnection(self, **parameters)  # type: ignore[arg-type] # the stubs do not know its own
