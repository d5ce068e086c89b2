"""Whether our keys in Karton's Redis are of the types that we gave them; one that is not is named.

Redis says only WRONGTYPE, neither for which key nor what to do. This module finds that out, for messages to
people.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import cast

import redis
from redis.exceptions import NoPermissionError, ResponseError

from drakcelery.ledger.away import WrongKey, concerns_all
from drakcelery.ledger.keys import FLEET, NEWS, WAITING
from drakcelery.ledger.keytable import LEDGER
from drakcelery.model.text import clean

TYPES: Mapping[str, str] = {key.pattern: key.kind for key in LEDGER if key.is_one}
"""Keys of the whole fleet. A record of one analysis that is odd is in quarantine."""
OF_NAMES: Mapping[str, str] = {
    prefix: key.kind
    for key in LEDGER
    for prefix, _, name in [key.pattern.partition("<")]
    if name in ("host>", "place>", "profile>", "profile>/<quality>")
}
"""Keys that end with the name of a host, place or profile, or with that of a profile and a quality."""


@dataclass(frozen=True, kw_only=True)
class OddKey:
    """A key of another type than it should be. Anybody may have made it, so its name may be anything."""

    key: str
    found: str
    expected: str
    database: int = 0

    @property
    def said(self) -> str:
        """What is wrong with it."""
        return f"{clean(self.key, 140)} is a {self.found}, not a {self.expected}"

    @property
    def mend(self) -> str:
        """The command that moves it out of the way."""
        where = f"-n {self.database} " if self.database else ""
        name = clean(self.key, 140)
        return f"redis-cli {where}RENAME {shlex.quote(name)} {shlex.quote(f'{name}-odd')}"

    @property
    def sentence(self) -> str:
        """Both, for people."""
        return f"{self.said}: whoever needs it fails. Nobody of ours writes it so; `{self.mend}` fixes it"


def expected_types(client: redis.Redis) -> dict[str, str]:
    """Every key that is looked at, with the type that it should be of."""
    names: set[str] = set()
    with client.pipeline(transaction=False) as pipe:
        pipe.zrange(FLEET, 0, -1)
        pipe.smembers(WAITING)
        pipe.zrange(NEWS, 0, -1)
        for places in pipe.execute(raise_on_error=False):
            if isinstance(places, NoPermissionError):
                raise places
            if not isinstance(places, Exception):  # if it is, the check below finds it
                for place in cast("Iterable[str]", places):
                    names.update((place, *place.partition("@")[::2]))
    return {**TYPES, **{prefix + name: kind for prefix, kind in OF_NAMES.items() for name in names if name}}


def types(client: redis.Redis) -> dict[str, tuple[str, str]]:
    """The type that each existing key has, and the one that it should have."""
    expected = expected_types(client)
    with client.pipeline(transaction=False) as pipe:
        for key in expected:
            pipe.type(key)
        found = cast("list[str]", pipe.execute())
    return {key: (kind, expected[key]) for key, kind in zip(expected, found, strict=True) if kind != "none"}


def odd_keys(client: redis.Redis, known: Mapping[str, tuple[str, str]] | None = None) -> list[OddKey]:
    """Keys that have another type than they should, among the *known* :func:`types` (by default, Redis is
    asked).

    Raises :class:`redis.RedisError` if Redis does not answer.
    """
    database = int(client.connection_pool.connection_kwargs.get("db") or 0)
    return [
        OddKey(key=key, found=found, expected=expected, database=database)
        for key, (found, expected) in (types(client) if known is None else known).items()
        if found != expected
    ]


def sentences(client: redis.Redis) -> list[str]:
    """What is wrong with our keys, for people; empty if nothing is, or if this user may not ask for types."""
    with contextlib.suppress(NoPermissionError):
        return [f"In Karton's Redis {odd.sentence}." for odd in odd_keys(client)]
    return []


@contextlib.contextmanager
def named(client: redis.Redis) -> Iterator[None]:
    """Within this block an error about a key's type names the key, and says what to do.

    Raises:
        WrongKey: for such an error.
    """
    try:
        yield
    except ResponseError as error:
        told = explained(client, error)
        if told is error:
            raise
        raise told from error


def describe(client: redis.Redis, error: BaseException) -> str:
    """*error* for a log; if it is about a key's type, with the name of the key."""
    return str(explained(client, error) if isinstance(error, ResponseError) else error)


def explained(client: redis.Redis, error: ResponseError) -> ResponseError:
    """*error* in words that name the odd key; unchanged if it is not about a key's type."""
    if concerns_all(error) or isinstance(error, WrongKey) or "WRONGTYPE" not in str(error):
        return error
    try:
        odd = odd_keys(client)
    except redis.RedisError:
        return error
    return WrongKey("; ".join(one.sentence for one in odd)) if odd else error
