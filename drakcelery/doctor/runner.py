"""Runs one check after the other, each within its time, and skips those that make no sense."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Iterable, Iterator, Sequence

from kombu.exceptions import OperationalError
from redis.exceptions import NoPermissionError, OutOfMemoryError, RedisError

from drakcelery.doctor.finding import LONGEST, Check, Finding, Status, Verdict, failed, skipped
from drakcelery.doctor.subject import Subject
from drakcelery.errors import DrakceleryError, SettingsError, StackError

_CORRECT = "Correct what the sentence names; docs/settings.md has every key."


def examine(checks: Sequence[Check], subject: Subject) -> Iterator[Finding]:
    """Run *checks* in order; a check comes after those that it needs.

    A check is skipped if one that it needs failed or was skipped. No check raises or hangs.
    """
    passed: set[str] = set()
    for check in checks:
        begun = time.monotonic()
        missing = [name for name in check.needs if name not in passed]
        verdict = skipped(f"needs {', '.join(missing)}") if missing else _examine(check, subject)
        if verdict.status in (Status.OK, Status.WARNING):
            passed.add(check.name)
        yield _finding(check, verdict, subject, seconds=time.monotonic() - begun)


def chosen(checks: Sequence[Check], names: Iterable[str]) -> list[Check]:
    """Those of *checks* that are in *names*, by name or area, and the checks that they need; all if it is
    empty.

    Raises:
        StackError: there is no such check.
    """
    wanted: set[str] = set()
    for name in names:
        found = {check.name for check in checks if name in (check.name, check.name.partition(".")[0])}
        if not found:
            raise StackError(f"no check {name}; there are {', '.join(check.name for check in checks)}")
        wanted |= found
    if not wanted:
        return list(checks)
    for check in reversed(checks):  # a needed check comes before the one that needs it
        if check.name in wanted:
            wanted.update(check.needs)
    return [check for check in checks if check.name in wanted]


def _examine(check: Check, subject: Subject) -> Verdict:
    """Run a check in a thread of its own; one that hangs on a name server or a disk is left behind, and ends
    with us."""
    verdicts: list[Verdict] = []
    thread = threading.Thread(target=lambda: verdicts.append(_safely(check, subject)), daemon=True)
    thread.start()
    thread.join(check.seconds)
    if verdicts:
        return verdicts[0]
    return failed(
        f"no answer within {check.seconds:.0f} seconds",
        "Run the doctor again; if it stays so, see what this machine, or the server asked, is busy with.",
    )


def _safely(check: Check, subject: Subject) -> Verdict:
    try:
        return check.examine(subject)
    except DrakceleryError as error:
        return failed(str(error), error.remedy or (_CORRECT if type(error) is SettingsError else None))
    except (RedisError, OperationalError, OSError) as error:
        return failed(str(error) or type(error).__name__, _remedy(error))
    except Exception as error:  # noqa: BLE001 one check's mistake must not hide what the others find
        said = f"the check itself broke: {type(error).__name__}: {error}"
        return failed(said, "This is a mistake of drakcelery's: please report it, with this sentence.")


def _remedy(error: Exception) -> str:
    """What mends an error that no check foresees: it says nothing of what the check is about."""
    match error:
        case NoPermissionError():
            return "Give this user of Redis the right: the check redis.rights names what is needed."
        case OutOfMemoryError():
            return "Redis is full: raise its maxmemory, or see in karton-dashboard what piles up."
        case RedisError():
            return "See that Redis runs, answers in time and can be reached from here, and see its log."
        case OperationalError():
            return "See that the broker runs and can be reached from here, and see its log."
        case PermissionError():
            return "Run the doctor as root, or as the user of the workers."
        case OSError() if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return "Make room on that disk."
        case _:
            return "See that what the sentence names is there, and can be used from here."


def _finding(check: Check, verdict: Verdict, subject: Subject, *, seconds: float) -> Finding:
    to_mend = verdict.status in (Status.WARNING, Status.FAILED)
    remedy = (verdict.remedy or check.remedy) if to_mend else None
    said = subject.without_secrets(verdict.said)
    return Finding(
        check=check.name,
        what=check.what,
        status=verdict.status,
        said=said[:LONGEST] + ("…" if len(said) > LONGEST else ""),
        remedy=subject.without_secrets(remedy) if remedy else None,
        # Made of names and addresses: what is masked in one, as it is a password too, would not run
        commands=verdict.commands if to_mend else (),
        seconds=seconds,
    )
