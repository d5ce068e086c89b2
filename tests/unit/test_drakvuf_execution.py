"""What became of a run under DRAKVUF."""

from __future__ import annotations

import pytest

from drakcelery.engines.drakvuf.execution import (
    End,
    Ended,
    ended_by,
    execution_of,
    is_complete,
    windows_error,
)
from drakcelery.errors import Blame, EngineError
from drakcelery.model.analysis import Execution

STARTED = {"Plugin": "inject", "Status": "Success"}
REFUSED = {"Plugin": "inject", "Status": "Error", "ErrorCode": 740, "Error": "ERROR_ELEVATION_REQUIRED"}


def ended(**changes: object) -> Ended:
    """An ordinary run of a minute, with *changes*."""
    fields: dict[str, object] = {
        "end": End.ITSELF,
        "code": 0,
        "killed": False,
        "seconds": 61,
        "timeout": 60,
        "limit": "60 s and 90 s of grace",
        "injection": STARTED,
        "errors": ("first", "last"),
    }
    return Ended(**{**fields, **changes})  # type: ignore[arg-type] # typed where they are named


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"seconds": 12}, "DRAKVUF ended after 12 s already"),
        ({"code": 7}, "DRAKVUF's plugins did not stop in time, so their last events may be missing"),
        ({"code": 10, "seconds": 5}, "the guest's kernel crashed"),
        ({"code": 11, "seconds": 5}, "the guest was switched off"),
        ({"end": End.DEADLINE}, "DRAKVUF did not end by itself and was stopped after 60 s and 90 s of grace"),
        ({"end": End.OUTPUT, "limit": "too much"}, "stopped after 61 s: too much"),
        (
            {"end": End.OUTPUT, "limit": "too much", "killed": True, "code": -9},
            "stopped after 61 s: too much",
        ),
        (
            {"end": End.GUEST_GONE, "seconds": 5},
            "the guest went away after 5 s: switched off, restarted or crashed",
        ),
        (
            {"end": End.GUEST_GONE, "code": 1},
            "the guest went away after 61 s: switched off, restarted or crashed",
        ),
    ],
)
def test_what_was_seen_is_kept(changes: dict[str, object], reason: str | None) -> None:
    """Once the sample runs, whatever ends the run early is told with the result."""
    assert execution_of(ended(**changes)) == (Execution.EXECUTED, reason)


@pytest.mark.parametrize(
    ("changes", "complete"),
    [
        ({}, True),
        ({"end": End.DEADLINE}, True),
        ({"end": End.DEADLINE, "code": -15}, True),
        ({"seconds": 12}, False),
        ({"code": 7}, False),
        ({"code": 10, "seconds": 5}, False),
        ({"code": 11}, False),
        ({"code": 4}, False),
        ({"end": End.OUTPUT, "limit": "too much"}, False),
        ({"end": End.OUTPUT, "limit": "too much", "killed": True, "code": -9}, False),
        ({"end": End.GUEST_GONE, "seconds": 5}, False),
    ],
)
def test_what_is_complete(changes: dict[str, object], complete: bool) -> None:
    """Only a run that was watched for the whole time, and whose end was an ordinary one (E5)."""
    assert is_complete(ended(**changes)) is complete


def test_windows_may_refuse_the_sample() -> None:
    """Exit code 4 is a result, with what Windows said; what a guest says is shown escaped."""
    execution, reason = execution_of(ended(code=4, injection=REFUSED))
    assert execution is Execution.NOT_EXECUTED
    assert reason == (
        "the guest did not start the sample: ERROR_ELEVATION_REQUIRED (error 740: it asks for more rights "
        "than it was given)"
    )
    _, reason = execution_of(ended(code=4, injection={"Status": "Error", "Error": "\x1b[2J", "ErrorCode": 1}))
    assert reason == "the guest did not start the sample: \\x1b[2J (error 1)"
    _, reason = execution_of(ended(code=4, injection=None))
    assert reason == "the guest did not start the sample: no reason was given"


def refused(code: object) -> Ended:
    return ended(
        code=4, injection={"Plugin": "inject", "Status": "Error", "ErrorCode": code, "Error": "ERROR_X"}
    )


