"""What counts as a slot's use where the tools are simulated. No test looks at a time."""

from __future__ import annotations

import pytest

from benchmarks.toolchain_slots import length, share
from tests.xen.host import End

BOOT = 0.125


def end(begun: float, ended: float, *words: str) -> End:
    """A call whose interpreter took :data:`BOOT` to start."""
    return End(words=words, started=begun - BOOT, begun=begun, ended=ended, processor=0)


def analysis(at: float, slot: str = "vm-1") -> list[End]:
    """One that uses eight seconds, with half a second of waste before DRAKVUF and one after it."""
    return [
        end(at, at + 2, "xl", "restore", f"/etc/{slot}.cfg", "snapshot.sav"),
        end(at + 2.125, at + 2.5, "injector", "-d", slot),
        end(at + 2.625, at + 9.25, "tcpdump", "-i", "drak1"),
        end(at + 3.125, at + 9.125, "drakvuf", "-d", slot),
        end(at + 4, at + 4.5, "iptables-save"),
        end(at + 10.125, at + 10.25, "drakrun", "vm-stop"),
        end(at + 10.25, at + 10.25, "xl", "destroy", slot),
    ]


def test_times_that_overlap_count_once() -> None:
    """However they lie."""
    assert length([]) == 0
    assert length([(5, 6), (0, 2), (1, 3), (1, 1.5)]) == 4


def test_tools_are_neither_use_nor_waste() -> None:
    """The injector and each interpreter's start are in neither; drakrun's own time is waste."""
    waste = 0.5 - BOOT + 1
    assert share(analysis(100), "vm-1") == pytest.approx(8 / (8 + waste))


def test_what_is_between_two_guests_is_waste() -> None:
    """Up to the next restore's process; before the first and after the last nothing counts."""
    before, after = end(1, 90, "drakrun", "-h"), end(200, 300, "xl", "list")
    ends = [before, *analysis(100), *analysis(112.25), after]
    waste = 2 * (0.5 - BOOT + 1) + 2 - BOOT
    assert share(ends, "vm-1") == pytest.approx(16 / (16 + waste))


def test_guests_of_another_slot_are_not_its_own() -> None:
    """Out of step as they are, they take nothing from it."""
    both = sorted([*analysis(100), *analysis(103.5, "vm-2")], key=lambda one: one.ended)
    assert share(both, "vm-1") == pytest.approx(share(analysis(100), "vm-1"))
