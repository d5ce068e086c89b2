"""What people look for among analyses, and whether a record is that. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime

from drakcelery.model.analysis import State, Value
from drakcelery.model.records import Record

LEAST = 0.0
MOST = 1e11
"""Times between which every analysis ends."""
MOST_TEXT = 200
"""Characters of a text that is looked for."""
_AGO = re.compile(r"([0-9]{1,6})(s|m|h|d|w)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_HASH = re.compile(r"[0-9a-fA-F]{1,64}")
_ASCII = re.compile(r"[ -~]+")


class Query(Value):
    """What is looked for; all of it has to fit. Texts are compared without regard to capitals."""

    text: str | None = None
    """The beginning of a uid or of a hash, or a part of the name."""
    uid: str | None = None
    """The beginning of the uid."""
    sha256: str | None = None
    """The beginning of the hash."""
    name: str | None = None
    """A part of the name."""
    reason: str | None = None
    """A part of the reason."""
    state: State | None = None
    host: str | None = None
    profile: str | None = None
    engine: str | None = None
    """Its name, without the version."""
    since: float = LEAST
    until: float = MOST
    """UNIX times: of its end, or of its arrival while it is not over."""
    newest_first: bool = True

    @property
    def filters(self) -> Iterator[tuple[str, str]]:
        """Fields that have one of few values, and the value that is looked for."""
        given = {"state": self.state, "host": self.host, "profile": self.profile, "engine": self.engine}
        for field, value in given.items():
            if value is not None:
                yield field, str(value)

    @property
    def wants_live(self) -> bool:
        """Whether an analysis that is not over could fit."""
        return (self.state is None or not self.state.is_over) and self.engine is None

    @property
    def wants_ended(self) -> bool:
        """Whether one could that is over."""
        return self.state is None or self.state.is_over

    def matches(self, record: Record) -> bool:
        """Whether *record* is what is looked for."""
        at = record.received if record.finished is None else record.finished
        values = {name: value for name, value in self.filters if value_of(record, name) != value}
        return not values and self.since <= at <= self.until and self._has_texts(record)

    def _has_texts(self, record: Record) -> bool:
        sample = record.sample
        name, sha256 = (sample.name, (sample.sha256 or "").lower()) if sample else ("", "")
        if self.text is not None and not (
            record.uid.startswith(self.text)
            or (sha256 and sha256.startswith(self.text.lower()))
            or contains(name, self.text)
        ):
            return False
        return (
            record.uid.startswith(self.uid or "")
            and sha256.startswith((self.sha256 or "").lower())
            and contains(name, self.name or "")
            and contains(record.reason or "", self.reason or "")
        )


def moment(text: str, *, now: float) -> float:
    """A UNIX time: ISO 8601, in UTC unless it says otherwise, or how long before *now*, such as ``2h``.

    Raises:
        ValueError: with a sentence.
    """
    ago = _AGO.fullmatch(text)
    try:
        if ago:
            return now - int(ago[1]) * _SECONDS[ago[2]]
        given = datetime.fromisoformat(text)
        return min(max(LEAST, (given if given.tzinfo else given.replace(tzinfo=UTC)).timestamp()), MOST)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r:.80}: expected 2026-01-31, 2026-01-31T23:59, or 30m, 2h, 7d ago") from None


def contains(text: str, part: str) -> bool:
    """Whether *part* stands in *text*, without regard to capitals."""
    return part.casefold() in text.casefold()


def needle(part: str | None) -> str:
    """The longest piece of *part* that the index can look for: letters beyond ASCII are compared later."""
    return max(_ASCII.findall((part or "")[:MOST_TEXT].lower()), key=len, default="")


def is_prefix(text: str) -> bool:
    """Whether a uid could begin with *text*."""
    return _PREFIX.fullmatch(text) is not None


def is_hash_prefix(text: str) -> bool:
    """Whether a sha256 could begin with *text*."""
    return _HASH.fullmatch(text) is not None


def value_of(record: Record, field: str) -> str | None:
    """What the index has for a field of :attr:`Query.filters`."""
    if field == "state":
        return record.state.value
    if field == "host":
        return record.host
    if field == "profile":
        return record.place.profile if record.place else None
    engine = re.match(r"[A-Za-z0-9._-]+", record.result.engine) if record.result else None
    return engine[0] if engine else None
