"""How a run ended, in a sentence, and what that means for what was seen. Pure.

That a sample did nothing, and that nothing of it was seen, are different things, and different sentences.
"""

from __future__ import annotations

from drakcelery.behaviour.report import Ending, Observed
from drakcelery.model.analysis import Execution, Outcome

_UNKNOWN_END = "Whether it was watched to its end is not known, because the host has an older version."


def ending(outcome: Outcome, *, lines: int, did_something: bool) -> Ending:
    """What *outcome* and the log say: *lines* of plugins, and whether the sample *did_something* lasting."""
    observed = _observed(outcome, lines=lines, did_something=did_something)
    return Ending(
        execution=outcome.execution.value,
        complete=outcome.complete,
        reason=outcome.reason,
        windows_error=outcome.windows_error,
        observed=observed,
        summary=_summary(outcome, observed),
    )


def _observed(outcome: Outcome, *, lines: int, did_something: bool) -> Observed:
    if outcome.execution is Execution.NOT_EXECUTED:
        return "not_executed"
    if did_something:
        return "activity"
    if outcome.complete is False:
        return "broke_off"
    return "nothing" if lines else "no_log"


def _summary(outcome: Outcome, observed: Observed) -> str:
    why = f": {outcome.reason.rstrip('.')}" if outcome.reason else ""
    if observed == "not_executed":
        return f"The sample was not executed{why}. What is listed is what Windows did."
    if observed == "broke_off":
        return f"Nothing was seen of the sample, but the run broke off{why}. So it is not known what it does."
    if observed == "no_log":
        return "No plugin wrote anything, so it is not known what the sample does."
    if observed == "nothing":
        said = (
            "The sample did nothing that lasts: no file, registry value, service, task, connection, "
            "injection or process of its own was recorded"
        )
        return f"{said}. {_UNKNOWN_END}" if outcome.complete is None else f"{said} until the run ended{why}."
    if outcome.complete is False:
        return (
            f"The run broke off{why}. What is listed was seen before that; what came after it is not known."
        )
    if outcome.complete is None:
        return f"What the sample was seen to do is listed. {_UNKNOWN_END}"
    return f"The sample was watched until the run ended{why}. What it was seen to do is listed."
