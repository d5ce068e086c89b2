"""What watching buys: slot time saved against facts lost, by profile and quality, for a terminal or a page.

``watch-report --json`` prints it. A later version may add fields; one that takes a field away, or changes
what it means, has another :data:`VERSION`. docs/watch.schema.json is the JSON Schema; a test keeps it.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Self

from pydantic import Field

from drakcelery.forecast.curve import Curve, Group, Trial
from drakcelery.forecast.news import WatchedRuns
from drakcelery.ledger import Ledger
from drakcelery.ledger.news import KEPT, Pair
from drakcelery.model.analysis import Value
from drakcelery.model.news import WatchMode, WatchRules
from drakcelery.settings import WatchSection

VERSION = 1
FEW = 0.5
"""Where runs weigh less than this share of their number, a few of them have most of the facts."""
HOW_TO_START = (
    "No run was watched for news yet. Set [watch] enabled = 1 if it is 0: each analysis that is published "
    "from then on counts. In shadow mode, its first, nothing is stopped, and each run says what a quiet "
    "stop would have saved and lost"
)


class Asked(Value):
    """Of what a report is made, and for what."""

    profile: str | None = Field(default=None, description="only this profile; null: all")
    quality: str | None = Field(default=None, description="only this quality; null: all")
    keep: float = Field(description="share of the facts that recommended settings keep")
    mode: WatchMode = Field(description="what these settings do now")
    rules: WatchRules | None = Field(description="the rules in these settings; null where the mode is off")

    def takes(self, pair: Pair) -> bool:
        """Whether it is about *pair*."""
        return self.profile in (None, pair[0]) and self.quality in (None, pair[1])


class SpokenCurve(Curve):
    """A curve, and what it says."""

    says: str = Field(description="what follows from it, in words")

    @classmethod
    def of(cls, curve: Curve, keep: float) -> Self:
        """With its words."""
        return cls(**dict(curve), says=in_words(curve, keep))


class WatchReport(Asked):
    """What ``watch-report --json`` prints. Times are in seconds, shares from 0 to 1."""

    version: int = VERSION
    all: SpokenCurve = Field(description="all that was asked for, together")
    curves: tuple[SpokenCurve, ...] = Field(description="by profile and quality")


def asked_of(
    section: WatchSection,
    *,
    profile: str | None = None,
    quality: str | None = None,
    keep: float | None = None,
) -> Asked:
    """What is asked for, by these settings; *keep* is by default all but ``max_loss``."""
    return Asked(
        profile=profile,
        quality=quality,
        keep=1 - section.max_loss if keep is None else keep,
        mode=section.mode if section.enabled else "off",
        rules=WatchRules(min_seconds=section.min_seconds, quiet_seconds=section.quiet_seconds)
        if section.enabled
        else None,
    )


def watch_report(ledger: Ledger, asked: Asked) -> WatchReport:
    """Read what is remembered, and try all rules on it: some 0.3 s for a profile and quality.

    Raises :class:`redis.RedisError`.
    """
    watched = WatchedRuns(ledger.news)
    groups: list[tuple[Pair, Group]] = []
    whole = Group()
    for pair in watched.pairs():
        if asked.takes(pair):
            group = Group.of(watched.of(pair), asked.rules)
            groups.append((pair, group))
            whole += group
    return WatchReport(
        **dict(asked),
        all=_spoken(whole, asked),
        curves=tuple(_spoken(group, asked, *pair) for pair, group in groups if group.runs or group.stopped),
    )


def _spoken(
    group: Group, asked: Asked, profile: str | None = None, quality: str | None = None
) -> SpokenCurve:
    curve = group.curve(keep=asked.keep, current=asked.rules, profile=profile, quality=quality)
    return SpokenCurve.of(curve, asked.keep)


def percent(share: float) -> str:
    """``43 %``, and one digit more of what is less than ten; a half is rounded up, as on the page."""
    value = Decimal(100 * share)
    exact = value.quantize(Decimal("0.1"), ROUND_HALF_UP)
    return f"{exact if exact < 10 else value.quantize(Decimal(1), ROUND_HALF_UP)} %"


def settings_lines(rules: WatchRules) -> Sequence[str]:
    """What to write into the configuration file."""
    return "[watch]", f"min_seconds = {rules.min_seconds}", f"quiet_seconds = {rules.quiet_seconds}"


def rules_words(rules: WatchRules) -> str:
    """As in a sentence."""
    return f"min_seconds = {rules.min_seconds} and quiet_seconds = {rules.quiet_seconds}"


def _effect(trial: Trial, runs: int) -> str:
    cost = f"lose {percent(trial.lost)} of the facts, at most {percent(trial.lost_at_most)} in 19 of 20 cases"
    return f"save {percent(trial.saved)} of the time and {cost}; {trial.losing} of {runs} runs lose any"


def in_words(curve: Curve, keep: float) -> str:
    """What follows from *curve*, in a sentence without its full stop."""
    if not curve.runs:
        return "No run was measured yet"
    if curve.recommended is not None:
        return f"{rules_words(curve.recommended.rules)} {_effect(curve.recommended, curve.runs)}"
    kept = percent(keep)
    if curve.missing_runs is not None:
        why = ""
        if curve.weight < FEW * curve.runs:
            why = f"; a few have most of the facts, so that they say as much as {curve.weight} equal ones"
        needed = f"About {curve.missing_runs} more are needed, at least"
        if curve.profile is not None and curve.runs + curve.missing_runs > KEPT:
            needed = f"More are needed than the newest {KEPT}, which are remembered: allow a larger loss"
        return (
            f"Too few runs to recommend settings that keep {kept}: {curve.runs} were measured{why}. {needed}"
        )
    careful = next((one for one in curve.trials if one.saved > 0), None)
    if careful is None:
        return "No rules that were tried would have ended a run before its time"
    return (
        f"No rules that were tried surely keep {kept}. The most careful of them, "
        f"{rules_words(careful.rules)}, {_effect(careful, curve.runs)}"
    )
