"""What second looks find: the corpus of evaders (``tests/evaders``) by the emulator, in two profiles.

Each program has a first look: an evader in the profile that it hides from, any other program in both, as
one cannot know which. Where its clues ask for a second look, the program has that, and what it shows beside
the first is counted. ``build/second_look.json`` says what became of each.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks.diff import reported
from benchmarks.measuring import Result
from benchmarks.pages import REPOSITORY
from drakcelery.behaviour.difference import difference
from drakcelery.behaviour.report import Report
from drakcelery.karton.filetype import describe_file
from drakcelery.model.analysis import Analysis, Place
from drakcelery.model.plugins import DEFAULT_PLUGINS
from drakcelery.model.second_look import HIDING, Offer, VariantRules, plan
from tests import builders, evaders
from tests.emulating import Bench

PLUGINS = (*DEFAULT_PLUGINS, "cpuidmon", "delaymon")
"""What tells of questions to the processor and of long sleeps, too."""
WATCHED = 600
"""Seconds for which a VM watches a look, whatever the emulator takes: the default ``analysis_timeout``."""
EVADE = 0.05
"""The part of samples that evades, as published measurements have it."""
_LONGEST = 60
"""Seconds that the emulator takes for a second look, at most."""
_HOST = "h"
_RULES = VariantRules(profiles=tuple(evaders.PROFILES), extra_timeout=300, longest=1200)
"""The defaults of ``[variants]``, with both profiles."""
_QUICK = 5
"""Programs of each half."""


@dataclass(frozen=True, kw_only=True)
class Looks:
    """A program, its first look, and the second one if there was one."""

    program: str
    evades: str | None
    first: evaders.Profile
    clues: tuple[str, ...]
    changes: tuple[str, ...] = ()
    """What the second look has otherwise; nothing without one."""
    news: int = 0
    """Things that last and that only the second look shows."""
    stretch: float = 0
    """How many times as long as the first look the second one takes a slot."""


def measure(*, quick: bool) -> list[Result]:
    """Evaders that show more, others that run twice, and what that takes of the slots."""
    most = _QUICK if quick else None
    planned = [(one, one.hides_from) for one in evaders.EVADERS[:most]]
    planned += [(one, profile) for one in evaders.OTHERS[:most] for profile in evaders.PROFILES]
    with tempfile.TemporaryDirectory() as directory:
        found = [_looks(one, profile, Path(directory)) for one, profile in planned]
    build = REPOSITORY / "build"
    build.mkdir(exist_ok=True)
    text = json.dumps([asdict(one) for one in found], indent=1)
    (build / "second_look.json").write_text(text, encoding="utf-8")
    return results(found)


def results(found: Sequence[Looks]) -> list[Result]:
    """What *found* comes to."""
    evading = [one for one in found if one.evades is not None]
    others = [one for one in found if one.evades is None]
    slots = EVADE * _mean(one.stretch for one in evading) + (1 - EVADE) * _mean(one.stretch for one in others)
    return [
        Result(
            name="evaders whose second look shows more",
            unit="%",
            ours=100 * _mean(one.news > 0 for one in evading),
            runs=len(evading),
        ),
        Result(
            name="other programs that run twice",
            unit="%",
            ours=100 * _mean(bool(one.changes) for one in others),
            runs=len(others),
            less_is_better=True,
        ),
        Result(
            name=f"slot time for second looks, where {100 * EVADE:.0f} % of samples evade",
            unit="%",
            ours=100 * slots,
            runs=len(found),
            less_is_better=True,
        ),
    ]


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed) if listed else 0.0


def _looks(program: evaders.Program, profile: evaders.Profile, directory: Path) -> Looks:
    built = evaders.build(program, directory)
    analysis = _analysis(built, profile, WATCHED)
    first = _look(built, profile, directory, program.watched)
    told = Looks(
        program=program.name,
        evades=program.evades,
        first=profile,
        clues=tuple(clue.kind for clue in first.clues),
    )
    changes = plan(first.clues, analysis, _offer(first), _RULES) if first.clues else None
    if changes is None:
        return told
    second = _look(built, changes.profile or profile, directory, _LONGEST)
    return replace(
        told,
        changes=changes.words,
        news=sum(change.is_news for change in difference(first, second).changes),
        stretch=(changes.timeout or analysis.timeout) / analysis.timeout,
    )


def _offer(first: Report) -> Offer:
    places = frozenset(Place(profile=name, host=_HOST) for name in evaders.PROFILES)
    return Offer(engine=first.run.engine, places=places, hiding=HIDING)


def _look(built: Path, profile: str, directory: Path, seconds: int) -> Report:
    work = Path(tempfile.mkdtemp(dir=directory))
    work.chmod(0o755)
    guest = {str(name): text for name, text in evaders.PROFILES.items()}[profile]
    run = Bench(work, guest=guest).detonate(built, timeout=seconds, plugins=PLUGINS)
    return reported(run.job.raw, run.outcome, _analysis(built, profile, seconds))


def _analysis(built: Path, profile: str, timeout: int) -> Analysis:
    changes = {"magic": describe_file(built), "timeout": timeout, "plugins": PLUGINS}
    return builders.analysis(profile=profile).model_copy(update=changes)
