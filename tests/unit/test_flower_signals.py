"""Flower ends in order, whichever signal ends it."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from drakcelery.flower import command

NUMBERS = (signal.SIGTERM, signal.SIGHUP)


@pytest.fixture
def handlers() -> Iterator[None]:
    """Those of this process are as before afterwards."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in NUMBERS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("number", NUMBERS)
def test_it_ends_in_order(number: int) -> None:
    """So that the file of a sample that somebody hands in is removed."""
    command._end_by_signals()
    with pytest.raises(SystemExit) as ended:
        signal.raise_signal(number)
    assert ended.value.code == 0


@pytest.mark.usefixtures("handlers")
def test_what_nohup_ignores() -> None:
    """It outlives its terminal, as it is told to."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    command._end_by_signals()
    signal.raise_signal(signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
