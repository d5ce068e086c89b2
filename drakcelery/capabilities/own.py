"""Which calls are the sample's: by pid and time, since Windows gives a pid again. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from drakcelery.behaviour.report import Report, ReportedProcess
from drakcelery.capabilities.job import Life


def lives(report: Report) -> Iterator[Life]:
    """Those of the sample's processes; of one into which it wrote, from then on."""
    by_pid: dict[int, list[ReportedProcess]] = {}
    for process in report.processes:
        by_pid.setdefault(process.pid, []).append(process)
    injected = {one.target: one.first or 0.0 for one in reversed(report.injections)}
    for pid, found in by_pid.items():
        found.sort(key=_started)
        for process, following in zip(found, [*found[1:], None], strict=True):
            if process.origin == "windows" or pid == 0:
                continue
            since = injected.get(process.seqid, 0.0) if process.origin == "injected" else 0.0
            yield Life(
                pid=pid,
                process=process.seqid,
                since=max(since, _started(process)),
                until=following.started if following is not None else None,
            )


def _started(process: ReportedProcess) -> float:
    return process.started or 0.0


class Owners:
    """Finds whose a call is."""

    def __init__(self, several: Iterable[Life]) -> None:
        self._by_pid: dict[int, list[Life]] = {}
        for life in several:
            self._by_pid.setdefault(life.pid, []).append(life)
        self.pids = frozenset(b"%d" % pid for pid in self._by_pid)
        """As lines have them."""

    def of(self, pid: int, time: float) -> int | None:
        """The ``seqid`` of the sample's process that had this pid then; None if it was none."""
        for life in self._by_pid.get(pid, ()):
            if life.since <= time and (life.until is None or time < life.until):
                return life.process
        return None
