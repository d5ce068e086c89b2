"""A frame of ``drakcelery top``, and how much of the past it reads."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from drakcelery.model.analysis import State
from drakcelery.model.records import HostStatus, Record, SlotStatus
from drakcelery.operators import top
from drakcelery.operators.overview import ProfileOverview
from drakcelery.operators.top import Snapshot
from tests.builders import analysis

NOW = 1_800_000_000.0


def record(uid: str, state: State, *, ago: float, error: str | None = None) -> Record:
    """An analysis that ended so long ago, a minute after it came."""
    return Record(
        uid=uid,
        task_uid="t",
        root_uid="r",
        state=state,
        attempt=1,
        first_attempt=1,
        analysis=analysis(),
        refusal=error,
        received=NOW - ago - 60,
        updated=NOW - ago,
        finished=NOW - ago,
        updated_text="",
    )


def host(name: str, count: int) -> HostStatus:
    """A host of so many slots; the last one runs something."""
    slots = tuple(
        SlotStatus(name=f"vm-{number}", profile="win10-22h2-with-a-long-name", state="free", since=NOW - 1)
        for number in range(1, count)
    )
    busy = SlotStatus(
        name=f"vm-{count}", profile="win7", state="running", uid=f"on-{name}", attempt=1, since=NOW - 75
    )
    return HostStatus(host=name, engine="replay", slots=(*slots, busy))


def snapshot(*hosts: HostStatus, ended: list[Record] | None = None) -> Snapshot:
    """A fleet with a queue."""
    waiting = ProfileOverview(
        profile="win7",
        online=True,
        hosts=("rack-1",),
        slots=1,
        free=0,
        out_of_use=0,
        in_flight=3,
        waiting=4,
        waiting_since=NOW - 3661,
        seen=NOW,
    )
    return Snapshot(
        now=NOW,
        hosts=list(hosts),
        profiles=[waiting],
        queued=17,
        queued_since=NOW - 5,
        live={f"on-{one.host}": record(f"on-{one.host}", State.RUNNING, ago=0) for one in hosts},
        ended=ended or [],
    )


def drawn(shown: Snapshot, *, width: int = 80, height: int | None = 24) -> list[str]:
    """The lines of a frame on a terminal that is wider and higher, so that nothing is cut off by it."""
    console = Console(file=io.StringIO(), width=500, height=500)
    console.print(top.frame(shown, width=width, height=height))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_a_frame_fits() -> None:
    """Two racks of sixteen slots, long names and long errors: 80 columns by 24 lines, slots in use first."""
    ended = [
        record(f"6f2c5a0e-9d7c-4f55-a3b1-{number:012}", State.FAILED, ago=number, error="why " * 99)
        for number in range(50)
    ]
    lines = drawn(snapshot(host("rack-with-a-name-that-is-long", 16), host("rack-2", 16), ended=ended))
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert sum(" running " in line for line in lines) == 2
    assert any(line.startswith("and ") and line.endswith(" more") for line in lines)
    assert lines[-1].startswith(f"0:0{top.RECENT - 1}")


def test_all_slots_are_shown_where_there_is_room() -> None:
    """Where nothing scrolls away, nothing is left out."""
    lines = drawn(snapshot(host("rack-1", 40)), height=None)
    assert sum(line.startswith("rack-1/vm-") for line in lines) == 40
    assert any("rack-1/vm-40  win7" in line and "1:15" in line for line in lines)


def test_queues_are_shown_with_the_oldest_wait() -> None:
    """Of each profile, and of Karton's own queue."""
    lines = drawn(snapshot(host("rack-1", 2)))
    assert [line.split() for line in lines if line.startswith(("win7 ", "(any)"))] == [
        ["win7", "0", "1", "0", "3", "4", "1:01:01"],
        ["(any)", "17", "0:05"],
    ]


def test_rates() -> None:
    """What ended, and what began, in the last five minutes; what is older does not count."""
    ended = [
        *(record(str(number), State.PUBLISHED, ago=10) for number in range(10)),
        record("failed", State.FAILED, ago=299),
        record("older", State.PUBLISHED, ago=301),
    ]
    shown = snapshot(host("rack-1", 1), ended=ended)
    assert shown.per_minute(State.PUBLISHED) == pytest.approx(2.0)
    assert shown.per_minute(State.FAILED) == pytest.approx(0.2)
    assert shown.taken_per_minute == pytest.approx(2.2)  # ten that ended, and one that runs
    assert "taken 2.2  published 2.0  failed 0.2  cancelled 0.0" in "\n".join(drawn(shown))


def test_nothing_of_a_sample_reaches_the_terminal() -> None:
    """Neither escape sequences nor rich's own markup."""
    evil = record("evil", State.FAILED, ago=1, error="\x1b[2J[red]x[/red]\u202e")
    text = "\n".join(drawn(snapshot(host("rack-1", 1), ended=[evil])))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "[red]x[/red]" in text


def test_an_empty_fleet() -> None:
    """No host, nothing waits, nothing ended."""
    lines = drawn(snapshot())
    assert "0 hosts, 0 slots, 0 busy" in lines[0]