@pytest.mark.parametrize(("code", "by_itself"), [(225, True), (225, False), (226, False), (2, True)])
def test_a_snapshot_that_lets_nothing_start(code: int, by_itself: bool) -> None:
    """Where Defender removes samples the snapshot is to blame, with the code as a field (R19)."""
    with pytest.raises(EngineError, match=rf"does not let samples start: ERROR_X \(error {code}: ") as error:
        execution_of(refused(code), by_itself=by_itself)
    assert (error.value.blames, error.value.code) == (Blame.SNAPSHOT, code)


@pytest.mark.parametrize(("code", "by_itself"), [(193, True), (740, True), (126, False), (2, False)])
def test_a_sample_that_is_none_for_this_windows(code: int, by_itself: bool) -> None:
    """What Windows says about the sample itself is a result."""
    assert execution_of(refused(code), by_itself=by_itself)[0] is Execution.NOT_EXECUTED
    assert windows_error(refused(code).injection) == code


@pytest.mark.parametrize("code", [None, "225", 225.0, True, 0, -1, 2**32, [225]])
def test_what_is_no_error_code(code: object) -> None:
    """A guest may say anything: only a number that Windows could have said is one."""
    assert windows_error(refused(code).injection) is None
    assert execution_of(refused(code))[0] is Execution.NOT_EXECUTED


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"code": 1}, "DRAKVUF failed: drakvuf ended with exit code 1; it said: first | last"),
        (
            {"code": 2, "injection": {"Status": "Timeout"}},
            r"the injection into the guest took too long \(Timeout\)",
        ),
        ({"code": 3}, "the injection into the guest failed: drakvuf ended with exit code 3"),
        ({"code": -11}, r"DRAKVUF crashed: drakvuf was killed \(SIGSEGV\)"),
        ({"code": 127}, "DRAKVUF failed: drakvuf could not be started"),
        ({"end": End.DEADLINE, "killed": True, "code": -9}, "DRAKVUF hung: it ended neither after 60 s"),
        ({"injection": None}, "the sample was not started: DRAKVUF says nothing of it"),
        ({"injection": None, "end": End.DEADLINE}, "not started: nothing happened in 60 s and 90 s of grace"),
        ({"injection": REFUSED, "end": End.GUEST_GONE}, "not started: the guest went away"),
    ],
)
def test_what_shows_nothing_is_tried_again(changes: dict[str, object], message: str) -> None:
    """A run without the sample, or without a whole log, is no result."""
    with pytest.raises(EngineError, match=message):
        execution_of(ended(**changes))


@pytest.mark.parametrize("end", [End.QUIET, End.TIMEOUT])
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"code": -15}, None),
        ({"code": 7}, "DRAKVUF's plugins did not stop in time, so their last events may be missing"),
        ({"code": 1}, "drakvuf ended with exit code 1 when it was stopped"),
        (
            {"code": -9, "killed": True},
            "DRAKVUF did not end when it was stopped, so its last events may be missing",
        ),
    ],
)
def test_a_run_that_was_stopped_early(end: End, changes: dict[str, object], reason: str | None) -> None:
    """It is complete if DRAKVUF then ended as it should, whatever time was left; otherwise the reason says
    so."""
    stopped = ended(end=end, seconds=12, **changes)
    assert execution_of(stopped) == (Execution.EXECUTED, reason)
    assert is_complete(stopped) is (reason is None)


def test_a_run_that_is_stopped_before_the_sample_runs() -> None:
    """It shows nothing of the sample, as any other that ends then."""
    with pytest.raises(EngineError, match="the sample was not started"):
        execution_of(ended(end=End.QUIET, injection=None))


@pytest.mark.parametrize(
    ("changes", "by"),
    [
        ({}, "timeout"),
        ({"seconds": 12}, "itself"),
        ({"end": End.DEADLINE}, "timeout"),
        ({"end": End.TIMEOUT}, "timeout"),
        ({"end": End.QUIET}, "quiet"),
        ({"end": End.OUTPUT}, "itself"),
        ({"end": End.GUEST_GONE}, "itself"),
    ],
)
def test_what_ended_a_run(changes: dict[str, object], by: str) -> None:
    """The time, the quiet, or the sample, its guest and the limits."""
    assert ended_by(ended(**changes)) == by
