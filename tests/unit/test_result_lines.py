"""What a person is told of a run that is over."""

from __future__ import annotations

import pytest

from drakcelery.model.analysis import Execution, MissingFunction
from drakcelery.model.news import WatchPlan, WatchRun
from drakcelery.model.result import Result
from drakcelery.operators.result_lines import MOST_FUNCTIONS, result_lines


def result(**more: object) -> Result:
    """What came of an ordinary run, with *more*."""
    return Result.model_validate({"engine": "e", "execution": Execution.EXECUTED, "complete": True, **more})


SHADOW = WatchRun(
    plan=WatchPlan(min_seconds=120, quiet_seconds=60, mode="shadow"),
    ended="timeout",
    seconds=600,
    stop_second=142,
    facts=3,
)


@pytest.mark.parametrize(
    ("given", "lines"),
    [
        (None, []),
        (result(), []),
        (result(complete=None), [("result", "executed, complete: not known")]),
        (
            result(complete=False, reason="it broke\x1b[31m off"),
            [("result", "executed, complete: no"), ("reason", "it broke\ufffd[31m off")],
        ),
        (result(execution="not_executed", complete=False), [("result", "not_executed, complete: no")]),
        (
            result(missing_functions=(MissingFunction(name="a.B", count=2, guessed=True),)),
            [("not imitated", "a.B (2, arguments guessed)")],
        ),
        (result(watch=SHADOW), [("watched", SHADOW.words)]),
        (
            result(watch=SHADOW.model_copy(update={"ended": "quiet"}), reason="stopped after 600 s"),
            [("reason", "stopped after 600 s")],
        ),
    ],
)
def test_what_is_said(given: Result | None, lines: list[tuple[str, str]]) -> None:
    """Nothing of a run as it should be; else whether it is complete, why not, and what was lacking."""
    assert list(result_lines(given)) == lines


def test_many_functions_make_a_short_line() -> None:
    """A few are named, the others counted."""
    many = tuple(MissingFunction(name=f"a.f{number}", count=1) for number in range(32))
    ((_, line),) = result_lines(result(missing_functions=many))
    assert line.count("a.f") == MOST_FUNCTIONS
    assert line.endswith(f", and {32 - MOST_FUNCTIONS} more")
