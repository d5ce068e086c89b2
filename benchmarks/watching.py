"""What the slots of a fleet get done in a day, with and without what saves their time.

A day is played with samples that are as published measurements say (:mod:`benchmarks.published`). Which run
is stopped and what may be reused is decided by the product's own rules; how well evaders are told is measured
on our corpus (:mod:`benchmarks.second_look`). No figure depends on this machine.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from karton.core import Task
from karton.core.resource import RemoteResource

from benchmarks import pages
from benchmarks.measuring import Result
from benchmarks.published import TIMEOUT, VISIBILITIES, Samples
from benchmarks.slot_day import Day, Means, SecondLooks, play
from drakcelery.karton.conditions import conditions_of
from drakcelery.model.analysis import Analysis, ObjectRef, Priority
from drakcelery.model.news import WatchRules

SEED = 16
PER_SLOT = "analyses for each slot and day"
RULES = WatchRules(min_seconds=120, quiet_seconds=60)
"""The defaults of ``[watch]``."""
SECOND_LOOKS = SecondLooks(told=0.9, mistaken=0.1, max_share=0.15)
"""What :mod:`benchmarks.second_look` has to reach, and the default of ``[variants]``."""
ENOUGH = 18_000
"""Submissions: more than a day's slots take in any of the ways."""
BUSY = 0.9
"""Of what a day's slots can do; the rest is what a fleet needs so that nobody waits for ever."""
TASKS = {True: 20_000, False: 1_000_000}
"""Tasks whose conditions are compared, by ``quick``."""
MEANS: Mapping[str, Means] = {
    "nothing": Means(by_urgency=False),
    "reuse": Means(reuse=True, by_urgency=False),
    "quiet stop": Means(rules=RULES, by_urgency=False),
    "second looks": Means(second_looks=SECOND_LOOKS, by_urgency=False),
    "all": Means(rules=RULES, reuse=True, second_looks=SECOND_LOOKS, by_urgency=False),
}


def measure(*, quick: bool) -> list[Result]:
    """Analyses for each slot and day in each way, the share of facts that is kept, and the longest waits."""
    submissions = Samples(SEED).day(ENOUGH)
    days = {name: play(submissions, means) for name, means in MEANS.items()}
    before = days["nothing"].per_slot()
    rows = [
        Result(
            name=f"{PER_SLOT}, {name}",
            unit="analyses",
            ours=day.per_slot(),
            peer=before,
            peer_name="each watched for 600 s",
            runs=1,
        )
        for name, day in days.items()
        if name != "nothing"
    ]
    rows += [
        Result(name=f"facts kept, {name}", unit="%", ours=100 * days[name].kept, runs=1)
        for name in ("quiet stop", "all")
    ]
    rows += _waits(days["all"])
    return [*rows, _across_visibility(TASKS[quick])]


def write(results: Sequence[Result], root: Path = pages.REPOSITORY) -> None:
    """Fill the table of docs/watching.md, and draw its picture."""
    from benchmarks import pictures  # as in the runner

    page = root / "docs" / "watching.md"
    text = f"`python -m benchmarks watching`:\n\n{pages.table(results)}"
    page.write_text(pages.filled(page.read_text(encoding="utf-8"), "proof", text), encoding="utf-8")
    pictures.draw_slot_days(results, root / "docs" / "images" / "watching.png")


def _waits(full: Day) -> Iterator[Result]:
    """How long the samples of each priority wait on a fleet that is nearly busy."""
    count = int(BUSY * full.published)
    means = Means(rules=RULES, reuse=True, second_looks=SECOND_LOOKS)
    # The fleet goes on until all that came in a day is done
    day = play(Samples(SEED).day(count), means, seconds=10 * 86_400)
    for urgency, name in enumerate(("high", "normal", "low, second looks too")):
        yield Result(
            name=f"longest wait for a slot, {BUSY:.0%} busy, priority {name}",
            unit="min",
            ours=max(day.waits.get(urgency, [0.0])) / 60,
            runs=1,
            less_is_better=True,
        )


def _across_visibility(tasks: int) -> Result:
    """Of so many tasks for one sample that differ only in who may see it, how many would get a result that is
    not theirs."""
    chance = random.Random(SEED)  # noqa: S311 a load, no secret
    seen: dict[str, str] = {}
    mixed = 0
    for _ in range(tasks):
        headers = _headers(chance)
        shown = repr(sorted(headers.items()))
        mixed += seen.setdefault(str(conditions_of(_task(headers), ANALYSIS)), shown) != shown
    return Result(name="reuses across visibility", unit="", ours=mixed, runs=tasks, less_is_better=True)


def _headers(chance: random.Random) -> dict[str, object]:
    """Persistent headers as producers give them: some often, some never seen before."""
    values = [value for value, _ in VISIBILITIES]
    given: dict[str, object] = {"share_3rd_party": chance.choice([*values, "true", 1, 0, ""])}
    if chance.random() < 0.5:
        given["tlp"] = chance.choice(["red", "amber", "green", "clear", ["red"], None])
    if chance.random() < 0.5:
        given["customer"] = chance.randrange(1000)
    return given


def _task(persistent: Mapping[str, object]) -> Task:
    return Task(
        {"type": "sample", "stage": "recognized", "platform": "win32"},
        headers_persistent=dict(persistent),
        payload={"sample": SAMPLE},
    )


SAMPLE = RemoteResource("sample.exe", bucket="karton", uid="sample", sha256="ab" * 32, size=64)
ANALYSIS = Analysis(
    uid="analysis",
    task_uid="{root}:task",
    root_uid="root",
    priority=Priority.NORMAL,
    sample=ObjectRef(bucket="karton", key="sample", name="sample.exe", sha256="ab" * 32, size=64),
    magic="PE32 executable",
    extension="exe",
    quality="high",
    file_name="malwar",
    timeout=TIMEOUT,
    plugins=(),
    profile="default",
)
