"""The table of those who wait for several analyses."""

from __future__ import annotations

import io

from rich.console import Console

from drakcelery.model.analysis import State
from drakcelery.operators.waiting import Look
from drakcelery.operators.waiting_table import BESIDE, sum_line, waiting_table
from tests.builders import record

NOW = 1_100.0


def look(states: dict[str, State | None]) -> Look:
    """Analyses in these states; None: it waits in Karton."""
    records = {
        uid: record(state=state).model_copy(
            update={"uid": uid, "received": 1_000.0, "finished": 1_060.0 if state.is_over else None}
        )
        for uid, state in states.items()
        if state is not None
    }
    left = sum(uid not in records or not records[uid].state.is_over for uid in states)
    return Look(now=NOW, records=records, changed=(), left=left)


def shown(one: Look, uids: list[str], *, lines: int | None = None) -> list[str]:
    """The table on a terminal of eighty columns."""
    out = io.StringIO()
    table = waiting_table(one, uids, {uid: f"{uid}.exe" for uid in uids}, lines=lines)
    Console(file=out, width=80).print(table)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_what_is_at_work_comes_first_where_room_is_short() -> None:
    """Then what waits; of the rest the number is said. It fits."""
    states: dict[str, State | None] = dict.fromkeys(
        (f"done-{number}" for number in range(30)), State.PUBLISHED
    )
    states |= {"waiting-1": None, "running-1": State.RUNNING}
    head, first, second, third, more = shown(look(states), list(states), lines=BESIDE + 3)
    assert head.split() == ["UID", "SAMPLE", "PROGRESS", "ELAPSED", "EXPECTED"]
    assert first.split() == ["running-", "running-1.exe", "███░░░", "RUNNING", "1:40", "-"]
    assert second.split() == ["waiting-", "waiting-1.exe", "waiting", "in", "Karton", "-", "-"]
    assert third.split() == ["done-0", "done-0.exe", "██████", "PUBLISHED", "1:00"]
    assert more.split() == ["…", "29", "more"]


def test_the_last_table_has_all() -> None:
    """In the order in which they were given, without what is to be expected."""
    head, *rows = shown(look({"b": State.FAILED, "a": State.PUBLISHED}), ["b", "a"])
    assert head.split() == ["UID", "SAMPLE", "PROGRESS", "ELAPSED"]
    assert [row.split()[:3] for row in rows] == [["b", "b.exe", "FAILED"], ["a", "a.exe", "██████"]]


def test_the_sum() -> None:
    """How many have come how far; what is none is not mentioned."""
    states = {"a": State.PUBLISHED, "b": State.FAILED, "c": State.RUNNING, "d": None, "e": State.CANCELLED}
    said = "1 of 5 published, 1 failed, 1 cancelled, 1 under way, 1 waiting in Karton"
    assert sum_line(look(states), list(states)) == said
    assert sum_line(look({"a": State.PUBLISHED}), ["a"]) == "1 of 1 published"
