"""How well a slot is, judged by what its last runs left behind and by its peers. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

WINDOW = 10
"""Runs of a slot that count: the newest."""
STREAK = 3
"""So many runs in a row with the same symptom, which its peers do not show, make a slot sick."""
SLOW = 3.0
"""A restore that takes so many times as long as that of its peers is slow."""
SLOW_SECONDS = 1.0
"""And no less than so many seconds longer."""
MEASURED = 3
"""So many restores of peers at least are what a slot is compared with."""
DOUBT = 5
"""A symptom counts as rare until so many runs of peers were seen."""
UNWELL = 0.5
"""At this score and below a slot is looked into, by a canary."""
RECOVERING = 0.7
"""What the share of a symptom counts where the last run did not show it."""
SICK = 0.25
"""At this score and below a slot may be put aside by its score alone."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What one run says about its slot. Neither a run that was cut short is one, nor one that says
    nothing."""

    failed: bool = False
    """It failed, and the slot is to blame as far as is known."""
    broke_off: bool = False
    """It failed, whoever is to blame: what it left says nothing, and what its restore took does."""
    empty_log: bool = False
    """The engine wrote no line."""
    no_pcap: bool = False
    """No traffic was recorded though it was to be."""
    other_snapshot: bool = False
    """Its VM was restored from another snapshot than those of most runs."""
    seconds: float | None = None
    """What the restore took."""
    canary: bool = False
    """It was the known harmless sample, which does not behave as it should where *failed* is set."""


@dataclass(frozen=True, kw_only=True)
class SlotHealth:
    """How well a slot is."""

    score: float = 1.0
    """From 0 (broken) to 1 (well, or nothing known)."""
    reasons: tuple[str, ...] = ()
    """Why it is not 1: what can be said after the name of the slot."""
    runs: int = 0
    """How many runs it rests on."""

    @property
    def is_unwell(self) -> bool:
        """Whether a canary is due."""
        return self.score <= UNWELL

    @property
    def is_sick(self) -> bool:
        """Whether it may be put aside by its score alone."""
        return self.score <= SICK


_SYMPTOMS: Mapping[str, Callable[[Trial, float | None], bool | None]] = {
    "failed": lambda trial, _: trial.failed or (None if trial.broke_off else False),
    "left an empty log in": lambda trial, _: None if trial.broke_off else trial.empty_log,
    "recorded no traffic in": lambda trial, _: None if trial.broke_off else trial.no_pcap,
    "was restored from another snapshot than its peers in": (
        lambda trial, _: None if trial.broke_off else trial.other_snapshot
    ),
    "was far slower than its peers to restore in": lambda trial, usual: _is_slow(trial, usual),
}
"""Whether a trial shows it; None if it does not say."""


def health(trials: Sequence[Trial], peers: Sequence[Trial]) -> SlotHealth:
    """Judge a slot by its *trials*, oldest first, and those of the other slots of its profile.

    A symptom counts in a row, or for its share of the last runs, and the less the more of its peers show it:
    what most slots do is no slot's fault. A run that failed left nothing to judge the other symptoms by, and
    breaks no row of theirs. What was before a canary that worked does not count, and a slot
    whose last run was good is not sick: so one that was fixed comes back, and stays.
    """
    recent = _since_canary(trials)[-WINDOW:]
    if recent and recent[-1].canary and recent[-1].failed:
        return SlotHealth(score=0.0, reasons=("its canary did not behave as it should",), runs=len(recent))
    usual = _usual(peers)
    worst, reasons = 0.0, []
    for words, shown in _SYMPTOMS.items():
        here, elsewhere = (
            [said for trial in trials if (said := shown(trial, usual)) is not None]
            for trials in (recent, peers)
        )
        suspicion = _suspicion(here, elsewhere)
        if suspicion > 0:
            reasons.append(f"{words} {sum(here)} of its last {len(here)} runs")
        worst = max(worst, suspicion)
    return SlotHealth(score=round(1 - worst, 2), reasons=tuple(reasons), runs=len(recent))


def most_aside(slots: int) -> int:
    """How many of the *slots* of a profile may be put aside by their score.

    Never more than a quarter, and at least one: past that the profile is in trouble, not its slots.
    """
    return max(1, slots // 4)


def _suspicion(here: Sequence[bool], elsewhere: Sequence[bool]) -> float:
    """From 0 to 1, of one symptom."""
    streak = next((count for count, shown in enumerate(reversed(here)) if not shown), len(here))
    common = sum(elsewhere) / (len(elsewhere) + DOUBT)
    share = min(1.0, 2 * sum(here) / WINDOW) * (1.0 if streak else RECOVERING)
    return max(min(1.0, streak / STREAK), share) * max(0.0, 1 - 2 * common)


def _since_canary(trials: Sequence[Trial]) -> Sequence[Trial]:
    """From the last canary on that worked."""
    good = [number for number, trial in enumerate(trials) if trial.canary and not trial.failed]
    return trials[good[-1] :] if good else trials


def _usual(peers: Sequence[Trial]) -> float | None:
    """What a restore takes, as a rule; None if too few are known."""
    seconds = [trial.seconds for trial in peers if trial.seconds is not None]
    return statistics.median(seconds) if len(seconds) >= MEASURED else None


def _is_slow(trial: Trial, usual: float | None) -> bool | None:
    if usual is None or trial.seconds is None:
        return None
    return trial.seconds > max(SLOW * usual, usual + SLOW_SECONDS)
