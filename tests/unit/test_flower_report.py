"""A report on the page of its analysis: paged, searched, filtered and folded, and fit to be shown."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from drakcelery.behaviour.report import Report
from drakcelery.flower.report import timeline as timelines
from drakcelery.flower.report.indicators import indicators_page, indicators_text
from drakcelery.flower.report.overview import overview
from drakcelery.flower.report.pages import LONGEST_SEARCH, PAGE, Page, Query, cut
from drakcelery.flower.report.tables import TABLES, table_page
from drakcelery.flower.report.timeline import Timeline, moments, timeline_page
from drakcelery.flower.report.tree import TreePage, tree_page
from drakcelery.model.analysis import Value
from drakcelery.operators.report.processes import Cast
from tests.large_reports import BEGAN, ENTRIES, FEW, PROCESSES, hostile_report

SMALL = hostile_report(processes=30, entries=12, few=3)
"""Process 0 has the children 1 to 4, and so on; 2, 5, 8, … are Windows' own."""
CAST = Cast(SMALL)
PATIENCE = 10
"""Times what two million multiplications take on this machine: about 2 s where that is slow."""


def table(name: str, report: Report = SMALL, **query: Any) -> Page:
    """A page of a table."""
    cast = CAST if report is SMALL else Cast(report)
    return table_page(TABLES[name], report, cast, Query(**query))


def tree(report: Report = SMALL, **query: Any) -> TreePage:
    """A page of the tree."""
    return tree_page(CAST if report is SMALL else Cast(report), float(BEGAN), Query(**query))


def keys(page: TreePage) -> list[int]:
    """Which processes it has."""
    return [row.key for row in page.rows]


# The tables


@pytest.mark.parametrize("name", list(TABLES))
def test_only_what_the_sample_did(name: str) -> None:
    """What only Windows did comes if it is asked for, and is marked."""
    own, all_of_it = table(name), table(name, windows=True)
    assert 0 < own.total < all_of_it.total
    assert {row.own for row in own.rows} == {True}
    assert {row.own for row in all_of_it.rows} == {True, False}
    assert all(len(row.cells) == len(page.columns) for page in (own, all_of_it) for row in page.rows)


@pytest.mark.parametrize("name", [name for name, one in TABLES.items() if one.kinds])
def test_each_kind_can_be_chosen(name: str) -> None:
    """The kinds of a table are those of its entries: each finds some, and some other do not have it."""
    whole = table(name, windows=True).total
    for kind in TABLES[name].kinds:
        assert 0 < table(name, windows=True, kind=kind).total < whole, kind


@pytest.mark.parametrize(
    ("name", "search", "found"),
    [
        ("files", "\\00007.EXE", 1),
        ("registry", "hklm\\software", 12),
        ("registry", "nothing", 0),
        ("network", "3.evil.example", 3),
        ("network", "hxxp://3[.]evil[.]example", 1),
        ("network", "2001[:]db8", 24),
        ("system", "2.exe (1002)", 3),
        ("dumps", "0x400003", 1),
        ("calls", "FUNCTION2", 1),
        ("capabilities", "t1059.003", 3),
        ("capabilities", "shell 2", 1),
    ],
)
def test_search(name: str, search: str, found: int) -> None:
    """Capital letters do not matter; what was copied from the page, defanged, is found as well."""
    assert table(name, windows=True, search=search).total == found


def test_an_entry_that_nobody_should_miss() -> None:
    """Programs and autostart places are marked; the time is that of the run."""
    page = table("files", search="00000.txt")
    assert (page.rows[0].marks, page.rows[0].cells[-3:]) == (
        ("autostart: Startup folder",),
        ("0.exe (1000)", "1", "+0.0 s"),
    )
    assert table("files", search="00001.exe").rows[0].marks == ("executable",)


def test_a_page_behind_the_last_one_is_the_last_one() -> None:
    """A search makes a list shorter, or a fold."""
    report = hostile_report(processes=3, entries=250, few=1)
    page = table("files", report, windows=True, offset=100_000)
    assert (page.offset, len(page.rows), page.total) == (200, 50, 250)
    assert table("files", report, offset=500, search="nothing").offset == 0


@given(st.lists(st.integers(), max_size=350), st.integers(0, 1000))
def test_pages(items: list[int], offset: int) -> None:
    """Never more than a page, and one with something on it if there is anything."""
    start, some = cut(items, offset)
    assert list(some) == items[start : start + PAGE]
    assert bool(some) is bool(items)


