"""What is wrong, as a person is told it, by the lines that a stack's processes log. Pure."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from drakcelery.model.halt import Halt
from drakcelery.model.text import clean
from drakcelery.telemetry.logs import LIBRARY

PROCESSES: Mapping[str, str] = {
    "system": "karton-system",
    "ingress": "ingress",
    "vm": "the vm worker",
    "io": "the io worker",
    "flower": "Flower",
}
"""What people call the Procfile's processes."""

STARTING = (Halt.NO_BROKER, Halt.NO_IO_WORKER)
"""What a host lacks while its workers start. What it lacks beyond that is a problem, and no start."""
LEVELS = ("warning", "error", "critical")
WORDS: Mapping[str, str] = {
    "broker_away": "does not reach Celery's broker (Valkey); what is to be sent is sent later: {error}",
    "canary_bad": "the known harmless sample failed in slot {slot}, which is set aside: {reason}",
    "clock_is_wrong": "the clock of this machine differs from S3's by {seconds_ahead_of_s3} s; S3's is used",
    "disk_space": "the disk is full: no new sample is taken until there is room",
    "engine_lacks": "{lack}",
    "guest_survives": "a guest in slot {slot} could not be ended; it is tried again: {error}",
    "guests_not_isolated": "guests are not isolated, so that no sample runs: {error}",
    "library": "{message}",
    "object_of_another_run_removed": "removed {object}, which an earlier run had left",
    "process_crashed": "ended with an error that nobody expected",
    "quarantined": "cannot deal with one item, which is tried again: {error}; see `drakcelery isolated list`",
    "redis_away": "does not reach Redis (Valkey), and waits: {error}",
    "sample_not_kept": "{object} could not be kept, so that it cannot be analysed again: {error}",
    "sample_unreachable": "S3 (SeaweedFS) does not answer; the sample waits: {error}",
    "setting_without_effect": "{notice}",
    "slot_put_aside": "slot {slot} is set aside after its last runs: {reasons}",
    "stage_postponed": "S3 (SeaweedFS) does not answer; the stage is tried again later: {error}",
    "still_closed": "still out of use, since an operator closed it: {closed}",
    "takes_nothing": "no sample is taken: {why}",
    "thread_crashed": "a part of it ended with an error that nobody expected",
}
"""What the actions mean that a stack on one machine meets most; others are told by their own words."""
SILENT = frozenset(
    {
        *(
            "analysis_failed",
            "cancelled",
            "refused",
            "stage_failed",
            "task_gone",
            "task_over",
            "work_is_stale",
        ),
        *("dumps_dropped", "files_left_out", "log_cut", "log_lines_unreadable", "tls_keys_skipped"),
        *("messages_restored", "record_absent", "sent_late", "slot_left_behind", "stale_holder"),
        *("canary_asked", "host_closed", "host_opened", "slot_closed", "slot_opened", "slot_released"),
    }
)
"""What the analysis' own line says, its report, or the operator who has done it; and what a start mends that
follows a kill."""
_SAID_BY = ("error", "reason", "why", "notice", "message")
_LINE = re.compile(r"\S+Z \[(?P<level>\w+) *\] (?P<action>\w+)(?: +\[(?P<logger>[\w.]+)\])? *(?P<rest>.*)")
_VALUE = re.compile(r"""(\w+)=('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\S+)""")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something that a person should know."""

    process: str
    uid: str | None
    """The analysis that it is about, if it is about one."""
    sentence: str

    def __str__(self) -> str:
        about = f"analysis {clean(self.uid, 8)}" if self.uid else PROCESSES.get(self.process, self.process)
        return f"{about}: {self.sentence}"


def problem(process: str, line: str, *, starting: bool = False) -> Problem | None:
    """The problem of which a *line* of a process' log tells; None if it tells of none.

    *starting*: whether the stack does still. It waits for its workers, and says so if one does not come.
    """
    found = _read(line)
    if found is None:
        return None
    level, action, values = found
    least = "error" if action == LIBRARY else "warning"  # what libraries warn of is rarely for users
    if level not in LEVELS[LEVELS.index(least) :] or action in SILENT:
        return None
    if starting and action == "takes_nothing" and values.get("reason") in STARTING:
        return None
    return Problem(process=process, uid=values.get("uid"), sentence=clean(_sentence(action, values)))


def _sentence(action: str, values: Mapping[str, str]) -> str:
    if action in WORDS:
        try:
            return WORDS[action].format_map(values)
        except KeyError:
            pass  # another version's line
    said = next((values[name] for name in _SAID_BY if name in values), None)
    words = action.replace("_", " ")
    return f"{words}: {said}" if said else words


def _read(line: str) -> tuple[str, str, dict[str, str]] | None:
    """Level, action and values of a line in either form; None if it is none of ours."""
    if line.startswith("{"):
        try:
            values = json.loads(line)
        except ValueError:
            return None
        if not isinstance(values, dict):
            return None
        texts = {str(key): str(value) for key, value in values.items()}
        return texts.get("level", ""), texts.get("action", ""), texts
    match = _LINE.match(line)
    if match is None:
        return None
    return (
        match["level"],
        match["action"],
        {name: _text(value) for name, value in _VALUE.findall(match["rest"])},
    )


def _text(value: str) -> str:
    if value[0] not in "'\"":
        return value
    try:
        return str(ast.literal_eval(value))
    except (ValueError, SyntaxError):
        return value[1:-1]
