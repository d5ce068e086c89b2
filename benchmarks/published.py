"""What samples are like, by published measurements, for :mod:`benchmarks.watching`. Pure.

- Küchler, Mantovani, Han, Bilge, Balzarotti, *Does Every Second Count?*, NDSS 2021: most samples run for less
  than two minutes or for more than ten; 98 % of the basic blocks that they execute are seen in the first two
  minutes.
- Wang, Zhang, Li, Jiang, Chen, *The rhythm of execution*, Frontiers of Computer Science 20 (4), 2026, over
  111,747 samples: the chance that a run shows anything new is 9.2 % after 180 s, 7.4 % after 300 s and 5.6 %
  after 600 s.
- Bayer, Kirda, Kruegel, *Improving the efficiency of dynamic malware analysis*, SAC 2010: 25.25 % of
  submissions need no full analysis, since what they do is known.
- Kirat, Vigna, Kruegel, *BareCloud*, USENIX Security 2014: 5,835 of 110,005 samples evade.

What they do not say is chosen here and said where it stands.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

from drakcelery.model.news import News

TIMEOUT = 600
"""Seconds: DRAKVUF Sandbox's default, and ours."""
NEW_AFTER = ((180, 0.092), (300, 0.074), (600, 0.056))
"""(second, chance that something new comes later): Wang et al."""
SEEN_EARLY, EARLY = 0.98, 120
"""The share of all facts that is seen by this second: Küchler et al., of basic blocks."""
LATE_SHARE = (1 - SEEN_EARLY) / SEEN_EARLY / NEW_AFTER[0][1]
"""Late facts of a run that has any, for each early one, so that :data:`SEEN_EARLY` holds over all runs."""
KNOWN_SHARE = 0.2525
"""Of submissions: Bayer et al."""
EVASIVE_SHARE = 5835 / 110_005
"""Of samples: Kirat et al."""

FACTS_MEDIAN, FACTS_SPREAD = 60, 0.8
"""Facts of a run: our choice, log-normal. Shares do not depend on it."""
EARLY_SECONDS = 20.0
"""The mean second of a fact that comes early: our choice."""
RECENT = 2_000
"""A known sample is one of so many new ones before it: our choice; the same file comes again within days."""
VISIBILITIES: tuple[tuple[bool | None, float], ...] = ((None, 0.6), (True, 0.25), (False, 0.15))
"""The persistent header ``share_3rd_party`` of a task, and how often: our choice."""


@dataclass(frozen=True, kw_only=True)
class Submission:
    """One sample task of the day."""

    at: float
    """Seconds since the day began."""
    sample: int
    """Equal for equal samples."""
    shared: bool | None
    """Its persistent header ``share_3rd_party``."""
    urgency: int
    """0: the first."""
    evades: bool
    news: News
    """What the sample shows, if it is watched for the whole time."""


class Samples:
    """Submissions, drawn by chance."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)  # noqa: S311 a load, no secret
        self._known: list[tuple[int, bool, News]] = []

    def day(self, count: int, *, seconds: float = 86_400) -> list[Submission]:
        """So many submissions, spread over the time, in their order."""
        times = sorted(self._chance.uniform(0, seconds) for _ in range(count))
        return [self._submission(at) for at in times]

    def _submission(self, at: float) -> Submission:
        chance = self._chance
        if self._known and chance.random() < KNOWN_SHARE:
            sample, evades, news = chance.choice(self._known[-RECENT:])
        else:
            sample, evades, news = len(self._known), chance.random() < EVASIVE_SHARE, self.news()
            self._known.append((sample, evades, news))
        [(shared, _)] = chance.choices(VISIBILITIES, [share for _, share in VISIBILITIES])
        [urgency] = chance.choices((0, 1, 2), (1, 7, 2))
        return Submission(at=at, sample=sample, shared=shared, urgency=urgency, evades=evades, news=news)

    def news(self) -> News:
        """What a run of :data:`TIMEOUT` seconds shows."""
        chance = self._chance
        count = max(3, round(chance.lognormvariate(0, FACTS_SPREAD) * FACTS_MEDIAN))
        until = self._last_news()
        late = round(LATE_SHARE * count) if until > NEW_AFTER[0][0] else 0
        seconds: Counter[int] = Counter()
        for _ in range(count):
            seconds[min(EARLY, int(chance.expovariate(1 / EARLY_SECONDS)))] += 1
        end = min(until, float(TIMEOUT - 1))
        if late:
            seconds[int(end)] += 1
            for _ in range(late - 1):
                seconds[int(chance.uniform(EARLY, end))] += 1
        return News(seconds=TIMEOUT, facts=tuple(sorted(seconds.items())))

    def _last_news(self) -> float:
        """The second after which a run shows nothing new any more, by :data:`NEW_AFTER`."""
        drawn = self._chance.random()
        for (begin, more), (end, less) in pairwise(NEW_AFTER):
            if less <= drawn < more:
                return begin + (end - begin) * (more - drawn) / (more - less)
        return float(EARLY) if drawn >= NEW_AFTER[0][1] else float(TIMEOUT)
