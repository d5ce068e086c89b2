"""What is known of a key of Redis."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

_PLACEHOLDER = re.compile(r"<[^>]+>")


@dataclass(frozen=True)
class Key:
    """A key, or all keys of one kind."""

    name: str
    """As scripts call it; empty for those of others with which nothing is done here."""
    pattern: str
    """``<…>`` stands for any name."""
    kind: str
    """Redis' type."""
    owner: str
    """Who writes it."""
    holds: str
    ttl: str
    """When it expires; ``none`` where it does not, and who removes it then."""
    commands: str = ""
    """What Redis is asked of it, by scripts and outside of them."""

    @cached_property
    def _parts(self) -> list[str]:
        return _PLACEHOLDER.split(self.pattern)

    @property
    def is_one(self) -> bool:
        """Whether there is but one."""
        return len(self._parts) == 1

    @property
    def expires(self) -> bool:
        """Whether each of these has a TTL, at any time."""
        return not self.ttl.startswith("none")

    def of(self, *names: str) -> str:
        """The key of these names, which stand for what is open in the pattern."""
        first, *parts = self._parts
        return first + "".join(name + part for name, part in zip(names, parts, strict=True))

    def matches(self, key: str) -> bool:
        """Whether *key* is one of these."""
        return re.fullmatch(".+".join(re.escape(part) for part in self._parts), key) is not None
