"""How long published analyses took, for :mod:`drakcelery.forecast.simulation`."""

from __future__ import annotations

from collections.abc import Iterable

from drakcelery.forecast.learning import Learned, learned_of
from drakcelery.ledger.durations import MEMORY, DurationStore
from drakcelery.model.records import Record


class Durations:
    """How long analyses took, by VM profile."""

    def __init__(self, durations: DurationStore) -> None:
        self._durations = durations

    def learn(self, record: Record) -> bool:
        """Remember how long a published analysis took. False if its record does not say."""
        learned = learned_of(record)
        if learned is None or record.analysis is None:
            return False
        self._durations.add(record.analysis.profile, learned.model_dump_json(exclude_defaults=True))
        return True

    def of(self, profile: str) -> list[Learned]:
        """The durations of a profile, newest first."""
        return self.all([profile])[profile]

    def all(self, profiles: Iterable[str]) -> dict[str, list[Learned]]:
        """As :meth:`of`, for several."""
        names = sorted(set(profiles))
        return {name: _known(texts) for name, texts in zip(names, self._durations.all(names), strict=True)}


def _known(texts: list[str]) -> list[Learned]:
    """The durations that can be read."""
    return [one for text in texts if (one := _read(text)) is not None]


def _read(text: str) -> Learned | None:
    """The durations of one analysis; None if another version wrote them and this one cannot read them."""
    try:
        learned = Learned.model_validate_json(text)
    except ValueError:
        return None
    seconds = [learned.timeout, learned.prepare, learned.run, learned.rest]
    if learned.watched is not None:
        seconds += [learned.watched.seconds, learned.watched.stop or 0.0]
    return learned if all(0 <= one <= MEMORY for one in seconds) else None
