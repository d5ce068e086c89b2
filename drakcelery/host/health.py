"""The health of a slot, judged by its last runs and by those of its peers. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

WINDOW = 10
"""How many of a slot's newest runs count."""
STREAK = 3
"""So many runs in a row with a symptom that its peers do not show make a slot sick."""
SLOW = 3.0
"""A restore that takes so many times as long as that of its peers is slow."""
SLOW_SECONDS = 1.0
"""It must also take at least so many seconds longer."""
MEASURED = 3
"""A slot is compared with its peers only after so many restores of theirs."""
DOUBT = 5
"""A symptom counts as rare until so many runs of peers were seen."""
UNWELL = 0.5
"""At this score and below a slot is looked into, by a canary."""
RECOVERING = 0.7
"""Factor for the share of a symptom that the last run did not show."""
SICK = 0.25
"""At this score and below a slot may be put aside by its score alone."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What one run says about its slot. A run that was cut short, or says nothing, makes no trial."""

    failed: bool = False
    """It failed, and as far as is known the slot is to blame."""
    broke_off: bool = False
    """It failed, whatever is to blame: the files that it left say nothing, but the time of its restore
    does."""
    empty_log: bool = False
    """The engine wrote no line."""
    no_pcap: bool = False
    """No traffic was recorded although there should be some."""
    other_snapshot: bool = False
    """Its VM was restored from another snapshot than those of most runs."""
    seconds: float | None = None
    """How long the restore took."""
    canary: bool = False
    """It was a canary; if *failed* is set, the canary did not behave as it should."""


@dataclass(frozen=True, kw_only=True)
class SlotHealth:
    """The health of a slot."""

    score: float = 1.0
    """From 0 (broken) to 1 (well, or nothing known)."""
    reasons: tuple[str, ...] = ()
    """Why it is not 1, each worded to follow the name of the slot."""
    runs: int = 0
    """How many runs the score is based on."""

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

    A symptom counts by how often it came in a row, or by its share of the last runs; the more peers show it,
    the less it counts, since what most slots do is no slot's fault. A run that failed says nothing about the
    other symptoms, and does not interrupt a row of theirs. Runs before a canary that worked do not count, and
    a slot whose last run was good is not sick. So a slot that was fixed comes back, and stays.
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

    A quarter, and at least one: if more slots seem broken, the profile is in trouble and not its slots.
    """
    return max(1, slots // 4)


def _suspicion(here: Sequence[bool], elsewhere: Sequence[bool]) -> float:
    """How suspicious one symptom makes a slot, from 0 to 1."""
    streak = next((count for count, shown in enumerate(reversed(here)) if not shown), len(here))
    common = sum(elsewhere) / (len(elsewhere) + DOUBT)
    share = min(1.0, 2 * sum(here) / WINDOW) * (1.0 if streak else RECOVERING)
    return max(min(1.0, streak / STREAK), share) * max(0.0, 1 - 2 * common)


def _since_canary(trials: Sequence[Trial]) -> Sequence[Trial]:
    """The trials from the last canary that worked."""
    good = [number for number, trial in enumerate(trials) if trial.canary and not trial.failed]
    return trials[good[-1] :] if good else trials


def _usual(peers: Sequence[Trial]) -> float | None:
    """How long a restore usually takes; None if too few are known."""
    seconds = [trial.seconds for trial in peers if trial.seconds is not None]
    return statistics.median(seconds) if len(seconds) >= MEASURED else None


def _is_slow(trial: Trial, usual: float | None) -> bool | None:
    if usual is None or trial.seconds is None:
        return None
    return trial.seconds > max(SLOW * usual, usual + SLOW_SECONDS)
