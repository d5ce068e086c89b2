"""Which clues a run has: what looks like evasion, or like a guest in which the sample cannot work. Pure.

A question alone is no clue, since many programs ask it: one that goes on to work has found nothing that it
minds. So there are clues only where next to nothing was done, and nothing after the question.
"""

from __future__ import annotations

import itertools
import ntpath
import re
from collections.abc import Iterable, Iterator

from drakcelery.behaviour.alike import plain
from drakcelery.behaviour.background import is_background_file, is_background_key
from drakcelery.behaviour.probes import Probes
from drakcelery.behaviour.report import FileActivity, Report, ReportedProcess, Seen
from drakcelery.model.clues import CLUES, MOST_EVIDENCE, Clue, ClueKind

LITTLE = 2
"""Things that last: a sample that did no more has done next to nothing."""
EARLY = 0.5
"""Of the time that it could have had."""
_REMOVES = re.compile(r"\b(?:del|erase|remove-item)\b", re.IGNORECASE)
"""How a shell removes a file."""
_TELLING = frozenset({"apimon", "cpuidmon"})
"""With these the emulator writes whatever a program asks by calls and of the processor."""
_NOT_ELEVATED = 740
"""``ERROR_ELEVATION_REQUIRED``."""
_OTHER_FORMAT = frozenset({193, 216})
"""``ERROR_BAD_EXE_FORMAT``, ``ERROR_EXE_MACHINE_TYPE_MISMATCH``. 225 comes from a virus scanner, which is the
fault of the snapshot."""
_ERRORS = range(0xC0000000, 0xD0000000)
"""``STATUS_SEVERITY_ERROR`` of Windows' own (``ntstatus.h``): with such an exit code a process has crashed.
What a program makes up itself, as by ``exit(-1)``, is above."""
_EXCEPTIONS = frozenset({0x80000003, 0x80000004, 0xE06D7363, 0xE0434352})
"""A breakpoint, a single step, and what C++ and .NET throw, where nobody caught it."""
_TOLD_TO_END = frozenset({0xC000013A})
"""``STATUS_CONTROL_C_EXIT``."""


def lasting(report: Report) -> list[float]:
    """When the things began that the sample did and that last: files, registry values, connections and so on.

    At most one more than :data:`LITTLE` of them. What only runs a program, or removes the sample itself, does
    not count. 0 for what has no time.
    """
    processes = (one.started or 0.0 for one in _more_processes(report))
    things = (one.first or 0.0 for one in _things(report))
    return list(itertools.islice(itertools.chain(processes, things), LITTLE + 1))


def _things(report: Report) -> Iterator[Seen]:
    own = {one.seqid for one in report.processes if one.origin != "windows"}
    name, network = report.sample.name, report.network
    files = (one for one in report.files if not _is_file_of_none(one, name))
    keys = (one for one in report.registry if one.autostart or not is_background_key(plain(one.key, name)))
    whose: Iterable[Iterable[Seen]] = (
        *(report.injections, files, keys, report.services, report.tasks, report.wmi),
        *(network.names, network.connections),
    )
    yield from (one for some in whose for one in some if not own.isdisjoint(one.processes))
    yield from network.http
    yield from network.tls


def _is_file_of_none(one: FileActivity, name: str) -> bool:
    """Whether it is the sample itself, which goes, or one of Windows' own."""
    if one.autostart is not None:
        return False
    is_itself = ntpath.basename(one.path).lower() == name.lower() and set(one.actions) <= {
        "deleted",
        "renamed",
    }
    return is_itself or (not one.executable and is_background_file(plain(one.path, name)))


def _more_processes(report: Report) -> Iterator[ReportedProcess]:
    """Those that the sample started, without a shell that only removes it."""
    for one in report.processes:
        removes = _REMOVES.search(one.command_line) is not None and report.sample.name in one.command_line
        if one.origin == "started" and not removes:
            yield one


def may_have_clues(report: Report) -> bool:
    """Whether the run shows so little that a closer look is due. One that broke off shows nothing."""
    ending = report.ending
    return (
        ending.execution == "executed"
        and ending.complete is not False
        and ending.observed in ("nothing", "activity")
        and len(lasting(report)) <= LITTLE
    )


def own_pids(report: Report) -> frozenset[int]:
    """The pids of the sample's processes."""
    return frozenset(one.pid for one in report.processes if one.origin != "windows")


def clues(report: Report, probes: Probes | None, *, was_stopped: bool = False) -> tuple[Clue, ...]:
    """The clues of a run; *probes* are None if it shows too much to be read once more.

    *was_stopped*: the run was ended because nothing new came, which is not the sample's end.
    """
    found = dict(_of_start(report))
    if probes is not None:
        things = lasting(report)
        found |= dict(_of_probes(probes, things))
        found |= dict(_of_end(report, was_stopped, is_idle=not things))
        if found.keys() == {"early_end"} and _sees_questions(report):
            found = {}
    return tuple(Clue(kind=kind, evidence=found[kind][:MOST_EVIDENCE]) for kind in CLUES if kind in found)


def _sees_questions(report: Report) -> bool:
    """Whether hardly a question can have been missed, so that a sample that asked nothing had little to do.

    DRAKVUF sees the functions that its list of hooks names, and those are few.
    """
    return report.run.engine.startswith("emulator") and set(report.run.plugins) >= _TELLING


def _of_probes(probes: Probes, things: list[float]) -> Iterator[tuple[ClueKind, tuple[str, ...]]]:
    """What was asked, and nothing that lasts was done after that."""
    for kind, at in probes.last.items():
        if any(begun > at or not begun for begun in things):
            continue
        evidence = probes.evidence(kind)
        if evidence:
            yield kind, evidence


def _of_start(report: Report) -> Iterator[tuple[ClueKind, tuple[str, ...]]]:
    """Windows did not start it."""
    ending = report.ending
    if ending.execution == "not_executed" and ending.windows_error is not None:
        evidence = (f"error {ending.windows_error} of Windows",)
        if ending.windows_error == _NOT_ELEVATED:
            yield "elevation", evidence
        elif ending.windows_error in _OTHER_FORMAT:
            yield "format", evidence


def _of_end(
    report: Report, was_stopped: bool, *, is_idle: bool
) -> Iterator[tuple[ClueKind, tuple[str, ...]]]:
    own = [one for one in report.processes if one.origin != "windows"]
    codes = {code for one in own if (code := _crash(one)) is not None}
    if codes:
        yield "crash", tuple(f"exit code {code:#x}" for code in sorted(codes))
    seconds = _lasted(report, own, was_stopped)
    if seconds is not None and seconds < EARLY * report.run.timeout and is_idle:
        yield "early_end", (f"after {max(seconds, 0):.0f} of {report.run.timeout} s",)


def _crash(process: ReportedProcess) -> int | None:
    if process.exit_code is None:  # what is no number is looked for in a range one by one
        return None
    code = process.exit_code & 0xFFFFFFFF
    is_crash = code in _EXCEPTIONS or (code in _ERRORS and code not in _TOLD_TO_END)
    return code if is_crash else None


def _lasted(report: Report, own: list[ReportedProcess], was_stopped: bool) -> float | None:
    """How long the sample's processes lasted, in seconds; None if one still ran, or nothing says so."""
    ends = [one.ended for one in own]
    if own and all(end is not None for end in ends):
        return max(end for end in ends if end is not None) - report.run.started
    whole = float(report.run.finished - report.run.started)
    return whole if whole < EARLY * report.run.timeout and not was_stopped else None
