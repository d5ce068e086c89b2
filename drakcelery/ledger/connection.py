"""The connection to Karton's Redis, and what all parts of the ledger have in common."""

from __future__ import annotations

import enum
from typing import Any

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.connection import HiredisRespSerializer
from redis.retry import Retry

from drakcelery.ledger import clock
from drakcelery.ledger.away import ANSWERED
from drakcelery.ledger.quarantine import Quarantine
from drakcelery.ledger.scripts import Scripts
from drakcelery.model import timeouts
from drakcelery.model.timeouts import Timeouts
from drakcelery.settings import RedisSection

CONNECT_SECONDS = 5
"""Seconds to connect at most, so that a host that was cut off soon finds its way back."""
HURRIED_SECONDS = 0.5
"""Seconds that somebody waits who has pressed Tab."""
CLOCK_SECONDS = 5.0
"""After so long Redis' clock is read again: another server's may be another."""
SCRIPTS = (
    *("begin", "sent", "due", "advance", "renew", "complete", "alike", "abandon", "postpone", "resend"),
    *("defer", "cancel", "fail", "publish", "publish_look", "linger", "watch", "recount", "ask_again"),
)


class Patience(enum.IntEnum):
    """How often a client tries again while Redis is away."""

    NONE = 0
    """Somebody waits for an answer that may as well be none."""
    SHORT = 3
    LONG = 2000
    """With pauses of ten seconds at most, by default: some five hours."""


UNCHANGED = "surrogateescape"
"""What others put into Redis need not be UTF-8, and is sent back as it came."""


class _Packer(HiredisRespSerializer):
    """Writes commands; hiredis gets bytes only.

    It refuses text that was not UTF-8 when it was read, and (3.5) crashes where a signal's handler, such as
    Ctrl-C's, raises an error as it turns a number into text.
    """

    def pack(self, *args: Any) -> Any:
        """A command as Redis reads it."""
        return super().pack(*map(_sent, args))


def _sent(argument: Any) -> Any:
    if isinstance(argument, str):
        return argument.encode("utf-8", UNCHANGED)
    return repr(argument).encode() if type(argument) in (int, float) else argument


def connect(
    section: RedisSection,
    *,
    name: str | None = None,
    patience: Patience = Patience.SHORT,
    pause: float = timeouts.DEFAULT.retry,
) -> redis.Redis:
    """A client of Karton's Redis that answers in text.

    *name* is how Redis lists its connections. While Redis is away, it tries again as often as its *patience*
    says, with pauses of up to *pause* seconds; the scripts may be sent again after a lost answer, since each
    does its work once.

    Raises:
        SettingsError: a file for TLS cannot be read.
    """
    section.require_files()
    hurried = patience is Patience.NONE
    return redis.Redis.from_url(
        section.address(),
        decode_responses=True,
        encoding_errors=UNCHANGED,
        command_packer=_Packer(),
        socket_timeout=HURRIED_SECONDS if hurried else section.socket_timeout or None,
        socket_connect_timeout=HURRIED_SECONDS if hurried else CONNECT_SECONDS,
        health_check_interval=30,
        client_name=name,
        retry=Retry(ExponentialWithJitterBackoff(base=0.2, cap=pause), patience),
        retry_on_error=list(ANSWERED),
    )


class Connected:
    """A part of the ledger; :class:`drakcelery.ledger.Ledger` is all of them."""

    def __init__(
        self, client: redis.Redis, *, identity: str, record_ttl: int, timeouts: Timeouts = timeouts.DEFAULT
    ) -> None:
        """*record_ttl*: seconds that a finished analysis stays in the ledger. *timeouts*: after which silence
        claims are lost."""
        self._redis = client
        self.identity = identity
        self.timeouts = timeouts
        self.quarantine = Quarantine(client)
        self._ttl = record_ttl
        self._scripts = Scripts(client, *SCRIPTS)
        self._clock = clock.Clock(good_for=CLOCK_SECONDS)

    def now(self) -> float:
        """UNIX time by Redis' clock."""
        return clock.now(self._redis)

    def about_now(self) -> float:
        """As :meth:`now`, for what need not be exact: Redis is asked every few seconds only."""
        return self._clock.now(self._redis)
