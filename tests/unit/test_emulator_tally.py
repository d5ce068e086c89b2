"""How far a program got in the emulator, and what it missed there."""

from __future__ import annotations

import pytest

from drakcelery.engines.speakeasy_guest.job import Missing
from drakcelery.engines.speakeasy_guest.record.calls import Call, value_of_unknown
from drakcelery.engines.speakeasy_guest.record.tally import MOST_COUNTED, MOST_TOLD, Tally, startup_functions


def tally_of(*names: str, unsupported: bool = False, guessed: bool = False) -> Tally:
    """A tally of calls of ``dll.function``."""
    tally = Tally()
    for name in names:
        module, _, function = name.rpartition(".")
        call = Call(module=module, name=function, called_from=0, unsupported=unsupported, guessed=guessed)
        tally.add(call)
    return tally


@pytest.mark.parametrize(
    ("names", "in_start_up"),
    [
        ((), True),
        (("KERNEL32.GetSystemTimeAsFileTime", "KERNEL32.GetModuleHandleW", "msvcrt.__p___initenv"), True),
        (("KERNEL32.GetStartupInfoA", "ucrtbase._initterm", "KERNEL32.CreateFileW"), False),
        (("KERNEL32.CreateFileA", "KERNEL32.GetModuleHandleW"), False),
        (("msvcrt.fopen",), False),
    ],
)
def test_when_a_program_is_past_its_start_up(names: tuple[str, ...], in_start_up: bool) -> None:
    """By the first function that no C runtime calls before main; there is no way back."""
    assert tally_of(*names).in_start_up is in_start_up


def test_the_start_up_has_no_doings() -> None:
    """What makes files, keys, processes or traffic is no part of a C runtime's start-up."""
    doings = {"CreateFile", "WriteFile", "RegOpenKeyEx", "RegSetValueEx", "CreateProcess", "connect", "fopen"}
    assert not doings & startup_functions()
    assert len(startup_functions()) > 150


@pytest.mark.parametrize(
    ("tally", "sentence"),
    [
        (
            tally_of("msvcrt._initterm", "msvcrt.__p___initenv", unsupported=True),
            (
                "the emulation broke off in the program's start-up, after 2 API calls (last: "
                "msvcrt.__p___initenv, not imitated), on why. What the program does is unknown"
            ),
        ),
        (
            tally_of("KERNEL32.CreateFileW"),
            (
                "the emulation broke off, after 1 API call (last: KERNEL32.CreateFileW), on why. What the "
                "program does from there on is unknown"
            ),
        ),
        (
            tally_of(),
            (
                "the emulation broke off in the program's start-up, before any API call, on why. What the "
                "program does is unknown"
            ),
        ),
    ],
)
def test_the_sentence(tally: Tally, sentence: str) -> None:
    """It says where, after how many calls, which was the last, and what is not known (E5)."""
    assert tally.broke_off("on why") == sentence


def test_missing_functions_are_counted() -> None:
    """The most frequent first; what is imitated is not among them."""
    tally = tally_of("a.B", "a.C", "a.C", unsupported=True, guessed=True)
    tally.add(Call(module="a", name="Known", called_from=0))
    assert tally.missing() == [
        Missing(name="a.C", count=2, guessed=True),
        Missing(name="a.B", count=1, guessed=True),
    ]


def test_a_program_that_asks_for_any_name() -> None:
    """Neither what is counted nor what is told grows with what a program calls; names are cleaned."""
    tally = tally_of(*(f"k.f{number}" for number in range(MOST_COUNTED + 10)), unsupported=True)
    assert len(tally.missing()) == MOST_TOLD
    assert len(tally._missing) == MOST_COUNTED
    (odd,) = tally_of("k.\x1b[31m" + "\u20ac" * 1000, unsupported=True).missing()
    assert odd.name.isascii()
    assert odd.name.isprintable()
    assert len(odd.name) == 100


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("__CxxFrameHandler3", 1),
        ("_except_handler4_common", 1),
        ("WNetGetUniversalNameA", 1222),
        ("FormatMessageW", 0),
    ],
)
def test_what_an_unknown_function_returns(name: str, value: int) -> None:
    """A handler lets the search go on, where 0 would mean that all is mended; there is no network; else 0."""
    assert value_of_unknown(name) == value
