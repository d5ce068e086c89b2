"""What became of a run. Pure."""

from __future__ import annotations

import enum
import signal
from collections.abc import Mapping
from dataclasses import dataclass

from drakcelery.engines.drakvuf.tool_output import ending, printable, quoted
from drakcelery.errors import Blame, EngineError
from drakcelery.model.analysis import Execution
from drakcelery.model.news import EndedBy

NOT_EXECUTED = 4
"""``INJECTION_UNSUCCESSFUL`` (``src/exitcodes.h``): the guest refused to start the sample."""

COMPLETE = {
    0: None,
    7: "DRAKVUF's plugins did not stop in time, so their last events may be missing",
    10: "the guest's kernel crashed",
    11: "the guest was switched off",
}
"""Exit codes of a run that took place, and what they say about it."""

BROKEN = {
    1: "DRAKVUF failed",
    2: "the injection into the guest took too long",
    3: "the injection into the guest failed",
    5: "writing a file into the guest took too long",
    6: "writing a file into the guest failed",
}


WINDOWS = {
    2: "the file is not there",
    126: "a DLL that it needs is not there",
    193: "it is no program for this Windows",
    225: "Windows Defender took it for malware",
    226: "Windows Defender has removed it",
    740: "it asks for more rights than it was given",
}
"""What error codes of Windows mean for a sample (``winerror.h``)."""

DEFENDED = frozenset({225, 226})
"""If Defender is active in the snapshot, Windows refuses every sample that Defender knows."""

REMOVED = 2
"""If the copied sample is not found when it is started itself, something in the guest has removed it."""


class End(enum.Enum):
    """Who ended DRAKVUF."""

    ITSELF = "itself"
    DEADLINE = "deadline"
    OUTPUT = "output"
    QUIET = "quiet"
    """Nothing new came."""
    TIMEOUT = "timeout"
    """Its time was over, and it was not busy enough for the longer one that DRAKVUF was given."""
    GUEST_GONE = "guest gone"


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How DRAKVUF ended, and what it left."""

    end: End
    code: int
    killed: bool
    """It had to be killed, since SIGTERM did not end it."""
    seconds: int
    """How long it ran."""
    timeout: int
    """How long it was to watch, seconds."""
    limit: str
    """The limit that was reached, in words."""
    injection: Mapping[str, object] | None
    """The injector's record; None if the log does not begin with one."""
    errors: tuple[str, ...]


def execution_of(ended: Ended, *, by_itself: bool = False) -> tuple[Execution, str | None]:
    """Whether the sample was executed, and why the run was not an ordinary one.

    *by_itself*: the sample's own file was started, and no program that was given it.

    A guest that goes away by itself, once the sample runs, is the sample's doing: it may switch the machine
    off, restart or crash it, each of which ends a VM.

    Raises:
        EngineError: the run shows nothing of the sample, for a reason that is not its own.
    """
    if ended.code == NOT_EXECUTED:
        return Execution.NOT_EXECUTED, _refused(ended, by_itself=by_itself)
    if ended.end is End.DEADLINE and ended.killed:
        raise EngineError(
            f"DRAKVUF hung: it ended neither after {ended.limit} nor of SIGTERM{quoted(ended.errors)}"
        )
    if ended.end is End.ITSELF and ended.code not in COMPLETE:
        what = BROKEN.get(ended.code, "DRAKVUF crashed" if ended.code < 0 else "DRAKVUF failed")
        injected = ended.injection and ended.injection.get("Status") == "Success"
        said = "" if injected or not ended.injection else f" ({_said(ended.injection)})"
        raise EngineError(
            f"{what}{said}: drakvuf {ending(ended.code)}{quoted(ended.errors)}",
            code=None if injected else windows_error(ended.injection),
        )
    if not ended.injection or ended.injection.get("Status") != "Success":
        why = {End.GUEST_GONE: "the guest went away", End.DEADLINE: f"nothing happened in {ended.limit}"}
        reason = why.get(ended.end, "DRAKVUF says nothing of it")
        raise EngineError(f"the sample was not started: {reason}{quoted(ended.errors)}")
    stopped = _stopped(ended)
    reasons = {
        End.QUIET: stopped,
        End.TIMEOUT: stopped,
        End.ITSELF: COMPLETE.get(ended.code) or _early(ended),
        End.DEADLINE: f"DRAKVUF did not end by itself and was stopped after {ended.limit}",
        End.OUTPUT: f"stopped after {ended.seconds} s: {ended.limit}",
        End.GUEST_GONE: f"the guest went away after {ended.seconds} s: switched off, restarted or crashed",
    }
    return Execution.EXECUTED, reasons[ended.end]


def is_complete(ended: Ended) -> bool:
    """Whether the sample was watched for the whole time, and all that was seen is in the log.

    Only for a run for which :func:`execution_of` has not raised. False if the guest went away, was switched
    off or crashed, if the output reached its limit, or if DRAKVUF ended early or not properly.
    """
    if ended.code == NOT_EXECUTED or ended.killed:
        return False
    if ended.end is End.DEADLINE:
        return True
    if ended.end in STOPPED:
        return _stopped(ended) is None
    return ended.end is End.ITSELF and ended.code == 0 and _early(ended) is None


def ended_by(ended: Ended) -> EndedBy:
    """What ended the run, for those who ask whether it could have been shorter."""
    if ended.end is End.QUIET:
        return "quiet"
    is_over = ended.end in (End.DEADLINE, End.TIMEOUT) or (ended.end is End.ITSELF and not _early(ended))
    return "timeout" if is_over else "itself"


STOPPED = (End.QUIET, End.TIMEOUT)
"""Ended by SIGTERM, although it was well."""


def _stopped(ended: Ended) -> str | None:
    """What was wrong when it was stopped; None if it ended as it should."""
    if ended.killed:
        return "DRAKVUF did not end when it was stopped, so its last events may be missing"
    if ended.code in (0, -signal.SIGTERM):
        return None
    return COMPLETE.get(ended.code) or f"drakvuf {ending(ended.code)} when it was stopped"


def _refused(ended: Ended, *, by_itself: bool) -> str:
    """Why the guest did not start the sample. Raises if its Defender would let no sample start."""
    code = windows_error(ended.injection)
    if code in DEFENDED or (by_itself and code == REMOVED):
        raise EngineError(
            f"the snapshot does not let samples start: {_said(ended.injection)}; switch Windows Defender "
            "off in the VM, and make the snapshot again",
            blames=Blame.SNAPSHOT,
            code=code,
        )
    return f"the guest did not start the sample: {_said(ended.injection)}"


def _early(ended: Ended) -> str | None:
    return f"DRAKVUF ended after {ended.seconds} s already" if ended.seconds < ended.timeout else None


def windows_error(injection: Mapping[str, object] | None) -> int | None:
    """The error code of Windows in the injector's record; None if it has none."""
    code = injection.get("ErrorCode") if injection else None
    return code if type(code) is int and 0 < code < 2**32 else None


def _said(injection: Mapping[str, object] | None) -> str:
    """What Windows answered; text of the guest's."""
    if not injection:
        return "no reason was given"
    error, code = injection.get("Error"), injection.get("ErrorCode")
    if error is None and code is None:
        return printable(str(injection.get("Status")))[:100]
    known = WINDOWS.get(windows_error(injection) or 0)
    meaning = f": {known}" if known else ""
    return f"{printable(str(error))[:100]} (error {printable(str(code))[:20]}{meaning})"
