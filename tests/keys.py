"""The Redis keys that docs/keys.md lists, for the tests that hold it and the code together."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import redis

from drakcelery.ledger.keys import LIVE
from tests.reference import ROOT

PAGE = ROOT / "docs" / "keys.md"


@dataclass(frozen=True, kw_only=True)
class Key:
    """A row of docs/keys.md."""

    pattern: str
    """As it is written there; ``<…>`` stands for any name."""
    kind: str
    owner: str
    ttl: str

    def matches(self, key: str) -> bool:
        """Whether *key* is one of these."""
        parts = re.split(r"<[^>]+>", self.pattern)
        return re.fullmatch(".+".join(re.escape(part) for part in parts), key) is not None

    @property
    def expires(self) -> bool:
        """Whether each of these has a TTL, at any time."""
        return not self.ttl.startswith("none")


def documented() -> list[Key]:
    """Every row."""
    row = re.compile(r"^\| `([^`]+)` \| ([^|]+) \| ([^|]+) \| [^|]+ \| ([^|]+) \|$", re.MULTILINE)
    return [
        Key(pattern=pattern, kind=kind.strip(), owner=owner.strip(), ttl=ttl.strip())
        for pattern, kind, owner, ttl in row.findall(PAGE.read_text(encoding="utf-8"))
    ]


def leaked(client: redis.Redis, keys: Iterable[str]) -> list[str]:
    """Those of *keys* that would stay for ever: they have no TTL, and no owner who removes them.

    The record of an analysis that is over has an owner no longer, only its TTL.
    """
    owned = [key for key in documented() if not key.expires]
    return sorted(
        key
        for key in keys
        if client.ttl(key) == -1
        and not (any(one.matches(key) for one in owned) and not _is_left_behind(client, key))
    )


def _is_left_behind(client: redis.Redis, key: str) -> bool:
    match = re.fullmatch(r"drak:analysis:\{(.+)\}", key)
    return match is not None and client.zscore(LIVE, match[1]) is None
