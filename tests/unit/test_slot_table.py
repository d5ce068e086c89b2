"""Slots on a terminal of 80 columns."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console, RenderableType

from drakcelery.cli.slot_table import canaries_view, slots_view
from drakcelery.model.records import CanaryStatus, HostStatus, SlotStatus

LONG = "error 225: the file contains a virus or potentially unwanted software; " * 3


def slot(name: str, **more: Any) -> SlotStatus:
    fields = {"name": name, "profile": "win10-22h2", "state": "free", "since": 900.0, "score": 1.0, **more}
    return SlotStatus.model_validate(fields)


ILL = slot(
    "vm-2", state="quarantined", score=0.25, reasons=(LONG,), canary=CanaryStatus(at=940, trouble="no log")
)


def shown(view: RenderableType) -> list[str]:
    text = io.StringIO()
    Console(file=text, width=80).print(view)
    return [line.rstrip() for line in text.getvalue().splitlines()]


def test_a_line_for_each_slot() -> None:
    """Reasons stand below in whole lines: a column of 80 would break them into a tower."""
    lines = shown(slots_view([HostStatus(host="rack-1", engine="xen", slots=(slot("vm-1"), ILL))], now=1000))
    assert [" ".join(line.split()) for line in lines[:3]] == [
        "HOST SLOT PROFILE STATE SINCE SCORE ANALYSIS ENGINE",
        "rack-1 vm-1 win10-22h2 free 1:40 1.00 - xen",
        "rack-1 vm-2 win10-22h2 quarantined 1:40 0.25 - xen",
    ]
    assert lines[3] == ""
    assert " ".join(lines[4:-1]) == f"rack-1/vm-2: {LONG.strip()}"
    assert len(lines[4:-1]) == 3
    assert lines[-1] == "rack-1/vm-2: canary: no log"
    assert (
        len(shown(slots_view([HostStatus(host="rack-1", engine="xen", slots=(slot("vm-1"),))], now=1))) == 2
    )


def test_the_last_canaries() -> None:
    """A word for each, and below what it found, or why nobody knows."""
    words = ["good", "due", "no log", "not judged: alice keeps it closed", None]
    slots = [slot(f"vm-{number}") for number in range(1, 6)]
    slots[2] = ILL
    lines = shown(
        canaries_view(
            ((f"r-{n}", one, said) for n, one, said in zip("12345", slots, words, strict=True)), now=1000
        )
    )
    assert [" ".join(line.split()[4:]) for line in lines[1:6]] == [
        *("- good", "- due", "1:00 bad", "- not judged", "- -")
    ]
    assert lines[6:] == ["", "r-3/vm-2: no log", "r-4/vm-4: not judged: alice keeps it closed"]