@pytest.mark.parametrize(
    "wrong",
    [
        {"search": "x" * (LONGEST_SEARCH + 1)},
        {"offset": -1},
        {"turned": ["x"]},
        {"turned": [str(number) for number in range(3000)]},
        {"windows": "perhaps"},
    ],
)
def test_questions_are_bounded(wrong: dict[str, Any]) -> None:
    """Nothing that takes long can be asked for."""
    with pytest.raises(ValidationError):
        Query.model_validate(wrong)


# The tree


def test_tree() -> None:
    """Parents before their children; Windows' processes only where something of the sample hangs below."""
    page = tree()
    assert page.rows[0].marks == ("the sample",)
    assert page.found == len(CAST.own)
    assert page.total == len(CAST.with_ancestors(CAST.own)) < len(tree(windows=True).rows)
    rows = {row.key: row for row in page.rows}
    assert (rows[1].level, rows[1].position, rows[1].siblings) == (2, 1, rows[0].children)
    assert all(rows[row.key].level == 1 or (row.key - 1) // 4 in rows for row in page.rows)


def test_fold() -> None:
    """What is below a folded process is not there; all can be folded, and some opened again."""
    whole, folded = tree(), tree(turned=[1])
    assert {1, 2} <= set(keys(folded))
    assert not set(keys(folded)) & {5, 6, 7, 8, 21, 24}
    assert set(keys(folded)) < set(keys(whole))
    assert [row.key for row in folded.rows if row.folded] == [1]
    assert keys(tree(folded=True)) == [0]
    assert keys(tree(folded=True, turned=[0])) == [0, 1, 2, 3, 4]


def test_search_in_the_tree() -> None:
    """What is found stands below its ancestors, which are told from it."""
    page = tree(search="27.EXE")
    assert [(row.key, row.found) for row in page.rows] == [(0, False), (1, False), (6, False), (27, True)]
    assert (page.found, page.total) == (1, 4)


def test_a_page_that_begins_within_the_tree() -> None:
    """It says below which processes."""
    page = tree(hostile_report(processes=400, entries=1, few=1), windows=True, offset=PAGE)
    assert page.offset == PAGE
    assert page.rows[0].level == len(page.path) + 1
    assert page.path[0] == "0.exe (1000)"


def test_processes_that_are_their_own_ancestors() -> None:
    """Somebody else's report may say so: each is shown once, and folding one hides the others."""
    report = SMALL.model_copy(
        update={
            "processes": tuple(
                one.model_copy(update={"parent": {0: 1, 1: 0, 2: 2}.get(one.seqid)})
                for one in SMALL.processes[:3]
            )
        }
    )
    assert sorted(keys(tree(report, windows=True))) == [0, 1, 2]
    assert keys(tree(report, windows=True, turned=[0])) == [2, 0]
    assert keys(tree(report, folded=True)) == [0]


# Indicators


def test_indicators_are_defanged() -> None:
    """What is read is defanged; what is copied is what was asked for, a line each."""
    page = indicators_page(SMALL, Query(kind="host"))
    assert [(row.cells, row.seen) for row in page.rows] == [
        (("host", f"{number}[.]evil[.]example"), f"{number}.evil.example") for number in range(3)
    ]
    hosts = Query(kind="host", search="1[.]evil")
    assert indicators_text(SMALL, hosts, seen=False) == "1[.]evil[.]example\n"
    assert indicators_text(SMALL, hosts, seen=True) == "1.evil.example\n"
    assert indicators_text(SMALL, Query(), seen=True).count("\n") == 12


def test_what_is_copied_as_seen_does_nothing_where_it_is_pasted() -> None:
    """A line of it is a line: no control character, no end of a line."""
    urls = ("http://a.example/\r\nrm -rf ~\n", "http://b.example/\x1b[31m\x00\u2028")
    report = SMALL.model_copy(update={"indicators": SMALL.indicators.model_copy(update={"urls": urls})})
    text = indicators_text(report, Query(kind="URL"), seen=True)
    assert [line.isprintable() for line in text.splitlines()] == [True, True]


# The top, and all of it


def test_overview() -> None:
    """How it ended, what it did by name, the size of each list, and what is missing."""
    shown = overview(SMALL, CAST)
    assert shown.is_whole
    assert shown.notes == ("80000 events were left out of a full list: processes",)
    assert [one.name for one in shown.facts][:2] == ["processes", "injected into"]
    sizes = {one.name: (one.own, one.all) for one in shown.lists}
    assert list(sizes) == ["processes", "timeline", *TABLES, "indicators"]
    assert (sizes["processes"], sizes["network"]) == ((20, 30), (32, 48))
    assert not shown.only_windows


def test_only_windows() -> None:
    """Where no process is the sample's, everything is shown, as there is nothing else."""
    none_own = tuple(one.model_copy(update={"origin": "windows"}) for one in SMALL.processes)
    report = SMALL.model_copy(update={"processes": none_own})
    assert overview(report, Cast(report)).only_windows
    assert table("files", report).total == 12
    assert tree(report).total == 30


def pieces(report: Report) -> dict[str, Callable[[], Value]]:
    """All that the page asks for, with the questions that take longest."""
    cast = Cast(report)
    more = Query(windows=True, search="no such thing")
    found = moments(report)
    made: dict[str, Callable[[], Value]] = {
        "timeline": lambda: timeline_page(found, cast, float(BEGAN), Query(windows=True)),
        "found in the timeline": lambda: timeline_page(found, cast, float(BEGAN), more),
        "overview": lambda: overview(report, cast),
        "tree": lambda: tree_page(cast, float(BEGAN), Query(windows=True, offset=PROCESSES - 1)),
        "found in the tree": lambda: tree_page(cast, float(BEGAN), Query(windows=True, search="9.exe")),
        "indicators": lambda: indicators_page(report, Query(search="no such thing")),
    }
    for name, one in TABLES.items():
        made[name] = lambda one=one: table_page(one, report, cast, Query(windows=True))  # type: ignore[misc]
        made[f"found in {name}"] = lambda one=one: table_page(one, report, cast, more)  # type: ignore[misc]
    return made


def test_the_largest_report_is_shown_in_pieces() -> None:
    """Each piece of it is small and quick, and each text printable and defanged."""
    report = hostile_report()
    assert (len(report.processes), len(report.files)) == (PROCESSES, ENTRIES)
    assert (len(report.mutexes), len(report.indicators.urls)) == (FEW, FEW)
    took = {}
    begun = time.process_time()
    sum(number * number for number in range(2_000_000))
    yardstick = time.process_time() - begun
    for name, make in pieces(report).items():
        begun = time.process_time()
        text = make().model_dump_json()
        took[name] = time.process_time() - begun
        assert len(text) < 400_000, name
        shown = re.sub(r'"(?:seen|key)":"(?:[^"\\]|\\.)*"', "", text)
        assert shown.isprintable(), name
        assert "http://" not in shown, name
    assert max(took.values()) < PATIENCE * yardstick, (took, yardstick)


# The timeline


def timeline(**query: Any) -> Timeline:
    """A page of it."""
    return timeline_page(moments(SMALL), CAST, float(BEGAN), Query(**query))


def test_timeline() -> None:
    """In order of time, of the sample unless Windows is asked for; the bars count what is on all pages."""
    page, whole = timeline(), timeline(windows=True)
    assert page.columns == ("When", "Kind", "What", "By")
    assert page.rows[0].cells[:2] == ("+0.0 s", "process started")
    times = [float(row.cells[0].removesuffix(" s")) for row in whole.rows]
    assert times == sorted(times)
    assert {row.own for row in page.rows} == {True}
    assert (sum(page.bars), sum(whole.bars)) == (page.total, whole.total)
    assert page.total < whole.total


def test_each_kind_of_moment_can_be_chosen() -> None:
    """The kinds are those that there are."""
    found = {kind: timeline(windows=True, kind=kind).total for kind in timelines.KINDS}
    assert found.pop("process ended") == 0  # none ends in this report
    assert all(found.values()), found
    assert sum(found.values()) == timeline(windows=True).total


def test_a_part_of_the_run() -> None:
    """From and to a second of it."""
    page = timeline(windows=True, since=0.05, until=0.1, kind="file")
    assert page.total == 6
    assert (round(page.first, 2), round(page.last, 2)) == (0.05, 0.1)
    assert timeline(since=1000).total == 0
    assert timeline(search="hklm\\software", kind="registry").total == 8


def test_an_end_by_somebody_else() -> None:
    """Who ended a process is told, as long as it was another one."""
    ends = [(0, 0), (1, 0), (2, None)]
    processes = tuple(
        SMALL.processes[number].model_copy(update={"ended": BEGAN + 9.0, "killed_by": by})
        for number, by in ends
    )
    report = SMALL.model_copy(update={"processes": processes})
    page = timeline_page(
        moments(report), Cast(report), float(BEGAN), Query(windows=True, kind="process ended")
    )
    assert [row.cells[3] for row in page.rows] == ["", "0.exe (1000)", ""]
