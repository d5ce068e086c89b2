"""What a second look at a sample changes, by the clues of the first one; and what it showed. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Self

from drakcelery.model.analysis import Analysis, Place, StartMethod
from drakcelery.model.clues import Clue, ClueKind
from drakcelery.model.names import Name
from drakcelery.model.value import Value

DRAKVUF = "drakvuf"
"""What the names of its engines begin with: only there are plugins that hide, and other ways to start."""
_HIDES: dict[str, frozenset[ClueKind]] = {
    "hidevm": frozenset({"early_end", "cpuid", "machine", "sandbox", "crash"}),
    "hidsim": frozenset({"early_end", "user", "sleep"}),
}
"""DRAKVUF's plugins that make a guest look as if it were none, or as if somebody worked with it: the clues
for which each may help."""
HIDING = tuple(_HIDES)
_NOT_STARTED: frozenset[ClueKind] = frozenset({"elevation", "format"})
_FOR_OTHERS = re.compile(r"\b(?:arm|aarch)", re.IGNORECASE)
"""In libmagic's words for a program for processors that no guest has."""
_ADMINISTRATOR: frozenset[ClueKind] = frozenset({"elevation", "privilege"})


class VariantRules(Value):
    """What the settings say of second looks."""

    profiles: tuple[Name, ...] = ()
    format_profiles: tuple[Name, ...] = ()
    extra_timeout: int = 0
    longest: int
    """The longest timeout that any task may have, in seconds."""


class Offer(Value):
    """What the fleet can do for a second look."""

    engine: str
    """That of the first look."""
    places: frozenset[Place]
    """Where hosts are alive."""
    hiding: tuple[str, ...]
    """Of :data:`HIDING`, those that second looks may have."""


class Changes(Value):
    """What is another than at the first look; None, and no plugins: as there."""

    profile: Name | None = None
    plugins: tuple[str, ...] = ()
    """All that are to run."""
    start_method: StartMethod | None = None
    timeout: int | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """For people."""
        return tuple(
            f"{name} {value}"
            for name, value in (
                ("profile", self.profile),
                ("plugins", " ".join(self.plugins) or None),
                ("start method", self.start_method),
                ("timeout", self.timeout),
            )
            if value is not None
        )


def plan(clues: Collection[Clue], first: Analysis, offer: Offer, rules: VariantRules) -> Changes | None:
    """What to change; None if nothing that may help can be."""
    kinds = {clue.kind for clue in clues}
    if "format" in kinds and _FOR_OTHERS.search(first.magic) is not None:
        return None
    is_drakvuf = offer.engine.startswith(DRAKVUF)
    runas: StartMethod | None = "runas" if is_drakvuf and kinds & _ADMINISTRATOR else None
    runas = None if first.start_method == runas or first.start_command is not None else runas
    is_elevated = "elevation" in kinds and runas is not None
    wanted = rules.profiles if "format" not in kinds else rules.format_profiles or rules.profiles
    changes = Changes(
        profile=None if is_elevated else next(_others(wanted, first, offer), None),
        plugins=_plugins(kinds, first, offer) if is_drakvuf else (),
        start_method=runas,
        timeout=_timeout(kinds, first, rules),
    )
    return changes if changes != Changes() else None


def _others(profiles: Collection[str], first: Analysis, offer: Offer) -> Iterator[str]:
    """The profiles that are not that of *first*, and that the fleet has where it may run."""
    for name in profiles:
        there = any(
            place.profile == name and first.target_host in (None, place.host) for place in offer.places
        )
        if there and name != first.profile:
            yield name


def _plugins(kinds: Collection[ClueKind], first: Analysis, offer: Offer) -> tuple[str, ...]:
    """Those of *first* and what hides; none if nothing is new."""
    new = [
        name
        for name, helps in _HIDES.items()
        if helps & set(kinds) and name in offer.hiding and name not in first.plugins
    ]
    return (*first.plugins, *new) if new else ()


def _timeout(kinds: Collection[ClueKind], first: Analysis, rules: VariantRules) -> int | None:
    """A longer one for what waits; None if there is none."""
    if not {"sleep", "clock"} & set(kinds) or set(kinds) & _NOT_STARTED:
        return None
    longer = min(first.timeout + rules.extra_timeout, rules.longest)
    return longer if longer > first.timeout else None


class SecondLook(Value):
    """A second look, in the record of the first one."""

    uid: str
    news: int | None = None
    """How many things it showed that the first one did not; None as long as it is not published."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``<uid>`` or ``<uid>=<news>``."""
        uid, _, news = text.partition("=")
        return cls(uid=uid, news=int(news) if news.isdecimal() else None)
