"""How a run ended, in a sentence, and what that means for what was seen. Pure.

That a sample did nothing, that nothing of it was seen, and that nobody looked are different things, and
different sentences.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from drakcelery.behaviour.report import Ending, Observed
from drakcelery.model.analysis import Execution, Outcome

_UNKNOWN_END = "Whether it was watched to its end is not known, because the host has an older version."
_NOT_KNOWN = "so it is not known what the sample does"
_RECORDED = {
    "procmon": "processes",
    "filetracer": "files",
    "regmon": "registry values",
    "socketmon": "connections",
}
"""What lasts, by the plugin that records it."""


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What there was to see, and what of it was seen."""

    lines: int = 0
    """Of plugins."""
    is_known: bool = False
    """Whether a process of the sample's is in the log."""
    did_something: bool = False
    """Whether one of these did something that lasts."""
    in_traffic: bool = False
    """Whether the recorded traffic has something that is not Windows' own, though no process did it."""
    off: tuple[str, ...] = ()
    """The plugins that record what lasts, as far as they were off."""


def off(plugins: Collection[str]) -> tuple[str, ...]:
    """Those that record what lasts, and that are not in *plugins*."""
    return tuple(name for name in _RECORDED if name not in plugins)


def ending(outcome: Outcome, watched: Watched) -> Ending:
    """What *outcome* says, and what was *watched*."""
    observed = _observed(outcome, watched)
    return Ending(
        execution=outcome.execution.value,
        complete=outcome.complete,
        reason=outcome.reason,
        windows_error=outcome.windows_error,
        ended=outcome.watch.ended if outcome.watch is not None else None,
        observed=observed,
        summary=_summary(outcome, observed, watched),
    )


def _observed(outcome: Outcome, watched: Watched) -> Observed:
    if outcome.execution is Execution.NOT_EXECUTED:
        return "not_executed"
    if watched.did_something:
        return "activity"
    if watched.in_traffic:
        return "traffic"
    if outcome.complete is False:
        return "broke_off"
    if not watched.lines:
        return "no_log"
    if not watched.is_known or len(watched.off) == len(_RECORDED):
        return "not_seen"
    return "nothing"


def _summary(outcome: Outcome, observed: Observed, watched: Watched) -> str:
    why = f": {outcome.reason.rstrip('.')}" if outcome.reason else ""
    if observed == "not_executed":
        return f"The sample was not executed{why}. What is listed is what Windows did."
    if observed == "broke_off":
        return f"Nothing was seen of the sample, but the run broke off{why}. So it is not known what it does."
    if observed in ("no_log", "not_seen"):
        said = _not_seen(watched) if watched.lines else f"No plugin wrote anything, {_NOT_KNOWN}."
        return f"{said} {_stopped(why)}" if outcome.is_quiet_stop else said
    if observed == "activity":
        return _activity(outcome, why)
    said = _traffic() if observed == "traffic" else _nothing(outcome, watched, why)
    if outcome.complete is False:
        return f"{said} The run broke off{why}, so what came after that is not known."
    if outcome.is_quiet_stop:
        return f"{said} {_stopped(why)}"
    return f"{said} {_UNKNOWN_END}" if outcome.complete is None else said


def _stopped(why: str) -> str:
    """Of a run that neither ended nor broke off."""
    return (
        f"The run did not go on until its time was over{why}. What the sample would have done later is not "
        "known."
    )


def _activity(outcome: Outcome, why: str) -> str:
    if outcome.complete is False:
        return (
            f"The run broke off{why}. What is listed was seen before that; what came after it is not known."
        )
    if outcome.complete is None:
        return f"What the sample was seen to do is listed. {_UNKNOWN_END}"
    if outcome.is_quiet_stop:
        return f"What the sample was seen to do is listed. {_stopped(why)}"
    return f"The sample was watched until the run ended{why}. What it was seen to do is listed."


def _traffic() -> str:
    return (
        "No process of the sample's was seen to do anything that lasts, but the recorded traffic, which does "
        "not tell whose it is, has more than what Windows asks for by itself."
    )


def _not_seen(watched: Watched) -> str:
    if not watched.is_known:
        return f"No process of the sample's is in the log, {_NOT_KNOWN}. What is listed is what Windows did."
    return f"The plugins that record what lasts were off ({_all(watched.off)}), {_NOT_KNOWN}."


def _nothing(outcome: Outcome, watched: Watched, why: str) -> str:
    is_whole = outcome.complete is not None and not outcome.is_quiet_stop
    until = f" until the run ended{why}" if is_whole else ""
    if not watched.off:
        return (
            "The sample did nothing that lasts: no file, registry value, service, task, connection, "
            f"injection or process of its own was recorded{until}."
        )
    unknown, are = _all([_RECORDED[name] for name in watched.off]), "were" if watched.off[1:] else "was"
    return (
        f"The sample did nothing that lasts, as far as plugins were on to record it{until}. "
        f"Nothing is known of {unknown}, since {_all(watched.off)} {are} off."
    )


def _all(names: Sequence[str]) -> str:
    first = ", ".join(names[:-1])
    return f"{first} and {names[-1]}" if first else names[-1]
