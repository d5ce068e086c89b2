"""The report on watching: a documented form, and sentences that say no more than the runs do."""

from __future__ import annotations

import json
import random
import re

import pytest
from pydantic import TypeAdapter

from drakcelery.forecast.curve import Curve, Group, WatchedRun
from drakcelery.model.news import News, WatchRules
from drakcelery.operators.watch_report import (
    Asked,
    SpokenCurve,
    WatchReport,
    asked_of,
    in_words,
    percent,
    settings_lines,
)
from drakcelery.operators.watch_table import lines, watch_table
from drakcelery.settings import WatchSection
from tests import reference
from tests.watched import measured_run

SCHEMA = reference.ROOT / "docs" / "watch.schema.json"
KEEP = 0.98
BURST = News(seconds=600, facts=((1, 20), (5, 20)))


def schema() -> str:
    """The JSON Schema, as it is published."""
    return json.dumps(TypeAdapter(WatchReport).json_schema(mode="serialization"), indent=2) + "\n"


def curve_of(*news: News, current: WatchRules | None = None) -> Curve:
    runs = [WatchedRun(seconds=one.seconds, timeout=600, news=one) for one in news]
    return Group.of(runs, current).curve(keep=KEEP, current=current, profile="win10", quality="high")


def report_of(curve: Curve, **asked: object) -> WatchReport:
    spoken = SpokenCurve.of(curve, KEEP)
    given = {"keep": KEEP, "mode": "off", "rules": None, **asked}
    return WatchReport.model_validate({**given, "all": spoken, "curves": (spoken,)})


def test_the_schema_is_published() -> None:
    """docs/watch.schema.json is the model's; `python -m tests.unit.test_watch_report` writes it."""
    assert SCHEMA.read_text(encoding="utf-8") == schema()


def test_a_report_can_be_read_again() -> None:
    """By the model that printed it."""
    dice = random.Random(1)  # noqa: S311 - the same on each run
    news = [run.news for _ in range(200) if (run := measured_run(dice, late=0.1)).news]
    report = report_of(curve_of(*news, current=WatchRules(min_seconds=60, quiet_seconds=20)))
    assert WatchReport.model_validate_json(report.model_dump_json()) == report
    assert report.version == 1


@pytest.mark.parametrize(
    ("news", "said"),
    [
        ([], "No run was measured yet"),
        ([BURST] * 400, r"min_seconds = 10 and quiet_seconds = 10 save 98 % of the time and lose 0.0 %"),
        ([BURST] * 5, r"Too few runs .* keep 98 %: 5 were measured. About 128 more are needed, at least"),
        (
            [News(seconds=600, facts=((1, 10**6),)), *[BURST] * 99],
            r"as much as 1 equal ones. More are needed than the newest 1000, .*: allow a larger loss",
        ),
        ([News(seconds=5, facts=((1, 20),))] * 400, "No rules that were tried would have ended a run"),
        (
            [News(seconds=600, facts=((1, 20), (599, 20)))] * 400,
            r"No rules that were tried surely keep 98 %. .*lose 50 % of the facts, at most 54 %",
        ),
    ],
)
def test_what_follows(news: list[News], said: str) -> None:
    """It is recommended, or said why nothing is and what is missing."""
    words = in_words(curve_of(*news), KEEP)
    assert re.search(said, words), words


def test_settings_to_paste() -> None:
    """They are lines of the configuration file, and what the settings do now stands beside them."""
    rules = WatchRules(min_seconds=90, quiet_seconds=30)
    assert settings_lines(rules) == ("[watch]", "min_seconds = 90", "quiet_seconds = 30")
    report = report_of(curve_of(*[BURST] * 400, current=rules), mode="shadow", rules=rules)
    text = "\n".join(lines(report))
    assert "Now, in shadow mode, min_seconds = 90 and quiet_seconds = 30: 85 % of the time" in text
    assert text.endswith("[watch]\nmin_seconds = 10\nquiet_seconds = 10")
    assert "R recommended" in text
    assert max(map(len, text.partition("facts lost")[2].splitlines())) < 160


def test_what_the_settings_lose_is_in_the_picture() -> None:
    """However much that is: at its top, as on the page."""
    late = News(seconds=600, facts=((1, 1), (500, 9)))
    rules = WatchRules(min_seconds=10, quiet_seconds=10)
    drawn = list(lines(report_of(curve_of(*[late] * 10, current=rules), mode="active", rules=rules)))
    assert drawn[drawn.index("facts lost") + 1].endswith("N")


def test_a_narrow_terminal() -> None:
    """The table leaves out what is needed least, and says so."""
    table = watch_table(report_of(curve_of(*[BURST] * 400)), 50)
    assert "No room for STOPPED" in str(table.caption)


def test_what_is_asked_for() -> None:
    """The bound is that of the settings, unless another is asked for; while it is off, it has no rules."""
    off = asked_of(WatchSection())
    assert (off.keep, off.mode, off.rules) == (0.98, "off", None)
    on = asked_of(WatchSection(enabled=True, mode="active", max_loss=0.1), quality="high", keep=0.7)
    assert (on.keep, on.mode, on.rules) == (0.7, "active", WatchRules(min_seconds=120, quiet_seconds=60))
    assert on.takes(("any", "high"))
    assert not on.takes(("any", "low"))
    assert Asked(keep=0.9, mode="off", rules=None).takes(("any", "other"))


@pytest.mark.parametrize(
    ("share", "said"),
    [(0, "0.0 %"), (0.004, "0.4 %"), (0.0999, "10 %"), (0.5, "50 %"), (0.0994, "9.9 %"), (0.125, "13 %")],
)
def test_percent(share: float, said: str) -> None:
    """One digit more of what is less than ten."""
    assert percent(share) == said


if __name__ == "__main__":
    SCHEMA.write_text(schema(), encoding="utf-8")
