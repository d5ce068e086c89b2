"""Watches a run for news, and says when to stop it: the quiet stop.

An engine asks :meth:`Watcher.check` whenever it polls. Only what was written until then counts, and it counts
for the second of the look: not for the time in a line, which is the guest's. What cannot be read in time, or
not at all, forbids a stop: then the run ends as without a watcher.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import structlog

from drakcelery.behaviour.facts import Facts
from drakcelery.behaviour.holds import BLIND, Holds
from drakcelery.behaviour.reader import Reader
from drakcelery.engines import Detonation
from drakcelery.engines.growing_log import GrowingLog
from drakcelery.model.news import EndedBy, News, WatchPlan, WatchRun

LOOK_SECONDS = 1.0
"""Between two looks at the log."""
LATE_SECONDS = 5.0
"""So long after the last look the next one is late: what has come since may have come at any time of it."""
READ_SECONDS, WORK_SECONDS = 0.3, 0.4
"""How long one look may read, and how long it may take; heartbeats and the limits of the run wait as long."""
LAST_LOOKS = 16
"""Looks once the run is over, if the log is longer than one takes in."""
TRAFFIC_SECONDS = 10
TRAFFIC_BYTES = 16 * 1024
"""The recorded traffic grows by that in :data:`TRAFFIC_SECONDS` if a connection is alive. What Windows sends
by itself is less: names, addresses, time."""
Clock = Callable[[], float]

log = structlog.get_logger(__name__)


class Watcher:
    """Watches one run."""

    def __init__(self, job: Detonation, plan: WatchPlan, *, clock: Clock = time.monotonic) -> None:
        self._job, self._plan, self._clock = job, plan, clock
        self._log = GrowingLog(job.log)
        self._reader = Reader()
        self._facts = Facts(self._reader, job.sample.name)
        self._holds = Holds(self._facts)
        self._traffic: deque[tuple[int, int]] = deque(maxlen=TRAFFIC_SECONDS + 1)
        self._news: dict[int, int] = {}
        self._begun: float | None = None
        self._looked = float("-inf")
        self._since = 0  # the second of the look before
        self._trouble: str | None = None
        self._is_broken = False

    def begin(self) -> None:
        """The sample starts; seconds count from the first call. DRAKVUF's log says so by itself."""
        if self._begun is None:
            self._begun = self._clock()

    @property
    def second(self) -> int:
        """The second of the run; 0 before the sample starts."""
        return 0 if self._begun is None else int(self._clock() - self._begun)

    def check(self) -> EndedBy | None:
        """Read what is new, at most once in :data:`LOOK_SECONDS`. Why the run is to end now; None if not."""
        now = self._clock()
        if now - self._looked < LOOK_SECONDS:
            return None
        is_late, self._looked = now - self._looked > LATE_SECONDS, now
        self._read()
        if self._begun is None:
            return None
        second = self.second
        if is_late and self._since:
            self._blind("the host was too busy to look at the log")
        self._since = second
        last_news = max(self._news, default=0)
        quiet_at = max(self._plan.min_seconds, max(last_news, self._holds.last()) + self._plan.quiet_seconds)
        if self._plan.stops and quiet_at < second < self._job.longest:
            return "quiet"
        if second >= self._job.timeout and not self._is_busy(second, last_news):
            return "timeout"
        return None

    def _is_busy(self, second: int, last_news: int) -> bool:
        """Whether it may go on beyond its timeout: something came lately, or is to come before the end."""
        if self._plan.extend_to is None:
            return True  # the engine ends it itself
        last = max(last_news, self._holds.last_in_guest(self._plan.extend_to))
        return second <= last + self._plan.quiet_seconds

    def _read(self) -> None:
        """Take in what is new. An error of ours ends the watching, not the run."""
        if self._is_broken:
            self._blind()
            return
        begun = self._clock()
        try:
            for groups in self._log.more(lambda: self._clock() > begun + READ_SECONDS):
                self._reader.read(groups)
                self._holds.read(groups)
            self._count(lambda: self._clock() > begun + WORK_SECONDS)
        except OSError as error:
            self._fail(str(error.args[-1] if error.args else error))
        except Exception as error:
            self._fail(f"reading it failed: {type(error).__name__}")
            log.exception("watch_failed", uid=self._job.uid)

    def _count(self, is_late: Callable[[], bool]) -> None:
        if self._reader.is_started:
            self.begin()
        second = self.second
        found = self._facts.count(is_late)
        if found:
            self._news[second] = self._news.get(second, 0) + found
        self._holds.settle(second, is_news=bool(found))
        self._watch_traffic(second)
        if self._log.is_behind or self._facts.is_behind:
            self._blind("the log grew faster than it could be read")
        if self._facts.is_full or self._holds.left_out:
            self._blind("there was more than can be counted")

    def _watch_traffic(self, second: int) -> None:
        size = _size(self._job.pcap)
        self._traffic.append((second, size))
        before = next((old for at, old in self._traffic if at >= second - TRAFFIC_SECONDS), size)
        if size - before >= TRAFFIC_BYTES:
            self._holds.add("connection", second, second)

    def _blind(self, why: str | None = None) -> None:
        """Not everything could be counted since the look before."""
        self._holds.add(BLIND, self._since, self.second)
        self._trouble = self._trouble or why

    def _fail(self, why: str) -> None:
        """It cannot be read any more: the run takes its time from now on, if nothing said when it began."""
        self.begin()
        self._is_broken = True
        self._blind(why)
        log.warning("watch_lost", uid=self._job.uid, reason=why)

    def finish(self, ended: EndedBy) -> tuple[WatchRun, News]:
        """The run is over: what became of it, and its news.

        What is in the log only since it was stopped is no news of a run that was stopped early.
        """
        if self._begun is None:
            self.begin()
        seconds = self._clock() - (self._begun or 0.0)
        if ended != "quiet":
            for _ in range(LAST_LOOKS):
                self._read()
                if self._is_broken or not (self._log.is_behind or self._facts.is_behind):
                    break
        self._log.close()
        news = News.of(seconds, self._news, self._holds.all())
        stop = news.stop_second(self._plan)
        seen = news.total if stop is None else news.seen_by(stop)
        run = WatchRun(
            plan=self._plan,
            ended=ended,
            seconds=int(seconds),
            stop_second=stop,
            facts=seen,
            later=news.total - seen,
            trouble=self._trouble,
        )
        _log(self._job, run)
        return run, news


def watcher_of(job: Detonation, *, clock: Clock = time.monotonic) -> Watcher | None:
    """What watches the run of *job*; None if nobody wants to know."""
    return None if job.watch is None else Watcher(job, job.watch, clock=clock)


def _log(job: Detonation, run: WatchRun) -> None:
    log.info(
        "run_watched",
        uid=job.uid,
        mode=run.plan.mode,
        ended=run.ended,
        seconds=run.seconds,
        stop_second=run.stop_second,
        facts=run.facts,
        later=run.later,
        trouble=run.trouble,
    )


def _size(path: Path) -> int:
    """The size of the recorded traffic; links are not followed."""
    try:
        return path.lstat().st_size
    except OSError:
        return 0
