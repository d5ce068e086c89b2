"""Looks at one thing after the other, each within its time, and leaves out what makes no sense."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence

from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from drakcelery.doctor.finding import LONGEST, Check, Finding, Status, Verdict, failed, skipped
from drakcelery.doctor.subject import Subject
from drakcelery.errors import DrakceleryError, StackError


def examine(checks: Sequence[Check], subject: Subject) -> Iterator[Finding]:
    """Look at each of *checks* in their order, which has what a check needs before it.

    A check is skipped where one that it needs failed or was skipped itself. None raises, none hangs.
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
    """Those of *checks* that *names* names, by name or area, and what they need; all where it names none.

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
    for check in reversed(checks):  # what is needed stands before what needs it
        if check.name in wanted:
            wanted.update(check.needs)
    return [check for check in checks if check.name in wanted]


def _examine(check: Check, subject: Subject) -> Verdict:
    """In a thread of its own: what hangs, in a name server or a disk, is left behind, and ends with us."""
    verdicts: list[Verdict] = []
    thread = threading.Thread(target=lambda: verdicts.append(_safely(check, subject)), daemon=True)
    thread.start()
    thread.join(check.seconds)
    return verdicts[0] if verdicts else failed(f"no answer within {check.seconds:.0f} seconds")


def _safely(check: Check, subject: Subject) -> Verdict:
    try:
        return check.examine(subject)
    except (DrakceleryError, RedisError, OperationalError, OSError) as error:
        return failed(str(error) or type(error).__name__)
    except Exception as error:  # noqa: BLE001 one check's mistake must not hide what the others find
        return failed(f"the check itself broke: {type(error).__name__}: {error}")


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
        seconds=seconds,
    )
