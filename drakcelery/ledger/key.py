"""What is known about a key in Redis."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

_PLACEHOLDER = re.compile(r"<[^>]+>")


@dataclass(frozen=True)
class Key:
    """A key, or all keys of one kind."""

    name: str
    """Its name in scripts; empty for foreign keys that drakcelery does not touch."""
    pattern: str
    """``<…>`` stands for any name."""
    kind: str
    """Redis' type."""
    owner: str
    """Who writes it."""
    holds: str
    ttl: str
    """When it expires; ``none`` if it does not, and what removes it then."""
    commands: str = ""
    """The commands that use it, in scripts and elsewhere."""

    @cached_property
    def _parts(self) -> list[str]:
        return _PLACEHOLDER.split(self.pattern)

    @property
    def is_one(self) -> bool:
        """Whether there is only one such key."""
        return len(self._parts) == 1

    @property
    def expires(self) -> bool:
        """Whether each of these keys always has a TTL."""
        return not self.ttl.startswith("none")

    def of(self, *names: str) -> str:
        """The key with these *names* in the open places of the pattern."""
        first, *parts = self._parts
        return first + "".join(name + part for name, part in zip(names, parts, strict=True))

    def matches(self, key: str) -> bool:
        """Whether *key* is one of these."""
        return re.fullmatch(".+".join(re.escape(part) for part in self._parts), key) is not None
