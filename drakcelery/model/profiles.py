"""Which VM profile a sample gets that asks for none: the rules of ``[profile_rules]``. Pure."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from drakcelery.model.names import NAME_PATTERN

FACTS = ("platform", "extension", "quality", "magic")
"""What a rule may ask about: a header, the extension and the quality as decided, libmagic's words."""

Conditions = tuple[tuple[str, tuple[str, ...]], ...]
"""(fact, patterns), of which one has to match: ``*`` and ``?`` as in a shell, upper case or lower."""


@dataclass(frozen=True, kw_only=True)
class ProfileRule:
    """``<profile> if <fact>=<pattern>|<pattern> and <fact>=<pattern>``; every condition has to hold."""

    profile: str
    conditions: Conditions

    def matches(self, facts: Mapping[str, str]) -> bool:
        """Whether the rule matches a sample with these facts."""
        return match(self.conditions, facts)


def match(conditions: Conditions, facts: Mapping[str, str]) -> bool:
    """Whether a sample with these *facts* meets every condition."""
    return all(
        any(fnmatch.fnmatchcase(facts.get(fact, "").lower(), pattern.lower()) for pattern in patterns)
        for fact, patterns in conditions
    )


def parse_rule(text: str) -> ProfileRule:
    """Read a rule. Raises ValueError, whose text reads on from "expected "."""
    profile, _, rest = text.partition(" if ")
    if not re.fullmatch(NAME_PATTERN, profile.strip()) or not rest.strip():
        raise ValueError("<profile> if <fact>=<pattern>, such as: win7-x86 if platform=win32 and quality=low")
    return ProfileRule(profile=profile.strip(), conditions=parse_conditions(rest))


def parse_conditions(text: str) -> Conditions:
    """Read what stands behind ``if``. Raises ValueError, whose text reads on from "expected "."""
    return tuple(_condition(part) for part in text.split(" and "))


def _condition(text: str) -> tuple[str, tuple[str, ...]]:
    fact, _, patterns = (part.strip() for part in text.partition("="))
    if fact not in FACTS:
        raise ValueError(f"a condition on one of {', '.join(FACTS)}, and {fact!r} is none of them")
    chosen = tuple(pattern.strip() for pattern in patterns.split("|"))
    if not all(chosen):
        raise ValueError(f"a pattern after {fact}=")
    return fact, chosen


def pick(rules: Iterable[ProfileRule], facts: Mapping[str, str]) -> str | None:
    """The profile of the first rule that matches; None if none does."""
    return next((rule.profile for rule in rules if rule.matches(facts)), None)
